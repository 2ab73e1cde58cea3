// Form fields from the real tasks' schemas, and inputs that the real service takes.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, type Running, startService } from "../../tests/platforms/service.ts";
import { built } from "./built.ts";

const { fieldsOf, inputOf } = built("nodes/shared/schema");

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
