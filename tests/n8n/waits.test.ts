// The wait of Run a task and wait in the places where n8n or Spillway make it hard: retries, restarts,
// limits, loops, sub-workflows, and results that n8n would not take as a request.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { call, KEY, Running, SECRET, startScripted, until } from "../platforms/service.ts";
import { Between } from "./between.ts";
import { CALLED, calls, chained, gives, loop, spillway, to } from "./build.ts";
import { addCredentials, type Credentials, example, filled } from "./examples.ts";
import { freePort, N8n } from "./n8n.ts";
import { accountAt, assertTakenOnce, saying, stats } from "./provider.ts";

let folder: string;
let provider: Running;
let service: Running;
let between: Between;
let n8n: N8n;
let credentials: Credentials;

/** The same service as before: its settings name its address and the folder of its store. */
const startAgain = () => Running.start(["serve", "--config", join(folder, "spillway.toml")], "Spillway listens on ");

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "spillway-waits-"));
  provider = await startScripted({ latency: "0ms" });
  const settings = `
[server]
listen = "127.0.0.1:${await freePort()}"
[store]
url = "embedded:${join(folder, "data")}"
[auth]
keys = ["${KEY}"]
[callbacks]
secret = "${SECRET}"
allow_networks = ["127.0.0.0/8"]
${accountAt(provider)}`;
  writeFileSync(join(folder, "spillway.toml"), settings);
  service = await startAgain();
  between = await Between.start(service);
  n8n = await N8n.start({ N8N_PAYLOAD_SIZE_MAX: "1" });
  credentials = await addCredentials(n8n, between.url);
  await beginLimited();
});

beforeEach(() => {
  between.submitted.length = 0;
  between.away = false;
  between.judge = async (answer) => answer;
});

after(async () => {
  between?.stop();
  await n8n?.stop();
  await service?.stop();
  await provider?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const slow = (seconds: number, text: string) => ({ text: `#scripted:slow ${seconds}s ${saying(text)}` });

async function starts(made: object): Promise<string> {
  const workflow = await n8n.addWorkflow(made);
  await n8n.run(workflow, "Click");
  return workflow;
}

const texts = async (execution: string, node: string) => (await n8n.output(execution, node)).map(({ json }) => json.text);

/** Executions that come to the limit of their wait: begun first and looked at last, as n8n looks once a minute. */
let limited: Record<"stops" | "goesOn" | "polls" | "example", string>;

async function beginLimited(): Promise<void> {
  const late = (parameters: object, more: object = {}) =>
    starts(chained("late", gives("Rows", [slow(300, "a"), slow(300, "b")]),
      spillway("Summarize", credentials, { options: { waitLimit: 0.05 }, ...parameters }, more)));
  limited = {
    stops: await late({}),
    goesOn: await late({}, { onError: "continueRegularOutput" }),
    polls: await late({ waitBy: "polling" }),
    example: await lateExample(),
  };
  await until("all their jobs are at the provider", async () => (await stats(provider)).calls === 8);
}

/** The example, which names its failed rows. */
async function lateExample(): Promise<string> {
  const rows = JSON.stringify(["A", "B"].map((id) => ({ id, ...slow(300, id) })));
  const made = filled(example("run-and-wait.json"), credentials, { rows });
  const summarize = made.nodes.find(({ name }: any) => name === "Summarize");
  summarize.parameters.options = { waitLimit: 0.05 };
  const workflow = await n8n.addWorkflow(made);
  await n8n.run(workflow, "Click to try");
  return workflow;
}

/** A group that n8n waits for. */
async function submitted(): Promise<string> {
  return until("a group was submitted", () => between.submitted.at(-1));
}

/** n8n has asked for a group longer than one request is tried again for: then it gives that up. */
async function gaveUp(group: string): Promise<void> {
  const asked = `GET /v1/groups/${group}`;
  await until("n8n asks and asks", () => between.unanswered.filter((request) => request === asked).length > 4);
}

test("a retry of a failed execution runs, and pays, only what failed", async () => {
  await fetch(`${provider.url}/reset`, { method: "POST" });
  const rows = [{ text: saying("one") }, { text: "#scripted:context_length" }, { text: saying("three") }];
  const workflow = await starts(chained("retry", gives("Rows", rows), spillway("Summarize", credentials)));
  const failed = await n8n.reached(workflow, "error");
  const before = await stats(provider);
  assert.equal(before.answered, 2);
  const again = await n8n.retry(failed);
  const { error } = await until("the retry has ended", async () => {
    const all = await n8n.executions(workflow);
    return all.length === 2 && all.every(({ status }) => status === "error") && n8n.data(again);
  });
  assert.match(error.message, /Item 1: /);
  const after = await stats(provider);
  assert.equal(after.answered, 2, "the answers were taken over");
  assert.equal(after.calls, before.calls + 1, "only the failed job ran again");
});

test("polling outlasts a Spillway that is killed and comes back", async () => {
  between.judge = async (answer) => {
    await service.stop();
    return answer;
  };
  const polling = spillway("Summarize", credentials, { waitBy: "polling" });
  const workflow = await starts(chained("away", gives("Rows", [{ text: saying("late") }]), polling));
  await gaveUp(await submitted());
  service = await startAgain();
  assert.deepEqual(await texts(await n8n.reached(workflow, "success"), "Summarize"), ["late"]);
  assert.equal(between.submitted.length, 1);
});

test("an execution that is woken while Spillway cannot be asked gets its results later", async () => {
  between.judge = async (answer) => {
    between.away = true;
    return answer;
  };
  const workflow = await starts(chained("woken", gives("Rows", [slow(1, "here")]), spillway("Summarize", credentials)));
  const group = await submitted();
  await gaveUp(group);
  between.away = false;
  assert.deepEqual(await texts(await n8n.reached(workflow, "success"), "Summarize"), ["here"]);
  await assertTakenOnce(service, group);
});

test("an execution that is stopped while it polls cancels its jobs", async () => {
  const polling = spillway("Summarize", credentials, { waitBy: "polling" });
  const workflow = await starts(chained("stopped", gives("Rows", [slow(300, "never")]), polling));
  const group = await submitted();
  await until("the node polls", () => between.requests.includes(`GET /v1/groups/${group}`));
  await n8n.rest("POST", `executions/${(await n8n.executions(workflow))[0].id}/stop`);
  await until("the group has ended", async () => {
    const { body } = await call(service, "GET", `/v1/groups/${group}`);
    return body.status === "finished" && body.counts.cancelled === 1;
  });
});

test("only a signed call about its own group wakes an execution, and too early it sleeps again", async () => {
  const metadata = "={{ { resume: $execution.resumeUrl } }}";
  const made = spillway("Summarize", credentials, { options: { metadata } });
  const workflow = await starts(chained("strange", gives("Rows", [slow(300, "never")]), made));
  await n8n.reached(workflow, "waiting");
  const group = await submitted();
  const [job] = (await call(service, "GET", `/v1/jobs?workflow=${workflow}`)).body.data;
  const headers = { "content-type": "application/json" };
  const { resume } = job.metadata;
  const post = async (url: string, id: string, more = "") => {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify({ id, more }) });
    return `${answer.status} ${await answer.text()}`;
  };
  assert.match(await post(resume, "grp_other"), /^410 .*does not wait for this/);
  assert.match(await post(resume.replace(/\?.*/, ""), group), /^401 /, "n8n's signature is away");
  assert.match(await post(resume, group, "large ".repeat(200_000)), /^500 /, "it is more than this n8n takes");
  await n8n.reached(workflow, "waiting");
  assert.match(await post(resume, group), /^200 /);
  await until("the node has looked", () => between.requests.includes(`GET /v1/groups/${group}`));
  await n8n.reached(workflow, "waiting");
  await call(service, "DELETE", `/v1/groups/${group}`);
  const { error } = await n8n.data(await n8n.reached(workflow, "error"));
  assert.match(error.message, /^Item 0: .*cancelled/);
});

test("in Loop Over Items each batch gets its own results, two waits in each round", async () => {
  const rows = [1, 2, 3, 4].map((at) => ({ text: saying(`answer ${at}`) }));
  const second = spillway("Again", credentials, { inputText: "={{ $('Batches').item.json.text }}" });
  const made = chained("loop", gives("Rows", rows), loop("Batches", 2), spillway("Summarize", credentials), second);
  made.connections.Batches = { main: [[], [to("Summarize")]] };
  made.connections.Again = { main: [[to("Batches")]] };
  const execution = await n8n.reached(await starts(made), "success");
  const expected = rows.map((_, at) => `answer ${at + 1}`);
  for (const node of ["Summarize", "Again"]) assert.deepEqual(await texts(execution, node), expected, node);
});

test("a sub-workflow that is called once for each item gives all results", async () => {
  const sub = await n8n.addWorkflow(chained("sub", CALLED, spillway("Summarize", credentials)));
  await n8n.publish(sub);
  const rows = [slow(2, "slow"), { text: saying("fast") }];
  const execution = await n8n.reached(await starts(chained("each", gives("Rows", rows), calls("Each", sub))), "success");
  assert.deepEqual(await texts(execution, "Each"), ["slow", "fast"]);
});

test("results larger than what n8n takes as a request come all the same", async () => {
  const rows = Array.from({ length: 10 }, (_, at) => ({ at }));
  // Metadata comes back with each result.
  const metadata = "={{ { large: 'long '.repeat(50_000) } }}";
  const parameters = { inputText: saying("big"), options: { metadata } };
  const workflow = await starts(chained("large", gives("Rows", rows), spillway("Summarize", credentials, parameters)));
  const execution = await n8n.reached(workflow, "success");
  const output = await n8n.output(execution, "Summarize");
  assert.equal(output.length, rows.length);
  assert.ok(JSON.stringify(output).length > 2_000_000);
  await assertTakenOnce(service, between.submitted[0]);
});

test("at its limit a wait is an error that names the group", { timeout: 180_000 }, async () => {
  const told = /did not come within the wait limit; the group is grp_/;
  for (const way of ["stops", "polls"] as const) {
    const { error } = await n8n.data(await n8n.reached(limited[way], "error", 120));
    assert.match(error.message, told, way);
    const [group] = /grp_\w+/.exec(error.message)!;
    assert.equal((await call(service, "GET", `/v1/groups/${group}`)).body.status, "running");
  }
  const again = await n8n.retry((await n8n.executions(limited.stops))[0].id);
  const { error } = await until("a retry fails the same way", async () => {
    const retry = (await n8n.executions(limited.stops)).find(({ id }) => id === again);
    return retry?.status === "error" && n8n.data(again);
  });
  assert.match(error.message, told);
  const items = await n8n.output(await n8n.reached(limited.goesOn, "success", 120), "Summarize");
  assert.equal(items.length, 1, "n8n makes one of all");
  assert.match(items[0].json.error, told);
  const [{ json }, ...others] = await n8n.output(await n8n.reached(limited.example, "success", 120), "Failed rows");
  assert.deepEqual(others, []);
  assert.equal(json.id, "A, B");
  assert.match(json.message, told);
});

test("a node is woken whatever its name", async () => {
  for (const name of ["Sum }} up", "{{ name }}", `It's "x" \\ y`]) {
    const workflow = await starts(chained("named", gives("Rows", [{ text: saying("here") }]), spillway(name, credentials)));
    assert.deepEqual(await texts(await n8n.reached(workflow, "success"), name), ["here"], name);
    await assertTakenOnce(service, between.submitted.at(-1)!);
  }
});
