// What the user reads when the real service refuses, and what the node makes of results.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, type Running, startService, until } from "../../tests/platforms/service.ts";
import { built } from "./built.ts";

const { baseUrlOf, patience, reasonOf, wellFormed } = built("nodes/shared/api");
const { failureOf } = built("nodes/Spillway/results");
const { refusedJob } = built("nodes/Spillway/submitting");
const { repeatOf, settled } = built("nodes/SpillwayTrigger/repeats");

let service: Running;

before(async () => {
  service = await startService();
});

after(() => service.stop());

test("the service's detail is the message", async () => {
  const { status, body } = await call(service, "POST", "/v1/jobs", { task: "nope", input: "x" });
  assert.equal(status, 422);
  const { message, description } = reasonOf(status, body);
  assert.match(message, /no task `nope`.*Known tasks/);
  assert.match(description, /unknown_task/);
});

test("what is not Spillway is told as such", () => {
  const { message, description } = reasonOf(502, {});
  assert.match(message, /502/);
  assert.match(description, /Base URL/);
});

test("a refused group names the job, by which the node finds the item", async () => {
  for (const jobs of [
    [{ task: "chat", input: "a" }, { task: "chat", input: "b" }, { task: "chat", input: "" }],
    [{ task: "chat", input: "a" }, { task: "chat", input: "b" }, { task: "nope", input: "c" }],
    [{ task: "chat", input: "a" }, { task: "chat", input: "b" }, { task: "chat", input: "c", deliver_by: "2020-01-01T00:00:00Z" }],
  ]) {
    const { status, body } = await call(service, "POST", "/v1/groups", { jobs });
    assert.equal(status, 422);
    assert.equal(refusedJob(new Error(reasonOf(status, body).message)), 2, body.detail);
  }
  assert.equal(refusedJob(new Error("Something else about Job 2 of the group: no")), undefined);
});

test("a failed job's own words and hint are told", async () => {
  const submitted = await call(service, "POST", "/v1/jobs", { task: "chat", input: "#scripted:context_length" });
  const result = await until("the job's end", async () => {
    const { body } = await call(service, "GET", `/v1/jobs/${submitted.body.id}?wait=5`);
    return body.finished_at && body;
  });
  assert.equal(result.status, "failed");
  const failure = failureOf(result);
  assert.deepEqual(failure, result.error);
  assert.equal(failure.code, "context_length");
  assert.match(failure.hint, /Shorten/);
});

test("a job without a result has words as well", async () => {
  const { message, code, hint } = failureOf({ status: "cancelled", error: null });
  assert.match(message, /cancelled/);
  assert.equal(code, "cancelled");
  assert.equal(hint, null);
});

test("addresses are taken as people paste them", () => {
  for (const given of ["http://h:1", "http://h:1/", " http://h:1/v1 ", "http://h:1//", "http://h:1/v1/"]) {
    assert.equal(baseUrlOf(given), "http://h:1", given);
  }
  assert.equal(baseUrlOf("https://h/spillway/"), "https://h/spillway");
});

test("a half of a character becomes the sign for an unknown one, and nothing else changes", () => {
  const whole = { text: "a 😀 b", path: "C:\\ud83d", list: ["\\", "\n\u2028"] };
  assert.equal(wellFormed(whole), whole);
  const halves = { "\ud83d": "x\udc00y", within: ["\\\ud83d", "😀\ud83d"] };
  assert.deepEqual(wellFormed(halves), { "\ufffd": "x\ufffdy", within: ["\\\ufffd", "😀\ufffd"] });
  assert.equal(wellFormed(undefined), undefined);
});

test("Retry-After is waited for, within reason", () => {
  assert.equal(patience(429, "7", 1, false), 7);
  assert.equal(patience(503, undefined, 1, false), 1);
  assert.equal(patience(503, "soon", 2, false), 2);
  assert.equal(patience(429, "3600", 1, true), undefined);
  assert.equal(patience(429, "1", 4, true), undefined);
  assert.equal(patience(422, "1", 1, true), undefined);
});

test("what a proxy answers is tried again only where that does no harm", () => {
  for (const status of [502, 504]) {
    assert.equal(patience(status, undefined, 1, true), 1);
    assert.equal(patience(status, undefined, 3, true), 4);
    assert.equal(patience(status, undefined, 4, true), undefined);
    assert.equal(patience(status, undefined, 1, false), undefined);
  }
  assert.equal(patience(500, undefined, 1, true), undefined);
});

test("an event is taken once, unless taking it failed", () => {
  const answer = { writableEnded: false, statusCode: 200 };
  assert.equal(repeatOf("a", answer), "new");
  assert.equal(repeatOf("a", { ...answer }), "running");
  answer.writableEnded = true;
  settled("a");
  assert.equal(repeatOf("a", { ...answer }), "taken");
  assert.equal(repeatOf("b", { writableEnded: true, statusCode: 500 }), "new");
  assert.equal(repeatOf("b", { ...answer }), "new");
  assert.equal(repeatOf("b", { ...answer }), "taken");
});

test("only the latest events are remembered", () => {
  const answer = { writableEnded: true, statusCode: 200 };
  for (let i = 0; i < 2100; i++) assert.equal(repeatOf(`many ${i}`, answer), "new");
  assert.equal(repeatOf("many 0", answer), "new");
  assert.equal(repeatOf("many 2099", answer), "taken");
});
