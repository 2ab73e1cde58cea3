// The app's files: each has its shape, none is missing or left over, every expression can be read,
// every call is one the server has, and every output is described.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { APP, code, file, manifest } from "./app.ts";
import { BUILT_IN, mentioned, parse, templates } from "./iml.ts";
import * as shapes from "./shapes.ts";
import { BINARY, ROOT } from "../platforms/service.ts";

const { components, generalCodeFiles } = manifest;
const each = Object.entries(components).flatMap(([kind, of]) =>
  Object.entries(of).flatMap(([name, component]) =>
    Object.entries(component.codeFiles).map(([what, path]) => ({ kind, name, what, path })),
  ),
);
const json = each.filter(({ path }) => path.endsWith(".json"));

/** Which shape a code file has. */
function shape(kind: string, name: string, what: string): object {
  if (what === "communication") {
    if (kind === "connection") return shapes.CONNECTION;
    if (kind === "webhook") return shapes.WEBHOOK;
    return components.module[name]?.moduleType === "instant_trigger" ? shapes.NO_REQUEST : shapes.COMMUNICATION;
  }
  if (what === "attach" || what === "detach") return shapes.COMMUNICATION;
  if (what === "samples") return shapes.OBJECT;
  return shapes.PARAMETERS;
}

suite("shapes", () => {
  test("the manifest", () => shapes.validator(shapes.MANIFEST)(file("makecomapp.json"), "makecomapp.json"));
  test("the base", () => shapes.validator(shapes.BASE)(file(generalCodeFiles.base!), "base"));
  test("the groups", () => shapes.validator(shapes.GROUPS)(file(generalCodeFiles.groups!), "groups"));
  test("the common data, which holds no secret", () => assert.deepEqual(file(generalCodeFiles.common!), {}));
  for (const { kind, name, what, path } of json) {
    test(path, () => shapes.validator(shape(kind, name, what))(file(path), path));
  }
  test("notice what is wrong", () => {
    const refused = (schema: object, value: unknown) => assert.throws(() => shapes.validator(schema)(value, "wrong"));
    const request = code("module", "runTask", "communication");
    shapes.validator(shapes.COMMUNICATION)(request, "right");
    refused(shapes.COMMUNICATION, { ...request, method: "FETCH" });
    refused(shapes.COMMUNICATION, { ...request, body: undefined, respones: {} });
    refused(shapes.COMMUNICATION, { url: "/v1/jobs", method: "POST" });
    refused(shapes.PARAMETERS, [{ name: "a", label: "A", type: "string" }]);
    refused(shapes.PARAMETERS, [{ name: "a", label: "A", type: "select" }]);
    refused(shapes.PARAMETERS, [{ name: "a", label: "A", type: "collection", spec: [{ type: "text" }] }]);
    refused(shapes.MANIFEST, { ...file("makecomapp.json"), origins: [{ apikeyFile: "key" }] });
  });
});

test("every file is listed and every listed file exists", () => {
  const listed = [...Object.values(generalCodeFiles), ...each.map(({ path }) => path), "makecomapp.json"];
  const found = readdirSync(APP, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(APP.length + 1))
    .filter((path) => !path.startsWith("blueprints/"));
  assert.deepEqual(found.sort(), listed.sort());
});

test("files stand where Make's editor puts them", () => {
  const kebab = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  for (const { kind, name, path } of each) assert.ok(path.startsWith(`${kind}s/${name}/${kebab(name)}.`), path);
});

test("every module is in a group, once", () => {
  const grouped = file(generalCodeFiles.groups!).flatMap((group: any) => group.modules);
  assert.deepEqual(grouped.sort(), Object.keys(components.module).sort());
});

test("what a component refers to exists", () => {
  for (const { kind, name, path } of json) {
    const { webhook, connection } = components[kind as "module"][name]!;
    if (webhook) assert.ok(components.webhook[webhook], path);
    if (connection) assert.ok(components.connection[connection], path);
    for (const [, rpc] of JSON.stringify(file(path)).matchAll(/"rpc:\/\/(\w+)"/g)) assert.ok(components.rpc[rpc!], `${path}: ${rpc}`);
  }
});

// What Make's documentation says is there, by where the expression stands.
const EVERYWHERE = ["parameters", "connection"];
const ANSWERED = ["body", "headers", "statusCode", "item"];
const VARIABLES: Record<string, string[]> = { webhook: ["parameters", "body", "headers", "query", "method"], attach: ["webhook"], detach: ["webhook"] };

test("every expression is one of IML, of known functions and variables", () => {
  const paths = [{ kind: "base", what: "base", path: generalCodeFiles.base! }, ...json];
  let count = 0;
  for (const { kind, what, path } of paths) {
    for (const { at, text } of templates(file(path))) {
      const answered = /\/(response|pagination)\//.test(at);
      const names = kind === "webhook" && what === "communication" ? VARIABLES.webhook! : [...EVERYWHERE, ...(VARIABLES[what] ?? []), ...(answered ? ANSWERED : [])];
      for (const part of parse(text, "app")) {
        if (typeof part === "string") continue;
        count += 1;
        const found = mentioned(part);
        for (const call of found.calls) assert.ok(call in BUILT_IN || call in components.function, `${path}${at} calls ${call}`);
        for (const name of found.names) assert.ok(names.includes(name), `${path}${at} reads ${name}`);
      }
    }
  }
  assert.ok(count > 60, `only ${count} expressions were found`);
});

test("expressions read the fields their module has", () => {
  for (const [name, { codeFiles }] of Object.entries(components.module)) {
    if (!codeFiles.mappableParams) continue;
    const fields = new Set([...JSON.stringify(file(codeFiles.mappableParams)).matchAll(/"name":"(\w+)"/g)].map(([, field]) => field));
    for (const { text } of templates(file(codeFiles.communication!))) {
      for (const [, field] of text.matchAll(/parameters\.(\w+)/g)) assert.ok(fields.has(field), `${name} has no field ${field}`);
    }
  }
});

test("neither the key nor what protects a webhook reaches Make's log", () => {
  const sanitized = (path: string) => file(path).log.sanitize;
  for (const path of [generalCodeFiles.base!, components.connection.spillway!.codeFiles.communication!]) {
    assert.ok(sanitized(path).includes("request.headers.authorization"), path);
  }
  const run = sanitized(components.module.runTask!.codeFiles.communication!);
  for (const secret of ["request.headers.authorization", "request.body.callback", "request.body.callback_url"]) assert.ok(run.includes(secret), secret);
  const attach = sanitized(components.webhook.results!.codeFiles.attach!);
  for (const secret of ["request.headers.authorization", "request.body.callback", "response.body.secret"]) assert.ok(attach.includes(secret), secret);
});

const document = JSON.parse(execFileSync(BINARY, ["openapi"], { encoding: "utf8", maxBuffer: 1 << 26 }));

/** A template's path as the OpenAPI document writes it. */
const asDocumented = (url: string) => url.replace(/^\{\{parameters\.baseUrl\}\}/, "").replace(/\{\{[^}]+\}\}/g, "{id}");

suite("every call is one the server documents", () => {
  const requests = each.filter(({ kind, what }) => ["communication", "attach", "detach"].includes(what) && ["module", "rpc", "connection", "webhook"].includes(kind));
  for (const { name, path } of requests) {
    const { url, method, qs } = file(path);
    if (url === undefined || name === "makeApiCall") continue;
    test(`${method} ${url}`, () => {
      const operation = document.paths[asDocumented(url)]?.[method.toLowerCase()];
      assert.ok(operation, `${path}: ${method} ${asDocumented(url)} is not in the document`);
      const known = (operation.parameters ?? []).filter((one: any) => one.in === "query").map((one: any) => one.name);
      const sent = [...Object.keys(qs ?? {}), ...[...JSON.stringify(qs ?? {}).matchAll(/'(\w+)'/g)].map(([, one]) => one!)];
      for (const one of sent.filter((one) => one !== "{{...}}")) assert.ok(known.includes(one), `${path}: the query has no ${one}`);
    });
  }
});

suite("every output is described", () => {
  const result = JSON.parse(readFileSync(join(ROOT, "schemas/result.json"), "utf8"));
  const receipt = document.components.schemas.Receipt;
  const names = (fields: any[]) => fields.map((field) => (typeof field === "string" ? "data" : field.name)).sort();
  const resolved = (schema: any) => {
    const ref = [schema, ...(schema.anyOf ?? [])].find((one: any) => one.$ref)?.$ref;
    return ref ? result.$defs[ref.split("/").pop()] : schema;
  };

  /** A Make field for each of a schema's properties, and the other way round. */
  function agree(fields: any[], schema: any, at: string): void {
    assert.deepEqual(names(fields), Object.keys(schema.properties).sort(), at);
    for (const field of fields) {
      if (typeof field === "string") continue;
      const property = resolved(schema.properties[field.name]);
      if (field.type === "collection") agree(field.spec, property, `${at}.${field.name}`);
      if (field.type === "array") agree(field.spec, resolved(property.items), `${at}.${field.name}`);
      const type = [].concat(property.type ?? []).find((one) => one !== "null");
      const expected = { boolean: ["boolean"], integer: ["uinteger"], number: ["number"], string: property.format === "date-time" ? ["date"] : ["text"], array: ["array"], object: ["collection"] }[type ?? ""];
      if (property.enum || property.oneOf) assert.equal(field.type, "text", `${at}.${field.name}`);
      else assert.ok((expected ?? ["any"]).includes(field.type), `${at}.${field.name} is ${type}, not ${field.type}`);
    }
  }

  for (const module of ["getJob", "cancelJob", "replayJob", "listJobs"]) {
    test(module, () => agree(code("module", module, "interface"), result, module));
  }
  test("runTask gives a result or a receipt", () => {
    const both = [...new Set([...Object.keys(result.properties), ...Object.keys(receipt.properties)])].sort();
    assert.deepEqual(names(code("module", "runTask", "interface")), both);
  });
  test("watchResults gives a result and its delivery", () => {
    const [delivery, event, ...rest] = code("module", "watchResults", "interface");
    assert.deepEqual([delivery.name, event.name], ["delivery_id", "event"]);
    agree(rest, result, "watchResults");
  });
  for (const [name, { codeFiles }] of Object.entries(components.module)) {
    test(`the sample of ${name} has described fields`, () => {
      const known = names(file(codeFiles.interface!));
      for (const key of Object.keys(file(codeFiles.samples!))) assert.ok(known.includes(key), key);
    });
  }
});
