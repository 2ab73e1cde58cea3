import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { call, type Running, startService, until } from "../../tests/platforms/service.ts";
import { isGenuine } from "../lib/signature.js";
import App from "../index.js";
import { bundleOf, errorOf, type Posted, Receiver, run, runLive } from "./zapier.ts";

const { perform, performList, performSubscribe, performUnsubscribe } = App.triggers.job_finished.operation as any;

let service: Running;
let zapierServer: Receiver;
before(async () => {
  zapierServer = await Receiver.start();
  service = await startService();
});
after(async () => {
  zapierServer.stop();
  await service.stop();
});

const says = (...tags: string[]) => `#scripted:say ${JSON.stringify({ tags })}`;

/** Turns a Zap on: what `performSubscribe` answers is kept by Zapier. */
async function turnOn(name: string, inputData: object = {}) {
  const targetUrl = zapierServer.url(name);
  const subscribeData = (await run(performSubscribe, bundleOf(service, inputData, { targetUrl }))) as any;
  return { targetUrl, subscribeData };
}

async function submit(job: object): Promise<string> {
  const { status, body } = await call(service, "POST", "/v1/jobs", job);
  assert.equal(status, 202);
  return body.id;
}

const eventsOf = (id: string) =>
  zapierServer.posts.filter((post) => (post.cleanedRequest.data ?? post.cleanedRequest).id === id);
const event = (id: string) => until(`an event about ${id}`, () => eventsOf(id)[0]);

const starts = (post: Posted, subscribeData: object) =>
  run(perform, bundleOf(service, {}, { ...post, subscribeData })) as Promise<any[]>;

test("a Zap that is on hears of a job's end, one that is off does not", async () => {
  const zap = await turnOn("on-off", { workflows: ["on-off"] });
  assert.match(zap.subscribeData.id, /^sub_/);
  assert.match(zap.subscribeData.secret, /^whsec_/);
  const id = await submit({ task: "tag", input: says("heard"), workflow: "on-off" });
  const post = await event(id);
  const jobs = await starts(post, zap.subscribeData);
  assert.equal(jobs.length, 1);
  assert.deepEqual([jobs[0].id, jobs[0].ok, jobs[0].text], [id, true, "heard"]);
  await run(performUnsubscribe, bundleOf(service, {}, zap));
  const listed = await call(service, "GET", "/v1/subscriptions");
  assert.ok(!listed.body.data.some((one: any) => one.id === zap.subscribeData.id));
  // Another Zap hears of the next job; by then the first one would have.
  const watch = await turnOn("watch", { workflows: ["on-off"] });
  const next = await submit({ task: "tag", input: says("unheard"), workflow: "on-off" });
  await event(next);
  assert.equal(eventsOf(next).length, 1);
  await run(performUnsubscribe, bundleOf(service, {}, watch));
  await run(performUnsubscribe, bundleOf(service, {}, watch));
});

test("only the ends, tasks and workflows that were chosen start it", async () => {
  const zap = await turnOn("chosen", { statuses: ["failed"], tasks: ["chat", "tag"], workflows: ["chosen"] });
  const others = [
    await submit({ task: "tag", input: says("succeeds"), workflow: "chosen" }),
    await submit({ task: "classify", input: "#scripted:context_length", workflow: "chosen" }),
    await submit({ task: "chat", input: "#scripted:context_length", workflow: "elsewhere" }),
  ];
  for (const id of others) await call(service, "GET", `/v1/jobs/${id}?wait=30`);
  const id = await submit({ task: "chat", input: "#scripted:context_length", workflow: "chosen" });
  const [job] = await starts(await event(id), zap.subscribeData);
  assert.deepEqual([job.id, job.status, job.ok, job.error.code], [id, "failed", false, "context_length"]);
  assert.deepEqual(others.filter((other) => eventsOf(other).length > 0), []);
  await run(performUnsubscribe, bundleOf(service, {}, zap));
});

test("a forged, changed, old or foreign event starts nothing, and is no error of the Zap", async () => {
  const zap = await turnOn("forged", { workflows: ["forged"] });
  const id = await submit({ task: "tag", input: says("true"), workflow: "forged" });
  const post = await event(id);
  assert.equal((await starts(post, zap.subscribeData)).length, 1, "the true one does");
  const { rawRequest } = post;
  const changed = { ...rawRequest, content: rawRequest.content.replace("true", "false") };
  const { "Http-Webhook-Signature": _, ...unsigned } = rawRequest.headers;
  const old = { ...rawRequest.headers, "Http-Webhook-Timestamp": "1600000000" };
  const forged = { ...rawRequest.headers, "Http-Webhook-Signature": "v1,bm9ib2R5" };
  for (const request of [
    changed,
    { ...rawRequest, headers: unsigned },
    { ...rawRequest, headers: old },
    { ...rawRequest, headers: forged },
  ]) {
    const error = await errorOf(starts({ ...post, rawRequest: request }, zap.subscribeData));
    assert.equal(error.name, "HaltedError");
  }
  const other = await turnOn("foreign");
  assert.equal((await errorOf(starts(post, other.subscribeData))).name, "HaltedError");
  assert.equal((await errorOf(starts(post, {}))).name, "HaltedError", "without a secret nothing is believed");
  await run(performUnsubscribe, bundleOf(service, {}, other));
  await run(performUnsubscribe, bundleOf(service, {}, zap));
});

test("signatures are those of Standard Webhooks", () => {
  // The vector of the specification's own libraries.
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const headers = {
    "Http-Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "Http-Webhook-Timestamp": "1614265330",
    "Http-Webhook-Signature": "v1a,AAAA v1,bm9ib2R5 v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  };
  const request = { headers, content: '{"test": 2432232314}' };
  const then = 1_614_265_330_000;
  assert.equal(isGenuine(request, secret, then), true);
  assert.equal(isGenuine(request, secret, then + 25 * 3_600_000), false);
  assert.equal(isGenuine({ ...request, content: '{"test": 2432232315}' }, secret, then), false);
});

test("the editor shows jobs that ended, as the Zap's choices have it", async () => {
  const ids: string[] = [];
  for (const n of [1, 2, 3, 4]) {
    const job = { task: "tag", input: says(String(n)), workflow: "samples", metadata: { n } };
    const { body } = await call(service, "GET", `/v1/jobs/${await submit(job)}?wait=30`);
    ids.push(body.id);
  }
  const list = (inputData: object) => run(performList, bundleOf(service, inputData)) as Promise<any[]>;
  const newest = await list({ workflows: ["samples"] });
  assert.deepEqual(newest.map((job) => job.id), ids.slice(1).reverse());
  assert.ok(newest.every((job) => job.finished_at && job.text));
  assert.deepEqual(await list({ workflows: ["samples"], statuses: ["failed"] }), []);
  assert.deepEqual(await list({ workflows: ["samples", "none"], tasks: ["chat", "plan"] }), []);
});

test("a subscription that Spillway refuses says why, and no log has its secret", async () => {
  const refused = bundleOf(service, {}, { targetUrl: "http://10.0.0.1/hooks" });
  assert.match((await errorOf(run(performSubscribe, refused))).message, /10\.0\.0\.1|address|network/);
  const bundle = bundleOf(service, {}, { targetUrl: zapierServer.url("logs") });
  const { results, logs } = await runLive("triggers.job_finished.operation.performSubscribe", bundle, "");
  assert.match(logs, /v1\/subscriptions/);
  assert.ok(!logs.includes(results.secret) && !logs.includes(bundle.authData.apiKey), logs);
  await run(performUnsubscribe, bundleOf(service, {}, { subscribeData: results }));
});
