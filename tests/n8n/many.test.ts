// 200 items in one execution, at a provider that allows 600 calls a minute and refuses what is more.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Running } from "../platforms/service.ts";
import { addCredentials, type Credentials, publishForRows } from "./examples.ts";
import { N8n } from "./n8n.ts";
import { assertTakenOnce, rows, startLimited, stats } from "./provider.ts";

const ROWS = rows(200);

let n8n: N8n;
let provider: Running;
let service: Running;
let credentials: Credentials;

before(async () => {
  ({ provider, service } = await startLimited());
  n8n = await N8n.start();
  credentials = await addCredentials(n8n, service.url);
});

after(async () => {
  await n8n?.stop();
  await service?.stop();
  await provider?.stop();
});

/** Publishes the example with its trigger replaced, and posts the rows to it; the execution at its end. */
async function runs(file: string, path: string): Promise<string> {
  await fetch(`${provider.url}/reset`, { method: "POST" });
  const workflow = await publishForRows(n8n, credentials, service.url, file, path);
  await n8n.post(path, { rows: ROWS });
  const execution = await n8n.reached(workflow, "success", 120);
  await n8n.unpublish(workflow);
  return execution;
}

/** Every row with its own answer, in the rows' order. */
function assertPaired(items: { json: any }[]): void {
  assert.deepEqual(
    items.map(({ json }) => ({ id: json.id, text: json.text })),
    ROWS.map(({ id }) => ({ id, text: `answer to ${id}` })),
  );
}

/** Nobody was refused: not at the provider, not in our receipts, not in n8n. */
async function assertNo429(calls: number, results: any[]): Promise<void> {
  const seen = await stats(provider);
  assert.deepEqual({ calls: seen.calls, by_status: seen.by_status }, { calls, by_status: { 200: calls } });
  for (const result of results) {
    assert.deepEqual(result.attempts.map(({ outcome, status }: any) => [outcome, status]), [["answered", 200]]);
  }
  assert.doesNotMatch(n8n.log(), /\b429\b.*(rate|too many|limit)|too many requests/i);
  // The bucket was really in the way: all at once they would have taken about a second.
  assert.ok((seen.last_at - seen.first_at) / 1e6 > 15, `${calls} calls within ${(seen.last_at - seen.first_at) / 1e6} s`);
}

test("200 items run through Run a task and wait, each paired with its result, without a 429", async () => {
  const execution = await runs("run-and-wait.json", "many-node");
  assertPaired(await n8n.output(execution, "Answers"));
  assert.deepEqual(await n8n.output(execution, "Failed rows"), []);
  const results = await n8n.output(execution, "Summarize");
  await assertNo429(200, results.map(({ json }) => json));
  // n8n's own word for what belongs together.
  assert.deepEqual(results.map(({ pairedItem }) => pairedItem?.item ?? pairedItem), ROWS.map((_, at) => at));
});

test("200 items run through plain HTTP and Wait, each paired with its result, without a 429", async () => {
  const execution = await runs("http-request-and-wait.json", "many-http");
  assertPaired(await n8n.output(execution, "Result of each row"));
  const [one] = await n8n.output(execution, "Result of one");
  assert.equal(one.json.text, "answer to row-0");
  const results = (await n8n.output(execution, "Results")).map(({ json }) => json);
  await assertNo429(201, results);
  for (const node of ["Submit one job", "Submit all rows"]) {
    const [{ json }] = await n8n.output(execution, node);
    await assertTakenOnce(service, json.id);
  }
});
