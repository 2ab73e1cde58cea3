// The trigger's signature check, over what the real service sends.

import assert from "node:assert/strict";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { call, type Running, SECRET, startService, until } from "../../tests/platforms/service.ts";
import { built } from "./built.ts";

const { flawOf } = built("nodes/shared/signature");
const { resultOf, wanted } = built("nodes/SpillwayTrigger/receive");
const OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

let service: Running;
let received: { headers: IncomingHttpHeaders; body: Buffer };

function signed(headers: IncomingHttpHeaders = received.headers, body = received.body) {
  return {
    id: String(headers["webhook-id"] ?? ""),
    timestamp: String(headers["webhook-timestamp"] ?? ""),
    signature: String(headers["webhook-signature"] ?? ""),
    body,
  };
}

before(async () => {
  service = await startService();
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      received = { headers: request.headers, body: Buffer.concat(parts) };
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const { status } = await call(service, "POST", "/v1/jobs", { task: "chat", input: "Ünïcode", callback_url: url });
  assert.equal(status, 202);
  await until("the callback", () => received);
  server.close();
});

after(() => service.stop());

test("a callback of the service is taken", () => {
  assert.equal(flawOf(signed(), [OTHER, SECRET], Date.now()), undefined);
});

test("one that another secret has signed is not", () => {
  assert.match(flawOf(signed(), [OTHER], Date.now()), /No known secret/);
  assert.match(flawOf(signed(), [], Date.now()), /No known secret/);
  assert.match(flawOf(signed(), ["", "whsec_"], Date.now()), /No known secret/);
});

test("one with a changed body, id or time is not", () => {
  const changed = Buffer.concat([received.body, Buffer.from(" ")]);
  assert.match(flawOf(signed(received.headers, changed), [SECRET], Date.now()), /No known secret/);
  assert.match(flawOf({ ...signed(), id: "evt_other" }, [SECRET], Date.now()), /No known secret/);
  const timestamp = String(Number(signed().timestamp) + 1);
  assert.match(flawOf({ ...signed(), timestamp }, [SECRET], Date.now()), /No known secret/);
});

test("one that is five minutes old, or from the future, is not", () => {
  assert.equal(flawOf(signed(), [SECRET], Date.now() + 290_000), undefined);
  assert.match(flawOf(signed(), [SECRET], Date.now() + 310_000), /five minutes/);
  assert.match(flawOf(signed(), [SECRET], Date.now() - 310_000), /five minutes/);
});

test("one without a signature, or with nonsense for one, is not", () => {
  for (const header of ["webhook-id", "webhook-timestamp", "webhook-signature"]) {
    const { [header]: _, ...headers } = received.headers;
    assert.match(flawOf(signed(headers), [SECRET], Date.now()), /not signed/);
  }
  assert.match(flawOf({ ...signed(), timestamp: "now" }, [SECRET], Date.now()), /not a number/);
  for (const signature of ["v1,", "v1", "v2,AAAA", "v1,not base64!"]) {
    assert.match(flawOf({ ...signed(), signature }, [SECRET], Date.now()), /No known secret/);
  }
});

test("while secrets change, one of several signatures is enough", () => {
  const signature = `v1,AAAA ${signed().signature}`;
  assert.equal(flawOf({ ...signed(), signature }, [SECRET], Date.now()), undefined);
});

test("the result comes out of the envelope with its event, and so does a bare one", () => {
  const event = JSON.parse(received.body.toString());
  const item = resultOf(event, "evt_1");
  assert.equal(item.event, "job.succeeded");
  assert.equal(item.webhook_id, "evt_1");
  assert.equal(item.id, event.data.id);
  assert.deepEqual(resultOf(event.data, "evt_1"), item);
});

test("a callback that the filters leave out starts nothing", () => {
  const result = resultOf(JSON.parse(received.body.toString()), "evt_1");
  const all = { statuses: [], tasks: [], workflows: [] };
  assert.equal(wanted(all, result), true);
  assert.equal(wanted({ ...all, statuses: ["failed", "succeeded"], tasks: ["chat"] }, result), true);
  assert.equal(wanted({ ...all, statuses: ["failed"] }, result), false);
  assert.equal(wanted({ ...all, tasks: ["tag"] }, result), false);
  assert.equal(wanted({ ...all, workflows: ["intake"] }, result), false);
  assert.equal(wanted({ ...all, statuses: ["failed"] }, { object: "group", status: "finished" }), true);
});
