// The idempotency keys that requests go out with: who pays twice, and who is refused, hangs on them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { built } from "./built.ts";

const { groupKey, jobKeys, plainKey } = built("nodes/Spillway/jobs");

/** What a node's run is asked for its keys; `own` are the keys the user gives, by item. */
function running({ own = [] as unknown[], operation = "submit", node = "node-1" } = {}) {
  return {
    getNodeParameter: (name: string, item: number) => (name === "operation" ? operation : { idempotencyKey: own[item] }),
    evaluateExpression: () => 0,
    getInstanceId: () => "0123456789abcdef",
    getWorkflow: () => ({ id: "w" }),
    getExecutionId: () => "7",
    getNode: () => ({ id: node }),
  };
}

const keysOf = (own: unknown[]) => jobKeys(running({ own }), own.map(() => ({ job: {} })));

test("a key that a header can carry stays as it is, and every other has a print of its own", () => {
  for (const key of ["order-77", "a b", "x".repeat(255), "!"]) assert.equal(plainKey(key), key);
  const others = ["Größe 1", "Grösse ü", "注文", "Заказ-7", "Счёт-7", "a\nb", '"a"', " a", "x".repeat(256), "x".repeat(257)];
  const keys = others.map((key) => plainKey(key));
  for (const key of keys) assert.match(key, /^sha256-[0-9a-f]{64}$/);
  assert.equal(new Set(keys).size, others.length);
  assert.deepEqual(others.map((key) => plainKey(key)), keys);
});

test("a node's odd or long id makes a plain key, different from others'", () => {
  const keys = ["größe", "grosse", "日", "x".repeat(300)].map((node) => groupKey(running({ node })));
  for (const key of keys) assert.match(key, /^[!-~]{1,255}$/);
  assert.equal(new Set(keys).size, keys.length);
});

test("an own key stands for the same job wherever its item stands", () => {
  assert.deepEqual(keysOf(["o-1", "o-2"]), ["o-1", "o-2"]);
  assert.deepEqual(keysOf(["o-2"]), ["o-2"]);
  assert.deepEqual(keysOf([7, " o-2 "]), ["7", "o-2"]);
});

test("items of one run with the same own key, or none, have different ones", () => {
  assert.equal(new Set(keysOf(["o", "o", "o-1", undefined, ""])).size, 5);
  assert.deepEqual(keysOf(["o", "p", "o"]), ["o #0", "p", "o #2"]);
});

test("a group without refused items has a key of its own, the same on every try", () => {
  const waits = running({ operation: "runAndWait", own: ["order-77"] });
  const refusals = [[], ["1"], ["1", "2"], ["12"], Array.from({ length: 999 }, (_, at) => String(at))];
  const keys = refusals.map((refused) => groupKey(waits, refused));
  assert.equal(new Set(keys).size, keys.length);
  assert.deepEqual(refusals.map((refused) => groupKey(waits, refused)), keys);
  for (const key of keys) assert.match(key, /^[!-~]{1,255}$/);
  assert.ok(!keys.includes(groupKey(running({ own: ["order-77"] }))), "a wait's key is its own");
});
