import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

import App from "../index.js";

const require = createRequire(import.meta.url);
const { compileApp, serializeApp } = require("zapier-platform-core/src/tools/schema");
const { validateAppDefinition } = require("zapier-platform-schema");

const faults = (app: object) => validateAppDefinition(serializeApp(compileApp(app))).errors.map(String);

test("the app is of the form Zapier's own schema asks for", () => {
  assert.deepEqual(faults(App), []);
});

test("the schema check can fail", () => {
  const { sample: _, ...operation } = App.creates.run_task.operation;
  const broken = { ...App, creates: { run_task: { ...App.creates.run_task, key: "other", operation } } };
  assert.notEqual(faults(broken).length, 0);
});

// What Zapier's online review asks for and no tool checks without a login.
test("labels, descriptions, samples and fields are as Zapier's review wants them", () => {
  const actions = [...Object.values(App.triggers), ...Object.values(App.searches), ...Object.values(App.creates)];
  for (const action of actions as any[]) {
    const { label, description, hidden } = action.display;
    for (const word of label.split(" ")) assert.match(word, /^[A-Z]/, label);
    assert.match(description, /^[A-Z].*\.$/, label);
    if (action.operation.type === "hook") assert.match(description, /^Triggers when /, label);
    if (hidden) continue;
    assert.ok(action.operation.sample.id, `${label} has a sample`);
    const fields = (action.operation.inputFields as any[]).filter((field) => typeof field !== "function");
    for (const field of fields) {
      assert.match(field.label, /^[A-Z]/, `${label}: ${field.key}`);
      assert.equal(typeof field.required, "boolean", `${label}: ${field.key}`);
      assert.doesNotMatch(field.key, /api_?key|secret/i, "keys belong to the connection");
    }
    for (const field of (action.operation.outputFields as any[]).filter((one) => typeof one !== "function")) {
      const [top, ...below] = field.key.split("__");
      assert.ok(top in action.operation.sample, `${label}: the sample has ${field.key}`);
      const value = below.reduce((at: any, name: string) => at?.[name], action.operation.sample[top]);
      const types: Record<string, string> = { integer: "number", datetime: "string" };
      if (value !== undefined && value !== null && !field.list) {
        assert.equal(typeof value, types[field.type] ?? field.type, `${label}: ${field.key}`);
      }
    }
  }
});

