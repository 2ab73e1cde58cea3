// What the node does with jobs that fail, and who pays when n8n tries again.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { type Running, startScripted } from "../platforms/service.ts";
import { Between } from "./between.ts";
import { addCredentials, type Credentials, example, filled } from "./examples.ts";
import { N8n } from "./n8n.ts";
import { saying, startServiceBefore, stats } from "./provider.ts";

/** The second of three cannot succeed. */
const ROWS = [
  { id: "first", text: saying("one") },
  { id: "second", text: "#scripted:context_length" },
  { id: "third", text: saying("three") },
];

let n8n: N8n;
let provider: Running;
let service: Running;
let between: Between;
let credentials: Credentials;

before(async () => {
  provider = await startScripted({ latency: "0ms" });
  service = await startServiceBefore(provider);
  between = await Between.start(service);
  n8n = await N8n.start();
  credentials = await addCredentials(n8n, between.url);
});

beforeEach(async () => {
  between.submitted.length = 0;
  between.requests.length = 0;
  between.judge = async (answer) => answer;
  await fetch(`${provider.url}/reset`, { method: "POST" });
});

after(async () => {
  between?.stop();
  await n8n?.stop();
  await service?.stop();
  await provider?.stop();
});

/** Runs an example with these rows and other settings of the node that submits; its execution at the end. */
async function runs(file: string, node: string, changes: object, { rows = ROWS, ends = "success" } = {}): Promise<string> {
  const settings = { spillway_url: between.url, rows: JSON.stringify(rows) };
  const made = filled(example(file), credentials, settings);
  Object.assign(made.nodes.find(({ name }: any) => name === node), changes);
  const workflow = await n8n.addWorkflow(made);
  await n8n.run(workflow, "Click to try");
  return n8n.reached(workflow, ends);
}

const json = (items: { json: any }[]) => items.map(({ json }) => json);

test("with the error output, failed items leave by it and keep their pairing", async () => {
  const execution = await runs("run-and-wait.json", "Summarize", { onError: "continueErrorOutput" });
  assert.deepEqual(
    json(await n8n.output(execution, "Answers")).map(({ id, text }) => [id, text]),
    [["first", "one"], ["third", "three"]],
  );
  const [failed, ...others] = json(await n8n.output(execution, "Failed rows"));
  assert.deepEqual(others, []);
  assert.equal(failed.id, "second");
  assert.match(failed.message, /maximum context length/);
});

test("with Continue on Fail, failed items stand in their place", async () => {
  const execution = await runs("run-and-wait.json", "Summarize", { onError: "continueRegularOutput" });
  const results = json(await n8n.output(execution, "Summarize"));
  assert.deepEqual(results.map(({ ok }) => ok), [true, false, true]);
  assert.deepEqual(json(await n8n.output(execution, "Answers")).map(({ id }) => id), ["first", "second", "third"]);
});

test("without either, the first failed item fails the node in words that help", async () => {
  const execution = await runs("run-and-wait.json", "Summarize", { onError: "stopWorkflow" }, { ends: "error" });
  const { error, lastNodeExecuted } = await n8n.data(execution);
  assert.equal(lastNodeExecuted, "Summarize");
  assert.match(error.message, /Item 1: .*maximum context length/);
  assert.match(error.description, /Shorten the prompt/);
});

test("n8n's Retry on Fail of a failed item does not run and pay the others again", async () => {
  const retrying = { onError: "stopWorkflow", retryOnFail: true, maxTries: 3, waitBetweenTries: 0 };
  await runs("run-and-wait.json", "Summarize", retrying, { ends: "error" });
  const [group] = between.submitted;
  const asked = between.requests.filter((request) => request === `GET /v1/groups/${group}`);
  assert.ok(asked.length >= 3, `n8n has tried three times: ${between.requests.join(", ")}`);
  assert.equal(new Set(between.submitted).size, 1);
  const { answered, calls } = await stats(provider);
  assert.deepEqual({ answered, calls }, { answered: 2, calls: 3 });
});

for (const { name, file, node } of [
  { name: "Run a task and wait", file: "run-and-wait.json", node: "Summarize" },
  { name: "plain HTTP", file: "error-branch.json", node: "Submit all rows" },
]) {
  test(`a try again after a lost answer finds the same jobs: ${name}`, async () => {
    let lost = 0;
    // Spillway has accepted, and n8n does not hear it.
    between.judge = async (answer) => (lost++ === 0 ? { status: 502, body: { detail: "lost" } } : answer);
    const rows = [ROWS[0], ROWS[2]];
    const execution = await runs(file, node, { retryOnFail: true, maxTries: 3, waitBetweenTries: 100 }, { rows });
    assert.deepEqual(json(await n8n.output(execution, "Answers")).map(({ text }) => text), ["one", "three"]);
    assert.ok(lost > 1, "n8n has tried again");
    assert.equal(new Set(between.submitted).size, 1);
    assert.equal((await stats(provider)).calls, 2);
  });
}

test("a submit whose answer a proxy lost is no failure of the items, whose jobs run", async () => {
  const lost = [502, 504];
  between.judge = async (answer) => {
    const status = lost.shift();
    return status ? { status, body: {} } : answer;
  };
  const rows = [ROWS[0], ROWS[2]];
  const execution = await runs("run-and-wait.json", "Summarize", { onError: "continueRegularOutput" }, { rows });
  assert.deepEqual(json(await n8n.output(execution, "Answers")).map(({ text }) => text), ["one", "three"]);
  assert.deepEqual(lost, []);
  assert.equal(new Set(between.submitted).size, 1);
  assert.equal((await stats(provider)).calls, 2);
});

test("Retry on Fail finds the jobs of a submit that went without a refused item", async () => {
  let lost = 0;
  // As often as the node asks before it gives up.
  between.judge = async (answer) => (answer.status === 202 && lost++ < 4 ? { status: 502, body: {} } : answer);
  const rows = [ROWS[0], { id: "empty", text: "" }, ROWS[2]];
  const retrying = { onError: "continueRegularOutput", retryOnFail: true, maxTries: 2, waitBetweenTries: 0 };
  const execution = await runs("run-and-wait.json", "Summarize", retrying, { rows });
  const results = json(await n8n.output(execution, "Summarize"));
  assert.deepEqual(results.map(({ text }) => text), ["one", undefined, "three"]);
  assert.match(results[1].error.message, /input/);
  assert.ok(lost > 4, "n8n has tried again");
  assert.equal(new Set(between.submitted).size, 1);
  assert.equal((await stats(provider)).calls, 2);
});

test("a request that Spillway refuses leaves by the error output with the reason", async () => {
  const nothing = [{ id: "empty", text: "" }];
  const execution = await runs("error-branch.json", "Submit all rows", { retryOnFail: false }, { rows: nothing });
  const [refused] = json(await n8n.output(execution, "Refused"));
  assert.match(refused.message, /input/);
});
