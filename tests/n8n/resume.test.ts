// The ways a callback and a sleeping execution can miss each other.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { type Running, startScripted, until } from "../platforms/service.ts";
import { Between } from "./between.ts";
import { addCredentials, type Credentials, publishForRows, WAYS } from "./examples.ts";
import { N8n } from "./n8n.ts";
import { assertTakenOnce, type Attempts, deliveries, rows, saying, startServiceBefore } from "./provider.ts";

let n8n: N8n;
let provider: Running;
let service: Running;
let between: Between;
let credentials: Credentials;

before(async () => {
  provider = await startScripted({ latency: "0ms" });
  service = await startServiceBefore(provider);
  n8n = await N8n.start();
  between = await Between.start(service);
  credentials = await addCredentials(n8n, between.url);
});

beforeEach(() => {
  between.submitted.length = 0;
  between.judge = async (answer) => answer;
});

after(async () => {
  between?.stop();
  await n8n?.stop();
  await service?.stop();
  await provider?.stop();
});

const publish = (file: string, path: string) => publishForRows(n8n, credentials, between.url, file, path);

/** How often n8n was called to resume this execution. */
function resumes(execution: string): number {
  return n8n.log().split(`Received waiting-webhook "POST" for execution "${execution}"`).length - 1;
}

/** Each call that n8n has seen is one of Spillway's attempts; one whose connection broke may not have come to it. */
function assertSeen(seen: number, attempts: Attempts): void {
  const answered = attempts.filter(({ status }) => status !== null).length;
  assert.ok(answered <= seen && seen <= attempts.length, `n8n has seen ${seen} of ${JSON.stringify(attempts)}`);
}

test("an execution that waits while n8n is killed finishes after n8n's start", { timeout: 240_000 }, async () => {
  const slow = [{ id: "slow", text: `#scripted:slow 4s ${saying("late")}` }];
  const waiting = [];
  for (const [at, { file, answers }] of WAYS.entries()) {
    const workflow = await publish(file, `killed-${at}`);
    await n8n.post(`killed-${at}`, { rows: slow });
    waiting.push({ workflow, answers });
  }
  for (const { workflow } of waiting) await n8n.reached(workflow, "waiting");
  await n8n.kill();
  // Nobody is there to take the results: Spillway has tried before n8n begins to start.
  const groups = [...between.submitted];
  assert.equal(groups.length, WAYS.length);
  for (const group of groups) {
    await until("a delivery has failed", async () => (await deliveries(service, group)).attempts.length > 0);
  }
  await n8n.resume();
  for (const { workflow, answers } of waiting) {
    const execution = await n8n.reached(workflow, "success", 120);
    assert.deepEqual((await n8n.output(execution, answers)).map(({ json }) => json.text), ["late"]);
  }
  for (const group of groups) {
    const { attempts } = await assertTakenOnce(service, group);
    assert.equal(attempts[0].status, null, "the first try met no n8n");
  }
});

for (const { name, file, answers } of WAYS) {
  test(`a callback that comes before n8n waits is tried again soon: ${name}`, async () => {
    // n8n gets its 202 only after Spillway has called and was told that nobody waits yet.
    between.judge = async (answer) => {
      await until("an early callback was refused", async () => (await deliveries(service, answer.body.id)).attempts.length > 0);
      return answer;
    };
    const workflow = await publish(file, `early-${file}`);
    await n8n.post(`early-${file}`, { rows: rows(3) });
    const execution = await n8n.reached(workflow, "success");
    const texts = (await n8n.output(execution, answers)).map(({ json }) => json.text);
    assert.deepEqual(texts, rows(3).map(({ id }) => `answer to ${id}`));
    const [group, ...others] = between.submitted;
    assert.deepEqual(others, []);
    const { attempts } = await assertTakenOnce(service, group);
    assert.equal(attempts[0].status, 409, "n8n does not wait yet");
    assertSeen(resumes(execution), attempts);
  });

  test(`20 executions at once with an instant provider all get their results: ${name}`, async () => {
    const path = `burst-${file}`;
    const workflow = await publish(file, path);
    const given = Array.from({ length: 20 }, (_, at) => [{ id: `row-${at}`, text: saying(`to ${at}`) }]);
    await Promise.all(given.map((rows) => n8n.post(path, { rows })));
    const executions = await until("all executions have succeeded", async () => {
      const all = await n8n.executions(workflow);
      return all.length === 20 && all.every(({ status }) => status === "success") && all;
    });
    const texts = await Promise.all(executions.map(async ({ id }) => (await n8n.output(id, answers))[0].json.text));
    assert.deepEqual(texts.sort(), given.map((_, at) => `to ${at}`).sort());
    const attempts: Attempts = [];
    for (const group of between.submitted) attempts.push(...(await assertTakenOnce(service, group)).attempts);
    assertSeen(executions.reduce((sum, { id }) => sum + resumes(id), 0), attempts);
  });
}
