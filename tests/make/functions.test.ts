// The app's JavaScript functions: their own tests, in Make's form, and the fields they make of the
// real server's tasks.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import vm from "node:vm";
import { code, loadFunctions, manifest, Play, text } from "./app.ts";
import { BUILT_IN } from "./iml.ts";
import { Ajv2020, PARAMETERS, validator } from "./shapes.ts";
import { call, KEY, type Running, startService } from "../platforms/service.ts";

const plain = (value: unknown) => JSON.parse(JSON.stringify(value));

suite("the functions' own tests", () => {
  for (const [name, { codeFiles }] of Object.entries(manifest.components.function)) {
    suite(name, () => {
      // As Make's editor runs them: in one context with the function, `assert`, `it` and `iml`.
      // What a context makes has prototypes of its own, so `assert` compares plain copies.
      const own = loadFunctions();
      const copying = {
        ...assert,
        deepStrictEqual: (left: unknown, right: unknown, told?: string) => assert.deepEqual(plain(left), plain(right), told),
        strictEqual: assert.strictEqual,
        match: assert.match,
        throws: (run: () => void, expected: RegExp | { message: string }, told: string) => {
          let fault: any;
          try {
            run();
          } catch (thrown) {
            fault = thrown;
          }
          assert.ok(fault, `${told}: nothing was thrown`);
          if (expected instanceof RegExp || "test" in expected) assert.match(fault.message, expected as RegExp, told);
          else assert.equal(fault.message, expected.message, told);
        },
      };
      let count = 0;
      const it = (what: string, run: () => void) => {
        count += 1;
        test(what, run);
      };
      vm.runInNewContext(text(codeFiles.test!), { assert: copying, it, iml: { ...BUILT_IN, ...own }, ...own });
      test("has tests, and the size Make takes", () => {
        assert.ok(count > 0);
        assert.ok(text(codeFiles.code!).length <= 5000);
      });
    });
  }
});

suite("fields of the real tasks", () => {
  let service: Running;
  let tasks: any[];
  before(async () => {
    service = await startService();
    tasks = (await call(service, "GET", "/v1/tasks")).body.data;
  });
  after(() => service.stop());

  const play = () => new Play({ baseUrl: service.url, apiKey: KEY });

  test("the drop-down lists every task", async () => {
    const options = await play().rpc("listTasks", {});
    assert.deepEqual(options.map((option) => option.value), tasks.map((task) => task.name));
    for (const option of options) assert.ok(option.label.startsWith(`${option.value}: `), option.label);
  });

  test("every task's fields are fields of Make's", async () => {
    const fits = validator(PARAMETERS);
    for (const { name } of tasks) {
      const [input] = await play().rpc("inputFields", { task: name });
      const [output] = await play().rpc("outputFields", { task: name });
      assert.equal(input.name, "input", name);
      assert.equal(output.name, "data", name);
      fits([input, output], name);
    }
  });

  test("they are required, typed and explained as the schema says", async () => {
    const [{ spec }] = await play().rpc("inputFields", { task: "summarize" });
    const field = (name: string) => spec.find((one: any) => one.name === name);
    assert.equal(field("text").required, true);
    assert.equal(field("text").multiline, true);
    assert.deepEqual(field("max_words").validate, { min: 1, max: 1000 });
    assert.equal(field("max_words").type, "integer");
    assert.match(field("max_words").help, /default 120/);
    assert.equal(field("language").required, undefined);
    const [recover] = await play().rpc("outputFields", { task: "recover" });
    assert.equal(recover.spec.find((one: any) => one.name === "wait_seconds").type, "integer");
  });

  test("what they are filled in with fits the task's schema", async () => {
    const own = loadFunctions();
    for (const task of tasks) {
      const fits = new Ajv2020({ strict: false }).compile(task.input_schema);
      const [input] = await play().rpc("inputFields", { task: task.name });
      for (const all of [true, false]) {
        const value = filled(input, all);
        const body: any = plain(own.jobBody!({ task: task.name, inputMode: "fields", delivery: "submit", input: value }));
        assert.ok(fits(body.input), `${task.name}: ${JSON.stringify(body.input)}: ${JSON.stringify(fits.errors)}`);
      }
    }
  });
});

/** A value for a field as a person would give it: for all of its fields, or only the required ones. */
function filled(field: any, all: boolean): unknown {
  switch (field.type) {
    case "collection": {
      const wanted = field.spec.filter((one: any) => all || one.required);
      return Object.fromEntries(wanted.map((one: any) => [one.name, filled(one, all)]));
    }
    case "array":
      return [Array.isArray(field.spec) ? filled({ type: "collection", spec: field.spec }, all) : filled(field.spec, all)];
    case "select":
      return field.options[0].value;
    case "integer":
    case "number":
      return field.validate?.min ?? 1;
    case "boolean":
      return true;
    case "text":
      if (field.name === "tool_choice~json") return '"auto"';
      if (field.name === "~others") return '{"more": "x"}';
      return field.name?.endsWith("~json") ? '{"type": "object"}' : 'a "text"\nof two lines, ü';
    default:
      throw new Error(`no value for a field of type ${field.type}`);
  }
}

suite("schemas of people's own tasks", () => {
  const field = (schema: object) => plain(loadFunctions().taskFields!([{ name: "own", input_schema: schema }], "own", "input"));

  test("choices, dates, nesting, references", () => {
    const made = field({
      type: "object",
      required: ["mood", "lines"],
      $defs: { line: { type: "object", properties: { sku: { type: "string" }, count: { type: "integer", minimum: 1 } }, required: ["sku"] } },
      properties: {
        mood: { enum: ["glad", "sad", null] },
        due: { type: "string", format: "date-time" },
        mail: { type: ["string", "null"], format: "email" },
        urgent: { type: "boolean", default: false },
        lines: { type: "array", minItems: 1, items: { $ref: "#/$defs/line" } },
        maybe: { anyOf: [{ type: "number" }, { type: "null" }], title: "Perhaps" },
        either: { oneOf: [{ type: "object" }, { type: "array" }], description: "One or the other." },
      },
    });
    assert.deepEqual(made, {
      name: "input",
      label: "Input",
      type: "collection",
      required: true,
      spec: [
        { name: "mood", label: "Mood", type: "select", required: true, options: [{ label: "glad", value: "glad" }, { label: "sad", value: "sad" }] },
        { name: "due", label: "Due", type: "date" },
        { name: "mail", label: "Mail", type: "email" },
        { name: "urgent", label: "Urgent", type: "boolean", default: false },
        {
          name: "lines",
          label: "Lines",
          type: "array",
          required: true,
          validate: { minItems: 1 },
          spec: [
            { name: "sku", label: "Sku", type: "text", multiline: true, required: true },
            { name: "count", label: "Count", type: "integer", validate: { min: 1 } },
          ],
        },
        { name: "maybe", label: "Perhaps", type: "number" },
        { name: "either~json", label: "Either", type: "text", multiline: true, help: "One or the other. As JSON." },
      ],
    });
    validator(PARAMETERS)([made], "an own task");
  });

  test("a schema that refers to itself ends", () => {
    const made = field({ type: "object", properties: { child: { $ref: "#" } } });
    validator(PARAMETERS)([made], "a recursive task");
    assert.ok(JSON.stringify(made).includes("child~json"));
  });

  test("the module shows them under its task, so that another task brings other fields", () => {
    const [task] = code("module", "runTask", "mappableParams");
    assert.equal(task.options.store, "rpc://listTasks");
    const [mode] = task.options.nested;
    assert.equal(mode.options.find((one: any) => one.value === "fields").nested, "rpc://inputFields");
  });
});
