// Without the app: what *Webhooks by Zapier* sends, as README.md describes it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { call, KEY, type Running, startService, until } from "../../tests/platforms/service.ts";
import { Receiver } from "./zapier.ts";

let service: Running;
let zapierServer: Receiver;
before(async () => {
  zapierServer = await Receiver.start();
  service = await startService({ server: 'max_wait = "2s"' });
});
after(async () => {
  zapierServer.stop();
  await service.stop();
});

/** *POST* with the payload type *form*: flat names, every value a text. */
async function post(data: Record<string, string>, headers: Record<string, string> = {}) {
  const answer = await fetch(`${service.url}/v1/jobs`, {
    method: "POST",
    headers: { Authorization: `Bearer ${KEY}`, ...headers },
    body: new URLSearchParams(data),
  });
  return { status: answer.status, body: (await answer.json()) as any };
}

const posted = (id: string) =>
  until(`the callback of ${id}`, () => zapierServer.posts.find((one) => one.cleanedRequest.id === id));

test("a form's flat names arrive nested, its texts as the numbers they are", async () => {
  const data = {
    task: "summarize",
    input__text: '#scripted:say {"summary": "short", "points": []}',
    input__max_words: "30",
    workflow: "support-mail",
    callback_url: zapierServer.url("catch"),
    callback__body: "bare",
    "callback__headers__X-Secret": "a word of your own",
    metadata__row: "17",
    session: "",
  };
  const { status, body } = await post(data, { Prefer: "wait=25" });
  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual([body.text, body.workflow, body.metadata.row], ["short", "support-mail", "17"]);
  const { cleanedRequest, rawRequest } = await posted(body.id);
  assert.deepEqual([cleanedRequest.text, cleanedRequest.metadata.row], ["short", "17"], "and bare at the Catch Hook");
  assert.equal(rawRequest.headers["Http-X-Secret"], "a word of your own");
});

test("what takes longer than Zapier waits comes to the Catch Hook", async () => {
  const url = zapierServer.url("later");
  const data = { task: "chat", input: "#scripted:slow 3s\n#scripted:say late", callback_url: url, callback__body: "bare" };
  const { status, body } = await post(data, { Prefer: "wait=25" });
  assert.deepEqual([status, body.status], [202, "queued"]);
  const caught = await posted(body.id);
  assert.deepEqual([caught.cleanedRequest.status, caught.cleanedRequest.text], ["succeeded", "late"]);
});

test("line items are many jobs and one callback", async () => {
  const jobs = ["one", "two"].map((word) => ({ input: `#scripted:say ${word}` }));
  const callback_url = zapierServer.url("group");
  const body = { task: "chat", callback_url, callback: { body: "bare" }, jobs };
  const { status, body: group } = await call(service, "POST", "/v1/groups", body);
  assert.equal(status, 202);
  const caught = await posted(group.id);
  assert.deepEqual(caught.cleanedRequest.results.map((job: any) => job.text), ["one", "two"]);
});

test("the same Idempotency-Key is the same job", async () => {
  const key = { "Idempotency-Key": "sheet-row-17" };
  const first = await post({ task: "tag", input: "x" }, key);
  const second = await post({ task: "tag", input: "x" }, key);
  assert.equal(second.body.id, first.body.id);
});
