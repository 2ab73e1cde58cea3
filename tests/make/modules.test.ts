// Each module's requests against the real server, played by `app.ts`.

import assert from "node:assert/strict";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, suite, test } from "node:test";
import { MakeError, Play } from "./app.ts";
import { call, KEY, type Running, ROUTES, startService, until } from "../platforms/service.ts";

// What breaks a JSON template: quotes, new lines, and letters beyond ASCII.
const TEXT = 'He said "no",\nand left. \\ Grüße, 東京 {{x}} & a=b';

let service: Running;
let play: Play;
before(async () => {
  // `slow` never ends in time, so that jobs of it wait or can be cancelled.
  const accounts = `
[accounts.main]
provider = "scripted"
scripted = { latency = "5ms" }
[accounts.slow]
provider = "scripted"
scripted = { latency = "60s" }
[accounts.broken]
provider = "scripted"
scripted = { faults = [{ share = 1.0, answer = "context_length" }] }
${ROUTES}
[routes.slow]
steps = ["slow/tiny-1"]
[routes.broken]
steps = ["broken/tiny-1"]
[tasks.slow]
route = "slow"
[tasks.broken]
route = "broken"
[tasks.optional]
route = "cheap"
template = "#scripted:say ok"
[tasks.optional.input_schema]
type = "object"
properties = { note = { type = "string" }, within = { type = "object", required = ["x"], properties = { x = { type = "string" } } } }
# It answers its own input.
[tasks.echo]
route = "cheap"
template = '''#scripted:say {{ {"all": all, "more": more} | tojson }}'''
[tasks.echo.input_schema]
type = "object"
required = ["all"]
additionalProperties = true
[tasks.echo.input_schema.properties.all]
type = "object"
[tasks.echo.input_schema.properties.all.properties]
lines = { type = "array", items = { type = "object", additionalProperties = false, properties = { sku = { type = "string" } } } }
strict = { type = "array", items = { type = "object", required = ["sku"], properties = { sku = { type = "string" } } } }
"x~json" = { type = "string" }
x = { type = "object" }
`;
  service = await startService({ more: accounts });
  play = new Play({ baseUrl: service.url, apiKey: KEY });
});
after(() => service?.stop());

const submit = { inputMode: "text", inputText: TEXT, delivery: "submit", onFailure: "error" };
const wait = { ...submit, delivery: "wait", waitSeconds: 20 };
const failing = (type: string, message: RegExp) => (fault: unknown) => {
  assert.ok(fault instanceof MakeError, String(fault));
  assert.equal(fault.type, type);
  assert.match(fault.message, message);
  return true;
};

suite("connection", () => {
  test("a key gives a label", async () => {
    assert.equal(await play.connect(), `default at ${service.url}`);
  });
  test("a wrong key is told as such, with what to do", async () => {
    const wrong = new Play({ baseUrl: service.url, apiKey: "sw_wrong" });
    await assert.rejects(wrong.connect(), failing("InvalidAccessTokenError", /^\[401\] .*key/i));
    await assert.rejects(wrong.run("getJob", { jobId: "job_0_x" }), failing("InvalidAccessTokenError", /^\[401\] /));
  });
  test("a path too much is told as such", async () => {
    await assert.rejects(new Play({ baseUrl: `${service.url}/v1`, apiKey: KEY }).connect(), failing("InvalidConfigurationError", /without \/v1/));
  });
});

suite("run a task", () => {
  test("waits for the result", async () => {
    const [result] = await play.run("runTask", { ...wait, task: "tag", workflow: "make-tests", metadata: [{ key: "row", value: TEXT }] });
    assert.equal(result.status, "succeeded");
    assert.ok(result.text.length > 0);
    assert.ok(Array.isArray(result.data.tags));
    assert.equal(result.workflow, "make-tests");
    assert.deepEqual(result.metadata, { row: TEXT });
  });

  test("takes fields, with what was left empty", async () => {
    const input = { text: TEXT, labels: ["a", ""], max_tags: 2 };
    const [result] = await play.run("runTask", { ...wait, inputMode: "fields", task: "tag", input, lane: "", session: null, metadata: [] });
    assert.equal(result.status, "succeeded");
    const [optional] = await play.run("runTask", { ...wait, inputMode: "fields", task: "tag", input: { text: "x", labels: [], max_tags: null } });
    assert.equal(optional.status, "succeeded");
  });

  test("takes JSON", async () => {
    const [result] = await play.run("runTask", { ...wait, inputMode: "json", inputJson: JSON.stringify({ text: TEXT }), task: "summarize" });
    assert.equal(result.status, "succeeded");
    await assert.rejects(play.run("runTask", { ...wait, inputMode: "json", inputJson: '{"text": "a "b""}', task: "summarize" }), /input is not JSON.*Create JSON/);
  });

  test("gives metadata back, whatever it is named", async () => {
    const metadata = [{ key: "note~json", value: "no { JSON" }, { key: "row~own", value: 17 }];
    const [result] = await play.run("runTask", { ...wait, task: "tag", metadata });
    assert.deepEqual(result.metadata, { "note~json": "no { JSON", "row~own": 17 });
  });

  test("keeps rows in their places, odd names and further fields", async () => {
    const [{ spec }] = await play.rpc("inputFields", { task: "echo" });
    const names = (fields: any[]) => fields.map((field) => field.name);
    assert.deepEqual([names(spec), names(spec[0].spec)], [["all~object", "~others"], ["lines", "strict", "x~json~own", "x~json"]]);
    const run = async (input: object) => {
      const [result] = await play.run("runTask", { ...wait, inputMode: "fields", task: "echo", input });
      return JSON.parse(result.text);
    };
    const lines = [{ sku: "a" }, { sku: "" }, null, { sku: "d" }, {}];
    const sent = await run({ "all~object": { lines, "x~json~own": "{", "x~json": '{"a": null}' }, "~others": '{"more": [""]}' });
    assert.deepEqual(sent, { all: { lines: [{ sku: "a" }, {}, {}, { sku: "d" }], "x~json": "{", x: { a: null } }, more: [""] });
    // Spillway tells which row is empty; none takes its place.
    await assert.rejects(run({ "all~object": { strict: [{ sku: "a" }, { sku: "" }, { sku: "c" }] } }), failing("DataError", /strict.*1.*sku/));
    await assert.rejects(run({ "all~object": { x: "" }, "~others": '["more"]' }), /must be a JSON object/);
  });

  test("sends empty objects where they are required", async () => {
    const run = async (task: string, input: object) => (await play.run("runTask", { ...wait, inputMode: "fields", task, input }))[0].text;
    assert.deepEqual(JSON.parse(await run("echo", { "all~object": { x: "" }, "~others": "" })), { all: {}, more: null });
    assert.equal(await run("optional", { note: "", within: { x: "" } }), "ok");
  });

  test("goes on with a receipt when the time is over", async () => {
    const [receipt] = await play.run("runTask", { ...wait, waitSeconds: 1, task: "slow" });
    assert.ok(["queued", "running"].includes(receipt.status), receipt.status);
    assert.ok(receipt.status_url.endsWith(receipt.id));
    await play.run("cancelJob", { jobId: receipt.id });
  });

  test("the same idempotency key gives the same job", async () => {
    const key = "Rechnung 17, Müller";
    const run = (more: object) => play.run("runTask", { ...submit, task: "tag", idempotencyKey: key, ...more });
    const [[first], [second]] = [await run({}), await run({})];
    assert.equal(second.id, first.id);
    await assert.rejects(run({ inputText: "something else" }), failing("DataError", /^\[422\] /));
  });

  test("a failed job is an error, or an output when asked for", async () => {
    const failed = { ...wait, task: "broken" };
    await assert.rejects(play.run("runTask", failed), failing("RuntimeError", /\(job job_\w+, failed\)$/));
    const [result] = await play.run("runTask", { ...failed, onFailure: "output" });
    assert.equal(result.status, "failed");
    assert.ok(result.error.message.length > 0);
  });

  test("a fault is told in words", async () => {
    await assert.rejects(play.run("runTask", { ...submit, task: "tga" }), failing("DataError", /^\[422\] There is no task `tga`\. Did you mean `tag`\?/));
    await assert.rejects(play.run("runTask", { ...submit, inputMode: "fields", input: { max_tags: 1 }, task: "tag" }), failing("DataError", /text/));
  });
});

suite("jobs", () => {
  test("get, with and without waiting", async () => {
    const [{ id }] = await play.run("runTask", { ...submit, task: "tag" });
    const [job] = await play.run("getJob", { jobId: id, waitSeconds: 20 });
    assert.equal(job.status, "succeeded");
    assert.deepEqual(await play.run("getJob", { jobId: id }), [job]);
    await assert.rejects(play.run("getJob", { jobId: "job_0_nothing" }), failing("RuntimeError", /^\[404\] /));
  });

  test("an ID stays within its place in the address", async () => {
    for (const jobId of ["../me", "job_0_x?wait=1", "a b/c"]) {
      for (const module of ["getJob", "cancelJob", "replayJob"]) {
        await assert.rejects(play.run(module, { jobId }), failing("RuntimeError", /^\[404\] .*job/), `${module} ${jobId}`);
      }
    }
  });

  test("cancel, then replay", async () => {
    const [{ id }] = await play.run("runTask", { ...submit, task: "slow" });
    const [cancelled] = await play.run("cancelJob", { jobId: id });
    assert.equal(cancelled.status, "cancelled");
    const [again] = await play.run("replayJob", { jobId: id });
    assert.ok(["queued", "running"].includes(again.status), again.status);
    await play.run("cancelJob", { jobId: id });
    const [forced] = await play.run("replayJob", { jobId: id, what: "run" });
    assert.equal(forced.id, id);
    await play.run("cancelJob", { jobId: id });
  });

  test("list goes on over pages, to the limit", async () => {
    const workflow = "make-list";
    const jobs = Array.from({ length: 130 }, () => ({ task: "tag", input: "x", workflow }));
    assert.equal((await call(service, "POST", "/v1/groups", { jobs })).status, 202);
    const listed = await play.run("listJobs", { workflow, limit: 200 });
    assert.equal(new Set(listed.map((job) => job.id)).size, 130);
    assert.equal((await play.run("listJobs", { workflow, limit: 120, status: "", task: "tag" })).length, 120);
    assert.deepEqual(await play.run("listJobs", { workflow: "make-none", limit: 10 }), []);
  });
});

suite("any call", () => {
  const json = [{ key: "Content-Type", value: "application/json" }];
  test("goes to the connection's address", async () => {
    const [me] = await play.run("makeApiCall", { url: "/v1/me", method: "GET", headers: json });
    assert.equal(me.statusCode, 200);
    assert.equal(me.body.object, "caller");
    const [job] = await play.run("makeApiCall", { url: "v1/jobs", method: "POST", headers: json, qs: [], body: JSON.stringify({ task: "tag", input: TEXT }) });
    assert.equal(job.statusCode, 202);
    const [jobs] = await play.run("makeApiCall", { url: "/v1/jobs", method: "GET", headers: json, qs: [{ key: "limit", value: "1" }] });
    assert.equal(jobs.body.data.length, 1);
  });
  test("and nowhere else", async () => {
    await assert.rejects(play.run("makeApiCall", { url: "http://127.0.0.1:1/v1/me", method: "GET" }), /not a whole address/);
  });
});

/** A server that keeps what is posted to it. */
async function receiver() {
  const got: { headers: IncomingMessage["headers"]; body: any }[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    got.push({ headers: request.headers, body: JSON.parse(Buffer.concat(chunks).toString()) });
    response.end("Accepted");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?secret=1`, got, close: () => server.close() };
}

suite("results at a webhook", () => {
  test("of one job: at a custom webhook, flat, with its API key", async () => {
    const hook = await receiver();
    try {
      const [{ id }] = await play.run("runTask", { ...submit, task: "tag", delivery: "webhook", callbackUrl: hook.url, webhookKey: "make-key", metadata: [{ key: "row", value: 17 }] });
      const { headers, body } = await until("the callback", () => hook.got[0]);
      assert.equal(body.id, id);
      assert.equal(body.status, "succeeded");
      assert.deepEqual(body.metadata, { row: 17 });
      assert.equal(headers["x-make-apikey"], "make-key");
    } finally {
      hook.close();
    }
  });

  test("watched: attached, told, checked, detached", async () => {
    const hook = await receiver();
    const parameters = { statuses: ["succeeded"], tasks: ["tag"], workflows: ["make-watched"], token: "a token of sixteen letters" };
    try {
      const webhook = await play.attach(parameters, hook.url);
      assert.match(String(webhook.subscriptionId), /^sub_/);
      await play.run("runTask", { ...wait, task: "summarize", workflow: "make-watched" });
      await play.run("runTask", { ...wait, task: "tag", workflow: "another" });
      const [{ id }] = await play.run("runTask", { ...submit, task: "tag", workflow: "make-watched" });
      const { headers, body } = await until("the result", () => hook.got[0]);
      const { status, bundle } = play.receive(parameters, headers, body);
      assert.equal(status, 200);
      assert.equal(bundle.event, "job.succeeded");
      assert.match(bundle.delivery_id, /^evt_/);
      assert.equal(bundle.id, id);
      assert.ok(bundle.text.length > 0);

      const { "x-spillway-token": _, ...bare } = headers;
      assert.deepEqual(play.receive(parameters, bare, body), { status: 401 });
      assert.deepEqual(play.receive(parameters, { ...headers, "x-spillway-token": "wrong" }, body), { status: 401 });
      assert.equal(play.receive({}, bare, body).bundle.id, id, "no token is asked for when none was given");

      await assert.rejects(new Play({ baseUrl: service.url, apiKey: "sw_wrong" }).detach(parameters, webhook), failing("InvalidAccessTokenError", /^\[401\] /));
      await play.detach(parameters, webhook);
      await play.detach(parameters, webhook); // What Spillway has ended already is no error.
      const left = (await call(service, "GET", "/v1/subscriptions")).body.data;
      assert.deepEqual(left, []);
      assert.equal(hook.got.length, 1);
    } finally {
      hook.close();
    }
  });
});
