// The operations that do not wait, and what the node makes of what people put into its fields.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, KEY, type Running, startService, until } from "../platforms/service.ts";
import { chained, gives, spillway } from "./build.ts";
import { addCredentials, type Credentials } from "./examples.ts";
import { N8n } from "./n8n.ts";

const TASKS = `
[accounts.main]
provider = "scripted"
scripted = { latency = "5ms" }
[routes.cheap]
steps = ["main/tiny-1"]
[routes.premium]
steps = ["main/grand-1"]

[tasks.letter]
route = "cheap"
template = '#scripted:say {{ subject }}, level {{ level + 1 }} to {{ to.name }} in {{ language }}'
[tasks.letter.input_schema]
allOf = [{ "$ref" = "#/$defs/addressed" }]
required = ["subject"]
properties = { subject = { type = "string" }, level = { enum = [1, 2, 3] } }
[tasks.letter.input_schema."$defs".addressed]
required = ["to"]
properties = { to = { "$ref" = "#/$defs/person" } }
[tasks.letter.input_schema."$defs".person]
type = "object"
properties = { name = { type = "string" } }

[tasks.open]
route = "cheap"
template = "#scripted:say {{ subject }} and {{ body }}"
input_schema = { type = "object" }
`;

let service: Running;
let n8n: N8n;
let credentials: Credentials;

before(async () => {
  service = await startService({ more: TASKS });
  n8n = await N8n.start();
  credentials = await addCredentials(n8n, service.url);
});

after(async () => {
  await n8n?.stop();
  await service?.stop();
});

/** The execution of a workflow with this node, once it has ended so. */
async function ends(status: string, items: object[], parameters: object, more: object = {}): Promise<string> {
  const made = chained("one node", gives("Rows", items), spillway("Spillway", credentials, parameters, more));
  const workflow = await n8n.addWorkflow(made);
  await n8n.run(workflow, "Click");
  return n8n.reached(workflow, status);
}

/** What the node makes of these items. */
async function runs(...given: [items: object[], parameters: object, more?: object]): Promise<any[]> {
  return (await n8n.output(await ends("success", ...given), "Spillway")).map(({ json }) => json);
}

/** The error that the node fails with. */
async function fails(...given: [items: object[], parameters: object, more?: object]): Promise<any> {
  return (await n8n.data(await ends("error", ...given))).error;
}

/** What the editor is told for the form of a task. */
async function form(task: string): Promise<{ fields: any[]; emptyFieldsNotice?: string }> {
  return n8n.rest("POST", "dynamic-node-parameters/resource-mapper-fields", {
    nodeTypeAndVersion: { name: "n8n-nodes-spillway.spillway", version: 1 },
    methodName: "getInputFields",
    path: "parameters.inputFields",
    currentNodeParameters: { operation: "runAndWait", inputMode: "fields", task },
    credentials: { spillwayApi: credentials.spillwayApi },
  });
}

test("a form is made of a schema with references, and what is filled in arrives", async () => {
  const { fields } = await form("letter");
  assert.deepEqual(
    Object.fromEntries(fields.map(({ id, type, required }) => [id, [type, required]])),
    { to: ["object", true], subject: ["string", true], level: ["number", false] },
  );
  for (const level of [2, "2"]) {
    const value = { subject: "Hello", level, to: { name: "Ann" } };
    const inputFields = { mappingMode: "defineBelow", value, schema: fields };
    const items = await runs([{}], { task: "letter", inputMode: "fields", inputFields });
    assert.equal(items[0].text, "Hello, level 3 to Ann in", `level ${JSON.stringify(level)}`);
  }
});

test("Map Automatically passes on what an open schema does not name", async () => {
  const automatic = { mappingMode: "autoMapInputData", value: null, schema: [] };
  const item = { subject: "Hello", level: "2", to: { name: "Ann" }, language: "German" };
  const letter = await runs([item], { task: "letter", inputMode: "fields", inputFields: automatic });
  assert.equal(letter[0].text, "Hello, level 3 to Ann in German");
  const { fields, emptyFieldsNotice } = await form("open");
  assert.deepEqual(fields, []);
  assert.match(emptyFieldsNotice!, /choose JSON.*Map Automatically/);
  const open = await runs([{ subject: "A", body: "B" }], { task: "open", inputMode: "fields", inputFields: automatic });
  assert.equal(open[0].text, "A and B");
});

test("List pages through all jobs, or as far as its limit", async () => {
  const workflow = "listed";
  const jobs = Array.from({ length: 230 }, (_, at) => ({ task: "tag", input: `text ${at}`, workflow }));
  const { body } = await call(service, "POST", "/v1/groups", { jobs });
  await until("the group's end", async () => (await call(service, "GET", `/v1/groups/${body.id}`)).body.status === "finished");
  const list = async (more: object) => (await runs([{}], { operation: "list", filters: { workflow }, ...more })).map(({ id }) => id);
  const all = await list({ returnAll: true });
  assert.equal(new Set(all).size, 230);
  const some = await list({ returnAll: false, limit: 137 });
  assert.deepEqual(some, all.slice(0, 137), "the newest first");
  assert.deepEqual(await list({ returnAll: true, filters: { workflow, status: "failed" } }), []);
});

test("Cancel withdraws a job, Get shows it, Replay runs it again", async () => {
  const [submitted] = await runs([{ text: "#scripted:slow 300s late" }], { operation: "submit", sendAs: "jobs" });
  const [cancelled] = await runs([submitted], { operation: "cancel", id: "={{ $json.id }}" });
  assert.equal(cancelled.id, submitted.id);
  const [got] = await runs([submitted], { operation: "get", id: "={{ $json.id }}", wait: 30 });
  assert.equal(got.status, "cancelled");
  const done = await call(service, "POST", "/v1/jobs?wait=30", { task: "tag", input: "an invoice" });
  const succeeded = async (earlier?: string) => {
    const job = (await call(service, "GET", `/v1/jobs/${done.body.id}?wait=5`)).body;
    return job.status === "succeeded" && job.finished_at !== earlier && job;
  };
  const first = await until("the job's end", () => succeeded());
  const [replayed] = await runs([{}], { operation: "replay", id: done.body.id, what: "run" });
  assert.equal(replayed.id, done.body.id);
  await until("it has run again", () => succeeded(first.finished_at));
});

test("Submit as one group names the item that is refused", async () => {
  const rows = [{ text: "a" }, { text: "" }, { text: "c" }];
  const parameters = { operation: "submit", sendAs: "group" };
  const items = await runs(rows, parameters, { onError: "continueRegularOutput" });
  assert.equal(items.length, 3);
  for (const { error } of items) assert.match(error.message, /^Item 1: The input does not fit/);
  assert.match((await fails(rows, parameters)).message, /^Item 1: /);
});

test("an own idempotency key finds the same jobs when submitting, and is no key of a wait", async () => {
  const options = { idempotencyKey: "order-77", workflow: "orders" };
  const submits = async () => (await runs([{ text: "the order" }], { operation: "submit", sendAs: "group", options }))[0].id;
  assert.equal(await submits(), await submits());
  for (const round of [1, 2]) {
    const items = await runs([{ text: "the order" }], { options });
    assert.deepEqual(items.map(({ ok }) => ok), [true], `round ${round}`);
  }
});

test("an own key in any script stands for its job, wherever its item stands", async () => {
  const options = { idempotencyKey: "={{ $json.order }}", workflow: "orders" };
  const submits = async (...orders: string[]) => {
    const rows = orders.map((order) => ({ order, text: "the order" }));
    return (await runs(rows, { operation: "submit", sendAs: "jobs", options })).map(({ id }) => id);
  };
  const first = await submits("o-1", "Заказ-7", "Счёт-7");
  assert.equal(new Set(first).size, 3);
  assert.deepEqual(await submits("Счёт-7", "o-1"), [first[2], first[0]]);
  assert.equal(new Set(await submits("o-9", "o-9")).size, 2);
});

test("half an emoji becomes the sign for an unknown character", async () => {
  const [whole, half] = ["😀", "😀".slice(0, 1)];
  const inputJson = "={{ { subject: $json.text, body: '' } }}";
  const options = { metadata: "={{ { sent: $json.text, path: 'C:\\\\ud83d' } }}" };
  const items = await runs([{ text: `${whole}|${half}|` }], { task: "open", inputMode: "json", inputJson, options });
  const sent = `${whole}|\ufffd|`;
  assert.deepEqual(items[0].metadata, { sent, path: "C:\\ud83d" });
  assert.ok(items[0].text.startsWith(sent), items[0].text);
});

test("a Base URL without http:// is told as such", async () => {
  const id = await n8n.addCredential("bare", "spillwayApi", { baseUrl: "spillway.example", apiKey: KEY });
  const { message } = await fails([{ text: "x" }], {}, { credentials: { spillwayApi: { id, name: "bare" } } });
  assert.match(message, /"spillway\.example" must begin with http:\/\/ or https:\/\//);
});
