// The reader of IML that the other tests stand on.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type Dialect, parse, render } from "./iml.ts";

const scope = { parameters: { a: 1, list: ["x", "y"], "odd name": 2, none: null }, body: { ok: false }, 1: { text: "hi" } };
const value = (template: string, dialect: Dialect = "app") => render(template, scope, { twice: (one) => one * 2 }, dialect);

suite("IML", () => {
  test("an expression alone keeps its type, among text it becomes text", () => {
    assert.deepEqual(value("{{parameters.list}}"), ["x", "y"]);
    assert.equal(value("a {{parameters.a}}{{parameters.none}} b"), "a 1 b");
    assert.equal(value("{{parameters.no.such.thing}}"), undefined);
  });

  test("operators bind as in JavaScript and compare strictly", () => {
    assert.equal(value("{{1 + 2 * 3 = 7}}"), true);
    assert.equal(value("{{parameters.a == '1' || body.ok != false && true}}"), false);
    assert.equal(value("{{!body.ok && (parameters.a - 1) = 0}}"), true);
  });

  test("lists begin at 1, odd names stand in backticks", () => {
    assert.equal(value("{{parameters.list[1]}}{{parameters.list[-1]}}"), "xy");
    assert.equal(value("{{parameters.`odd name`}}"), 2);
  });

  test("functions take commas in an app and semicolons in a scenario", () => {
    assert.equal(value("{{ifempty(parameters.none, twice(parameters.a))}}"), 2);
    assert.equal(value("{{if(1.text = 'hi'; 'yes'; 'no')}}", "scenario"), "yes");
    assert.throws(() => value("{{if(1.text; 2; 3)}}"), SyntaxError);
  });

  test("objects are spread, and rendered all through", () => {
    assert.deepEqual(render({ a: ["{{parameters.a}}"], "{{...}}": "{{body}}" }, scope), { a: [1], ok: false });
  });

  test("what is not known is refused", () => {
    for (const wrong of ["{{a", "a}}", "{{}}", "{{a b}}", "{{(a}}", "{{a.}}", "{{f(a}}", "{{a ~ b}}", "{{'a}}"]) {
      assert.throws(() => parse(wrong, "app"), SyntaxError, wrong);
    }
    assert.throws(() => value("{{elsewhere.a}}"), ReferenceError);
    assert.throws(() => value("{{upper('a')}}"), ReferenceError);
  });
});
