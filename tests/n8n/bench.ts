// 200 rows at a provider that allows 600 calls a minute: straight through n8n's own HTTP Request
// node with its most generous retries, and through Spillway. Prints a table.

import { addCredentials, example, filled } from "./examples.ts";
import { N8n } from "./n8n.ts";
import { RATE, rows, startLimited, stats } from "./provider.ts";

const COUNT = 200;
const ROWS = rows(COUNT);

type Measured = { way: string; failed: number; seconds: number; paid: number; refused: number };

const { provider, service } = await startLimited();
const n8n = await N8n.start();
const credentials = await addCredentials(n8n, service.url);

/** What people build first: an HTTP Request that sends every row, tried again as often and as late as n8n can. */
function straight({ onError, options = {} }: { onError: string; options?: object }): any {
  const made = example("run-and-wait.json");
  const node = made.nodes.find(({ name }: any) => name === "Summarize");
  const jsonBody = "={{ { model: 'tiny-1', messages: [{ role: 'user', content: $json.text }] } }}";
  Object.assign(node, {
    type: "n8n-nodes-base.httpRequest",
    typeVersion: 4.2,
    parameters: { method: "POST", url: `${provider.url}/v1/chat/completions`, sendBody: true, specifyBody: "json", jsonBody, options },
    credentials: undefined,
    onError,
    retryOnFail: true,
    maxTries: 5,
    waitBetweenTries: 5000,
  });
  return made;
}

/** Runs a workflow, or `copies` of it with a part of the rows each; rows without an answer at `answers` have failed. */
async function measure(way: string, make: () => any, answers: string, { ends = "success", copies = 1 } = {}): Promise<Measured> {
  await fetch(`${provider.url}/reset`, { method: "POST" });
  const workflows = await Promise.all(
    Array.from({ length: copies }, (_, copy) => {
      const part = ROWS.slice((copy * COUNT) / copies, ((copy + 1) * COUNT) / copies);
      return n8n.addWorkflow(filled(make(), credentials, { spillway_url: service.url, rows: JSON.stringify(part) }));
    }),
  );
  const began = performance.now();
  await Promise.all(workflows.map((id) => n8n.run(id, "Click to try")));
  const executions = await Promise.all(workflows.map((id) => n8n.reached(id, ends, 600)));
  const seconds = (performance.now() - began) / 1000;
  const answered = await Promise.all(executions.map(async (id) => (await n8n.output(id, answers)).length));
  const seen = await stats(provider);
  const failed = COUNT - answered.reduce((sum, some) => sum + some, 0);
  return { way, failed, seconds, paid: seen.answered, refused: seen.rate_limited };
}

/** Only the branch for many rows. */
function grouped(): any {
  const made = example("http-request-and-wait.json");
  made.connections.Settings.main[0] = made.connections.Settings.main[0].filter(({ node }: any) => node === "Rows");
  return made;
}

const batching = { batching: { batch: { batchSize: 10, batchInterval: 1000 } } };
const stopping = () => straight({ onError: "stopWorkflow" });
const going = () => straight({ onError: "continueErrorOutput" });
const batched = () => straight({ onError: "continueErrorOutput", options: batching });
const node = () => example("run-and-wait.json");
const measured = [
  await measure("straight, *On Error: Stop Workflow*", stopping, "Summarize", { ends: "error" }),
  await measure("straight, *On Error: Continue (using error output)*", going, "Summarize"),
  await measure("straight, with *Batching* set by hand to 10 items a second", batched, "Summarize"),
  await measure("the same, two workflows at once with 100 rows each", batched, "Summarize", { copies: 2 }),
  await measure("Spillway, *HTTP Request* and *Wait*", grouped, "Result of each row"),
  await measure("Spillway, *Run a Task and Wait*", node, "Answers"),
  await measure("the same, two workflows at once with 100 rows each", node, "Answers", { copies: 2 }),
];
await n8n.stop();
await service.stop();
await provider.stop();

console.log(`${COUNT} rows, a provider that allows ${RATE}; straight: n8n's HTTP Request with Retry on Fail, 5 tries, 5000 ms\n`);
console.log("| | rows without an answer | time | calls paid for | calls refused with 429 |\n|---|---|---|---|---|");
for (const { way, failed, seconds, paid, refused } of measured) {
  console.log(`| ${way} | ${failed} | ${seconds.toFixed(0)} s | ${paid} | ${refused} |`);
}
