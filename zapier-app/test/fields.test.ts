import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { ROUTES, type Running, startService } from "../../tests/platforms/service.ts";
import App from "../index.js";
import { bundleOf, errorOf, run } from "./zapier.ts";

const require = createRequire(import.meta.url);
const PlainInput = require("zapier-platform-schema/lib/schemas/PlainInputFieldSchema");
const PlainOutput = require("zapier-platform-schema/lib/schemas/PlainOutputFieldSchema");

/** A task with everything a schema may hold. It answers its own input. */
const ORDER = `
[tasks.order]
description = "Reads an order."
route = "cheap"
template = '''#scripted:say {{ {"text": text, "count": count, "price": price, "urgent": urgent, "due": due, "kind": kind, "tags": tags, "sizes": sizes, "buyer": buyer, "lines": lines, "extra": extra, "deep": deep, "labels": labels} | tojson }}'''
[tasks.order.input_schema]
type = "object"
additionalProperties = false
required = ["text", "buyer"]
[tasks.order.input_schema.properties]
text = { type = "string", description = "The order's text." }
count = { type = "integer", description = "How many." }
price = { type = ["number", "null"] }
urgent = { type = "boolean" }
due = { type = "string", format = "date-time" }
kind = { enum = ["new", "change"], description = "Which kind." }
tags = { type = "array", items = { type = "string" } }
sizes = { type = "array", items = { type = "integer" } }
buyer = { "$ref" = "#/$defs/person" }
lines = { type = "array", items = { type = "object", required = ["sku"], properties = { sku = { type = "string" }, amount = { type = "integer" } } } }
extra = { type = "object", description = "Anything." }
deep = { type = "array", items = { type = "object", properties = { list = { type = "array", items = { type = "object", properties = { x = { type = "string" } } } } } } }
labels = { type = "object", additionalProperties = { type = "string" } }
[tasks.order.input_schema."$defs".person]
type = "object"
required = ["name"]
properties = { name = { type = "string", description = "Who buys." }, address = { type = "object", properties = { zip_code = { type = "string" } } } }
`;

let service: Running;
before(async () => {
  service = await startService({
    more: `[accounts.main]\nprovider = "scripted"\nscripted = { latency = "5ms" }\n${ROUTES}${ORDER}`,
  });
});
after(() => service.stop());

const inputFields = (inputData: object) =>
  run(App.creates.run_task.operation.inputFields as any, bundleOf(service, inputData)) as Promise<any[]>;
const outputFields = (inputData: object) =>
  run(App.creates.run_task.operation.outputFields as any, bundleOf(service, inputData)) as Promise<any[]>;

/** Only the fields the task brings along. */
async function own(task: string) {
  const fixed = new Set((await inputFields({})).map((field) => field.key));
  return (await inputFields({ task })).filter((field) => !fixed.has(field.key));
}

/** The input a job really got: the task answers it. */
async function sent(inputData: object) {
  const bundle = bundleOf(service, { task: "order", ...inputData }, { meta: { isLoadingSample: true } });
  const result = (await run(App.creates.run_task.operation.perform as any, bundle)) as any;
  const echo = Object.entries(JSON.parse(result.text)).filter(([, value]) => value !== null);
  return Object.fromEntries(echo);
}

test("the list of tasks is the server's", async () => {
  const tasks = (await run(App.triggers.tasks.operation.perform as any, bundleOf(service))) as any[];
  const names = tasks.map((task) => task.id);
  assert.deepEqual(names, ["chat", "classify", "code", "extract", "order", "plan", "recover", "summarize", "tag"]);
  assert.equal(tasks.find((task) => task.id === "order").description, "Reads an order.");
});

test("every task's fields are of the form Zapier takes, in and out", async () => {
  const tasks = (await run(App.triggers.tasks.operation.perform as any, bundleOf(service))) as any[];
  for (const { id } of tasks) {
    const input = await inputFields({ task: id });
    const output = await outputFields({ task: id });
    for (const [fields, Schema] of [
      [input, PlainInput],
      [output, PlainOutput],
    ]) {
      for (const field of fields) {
        const { errors } = Schema.validate(field);
        assert.deepEqual(errors.map(String), [], `${id}: ${JSON.stringify(field)}`);
      }
      const keys = fields.flatMap((field: any) => [field.key, ...(field.children ?? []).map((one: any) => one.key)]);
      assert.equal(new Set(keys).size, keys.length, `${id}: keys are unique`);
    }
    assert.ok(input.length > (await inputFields({})).length, `${id} has fields of its own`);
  }
  assert.notEqual(PlainInput.validate({ key: "x", type: "nonsense" }).errors.length, 0, "the check can fail");
});

test("types, help, choices, lists, rows and nested objects come from the schema", async () => {
  const fields = Object.fromEntries((await own("order")).map((field) => [field.key, field]));
  assert.deepEqual(Object.keys(fields).slice(0, 3), ["about", "input__text", "input__buyer__name"], "required first");
  assert.equal(fields.about.helpText, "Reads an order.");
  assert.deepEqual(fields.input__text, {
    key: "input__text",
    label: "Text",
    required: true,
    helpText: "The order's text.",
    type: "text",
    group: "task",
  });
  assert.deepEqual(
    ["count", "price", "urgent", "due", "kind", "tags", "sizes", "extra", "deep"].map((name) => fields[`input__${name}`].type),
    ["integer", "number", "boolean", "datetime", "string", "string", "integer", "json", "json"],
  );
  assert.deepEqual(fields.input__kind.choices, ["new", "change"]);
  assert.deepEqual([fields.input__tags.list, fields.input__sizes.list, fields.input__labels.dict], [true, true, true]);
  assert.deepEqual(fields.input__buyer__name.label, "Buyer Name");
  assert.equal(fields.input__buyer__address__zip_code.required, false);
  assert.deepEqual(fields.input__lines.children.map((child: any) => [child.key, child.type, child.required]), [
    ["input__lines__sku", "text", true],
    ["input__lines__amount", "integer", false],
  ]);
});

test("what is filled in arrives as the schema has it, even where Zapier hands over texts", async () => {
  const whole = {
    text: "Ten chairs",
    count: 10,
    price: 19.5,
    urgent: true,
    due: "2026-12-01T10:00:00+01:00",
    kind: "new",
    tags: ["a", "b"],
    sizes: [1, 2],
    buyer: { name: "Ada", address: { zip_code: "01067" } },
    lines: [{ sku: "c-1", amount: 4 }, { sku: "c-2" }],
    extra: { note: ["x"] },
    deep: [{ list: [{ x: "1" }] }],
    labels: { colour: "red" },
  };
  const filled = {
    input__text: "Ten chairs",
    input__count: "10",
    input__price: " 19.5",
    input__urgent: "true",
    input__due: whole.due,
    input__kind: "new",
    input__tags: ["a", "", "b"],
    input__sizes: ["1", "2"],
    input__buyer__name: "Ada",
    input__buyer__address__zip_code: "01067",
    input__lines: [
      { input__lines__sku: "c-1", input__lines__amount: "4" },
      { input__lines__sku: "c-2", input__lines__amount: "" },
    ],
    input__extra: '{"note": ["x"]}',
    input__deep: [{ list: [{ x: "1" }] }],
    input__labels: { colour: "red" },
  };
  assert.deepEqual(await sent(filled), whole);
  const typed = { ...filled, input__count: 10, input__price: 19.5, input__urgent: true, input__sizes: [1, 2] };
  assert.deepEqual(await sent(typed), whole);
  const least = { text: "x", buyer: { name: "Ada" } };
  const empty = { input__text: "x", input__buyer__name: "Ada", input__count: "", input__lines: [], input__tags: "" };
  assert.deepEqual(await sent(empty), least);
  assert.deepEqual((await sent({ ...empty, input__tags: '["a"]', input__sizes: "3" })).sizes, [3]);
});

test("what does not fit is told, by us or by Spillway, with the field's name", async () => {
  const base = { input__text: "x", input__buyer__name: "Ada" };
  assert.match((await errorOf(sent({ ...base, input__extra: "{note" }))).message, /field extra must be JSON/);
  assert.match((await errorOf(sent({ ...base, input__count: "ten" }))).message, /count/);
  assert.match((await errorOf(sent({ input__text: "x" }))).message, /buyer/);
});

test("a chat takes a message, with what was said before", async () => {
  const keys = (await own("chat")).map((field) => [field.key, field.required]);
  assert.deepEqual(keys.slice(0, 2), [["about", undefined], ["message", true]]);
  assert.ok(keys.some(([key]) => key === "input__system"));
  assert.deepEqual(keys.find(([key]) => key === "input__messages"), ["input__messages", false]);
  const chat = async (inputData: object) => {
    const bundle = bundleOf(service, { task: "chat", ...inputData }, { meta: { isLoadingSample: true } });
    return ((await run(App.creates.run_task.operation.perform as any, bundle)) as any).text;
  };
  assert.equal(await chat({ message: "#scripted:say hello" }), "hello");
  const before = '[{"role": "user", "content": "#scripted:say from before"}, {"role": "assistant", "content": "ok"}]';
  assert.equal(await chat({ message: "go on", input__system: "Be brief.", input__messages: before }), "from before");
});

test("a task that is mapped from an earlier step has one field for its input", async () => {
  const fields = await own("{{123__task}}");
  assert.deepEqual(fields.map((field) => [field.key, field.required]), [["input", true]]);
  const before = await own("");
  assert.deepEqual(before, []);
});

test("what a task answers can be mapped before it ever ran", async () => {
  const keys = async (task: string) =>
    (await outputFields({ task })).filter((field) => field.key.startsWith("data__"));
  assert.deepEqual(await keys("tag"), [{ key: "data__tags", label: "Tags", list: true, type: "string" }]);
  assert.deepEqual((await keys("plan")).map((field) => field.key), [
    "data__steps[]number",
    "data__steps[]action",
    "data__steps[]tool",
    "data__steps[]depends_on",
    "data__steps[]done_when",
    "data__risks",
    "data__questions",
  ]);
  assert.deepEqual(await keys("chat"), []);
});
