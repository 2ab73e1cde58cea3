import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { after, before, test, type TestContext } from "node:test";

import { call, type Running, startService, until } from "../../tests/platforms/service.ts";
import App from "../index.js";
import { address, bundleOf, errorOf, listening, Receiver, run, runLive } from "./zapier.ts";

const PERFORM = "creates.run_task.operation.perform";
const RESUME = "creates.run_task.operation.performResume";
const SUBMIT = "creates.submit_task.operation.perform";

let service: Running;
let zapierServer: Receiver;
before(async () => {
  zapierServer = await Receiver.start();
  // A waiting request ends after two seconds: what is slower is still under way then.
  service = await startService({ server: 'max_wait = "2s"' });
});
after(async () => {
  zapierServer.stop();
  await service.stop();
});

const posted = (id: string) =>
  until(`the callback of ${id}`, () => zapierServer.posts.find((post) => post.cleanedRequest.id === id));

/** Runs the step, waits for what is really posted, and resumes with it. */
async function runAndResume(inputData: object, url: string) {
  const ran = await runLive(PERFORM, bundleOf(service, inputData), zapierServer.url(url));
  const post = await posted(ran.results.id);
  const resumed = runLive(RESUME, bundleOf(service, {}, { ...post, outputData: ran.results }), "");
  return { ran, post, resumed };
}

test("the Zap sleeps until the callback comes, and goes on with flat fields", async () => {
  const inputData = {
    task: "tag",
    input__text: "#scripted:say {\"tags\": [\"billing\", \"urgent\"]}",
    input__max_tags: "2",
    workflow: "lead-intake",
    session: "c-42",
    lane: "interactive",
    deliver_by: "2099-01-01T10:00:00+01:00",
    metadata: { row: "17" },
  };
  const { ran, post, resumed } = await runAndResume(inputData, "flat");
  assert.equal(ran.status, "CALLBACK", "Zapier puts the Zap to sleep");
  assert.equal(ran.results.status, "queued");
  assert.equal(post.rawRequest.querystring, "sig=abcdef", "the callback URL is kept as it is");
  const { results } = await resumed;
  assert.equal(results.ok, true);
  assert.equal(results.text, "billing, urgent");
  assert.deepEqual(results.data, { tags: ["billing", "urgent"] });
  assert.deepEqual(results.metadata, { row: "17" });
  assert.deepEqual([results.workflow, results.session], ["lead-intake", "c-42"]);
});

test("a Zap without a name is one workflow; one that Zapier names has its own", async () => {
  const plain = await runLive(PERFORM, bundleOf(service, { task: "tag", input: "x" }), zapierServer.url("w1"));
  const named = bundleOf(service, { task: "tag", input: "x" }, { meta: { zap: { id: "815" } } });
  const zap = await runLive(PERFORM, named, zapierServer.url("w2"));
  const workflow = async (id: string) => (await call(service, "GET", `/v1/jobs/${id}`)).body.workflow;
  assert.equal(await workflow(plain.results.id), "zapier");
  assert.equal(await workflow(zap.results.id), "zap-815");
});

test("a failed job stops the Zap, stops it quietly, or lets it go on, with the job's own words", async () => {
  const fails = { task: "chat", message: "#scripted:context_length" };
  const stopped = await runAndResume({ ...fails, if_failed: "stop" }, "stop");
  const error = await errorOf(stopped.resumed);
  const job = stopped.post.cleanedRequest;
  assert.equal(job.ok, false);
  assert.equal(error.name, "AppError");
  assert.ok(error.message.includes(job.error.message), error.message);
  assert.ok(!job.error.hint || error.message.includes(job.error.hint), error.message);
  const byDefault = await runAndResume(fails, "default");
  assert.equal((await errorOf(byDefault.resumed)).name, "AppError");
  const halted = await runAndResume({ ...fails, if_failed: "halt" }, "halt");
  assert.equal((await errorOf(halted.resumed)).name, "HaltedError");
  const continued = await runAndResume({ ...fails, if_failed: "continue" }, "continue");
  const { results } = await continued.resumed;
  assert.equal(results.ok, false);
  assert.equal(results.error.message, job.error.message);
});

test("a job that somebody cancels wakes the Zap, too", async () => {
  const slow = { task: "chat", message: "#scripted:slow 30s" };
  const ran = await runLive(PERFORM, bundleOf(service, slow), zapierServer.url("cancel"));
  assert.equal((await call(service, "DELETE", `/v1/jobs/${ran.results.id}`)).status, 200);
  const post = await posted(ran.results.id);
  const resumed = runLive(RESUME, bundleOf(service, {}, { ...post, outputData: ran.results }), "");
  assert.match((await errorOf(resumed)).message, /cancelled.*job_/i);
});

test("a callback about another job resumes nothing", async () => {
  const { ran, post } = await runAndResume({ task: "tag", input: "x" }, "other");
  const wrong = { ...ran.results, id: "job_0_another" };
  const resumed = runLive(RESUME, bundleOf(service, {}, { ...post, outputData: wrong }), "");
  assert.match((await errorOf(resumed)).message, /this step waits for job_0_another/);
  const junk = { rawRequest: { content: "hello" }, cleanedRequest: {}, outputData: wrong };
  const nothing = runLive(RESUME, bundleOf(service, {}, junk), "");
  assert.match((await errorOf(nothing)).message, /not a result of Spillway/);
});

test("a result that Zapier would not take is refused with where it is", async () => {
  const { ran, post } = await runAndResume({ task: "tag", input: "x" }, "large");
  const large = { ...post.cleanedRequest, text: "x".repeat(7 * 1024 * 1024) };
  const bundle = bundleOf(service, {}, { cleanedRequest: large, outputData: ran.results });
  assert.match((await errorOf(runLive(RESUME, bundle, ""))).message, /has 7\.\d MB.*GET \/v1\/jobs\/job_/);
});

test("the editor's test gives the real result at once and no callback", async () => {
  const before = zapierServer.posts.length;
  const inputData = { task: "tag", input: '#scripted:say {"tags": ["now"]}' };
  const bundle = bundleOf(service, inputData, { meta: { isLoadingSample: true } });
  const { results, status } = await runLive(PERFORM, bundle, zapierServer.url("test"));
  assert.equal(status, "SUCCESS");
  assert.deepEqual([results.ok, results.text], [true, "now"]);
  assert.equal(zapierServer.posts.length, before);
  const fails = bundleOf(service, { task: "chat", message: "#scripted:context_length" }, { meta: { isLoadingSample: true } });
  assert.equal((await errorOf(run(App.creates.run_task.operation.perform as any, fails))).name, "AppError");
});

test("where Zapier gives no callback URL, as in `invoke`, the step waits by itself", async () => {
  const bundle = bundleOf(service, { task: "tag", input: '#scripted:say {"tags": ["invoked"]}' });
  const { results } = await runLive(PERFORM, bundle, "");
  assert.equal(results.text, "invoked");
});

test("a test that lasts too long shows every field and says why", async () => {
  const inputData = { task: "chat", message: "#scripted:slow 20s" };
  const bundle = bundleOf(service, inputData, { meta: { isLoadingSample: true } });
  const { results, status } = await runLive(PERFORM, bundle, zapierServer.url("slow"));
  assert.equal(status, "SUCCESS");
  assert.deepEqual([results.ok, results.task], [false, "chat"]);
  assert.match(results.text, /still waiting/);
  assert.deepEqual([results.finished_at, results.usage, results.model], [null, null, null], "nothing is made up");
  assert.equal((await call(service, "DELETE", `/v1/jobs/${results.id}`)).status, 200);
});

test("the same run twice is one job, and its result is posted again", async () => {
  const bundle = bundleOf(service, { task: "tag", input: '#scripted:say {"tags": ["once"]}' });
  const first = await runLive(PERFORM, bundle, zapierServer.url("same"));
  await posted(first.results.id);
  await until("the delivery to be noted", async () => {
    const { body } = await call(service, "GET", `/v1/jobs/${first.results.id}/deliveries`);
    return body.stage === "done";
  });
  const second = await runLive(PERFORM, bundle, zapierServer.url("same"));
  assert.equal(second.results.id, first.results.id);
  const posts = () => zapierServer.posts.filter((post) => post.cleanedRequest.id === first.results.id);
  await until("the result to be posted again", () => posts().length === 2);
  assert.equal(posts()[1]!.cleanedRequest.attempts.length, 1, "nothing was run again");
  const other = await runLive(PERFORM, bundle, zapierServer.url("another-run"));
  assert.notEqual(other.results.id, first.results.id, "another run with the same input is another job");
});

/** Passes everything on, but lets the first answers to what begins so never arrive. */
async function losing(t: TestContext, beginning: string, answers: number) {
  const seen = { asked: 0, url: "" };
  const proxy = createServer((client) => {
    t.after(() => client.destroy());
    const upstream = connect(Number(new URL(service.url).port), "127.0.0.1");
    client.on("error", () => upstream.destroy());
    upstream.on("error", () => client.destroy());
    let lost = false;
    client.on("data", (data) => {
      if (data.includes(beginning)) {
        seen.asked += 1;
        lost = seen.asked <= answers;
      }
      upstream.write(data);
    });
    // By the time it answers, Spillway has done what it was asked.
    upstream.on("data", (data) => (lost ? client.destroy() : client.write(data)));
  });
  t.after(() => proxy.close());
  await listening(proxy);
  seen.url = address(proxy);
  return seen;
}

test("an answer lost on the way is no second job", async (t) => {
  const proxy = await losing(t, "POST /v1/jobs", 1);
  const workflow = "lossy";
  const bundle = bundleOf(service, { task: "tag", input: "x", workflow });
  bundle.authData.baseUrl = proxy.url;
  const { results } = await runLive(SUBMIT, bundle, "");
  assert.equal(proxy.asked, 2);
  const { body } = await call(service, "GET", `/v1/jobs?workflow=${workflow}`);
  assert.deepEqual(body.data.map((job: any) => job.id), [results.id]);
});

test("nor is it taken for a run that Zapier repeats", async (t) => {
  for (const [message, status] of [["#scripted:context_length", "failed"], ["#scripted:say fine", "succeeded"]]) {
    const proxy = await losing(t, "POST /v1/jobs", 1);
    const bundle = bundleOf(service, { task: "chat", message });
    bundle.authData.baseUrl = proxy.url;
    const { results } = await runLive(PERFORM, bundle, zapierServer.url(`lossy-${status}`));
    assert.equal(proxy.asked, 2, "no replay is asked for");
    assert.equal((await posted(results.id)).cleanedRequest.status, status);
    assert.equal(zapierServer.posts.filter((post) => post.cleanedRequest.id === results.id).length, 1);
  }
});

test("what cannot be repeated safely is neither by us nor by Zapier", async (t) => {
  const { results } = await runLive(SUBMIT, bundleOf(service, { task: "tag", input: "x" }), "");
  await call(service, "GET", `/v1/jobs/${results.id}?wait=30`);
  const proxy = await losing(t, "/replay?what=run", 9);
  const bundle = bundleOf(service, { job_id: results.id, what: "run" });
  bundle.authData.baseUrl = proxy.url;
  const error = await errorOf(run(App.creates.replay_job.operation.perform as any, bundle));
  assert.deepEqual([error.name, proxy.asked], ["AppError", 1]);
});

test("only once for the same record, within one workflow", async () => {
  const input = { task: "tag", input: "x", workflow: "sheet", once_key: "row 17" };
  const first = await runLive(PERFORM, bundleOf(service, input), zapierServer.url("row-1"));
  const again = await errorOf(runLive(PERFORM, bundleOf(service, input), zapierServer.url("row-2")));
  assert.equal(again.name, "HaltedError");
  assert.match(again.message, /row 17.*not paid for again/);
  const elsewhere = { ...input, workflow: "other-sheet" };
  const other = await runLive(PERFORM, bundleOf(service, elsewhere), zapierServer.url("row-3"));
  assert.notEqual(other.results.id, first.results.id);
  const submitted = { task: "tag", input: "y", workflow: "submits", once_key: "row 1" };
  const one = await runLive(SUBMIT, bundleOf(service, submitted), "");
  const two = await errorOf(runLive(SUBMIT, bundleOf(service, submitted), ""));
  assert.equal(two.name, "HaltedError");
  assert.ok(two.message.includes(one.results.id), two.message);
  const test = { meta: { isLoadingSample: true } };
  const tested = await runLive(SUBMIT, bundleOf(service, submitted, test), "");
  const retested = await runLive(SUBMIT, bundleOf(service, submitted, test), "");
  assert.equal(retested.results.id, tested.results.id, "a person at the editor gets the same job");
});

test("only once, and the answer to it lost on the way: the step's own job", async (t) => {
  const proxy = await losing(t, "POST /v1/jobs", 1);
  const bundle = bundleOf(service, { task: "tag", input: "x", workflow: "lossy-once", once_key: "row 1" });
  bundle.authData.baseUrl = proxy.url;
  const { results } = await runLive(SUBMIT, bundle, "");
  assert.deepEqual([results.object, proxy.asked], ["job", 2]);
});

test("Spillway's own words reach the person who built the Zap", async () => {
  const perform = (input: object) => errorOf(runLive(PERFORM, bundleOf(service, input), zapierServer.url("bad")));
  assert.match((await perform({ task: "tagg", input: "x" })).message, /There is no task `tagg`/);
  assert.match((await perform({ task: "tag" })).message, /input is empty/);
  assert.match((await perform({ task: "summarize", input__text: "x", input__max_words: "many" })).message, /max_words/);
  const late = await perform({ task: "tag", input: "x", deliver_by: "2020-01-01T00:00:00Z" });
  assert.match(late.message, /deliver_by must be a moment in the future/);
  const huge = await perform({ task: "tag", input: "x".repeat(2 * 1024 * 1024) });
  assert.match(huge.message, /may have 1048576 bytes at the most/);
});

test("what comes after a submit: find, replay, cancel", async () => {
  const find = App.searches.find_job.operation.perform as any;
  const ran = await runLive(SUBMIT, bundleOf(service, { task: "tag", input: "x", workflow: "later" }), "");
  const { id } = ran.results;
  const [found] = (await run(find, bundleOf(service, { job_id: id, wait: true }))) as any[];
  assert.deepEqual([found.id, found.status], [id, "succeeded"]);
  const [newest] = (await run(find, bundleOf(service, { workflow: "later", status: "succeeded" }))) as any[];
  assert.equal(newest.id, id);
  assert.deepEqual(await run(find, bundleOf(service, { job_id: "job_0_01AAAAAAAAAAAAAAAAAAAAAAAA" })), []);
  assert.deepEqual(await run(find, bundleOf(service, { workflow: "nobody's" })), []);
  const replay = App.creates.replay_job.operation.perform as any;
  const again = (await run(replay, bundleOf(service, { job_id: id, what: "run" }))) as any;
  assert.equal(again.id, id);
  const nowhere = errorOf(run(replay, bundleOf(service, { job_id: id, what: "post" })));
  assert.match((await nowhere).message, /no callback to post to/);
  const slow = await runLive(SUBMIT, bundleOf(service, { task: "chat", message: "#scripted:slow 20s" }), "");
  const cancel = App.creates.cancel_job.operation.perform as any;
  const cancelled = (await run(cancel, bundleOf(service, { job_id: slow.results.id }))) as any;
  assert.equal(cancelled.status, "cancelled");
  const ended = errorOf(run(cancel, bundleOf(service, { job_id: id })));
  assert.match((await ended).message, /ended before/);
});

test("Submit Task posts the result, bare, to a Catch Hook", async () => {
  const inputData = { task: "tag", input: '#scripted:say {"tags": ["hook"]}', callback_url: zapierServer.url("catch") };
  const { results } = await runLive(SUBMIT, bundleOf(service, inputData), "");
  assert.equal((await posted(results.id)).cleanedRequest.text, "hook");
});

test("no log that Zapier keeps has the key", async () => {
  const bundle = bundleOf(service, { task: "tag", input: "x" });
  const { logs } = await runLive(PERFORM, bundle, zapierServer.url("logs"));
  assert.match(logs, /\/v1\/jobs/, "the request is logged");
  assert.ok(!logs.includes(bundle.authData.apiKey), "its key is not");
});
