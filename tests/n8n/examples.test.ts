// n8n knows the package, and every example runs as it is committed.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { call, KEY, type Running, startService } from "../platforms/service.ts";
import { addCredentials, type Credentials, example, EXAMPLES, filled } from "./examples.ts";
import { N8n } from "./n8n.ts";

let n8n: N8n;
let service: Running;
let credentials: Credentials;

before(async () => {
  service = await startService();
  n8n = await N8n.start();
  credentials = await addCredentials(n8n, service.url);
});

after(async () => {
  await n8n?.stop();
  await service?.stop();
});

/** Runs an example; what each of its nodes gave at its first output. */
async function runs(file: string, settings: Record<string, string> = {}): Promise<(node: string) => Promise<any[]>> {
  const all = { spillway_url: service.url, ...settings };
  const workflow = await n8n.addWorkflow(filled(example(file), credentials, all));
  await n8n.run(workflow, "Click to try");
  const execution = await n8n.reached(workflow, "success", 120);
  return async (node) => (await n8n.output(execution, node)).map(({ json }) => json);
}

const IDS = ["A-1", "A-2", "A-3"];

test("n8n lists the node, the trigger and the tool", async () => {
  const folder = mkdtempSync(join(tmpdir(), "spillway-nodes-"));
  await n8n.cli("export:nodes", `--output=${join(folder, "types.json")}`);
  const types: any[] = JSON.parse(readFileSync(join(folder, "types.json"), "utf8"));
  rmSync(folder, { recursive: true });
  const ours = types.map(({ name }) => name).filter((name) => name.startsWith("n8n-nodes-spillway."));
  assert.deepEqual(ours.sort(), ["spillway", "spillwayTool", "spillwayTrigger"].map((name) => `n8n-nodes-spillway.${name}`));
});

test("n8n's own connection test of the credential takes the right key and refuses a wrong one", async () => {
  const tested = async (apiKey: string) => {
    const data = { baseUrl: `${service.url}/v1/`, apiKey };
    return n8n.rest("POST", "credentials/test", { credentials: { id: "", name: "x", type: "spillwayApi", data } });
  };
  assert.equal((await tested(KEY)).status, "OK");
  assert.equal((await tested("sw_wrong")).status, "Error");
});

test("run-and-wait.json gives every row its answer", async () => {
  const output = await runs("run-and-wait.json");
  assert.deepEqual((await output("Answers")).map(({ id }) => id), IDS);
  for (const { text } of await output("Answers")) assert.ok(text.length > 0);
});

test("http-request-and-wait.json runs one item, then all rows", async () => {
  const output = await runs("http-request-and-wait.json");
  assert.equal((await output("Result of one"))[0].ok, true);
  const each = await output("Result of each row");
  assert.deepEqual(each.map(({ id, ok }) => [id, ok]), IDS.map((id) => [id, true]));
});

test("error-branch.json leads failed jobs another way", async () => {
  const rows = [{ id: "good", text: "A fine text." }, { id: "bad", text: "#scripted:context_length" }];
  const output = await runs("error-branch.json", { rows: JSON.stringify(rows) });
  assert.deepEqual((await output("Answers")).map(({ id }) => id), ["good"]);
  const [failed] = await output("Failed rows");
  assert.equal(failed.id, "bad");
  assert.equal(failed.code, "context_length");
  assert.match(failed.what_to_do, /Shorten the prompt/);
});

test("loop-500-rows.json gives 500 rows their answers, in two batches", async () => {
  const output = await runs("loop-500-rows.json");
  const all = await output("All results");
  assert.deepEqual(all.map(({ id, ok }) => [id, ok]), Array.from({ length: 500 }, (_, at) => [at + 1, true]));
  assert.equal((await output("Submit the batch")).length, 2);
});

test("agent-tool.json lets the model call the node as its tool", async () => {
  const question = `#scripted:call Summarize_a_text ${JSON.stringify({ text: "A text for the tool." })}`;
  const workflow = await n8n.addWorkflow(filled(example("agent-tool.json"), credentials, { question }));
  // What the tool submits bears the workflow's id; the agent's own turns do not.
  const submitted = async () => (await call(service, "GET", `/v1/jobs?task=summarize&workflow=${workflow}`)).body.data;
  assert.deepEqual(await submitted(), []);
  await n8n.run(workflow, "Click to try");
  const execution = await n8n.reached(workflow, "success", 120);
  const [answer] = await n8n.output(execution, "AI Agent");
  assert.ok(answer.json.output.length > 0);
  assert.deepEqual((await submitted()).map(({ status }: any) => status), ["succeeded"]);
});

test("every example is tried, and none names an address or a credential of its own", () => {
  const source = readFileSync(import.meta.filename, "utf8") + readFileSync(join(import.meta.dirname, "trigger.test.ts"), "utf8");
  for (const file of readdirSync(EXAMPLES)) {
    assert.ok(source.includes(`"${file}"`), `${file} is tried by no test`);
    const text = JSON.stringify(example(file));
    const addresses = text.match(/https?:\/\/[^\s"`'/]+/g) ?? [];
    assert.deepEqual([...new Set(addresses)].filter((address) => address !== "https://spillway.example.com"), [], file);
    for (const node of example(file).nodes) {
      for (const { id } of Object.values<any>(node.credentials ?? {})) assert.equal(id, "", file);
    }
  }
});
