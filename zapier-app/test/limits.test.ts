import assert from "node:assert/strict";
import { test } from "node:test";

import { KEY, ROUTES, startService, until } from "../../tests/platforms/service.ts";
import { bundleOf, errorOf, runLive, serve } from "./zapier.ts";

const SUBMIT = "creates.submit_task.operation.perform";
const ACCOUNT = `[accounts.main]\nprovider = "scripted"\nscripted = { latency = "5ms" }\n${ROUTES}`;
const SLOW = { task: "chat", message: "#scripted:slow 30s" };

test("a full workflow holds the run and lets Zapier come again when Spillway says", async (t) => {
  const service = await startService({ more: `${ACCOUNT}[workflows."*"]\nmax_queued = 1\n` });
  t.after(() => service.stop());
  await runLive(SUBMIT, bundleOf(service, SLOW), "");
  const error = await errorOf(runLive(SUBMIT, bundleOf(service, SLOW), ""));
  assert.equal(error.name, "ThrottledError");
  assert.ok(error.delay! >= 1 && error.delay! <= 3600, String(error.delay));
  assert.match(error.message, /zapier.*open jobs|open jobs.*zapier/s);
  const watched = bundleOf(service, SLOW, { meta: { isLoadingSample: true } });
  const told = await errorOf(runLive(SUBMIT, watched, ""));
  assert.deepEqual([told.name, told.message], ["AppError", error.message], "a person at the editor reads it");
});

test("a full backlog, a 503, does the same", async (t) => {
  const service = await startService({ more: `${ACCOUNT}[engine]\nmax_backlog = 1\n` });
  t.after(() => service.stop());
  // What is open is counted from time to time.
  const error = await until("a submit to be refused", () =>
    runLive(SUBMIT, bundleOf(service, SLOW), "").then(
      () => undefined,
      (error) => errorOf(Promise.reject(error)),
    ),
  );
  assert.equal(error.name, "ThrottledError");
  assert.ok(error.delay! >= 1 && error.delay! <= 3600, String(error.delay));
});

test("a budget that is used up for today is an error and no endless wait", async (t) => {
  const service = await startService({ more: `${ACCOUNT}[plans.default]\ncalls_per_day = 1\n` });
  t.after(() => service.stop());
  await runLive(SUBMIT, bundleOf(service, SLOW), "");
  const error = await errorOf(runLive(SUBMIT, bundleOf(service, SLOW), ""));
  // Within the day's last hour it is worth a wait.
  const untilMidnight = (86_400_000 - (Date.now() % 86_400_000)) / 1000;
  assert.equal(error.name, untilMidnight > 3600 ? "AppError" : "ThrottledError");
  assert.match(error.message, /calls/);
});

test("a proxy whose Spillway is away holds the run", async (t) => {
  const proxy = await serve(t, (_, response) => response.writeHead(502, { "content-type": "text/html" }).end("<html>"));
  const bundle = { authData: { baseUrl: proxy, apiKey: KEY }, inputData: SLOW, meta: {} };
  const error = await errorOf(runLive(SUBMIT, bundle, ""));
  assert.deepEqual([error.name, error.delay], ["ThrottledError", 30]);
  const away = { ...bundle, authData: { ...bundle.authData, baseUrl: "http://127.0.0.1:1" } };
  const gone = await errorOf(runLive(SUBMIT, away, ""));
  assert.equal(gone.name, "ThrottledError", "so does one that is away itself");
});

test("a key that is revoked disconnects, so that runs are held and not lost", async (t) => {
  const service = await startService();
  t.after(() => service.stop());
  const bundle = bundleOf(service, SLOW);
  bundle.authData.apiKey = "sw_revoked_0123456789abcdefghijABCDEFGHIJ";
  const error = await errorOf(runLive(SUBMIT, bundle, ""));
  assert.equal(error.name, "ExpiredAuthError");
  assert.match(error.message, /spillway keys create/);
});

test("a Spillway that takes the request and never answers is given up before Zapier's 30 seconds", async (t) => {
  const silent = await serve(t, () => {});
  const bundle = { authData: { baseUrl: silent, apiKey: KEY }, inputData: SLOW, meta: {} };
  const began = Date.now();
  const error = await errorOf(runLive(SUBMIT, bundle, ""));
  const seconds = (Date.now() - began) / 1000;
  assert.equal(error.name, "ThrottledError");
  assert.match(error.message, /did not answer in time/);
  assert.ok(seconds < 29, `${seconds} s`);
});
