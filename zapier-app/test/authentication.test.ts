import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { KEY, type Running, startService } from "../../tests/platforms/service.ts";
import App from "../index.js";
import { address, errorOf, listening, run, serve } from "./zapier.ts";

let service: Running;
before(async () => {
  service = await startService();
});
after(() => service.stop());

const connect = (baseUrl: string, apiKey = KEY) => run(App.authentication.test as any, { authData: { baseUrl, apiKey } });

test("a right key connects, and the connection says whose it is and where", async () => {
  const me = (await connect(service.url)) as any;
  assert.equal(me.caller, "default");
  const label = App.authentication.connectionLabel.replace(/{{(\w+)}}/g, (_, name) => me[name]);
  assert.equal(label, `default at ${new URL(service.url).host}`);
});

test("the address is taken as people type it", async () => {
  for (const end of ["/", "/v1", "/v1/", "//"]) {
    assert.equal(((await connect(` ${service.url}${end} `)) as any).object, "caller", end);
  }
});

test("a wrong key is told as one", async () => {
  const error = await errorOf(connect(service.url, "sw_wrong_0123456789abcdefghijABCDEFGHIJ"));
  assert.match(error.message, /API key is not valid.*spillway keys create/);
});

test("an address that is none, or unsafe, is told before anything is sent", async () => {
  for (const [url, words] of [
    ["spillway.example.com", /web address such as https/],
    ["ftp://spillway.example.com", /web address such as https/],
    ["https://spillway.example.com/?key=1", /web address such as https/],
    ["http://spillway.example.com", /must begin with https/],
    ["https://me:secret@spillway.example.com", /must not hold a password/],
    ["", /web address such as https/],
  ] as const) {
    const error = await errorOf(connect(url));
    assert.match(error.message, words, url);
    assert.doesNotMatch(error.message, /secret/);
  }
});

test("somebody else's server is not taken for Spillway", async (t) => {
  for (const [status, type, body] of [
    [200, "text/html", "<html>Welcome</html>"],
    [200, "application/json", '{"hello":"world"}'],
    [401, "application/json", '{"error":"unauthorized"}'],
    [404, "text/html", "<html>not found</html>"],
  ] as const) {
    const other = await serve(t, (_, response) => response.writeHead(status, { "content-type": type }).end(body));
    const error = await errorOf(connect(other));
    assert.match(error.message, /is not Spillway/, `${status} ${body}`);
  }
});

test("a redirect is not followed: the key goes nowhere else", async (t) => {
  let keys = 0;
  const other = await serve(t, (request, response) => {
    if (request.url === "/moved") keys += request.headers.authorization ? 1 : 0;
    response.writeHead(302, { location: "/moved" }).end();
  });
  const error = await errorOf(connect(other));
  assert.match(error.message, /redirects to .*moved/);
  assert.equal(keys, 0);
});

test("an address nobody answers at is told, with what is likely wrong", async () => {
  const gone = createServer();
  await listening(gone);
  const url = address(gone);
  await new Promise((resolve) => gone.close(resolve));
  const refused = await errorOf(connect(url));
  assert.match(refused.message, /cannot be reached \(ECONNREFUSED\).*from the internet/);
  assert.equal(refused.name, "AppError", "a person waits: nothing is tried again later");
  const unknown = await errorOf(connect("https://spillway.invalid"));
  assert.match(unknown.message, /spillway\.invalid/);
});
