// What people fill in where it is easily lost on the way: large numbers, odd names, further
// properties, empty line items.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, suite, test } from "node:test";

import { ROUTES, type Running, startService } from "../../tests/platforms/service.ts";
import App from "../index.js";
import { bundleOf, errorOf, run } from "./zapier.ts";

const require = createRequire(import.meta.url);
const PlainInput = require("zapier-platform-schema/lib/schemas/PlainInputFieldSchema");

/** It answers its own input. */
const ODD = `
[tasks.odd]
route = "cheap"
template = '''#scripted:say {{ {"all": all, "more": more} | tojson }}'''
[tasks.odd.input_schema]
type = "object"
additionalProperties = { type = "string" }
properties.all = { "$ref" = "#/$defs/all" }
[tasks.odd.input_schema."$defs".all]
type = "object"
additionalProperties = true
[tasks.odd.input_schema."$defs".all.properties]
id = { type = "integer" }
amount = { type = "number" }
ids = { type = "array", items = { type = "integer" } }
free = { type = "object" }
tags = { type = "array", items = { type = "string" } }
lines = { type = "array", items = { type = "object", additionalProperties = true, properties = { sku = { type = "string" }, "a-b" = { type = "integer" } } } }
closed = { type = "array", items = { type = "object", additionalProperties = false, properties = { sku = { type = "string" } } } }
"a.b" = { type = "string" }
a__b = { type = "string" }
a_ = { type = "string" }
a = { type = "object", properties = { b = { type = "string" }, _b = { type = "string" } } }
"a-2e-b" = { type = "string" }
[tasks.hollow]
route = "cheap"
template = '''#scripted:say {{ {"within": within, "beside": beside, "note": note} | tojson }}'''
[tasks.hollow.input_schema]
type = "object"
required = ["within"]
[tasks.hollow.input_schema.properties]
note = { type = "string" }
within = { type = "object", required = ["deeper"], properties = { deeper = { type = "object", properties = { x = { type = "string" } } }, y = { type = "string" } } }
beside = { type = "object", required = ["deeper", "y"], properties = { deeper = { type = "object", properties = { x = { type = "string" } } }, y = { type = "string" } } }
[tasks.answers]
route = "cheap"
[tasks.answers.output_schema]
type = "object"
[tasks.answers.output_schema.properties]
a = { type = "object", properties = { b = { type = "string" } } }
a__b = { type = "integer" }
`;

let service: Running;
before(async () => {
  service = await startService({
    more: `[accounts.main]\nprovider = "scripted"\nscripted = { latency = "5ms" }\n${ROUTES}${ODD}`,
  });
});
after(() => service.stop());

/** The fields of the task, and of the step around it. */
const inputFields = (inputData: object) =>
  run(App.creates.run_task.operation.inputFields as any, bundleOf(service, inputData)) as Promise<any[]>;

/** The JSON of the input that the job really got: the task answers it. */
async function written(inputData: object): Promise<string> {
  const bundle = bundleOf(service, { task: "odd", ...inputData }, { meta: { isLoadingSample: true } });
  return ((await run(App.creates.run_task.operation.perform as any, bundle)) as any).text;
}

const sent = async (inputData: object) => JSON.parse(await written(inputData)).all;
const refusal = async (inputData: object) => (await errorOf(written(inputData))).message;

suite("whole numbers that JavaScript would round", () => {
  const ID = "9007199254740993";
  const LARGEST = "9223372036854775807";

  test("arrive with all their digits, from texts and from JSON", async () => {
    const filled = {
      input__all__id: ` +0${ID} `,
      input__all__amount: `-${LARGEST}`,
      input__all__ids: ["18446744073709551615", ID, "3"],
      input__all__free: `{"id": ${ID}, "within": [{"id": ${LARGEST}}], "text": "${ID}", "half": 0.5}`,
      input__all__lines: `[{"a-b": ${ID}, "sku": ${LARGEST}, "other": ${ID}}]`,
      "input__all__-further": `{"ref": ${LARGEST}}`,
    };
    const text = await written(filled);
    for (const expected of [
      `"id":${ID}`,
      `"amount":-${LARGEST}`,
      `"ids":[18446744073709551615,${ID},3]`,
      `"within":[{"id":${LARGEST}}]`,
      `"text":"${ID}"`,
      `"half":0.5`,
      `"a-b":${ID}`,
      `"sku":"${LARGEST}"`,
      `"other":${ID}`,
      `"ref":${LARGEST}`,
    ]) {
      assert.ok(text.includes(expected), `${expected} in ${text}`);
    }
    assert.match(await written({ input__all__ids: `[${ID}, 1]` }), /"ids":\[9007199254740993,1\]/, "a list written as JSON");
    assert.deepEqual(await sent({ input__all__tags: `[${ID}]` }), { tags: [ID] }, "as texts where those are wanted");
  });

  test("are refused when they were rounded before they came here", async () => {
    const rounded = Number(ID);
    for (const [key, value, label] of [
      ["input__all__id", rounded, "all id"],
      ["input__all__ids", [1, rounded], "all ids"],
      ["input__all__free", { list: [{ id: rounded }] }, "all free"],
      ["input__all__lines", [{ "input__all__lines__a-2d-b": rounded }], "all lines a-b"],
      ["input__all__-further", { ref: rounded }, "all Further Fields"],
    ] as const) {
      const message = await refusal({ [key]: value });
      assert.ok(message.includes(`field ${label} holds ${rounded}`), message);
      assert.match(message, /text there/, "and says what to do");
    }
    assert.deepEqual(await sent({ input__all__amount: 6e23, input__all__id: 17 }), { amount: 6e23, id: 17 }, "a measure is no ID");
  });
});

suite("lists", () => {
  test("a text in brackets is a text", async () => {
    assert.deepEqual(await sent({ input__all__tags: "[urgent] customer" }), { tags: ["[urgent] customer"] });
    assert.deepEqual(await sent({ input__all__tags: ["[urgent] customer", "b"] }), { tags: ["[urgent] customer", "b"] });
    assert.deepEqual(await sent({ input__all__tags: '["urgent", "customer"]' }), { tags: ["urgent", "customer"] });
  });

  test("empty line items are left out, what is none is told", async () => {
    const items = [null, { input__all__lines__sku: "c-1" }, {}, "", { input__all__lines__sku: "" }, { sku: "c-2" }];
    assert.deepEqual(await sent({ input__all__lines: items }), { lines: [{ sku: "c-1" }, { sku: "c-2" }] });
    assert.match(await refusal({ input__all__lines: ["c-1"] }), /line items of all lines must be objects; "c-1"/);
    assert.match(await refusal({ input__all__lines: "[12345678901234567890]" }), /must be objects/);
  });

  test("line items keep what has no field, and Spillway says when it does not take it", async () => {
    assert.deepEqual(await sent({ input__all__lines: '[{"sku": "c-1", "colour": "red"}]' }), { lines: [{ sku: "c-1", colour: "red" }] });
    const further = [{ input__all__lines__sku: "c-1", "input__all__lines__-further": '{"colour": "red"}' }];
    assert.deepEqual(await sent({ input__all__lines: further }), { lines: [{ sku: "c-1", colour: "red" }] });
    assert.match(await refusal({ input__all__closed: '[{"sku": "c-1", "colour": "red"}]' }), /colour/);
  });
});

suite("objects that a task requires", () => {
  /** The task shows as null what it did not get. */
  const sent = async (inputData: object) => {
    const shown = Object.entries(JSON.parse(await written({ task: "hollow", ...inputData })));
    return Object.fromEntries(shown.filter(([, value]) => value !== null));
  };

  test("are sent empty when nothing was filled in", async () => {
    assert.deepEqual(await sent({}), { within: { deeper: {} } }, "the whole input");
    assert.deepEqual(await sent({ input__note: "n", input__within__deeper__x: " " }), { within: { deeper: {} }, note: "n" });
    assert.deepEqual(await sent({ input__within__y: "b" }), { within: { deeper: {}, y: "b" } });
    assert.deepEqual(await sent({ input__beside__y: "b" }), { within: { deeper: {} }, beside: { deeper: {}, y: "b" } });
  });

  test("but not when what asks for them was left out itself, and no text is made up", async () => {
    assert.deepEqual(await sent({ input__note: "n" }), { within: { deeper: {} }, note: "n" });
    assert.match(await refusal({ task: "tag" }), /input is empty/);
  });
});

suite("names", () => {
  test("no two properties have one field, whatever their names", async () => {
    const fields = await inputFields({ task: "odd" });
    for (const field of fields) assert.deepEqual(PlainInput.validate(field).errors.map(String), [], JSON.stringify(field));
    const keys = fields.map((field) => field.key);
    assert.equal(new Set(keys).size, keys.length, keys.join(" "));
    for (const key of ["input__all__a-2e-b", "input__all__a-5f--5f-b", "input__all__a-5f-", "input__all__a__b", "input__all__a__-5f-b"]) {
      assert.ok(keys.includes(key), `${key} in ${keys.join(" ")}`);
    }
  });

  test("and each arrives where it belongs", async () => {
    const whole = { "a.b": "1", a__b: "2", a_: "3", a: { b: "4", _b: "5" }, "a-2e-b": "6" };
    const filled = {
      "input__all__a-2e-b": "1",
      "input__all__a-5f--5f-b": "2",
      "input__all__a-5f-": "3",
      input__all__a__b: "4",
      "input__all__a__-5f-b": "5",
      "input__all__a-2d-2e-2d-b": "6",
    };
    assert.deepEqual(await sent(filled), whole);
  });
});

test("an answer's properties that Zapier itself names alike are one field", async () => {
  const outputFields = App.creates.run_task.operation.outputFields as any;
  const fields = (await run(outputFields, bundleOf(service, { task: "answers" }))) as any[];
  const own = fields.filter(({ key }) => key.startsWith("data__"));
  assert.deepEqual(own, [{ key: "data__a__b", label: "A B", type: "string" }]);
});

suite("properties that a schema allows and does not name", () => {
  test("have a field of their own, where the schema says so", async () => {
    const fields = await inputFields({ task: "odd" });
    const further = fields.filter((field) => field.key.endsWith("-further"));
    assert.deepEqual(further.map(({ key, label, type, required }) => [key, label, type, required]), [
      ["input__all__-further", "All Further Fields", "json", false],
      ["input__-further", "Further Fields", "json", false],
    ]);
    const children = (key: string) => fields.find((field) => field.key === key).children.map((child: any) => child.key);
    assert.ok(children("input__all__lines").includes("input__all__lines__-further"));
    assert.deepEqual(children("input__all__closed"), ["input__all__closed__sku"]);
    const summarize = await inputFields({ task: "summarize" });
    assert.ok(!summarize.some((field) => field.key.includes("further")), "a closed schema has none");
  });

  test("arrive beside the others", async () => {
    const filled = { input__all__id: "1", "input__all__-further": '{"colour": "red"}', "input__-further": { more: "too" } };
    assert.deepEqual(JSON.parse(await written(filled)), { all: { id: 1, colour: "red" }, more: "too" });
    assert.deepEqual(await sent({ input__all__id: 1, "input__all__-further": " " }), { id: 1 });
  });

  test("are told when they are none, or have a field already", async () => {
    assert.match(await refusal({ "input__all__-further": "red" }), /all Further Fields must be JSON/);
    assert.match(await refusal({ "input__all__-further": "[1]" }), /all Further Fields must be a JSON object/);
    assert.match(await refusal({ "input__all__-further": '{"id": 2}' }), /holds id, which has a field of its own/);
  });
});
