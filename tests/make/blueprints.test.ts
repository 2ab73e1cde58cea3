// The scenarios: their shape, what they refer to, and the requests of the HTTP modules against the
// real server. None was imported into Make: that needs an account.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { APP, code, file, manifest, Play } from "./app.ts";
import { BUILT_IN, mentioned, parse, render, templates } from "./iml.ts";
import { BLUEPRINT, validator } from "./shapes.ts";
import { KEY, type Running, startService } from "../platforms/service.ts";

type Node = { id: number; module: string; parameters: any; mapper: any; filter?: any; routes?: { flow: Node[] }[]; onerror?: Node[] };
const names = readdirSync(join(APP, "blueprints")).sort();
const blueprint = (name: string): { flow: Node[]; metadata: any } => file(`blueprints/${name}`);

/** Every module, with those whose output it can use. */
function walk(flow: Node[], before: Node[] = []): { node: Node; before: Node[] }[] {
  return flow.flatMap((node, index) => {
    const sofar = [...before, ...flow.slice(0, index)];
    const inner = [...(node.routes ?? []).map((route) => route.flow), ...(node.onerror ? [node.onerror] : [])];
    return [{ node, before: sofar }, ...inner.flatMap((one) => walk(one, [...sofar, node]))];
  });
}

/** Modules of Make's own that we use, each with the version whose fields we know. */
const KNOWN: Record<string, number> = {
  "gateway:CustomWebHook": 1,
  "http:ActionSendDataAPIKeyAuth": 3,
  "builtin:BasicRouter": 1,
  "builtin:Break": 1,
  "util:SetVariables": 1,
};

assert.deepEqual(names, ["app-1-run.json", "app-2-watch.json", "http-1-submit.json", "http-2-receive.json"]);
for (const name of names) {
  suite(name, () => {
    const all = walk(blueprint(name).flow);

    test("has the shape of a blueprint", () => validator(BLUEPRINT)(blueprint(name), name));

    test("has modules that there are, each with an ID of its own", () => {
      assert.equal(new Set(all.map(({ node }) => node.id)).size, all.length);
      for (const { node } of all) {
        const own = node.module.match(/^spillway:(\w+)$/)?.[1];
        if (own) assert.ok(manifest.components.module[own], node.module);
        else assert.equal(KNOWN[node.module], (node as any).version, node.module);
      }
    });

    test("starts with a trigger, which is instant, and keeps what an error breaks", () => {
      const { flow, metadata } = blueprint(name);
      assert.ok(["gateway:CustomWebHook", "spillway:watchResults"].includes(flow[0]!.module));
      assert.equal(metadata.instant, true);
      assert.equal(metadata.scenario.dlq, all.some(({ node }) => node.module === "builtin:Break"));
    });

    test("holds no key: an exported scenario carries what stands in its modules", () => {
      assert.doesNotMatch(JSON.stringify(blueprint(name)), /bearer|authorization|api_key|\bsw_/i);
      for (const { node } of all.filter(({ node }) => node.module.startsWith("http:"))) {
        const [asked] = (node as any).metadata.parameters;
        assert.deepEqual([asked.name, asked.type, asked.required], ["auth", "keychain:apikeyauth", true]);
        assert.equal(node.parameters.auth, undefined, "a key of somebody's keychain is theirs");
      }
    });

    test("maps only from modules before", () => {
      for (const { node, before } of all) {
        for (const { at, text } of templates({ mapper: node.mapper, filter: node.filter })) {
          for (const part of parse(text, "scenario")) {
            if (typeof part === "string") continue;
            const found = mentioned(part);
            for (const call of found.calls) assert.ok(call in BUILT_IN, `${node.id}${at}`);
            for (const from of found.names) assert.ok(from === "executionId" || before.some(({ id }) => String(id) === from), `${node.id}${at}: ${from}`);
          }
        }
      }
    });

    test("fills in fields the app has, and all that it must", () => {
      for (const { node } of all) {
        const own = node.module.match(/^spillway:(\w+)$/)?.[1];
        if (!own || node.mapper === null || !manifest.components.module[own]!.codeFiles.mappableParams) continue;
        const { known, required } = fields(code("module", own, "mappableParams"), node.mapper);
        for (const key of Object.keys(node.mapper)) assert.ok(known.includes(key), `${own} has no field ${key}`);
        for (const key of required) assert.ok(node.mapper[key] !== undefined, `${own} needs ${key}`);
      }
    });
  });
}

/** The fields a module shows when it is filled in so. */
function fields(parameters: any[], mapper: any): { known: string[]; required: string[] } {
  const known: string[] = [];
  const required: string[] = [];
  for (const one of parameters) {
    known.push(one.name);
    if (one.required) required.push(one.name);
    const chosen = Array.isArray(one.options) ? one.options.find((option: any) => option.value === mapper[one.name]) : undefined;
    const nested = one.options?.nested ?? chosen?.nested;
    if (!Array.isArray(nested)) continue;
    const inner = fields(nested, mapper);
    known.push(...inner.known);
    required.push(...inner.required);
  }
  return { known, required };
}

// What breaks a JSON template.
const TEXT = 'He said "no",\r\nand left: 100 % & more = ü, 東京 + {"a": 1}';

suite("played", () => {
  let service: Running;
  before(async () => {
    service = await startService();
  });
  after(() => service.stop());

  /** Which way a bundle goes at a router. */
  function route(router: Node, scope: object): string[] {
    const holds = ({ a, o, b }: any) => {
      const [left, right] = [a, b].map((side) => render(side, scope as any, {}, "scenario"));
      return o === "text:equal" ? left === right : left !== right;
    };
    return router.routes!.filter(({ flow }) => flow[0]!.filter.conditions.some((all: any[]) => all.every(holds))).map(({ flow }) => flow[0]!.filter.name);
  }

  test("the HTTP module's form is taken whatever the text, and its result arrives", async () => {
    const hook = await new Promise<{ url: string; got: Promise<any>; close: () => void }>((resolve) => {
      let keep: (body: any) => void;
      const got = new Promise((taken) => (keep = taken));
      const server = createServer(async (request, response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk);
        response.end("Accepted");
        keep(JSON.parse(Buffer.concat(chunks).toString()));
      });
      server.listen(0, "127.0.0.1", () => resolve({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, got, close: () => server.close() }));
    });
    try {
      const request = blueprint("http-1-submit.json").flow[1]!.mapper;
      const placeholders: [string, string][] = [["https://SPILLWAY_HOST", service.url], ["https://hook.eu1.make.com/RESULTS_WEBHOOK", hook.url]];
      const scope = { 1: { text: TEXT, row: 17 }, executionId: "0f6a" };
      const value = (template: string) => {
        const filledIn = placeholders.reduce((text, [from, to]) => text.replace(from, to), template);
        return String(render(filledIn, scope, {}, "scenario"));
      };
      const send = () =>
        fetch(value(request.url), {
          method: request.method.toUpperCase(),
          // What the keychain adds, filled in as the README says.
          headers: [["Authorization", `Bearer ${KEY}`], ...request.headers.map(({ name, value: template }: any) => [name, value(template)])],
          body: new URLSearchParams(request.formFields.map(({ key, value: template }: any) => [key, value(template)])),
        });
      const answer = await send();
      const receipt = await answer.json();
      assert.equal(answer.status, 202, JSON.stringify(receipt));
      for (const warning of receipt.warnings) assert.doesNotMatch(warning, /not known|ignored/);
      const repeated = await (await send()).json();
      assert.equal(repeated.id, receipt.id, "a retry of the same execution does not pay twice");

      const result = await hook.got;
      assert.equal(result.id, receipt.id);
      assert.deepEqual(result.metadata, { row: "17" });
      assert.equal(result.workflow, "Spillway over HTTP");

      const [, router] = blueprint("http-2-receive.json").flow;
      assert.deepEqual(route(router!, { 1: result }), ["Succeeded"]);
      const { variables } = router!.routes![0]!.flow[0]!.mapper;
      const set = variables.map((one: any) => render(one.value, { 1: result } as any, {}, "scenario"));
      assert.deepEqual(set, [result.text, "17"]);
      assert.deepEqual(route(router!, { 1: { ...result, status: "failed" } }), ["Did not succeed"]);
      assert.deepEqual(route(router!, { 1: { ...result, status: "expired" } }), ["Did not succeed"]);
    } finally {
      hook.close();
    }
  });

  test("the app's module runs with what the scenario fills in", async () => {
    const [, module, router] = blueprint("app-1-run.json").flow;
    const filledIn = render(module!.mapper, { 1: { text: TEXT, row: 17 }, executionId: "0f6b" } as any, {}, "scenario");
    const [result] = await new Play({ baseUrl: service.url, apiKey: KEY }).run("runTask", filledIn);
    assert.equal(result.status, "succeeded");
    assert.deepEqual(result.metadata, { row: 17 });
    assert.deepEqual(route(router!, { 2: result }), ["Succeeded"]);
    assert.deepEqual(route(router!, { 2: { status: "queued" } }), [], "a job that takes longer is watched by the other scenario");
  });
});
