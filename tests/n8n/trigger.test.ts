// The Spillway Trigger: whom it believes, and when it is subscribed.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { call, type Running, SECRET, startService, until } from "../platforms/service.ts";
import { Between } from "./between.ts";
import { addCredentials, type Credentials, example, filled } from "./examples.ts";
import { installed, N8n } from "./n8n.ts";

const { Webhook } = installed("standardwebhooks");

let n8n: N8n;
let service: Running;
let between: Between;
let credentials: Credentials;

before(async () => {
  service = await startService();
  between = await Between.start(service);
  n8n = await N8n.start();
  credentials = await addCredentials(n8n, between.url);
});

after(async () => {
  between?.stop();
  await n8n?.stop();
  await service?.stop();
});

/** The example with a webhook of its own. */
async function add(name: string): Promise<string> {
  const made = filled(example("trigger.json"), credentials, {});
  const trigger = made.nodes.find((node: any) => node.type.endsWith(".spillwayTrigger"));
  trigger.webhookId = name;
  return n8n.addWorkflow({ ...made, name });
}

/** Publishes what was added under this name; where its trigger listens. */
async function listens(workflow: string, name: string): Promise<string> {
  const path = `${name}/spillway`;
  await n8n.publish(workflow, [path]);
  // n8n publishes in the background.
  await until("it is subscribed", async () => (await subscriptions()).some(({ url }) => url.endsWith(path)));
  return path;
}

async function publish(name: string): Promise<{ workflow: string; path: string }> {
  const workflow = await add(name);
  return { workflow, path: await listens(workflow, name) };
}

async function unpublish(workflow: string): Promise<void> {
  await n8n.unpublish(workflow);
  await until("it is subscribed no longer", async () => (await subscriptions()).length === 0);
}

async function subscriptions(): Promise<any[]> {
  return (await call(service, "GET", "/v1/subscriptions")).body.data;
}

/** A result as Spillway would post it, signed with this secret at this time. */
async function post(path: string, secret: string, { id = "evt_1", at = new Date(), alter = "" } = {}): Promise<number> {
  const data = { id: "job_1", object: "job", status: "succeeded", ok: true, task: "tag", text: "signed by whom?" };
  const body = JSON.stringify({ type: "job.succeeded", timestamp: at, data });
  const headers = {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign(id, at, body),
  };
  return (await fetch(`${n8n.url}/webhook/${path}`, { method: "POST", headers, body: body + alter })).status;
}

test("it is subscribed from publishing to unpublishing, and a job that ends starts the workflow", async () => {
  const { workflow, path } = await publish("follows");
  const [subscription, ...others] = await subscriptions();
  assert.deepEqual(others, []);
  assert.ok(subscription.url.endsWith(`/webhook/${path}`), subscription.url);
  assert.deepEqual(subscription.statuses, ["succeeded", "failed"]);
  const job = await call(service, "POST", "/v1/jobs", { task: "tag", input: "an invoice" });
  const execution = await n8n.reached(workflow, "success");
  const [answer] = await n8n.output(execution, "Answer");
  assert.equal(answer.json.job, job.body.id);
  assert.ok(answer.json.text.length > 0);
  await unpublish(workflow);
});

test("a lost answer leaves no second subscription, and after its end another is made", async () => {
  const asked = () => between.requests.filter((request) => request === "POST /v1/subscriptions").length;
  const before = asked();
  let lost = 0;
  between.judge = async (answer) => (lost++ === 0 ? { status: 502, body: {} } : answer);
  const { workflow } = await publish("lost");
  // n8n has the secret of the only one: what that has signed starts the workflow.
  await until("it has asked twice", () => asked() === before + 2);
  const [first, ...others] = await subscriptions();
  assert.deepEqual(others, []);
  await call(service, "POST", "/v1/jobs", { task: "tag", input: "an invoice" });
  await n8n.reached(workflow, "success");
  await unpublish(workflow);
  await listens(workflow, "lost");
  assert.notEqual((await subscriptions())[0].id, first.id);
  await unpublish(workflow);
});

test("a failed job takes the other branch", async () => {
  const { workflow } = await publish("fails");
  const job = await call(service, "POST", "/v1/jobs", { task: "summarize", input: "#scripted:context_length" });
  const execution = await n8n.reached(workflow, "success");
  const [failure] = await n8n.output(execution, "Failure");
  assert.equal(failure.json.job, job.body.id);
  assert.match(failure.json.what_to_do, /Shorten the prompt/);
  await unpublish(workflow);
});

test("a copy that brings the original's memory along leaves its subscription alone", async () => {
  const original = await publish("original");
  const [first] = await subscriptions();
  const copy = await add("copy");
  await copyMemory(original.workflow, copy, first.id);
  await listens(copy, "copy");
  await n8n.unpublish(copy);
  await until("the copy is subscribed no longer", async () => (await subscriptions()).length === 1);
  const job = await call(service, "POST", "/v1/jobs", { task: "tag", input: "an invoice" });
  const [answer] = await n8n.output(await n8n.reached(original.workflow, "success"), "Answer");
  assert.equal(answer.json.job, job.body.id);
  await unpublish(original.workflow);
});

/** Gives a workflow what another remembers, as an exported file does that is imported under a new id. */
async function copyMemory(from: string, to: string, subscription: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "spillway-copy-"));
  const file = join(folder, "workflow.json");
  const { staticData } = await n8n.rest("GET", `workflows/${from}`);
  assert.ok(JSON.stringify(staticData).includes(subscription), "the original remembers its subscription");
  writeFileSync(file, JSON.stringify([{ ...(await n8n.rest("GET", `workflows/${to}`)), staticData }]));
  await n8n.cli("import:workflow", `--input=${file}`);
  rmSync(folder, { recursive: true });
  const imported = await n8n.rest("GET", `workflows/${to}`);
  assert.deepEqual(imported.staticData, staticData);
}

test("what Spillway has not signed starts nothing", async () => {
  const { workflow, path } = await publish("believes");
  const hour = 3_600_000;
  const forged = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
  assert.equal(await post(path, forged), 401, "another secret");
  assert.equal(await post(path, SECRET, { at: new Date(Date.now() - hour) }), 401, "a replay from an hour ago");
  assert.equal(await post(path, SECRET, { alter: " " }), 401, "another body");
  const bare = await fetch(`${n8n.url}/webhook/${path}`, { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
  assert.equal(bare.status, 401, "no signature");
  assert.equal(await post(path, SECRET, { id: "evt_true" }), 200);
  await n8n.reached(workflow, "success");
  assert.equal(await post(path, SECRET, { id: "evt_true" }), 200, "the same once more");
  // Executions are begun in the order of the requests: one after the forged ones and the repeat.
  assert.equal(await post(path, SECRET, { id: "evt_last" }), 200);
  const executions = await until("the last has ended", async () => {
    const all = await n8n.executions(workflow);
    return all.length >= 2 && all.every(({ status }) => status === "success") && all;
  });
  assert.equal(executions.length, 2);
  await unpublish(workflow);
});
