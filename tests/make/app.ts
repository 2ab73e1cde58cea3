// Plays Make for our custom app: reads its files, evaluates their IML, makes their requests. It does
// what Make's documentation says and is no proof of what Make itself does.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import vm from "node:vm";
import { BUILT_IN, type Functions, render, type Scope } from "./iml.ts";
import { ROOT } from "../platforms/service.ts";

export const APP = join(ROOT, "make-app");
export type Component = { label?: string; codeFiles: Record<string, string>; [key: string]: any };
type Kind = "connection" | "webhook" | "module" | "rpc" | "function" | "endpoint";

export const manifest: {
  generalCodeFiles: Record<string, string>;
  components: Record<Kind, Record<string, Component>>;
  origins: unknown[];
} = file("makecomapp.json");

export function text(path: string): string {
  return readFileSync(join(APP, path), "utf8");
}

export function file(path: string): any {
  return JSON.parse(text(path));
}

/** A code file of a component, such as ("module", "runTask", "communication"). */
export function code(kind: Kind, name: string, what: string): any {
  const path = manifest.components[kind][name]?.codeFiles[what];
  if (path === undefined) throw new Error(`${kind} ${name} has no ${what}`);
  return file(path);
}

/** The app's own functions: only JavaScript's built-ins and `iml`, as in Make. */
export function loadFunctions(): Functions {
  const iml: Functions = { ...BUILT_IN };
  const context = vm.createContext({ iml, Buffer });
  const own: Functions = {};
  for (const [name, { codeFiles }] of Object.entries(manifest.components.function)) {
    vm.runInContext(text(codeFiles.code!), context, { filename: codeFiles.code });
    iml[name] = own[name] = context[name];
  }
  return own;
}

/** What a module ends with when it does not end well. */
export class MakeError extends Error {
  readonly type: string;

  constructor(type: string, message: string) {
    super(message);
    this.type = type;
  }
}

const functions = loadFunctions();
const base = file(manifest.generalCodeFiles.base!);

/** JSON as it would travel; also makes plain objects of what the functions' context made. */
const plain = (value: unknown) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));

type Answer = { statusCode: number; headers: Scope; body: any };

function header(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value);
}

/** One request of a communication; headers and errors come from `parent` too. */
async function ask(request: any, parent: any, scope: Scope): Promise<Answer> {
  const made = (part: unknown) => plain(render(part ?? {}, scope, functions));
  const written: string = render(request.url, scope, functions);
  // Make encodes the whole address by itself, which what is encoded already must not be.
  const address = request.encodeUrl === false ? written : encodeURI(written);
  const url = new URL(address.startsWith("/") ? render(parent.baseUrl, scope, functions) + address : address);
  for (const [key, value] of Object.entries(made(request.qs))) url.searchParams.set(key, String(value));
  const headers = new Headers();
  for (const [key, value] of Object.entries({ ...made(parent.headers), ...made(request.headers) })) {
    const shown = header(value);
    if (shown !== undefined) headers.set(key, shown);
  }
  const method: string = render(request.method ?? "GET", scope, functions);
  const body = method === "GET" ? undefined : plain(render(request.body, scope, functions));
  const type = request.type ?? "json";
  if (!["json", "text"].includes(type)) throw new Error(`requests of type ${type} are not played here`);
  if (body !== undefined && type === "json") headers.set("content-type", "application/json");
  const sent = body === undefined || type === "text" ? body : JSON.stringify(body);
  const answer = await fetch(url, { method, headers, body: sent });
  const raw = await answer.text();
  return { statusCode: answer.status, headers: Object.fromEntries(answer.headers), body: parsed(raw, answer, parent, request) };
}

/** `response.type`: the narrowest that fits the status; `automatic` goes by the content type. */
function parsed(raw: string, answer: Response, parent: any, request: any): unknown {
  const types = request.response?.type ?? parent.response?.type ?? { "*": "automatic" };
  const fits = (range: string) => {
    const [from, to] = range.split("-").map(Number);
    return answer.status >= from! && answer.status <= (to ?? from!);
  };
  const type = typeof types === "string" ? types : types[Object.keys(types).find((range) => range !== "*" && fits(range)) ?? "*"];
  const json = type === "json" || (answer.headers.get("content-type") ?? "").startsWith("application/json");
  if (json && raw !== "") return JSON.parse(raw);
  return raw === "" ? undefined : raw;
}

function check({ statusCode, headers, body }: Answer, request: any, parent: any, scope: Scope): void {
  const inner = { ...scope, statusCode, headers, body };
  const error = { ...parent.response?.error, ...request.response?.error };
  // Without `valid` a response is valid below 400. With it the expression decides, and what it finds
  // invalid goes to `error`; we rely on that only where the expression itself reads the status.
  const { valid } = request.response ?? {};
  const decides = typeof valid === "string" && valid.includes("statusCode");
  if (decides ? !render(valid, inner, functions) : statusCode >= 400) {
    const own = { ...error, ...error[statusCode] };
    throw new MakeError(render(own.type ?? "RuntimeError", inner, functions), render(own.message, inner, functions));
  }
  if (!decides && valid !== undefined && !render(valid.condition, inner, functions)) {
    throw new MakeError(valid.type, render(valid.message, inner, functions));
  }
}

/** Runs a communication and gives its bundles. */
async function communicate(request: any, parent: any, scope: Scope): Promise<any[]> {
  if (Array.isArray(request)) throw new Error("several requests in one communication are not played here");
  const limit = request.response?.limit === undefined ? Infinity : Number(render(request.response.limit, scope, functions));
  const bundles: any[] = [];
  let next = request;
  for (;;) {
    const answer = await ask(next, parent, scope);
    check(answer, request, parent, scope);
    const inner: Scope = { ...scope, ...answer };
    const output = request.response?.output ?? "{{body}}";
    if (request.response?.iterate === undefined) return [plain(render(output, inner, functions))];
    for (const item of render(request.response.iterate, inner, functions)) {
      bundles.push(plain(render(output, { ...inner, item }, functions)));
      if (bundles.length >= limit) return bundles;
    }
    if (!request.pagination || !render(request.pagination.condition, inner, functions)) return bundles;
    const more = plain(render(request.pagination.qs, inner, functions));
    next = { ...request, qs: { ...request.qs, ...more } };
  }
}

/** The app with a connection of somebody's. */
export class Play {
  readonly connection: Scope;

  constructor(connection: Scope) {
    this.connection = connection;
  }

  #scope(parameters: Scope): Scope {
    return { parameters, connection: this.connection };
  }

  /** The test of a new connection; gives the label it gets. */
  async connect(): Promise<string> {
    const request = code("connection", "spillway", "communication");
    const scope = { parameters: this.connection };
    const answer = await ask(request, {}, scope);
    check(answer, request, {}, scope);
    return render(request.response.metadata.value, { ...scope, ...answer }, functions);
  }

  run(module: string, parameters: Scope): Promise<any[]> {
    return communicate(code("module", module, "communication"), base, this.#scope(parameters));
  }

  rpc(name: string, parameters: Scope): Promise<any[]> {
    return communicate(code("rpc", name, "communication"), base, this.#scope(parameters));
  }

  /** What Make keeps of a webhook after its creation. */
  async attach(parameters: Scope, url: string): Promise<Scope> {
    const request = code("webhook", "results", "attach");
    const scope = { ...this.#scope(parameters), webhook: { url } };
    const answer = await ask(request, base, scope);
    check(answer, request, base, scope);
    return { url, ...plain(render(request.response.data, { ...scope, ...answer }, functions)) };
  }

  async detach(parameters: Scope, webhook: Scope): Promise<void> {
    const request = code("webhook", "results", "detach");
    const scope = { ...this.#scope(parameters), webhook };
    check(await ask(request, base, scope), request, base, scope);
  }

  /** An incoming call of the webhook: the status Make answers with, and the bundle if there is one. */
  receive(parameters: Scope, headers: Scope, body: unknown): { status: number; bundle?: any } {
    const webhook = code("webhook", "results", "communication");
    const scope = { parameters, data: parameters, headers, body, query: {}, method: "POST" };
    if (render(webhook.verification.condition, scope, functions)) return { status: webhook.verification.respond.status };
    if (!render(webhook.condition, scope, functions)) return { status: 200 };
    return { status: 200, bundle: plain(render(webhook.output, scope, functions)) };
  }
}
