// n8n as it runs at scale: workers behind a Redis do the executions, and the main process takes the calls.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { type Running, startScripted, until } from "../platforms/service.ts";
import { Between } from "./between.ts";
import { addCredentials, type Credentials, publishForRows, WAYS } from "./examples.ts";
import { freePort, N8n } from "./n8n.ts";
import { type Row, rows, saying, startServiceBefore } from "./provider.ts";

let redis: ChildProcess;
let n8n: N8n;
let provider: Running;
let between: Between;
let service: Running;
let credentials: Credentials;

before(async () => {
  const port = await freePort();
  const options = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  redis = spawn("setpriv", ["--pdeathsig", "KILL", "redis-server", ...options], { stdio: "ignore" });
  await until("Redis listens", () => listens(port));
  provider = await startScripted({ latency: "0ms" });
  between = await Between.start(provider);
  service = await startServiceBefore(between);
  n8n = await N8n.start({
    EXECUTIONS_MODE: "queue",
    QUEUE_BULL_REDIS_HOST: "127.0.0.1",
    QUEUE_BULL_REDIS_PORT: String(port),
    OFFLOAD_MANUAL_EXECUTIONS_TO_WORKERS: "true",
  });
  await n8n.addWorker("first");
  credentials = await addCredentials(n8n, service.url);
});

after(async () => {
  await n8n?.stop();
  redis?.kill("SIGKILL");
  await service?.stop();
  between?.stop();
  await provider?.stop();
});

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.once("connect", () => socket.end());
  });
}

const publish = (file: string, path: string) => publishForRows(n8n, credentials, service.url, file, path);

async function answersOf(execution: string, node: string): Promise<string[]> {
  return (await n8n.output(execution, node)).map(({ json }) => json.text);
}

for (const [at, { name, file, answers }] of WAYS.entries()) {
  test(`all rows of an execution come back through a worker: ${name}`, { timeout: 120_000 }, async () => {
    const workflow = await publish(file, `rows-${at}`);
    const sent: Row[] = rows(30);
    await n8n.post(`rows-${at}`, { rows: sent });
    const execution = await n8n.reached(workflow, "success");
    assert.deepEqual(await answersOf(execution, answers), sent.map(({ id }) => `answer to ${id}`));
    assert.match(n8n.log("first"), new RegExp(`Worker started execution ${execution} `));
  });
}

test("a sleeping execution holds no worker, and goes on in another when its own is gone", { timeout: 240_000 }, async () => {
  const held = Promise.withResolvers<void>();
  between.judge = async (answer) => {
    if (JSON.stringify(answer.body).includes("late")) await held.promise;
    return answer;
  };
  const sleeping = [];
  for (const [at, { file, answers }] of WAYS.entries()) {
    const workflow = await publish(file, `asleep-${at}`);
    await n8n.post(`asleep-${at}`, { rows: [{ id: "slow", text: saying("late") }] });
    sleeping.push({ workflow, answers });
  }
  for (const { workflow } of sleeping) await n8n.reached(workflow, "waiting");
  // The worker has one place, which is free.
  const other = await publish(WAYS[0].file, "meanwhile");
  await n8n.post("meanwhile", { rows: [{ id: "quick", text: saying("soon") }] });
  const quick = await n8n.reached(other, "success");
  assert.deepEqual(await answersOf(quick, WAYS[0].answers), ["soon"]);
  await n8n.killWorker("first");
  // The results come while no worker is there.
  held.resolve();
  for (const { workflow } of sleeping) {
    const [{ id }] = await n8n.executions(workflow);
    await until(`execution ${id} is called`, () => n8n.log().includes(`Received waiting-webhook "POST" for execution "${id}"`));
  }
  await n8n.addWorker("second");
  for (const { workflow, answers } of sleeping) {
    const execution = await n8n.reached(workflow, "success", 120);
    assert.deepEqual(await answersOf(execution, answers), ["late"]);
    assert.match(n8n.log("second"), new RegExp(`Worker started execution ${execution} `));
  }
});
