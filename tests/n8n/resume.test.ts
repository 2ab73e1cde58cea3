// The ways a callback and a sleeping execution can miss each other.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, type Running, startScripted, until } from "../platforms/service.ts";
import { startBetween } from "./between.ts";
import { addCredentials, type Credentials, example, filled, hooked } from "./examples.ts";
import { N8n } from "./n8n.ts";
import { assertTakenOnce, deliveries, rows, saying, startServiceBefore } from "./provider.ts";

/** The two ways to wait, with the nodes that submit and that have the answers. */
const WAYS = [
  { name: "Run a task and wait", file: "run-and-wait.json", answers: "Answers" },
  { name: "plain HTTP and Wait", file: "error-branch.json", answers: "Answers" },
];

let n8n: N8n;
let provider: Running;
let service: Running;
let credentials: Credentials;

before(async () => {
  provider = await startScripted({ latency: "0ms" });
  service = await startServiceBefore(provider);
  n8n = await N8n.start();
  credentials = await addCredentials(n8n, service);
});

after(async () => {
  await n8n?.stop();
  await service?.stop();
  await provider?.stop();
});

/** Publishes an example behind a webhook that takes the rows. */
async function publish(file: string, path: string, url: string, chosen = credentials): Promise<string> {
  const settings = { spillway_url: url, rows: "={{ $json.body.rows }}" };
  const workflow = await n8n.addWorkflow(hooked(filled(example(file), chosen, settings), path));
  await n8n.publish(workflow, [path]);
  return workflow;
}

/** The groups that a workflow has submitted, the newest first. */
async function groupsOf(workflow: string): Promise<string[]> {
  const { body } = await call(service, "GET", `/v1/jobs?workflow=${workflow}&limit=100`);
  return [...new Set<string>(body.data.map((job: any) => job.group).filter(Boolean))];
}

/** How often n8n was called to resume this execution. */
function resumes(execution: string): number {
  return n8n.log().split(`Received waiting-webhook "POST" for execution "${execution}"`).length - 1;
}

test("an execution that waits while n8n is killed finishes after n8n's start", { timeout: 240_000 }, async () => {
  const slow = [{ id: "slow", text: `#scripted:slow 4s ${saying("late")}` }];
  const running = [];
  for (const [at, { file, answers }] of WAYS.entries()) {
    const workflow = await publish(file, `killed-${at}`, service.url);
    await n8n.post(`killed-${at}`, { rows: slow });
    running.push({ workflow, answers });
  }
  for (const { workflow } of running) await n8n.reached(workflow, "waiting");
  await n8n.kill();
  // Nobody is there to take the results; Spillway has tried before n8n begins to start.
  const groups = [];
  for (const { workflow } of running) {
    const [group] = await until("the group is known", async () => {
      const found = await groupsOf(workflow);
      return found.length > 0 && found;
    });
    await until("a delivery has failed", async () => (await deliveries(service, group)).attempts.length > 0);
    groups.push(group);
  }
  await n8n.resume();
  for (const [at, { workflow, answers }] of running.entries()) {
    const execution = await n8n.reached(workflow, "success", 120);
    assert.deepEqual((await n8n.output(execution, answers)).map(({ json }) => json.text), ["late"]);
    const { attempts } = await assertTakenOnce(service, groups[at]);
    assert.equal(attempts[0].status, null, "the first try met no n8n");
  }
});

for (const { name, file, answers } of WAYS) {
  test(`a callback that comes before n8n waits is tried again soon: ${name}`, async () => {
    const seen: string[] = [];
    // n8n gets its 202 only after Spillway has called and was told that nobody waits yet.
    const between = await startBetween(service, async (answer) => {
      const { id } = answer.body;
      await until("an early callback was refused", async () => (await deliveries(service, id)).attempts.length > 0);
      seen.push(id);
      return answer;
    });
    const key = { header: { name: "Authorization" }, url: between.url };
    const through = { ...service, url: key.url } as Running;
    const workflow = await publish(file, `early-${file}`, between.url, await addCredentials(n8n, through));
    await n8n.post(`early-${file}`, { rows: rows(3) });
    const execution = await n8n.reached(workflow, "success");
    between.server.close();
    assert.deepEqual((await n8n.output(execution, answers)).map(({ json }) => json.text), rows(3).map(({ id }) => `answer to ${id}`));
    assert.equal(seen.length, 1);
    const { attempts } = await assertTakenOnce(service, seen[0]);
    assert.equal(attempts[0].status, 409, "n8n does not wait yet");
    assert.equal(resumes(execution), attempts.length);
  });

  test(`20 executions at once with an instant provider all get their results: ${name}`, async () => {
    const path = `burst-${file}`;
    const workflow = await publish(file, path, service.url);
    const given = Array.from({ length: 20 }, (_, at) => [{ id: `row-${at}`, text: saying(`to ${at}`) }]);
    await Promise.all(given.map((rows) => n8n.post(path, { rows })));
    const executions = await until("all executions have succeeded", async () => {
      const all = await n8n.executions(workflow);
      return all.length === 20 && all.every(({ status }) => status === "success") && all;
    });
    const texts = await Promise.all(executions.map(async ({ id }) => (await n8n.output(id, answers))[0].json.text));
    assert.deepEqual(texts.sort(), given.map((_, at) => `to ${at}`).sort());
    let attempts = 0;
    for (const group of await groupsOf(workflow)) attempts += (await assertTakenOnce(service, group)).attempts.length;
    // Each call that n8n has seen is one of Spillway's attempts: nobody was called after a success.
    assert.equal(executions.reduce((sum, { id }) => sum + resumes(id), 0), attempts);
  });
}
