// Form fields from the real tasks' schemas, and inputs that the real service takes.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, type Running, startService } from "../../tests/platforms/service.ts";
import { built } from "./built.ts";

const { fieldsOf, inputOf, noticeOf } = built("nodes/shared/schema");

let service: Running;
let tasks: { name: string; input_schema: object | null }[];

before(async () => {
  service = await startService();
  tasks = (await call(service, "GET", "/v1/tasks")).body.data;
});

after(() => service.stop());

const schemaOf = (name: string) => tasks.find((task) => task.name === name)!.input_schema;

test("every task of the service has its fields, the required ones marked", () => {
  assert.ok(tasks.length > 3);
  for (const { name, input_schema } of tasks) {
    const fields = fieldsOf(input_schema);
    assert.ok(fields.length > 0, name);
    const { properties, required = [] } = input_schema as { properties: object; required?: string[] };
    assert.deepEqual(fields.map(({ id }: { id: string }) => id), Object.keys(properties), name);
    for (const field of fields) {
      assert.equal(field.required, required.includes(field.id), `${name}.${field.id}`);
      const types = ["string", "number", "boolean", "array", "object", "options", "dateTime"];
      assert.ok(types.includes(field.type), `${name}.${field.id} is ${field.type}`);
    }
  }
});

test("a field that takes text or a list is a text, in which JSON makes a list", () => {
  const labels = fieldsOf(schemaOf("classify")).find(({ id }: { id: string }) => id === "labels");
  assert.equal(labels.type, "string");
  const made = (labels: unknown) => inputOf(schemaOf("classify"), { text: "x", labels });
  assert.deepEqual(made("a, b"), { text: "x", labels: "a, b" });
  assert.deepEqual(made('["a", "b"]'), { text: "x", labels: ["a", "b"] });
  assert.deepEqual(made(["a", "b"]), { text: "x", labels: ["a", "b"] });
  assert.deepEqual(made("[a"), { text: "x", labels: "[a" });
});

test("a text that looks like JSON stays a text where only text is taken", () => {
  assert.deepEqual(inputOf(schemaOf("classify"), { text: '["not a list"]' }), { text: '["not a list"]' });
});

test("empty fields are left out, and what the task does not know as well", () => {
  const input = inputOf(schemaOf("classify"), { text: "", labels: "", instructions: null, row: 7 });
  assert.deepEqual(input, { text: "" });
});

test("kinds of fields follow the schema", () => {
  const types = (properties: object) =>
    Object.fromEntries(fieldsOf({ type: "object", properties }).map((f: { id: string; type: string }) => [f.id, f.type]));
  assert.deepEqual(
    types({
      choice: { enum: ["a", "b"] },
      number: { type: ["integer", "null"] },
      flag: { type: "boolean" },
      list: { type: "array" },
      thing: { type: "object" },
      time: { type: "string", format: "date-time" },
      either: { anyOf: [{ type: "number" }, { type: "string" }] },
      any: {},
    }),
    {
      choice: "options",
      number: "number",
      flag: "boolean",
      list: "array",
      thing: "object",
      time: "dateTime",
      either: "string",
      any: "string",
    },
  );
  assert.deepEqual(fieldsOf(null), []);
});

/** As Pydantic writes it: parts by reference, some of them by way of `allOf` or with null beside. */
const MODEL = {
  $ref: "#/$defs/Letter",
  $defs: {
    Letter: {
      type: "object",
      allOf: [{ $ref: "#/$defs/Addressed" }],
      properties: {
        subject: { type: "string" },
        copy: { anyOf: [{ $ref: "#/$defs/Person" }, { type: "null" }] },
        level: { enum: [1, 2, 3] },
        urgent: { allOf: [{ $ref: "#/$defs/Flag" }], description: "Now?" },
        to: { description: "The one it is for" },
        tone: { enum: ["warm", "cool", null] },
      },
      required: ["subject"],
    },
    Addressed: { properties: { to: { $ref: "#/$defs/Person" } }, required: ["to"] },
    Person: { type: "object", properties: { name: { type: "string" }, boss: { $ref: "#/$defs/Person" } } },
    Flag: { type: "boolean" },
  },
};

test("references, allOf and choices are followed", () => {
  const fields = fieldsOf(MODEL) as { id: string; type: string; required: boolean; displayName: string }[];
  assert.deepEqual(Object.fromEntries(fields.map(({ id, type, required }) => [id, [type, required]])), {
    to: ["object", true],
    subject: ["string", true],
    copy: ["object", false],
    level: ["number", false],
    urgent: ["boolean", false],
    tone: ["options", false],
  });
  assert.equal(fields.find(({ id }) => id === "level")!.displayName, "level (1, 2, 3)");
});

test("a schema that refers to itself has an end", () => {
  const circle = { $ref: "#/$defs/A", $defs: { A: { allOf: [{ $ref: "#/$defs/A" }], properties: { a: { $ref: "#/$defs/A" } } } } };
  assert.deepEqual(fieldsOf(circle).map(({ id }: { id: string }) => id), ["a"]);
});

test("values of a list are sent as the schema writes them", () => {
  assert.deepEqual(inputOf(MODEL, { subject: "x", level: "2", tone: "warm" }), { subject: "x", level: 2, tone: "warm" });
  assert.deepEqual(inputOf(MODEL, { subject: "x", level: 2 }), { subject: "x", level: 2 });
  assert.deepEqual(inputOf(MODEL, { subject: "x", level: "9" }), { subject: "x", level: "9" }, "refused by the service");
});

test("Map Automatically sends what an open schema does not name, and only then", () => {
  const named = { properties: { text: { type: "string" } } };
  const item = { text: "x", row: 7, note: null };
  assert.deepEqual(inputOf(named, item, true), item);
  assert.deepEqual(inputOf(named, item, false), { text: "x" });
  for (const closed of [{ additionalProperties: false }, { unevaluatedProperties: false }]) {
    assert.deepEqual(inputOf({ ...named, ...closed }, item, true), { text: "x" });
  }
  const variants = { oneOf: [named, { properties: { row: { type: "number" } } }] };
  assert.deepEqual(inputOf(variants, item, true), item);
});

test("where there are no fields, it is said what to do instead", () => {
  assert.match(noticeOf({ type: "object" }), /choose JSON.*Map Automatically/);
  assert.match(noticeOf({ type: "object", additionalProperties: false }), /write \{\}/);
  assert.match(noticeOf({ type: "string" }), /Text or JSON/);
});

test("what the fields make is taken by the service", async () => {
  const filled: Record<string, object> = {
    classify: { text: "Charged twice.", labels: '["billing", "other"]', instructions: "" },
    extract: { text: "Ann, 7 May", fields: '{"name": "who", "date": "when"}' },
    chat: { messages: '[{"role": "user", "content": "hello"}]' },
  };
  for (const [task, values] of Object.entries(filled)) {
    const { status, body } = await call(service, "POST", "/v1/jobs", { task, input: inputOf(schemaOf(task), values) });
    assert.equal(status, 202, JSON.stringify(body));
    assert.deepEqual(body.warnings, []);
  }
});
