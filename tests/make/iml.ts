// As much of Make's IML as our files use, after its documentation: what it does not know it refuses
// aloud. Custom apps separate arguments by commas, scenarios by semicolons.

import { createHash, createHmac } from "node:crypto";

export type Scope = Record<string, unknown>;
export type Functions = Record<string, (...args: any[]) => unknown>;
export type Dialect = "app" | "scenario";

type Node =
  | { kind: "value"; value: unknown }
  | { kind: "path"; base: Node | null; name: string }
  | { kind: "index"; base: Node; at: Node }
  | { kind: "call"; name: string; args: Node[] }
  | { kind: "not"; of: Node }
  | { kind: "binary"; operator: string; left: Node; right: Node };

type Token = { kind: "name" | "quoted" | "number" | "string" | "sign"; text: string };

/** Constants; `executionId` and the like are variables of the scope. */
const WORDS: Scope = { true: true, false: false, null: null, emptystring: "", emptyarray: [] };

const LEVELS = [["||"], ["&&"], ["=", "==", "===", "!=", "!=="], ["<", "<=", ">", ">="], ["+", "-"], ["*", "/", "%"]];

const empty = (value: unknown) => value === undefined || value === null || value === "";

/** The built-in functions our files call. */
export const BUILT_IN: Functions = {
  if: (condition, yes, no) => (condition ? yes : no),
  ifempty: (value, otherwise) => (empty(value) ? otherwise : value),
  pick: (object, ...keys) =>
    Object.fromEntries(keys.filter((key) => object?.[key] !== undefined).map((key) => [key, object[key]])),
  toCollection: (list, key, value) =>
    Object.fromEntries((list ?? []).map((entry: Scope) => [String(entry[key]), entry[value]])),
  encodeURL: (text) => encodeURIComponent(empty(text) ? "" : String(text)),
  sha256: (text, encoding = "hex", key) =>
    (key === undefined ? createHash("sha256") : createHmac("sha256", key)).update(String(text)).digest(encoding),
};

function tokens(source: string): Token[] {
  const found: Token[] = [];
  const pattern =
    /\s+|(?<name>[A-Za-z_]\w*)|(?<quoted>`[^`]*`)|(?<number>\d+(?:\.\d+(?![\w.]))?)|(?<string>'[^']*'|"[^"]*")|(?<sign>\|\||&&|[=!]==|[=!<>]=|[=<>!+\-*/%().,;[\]])/gy;
  while (pattern.lastIndex < source.length) {
    const at = pattern.lastIndex;
    const match = pattern.exec(source);
    if (!match) throw new SyntaxError(`IML: cannot read \`${source.slice(at)}\` in {{${source}}}`);
    for (const [kind, text] of Object.entries(match.groups!)) {
      if (text !== undefined) found.push({ kind: kind as Token["kind"], text });
    }
  }
  return found;
}

class Parser {
  readonly #source: string;
  readonly #tokens: Token[];
  readonly #separator: string;
  #at = 0;

  constructor(source: string, dialect: Dialect) {
    this.#source = source;
    this.#tokens = tokens(source);
    this.#separator = dialect === "app" ? "," : ";";
  }

  parse(): Node {
    const node = this.#binary(0);
    if (this.#at < this.#tokens.length) this.#fail(`unexpected \`${this.#tokens[this.#at]!.text}\``);
    return node;
  }

  #fail(what: string): never {
    throw new SyntaxError(`IML: ${what} in {{${this.#source}}}`);
  }

  #take(...signs: string[]): string | undefined {
    const token = this.#tokens[this.#at];
    if (token?.kind !== "sign" || !signs.includes(token.text)) return undefined;
    this.#at += 1;
    return token.text;
  }

  #expect(sign: string): void {
    if (this.#take(sign) === undefined) this.#fail(`\`${sign}\` is missing`);
  }

  #binary(level: number): Node {
    if (level === LEVELS.length) return this.#unary();
    let left = this.#binary(level + 1);
    for (;;) {
      const operator = this.#take(...LEVELS[level]!);
      if (operator === undefined) return left;
      left = { kind: "binary", operator, left, right: this.#binary(level + 1) };
    }
  }

  #unary(): Node {
    if (this.#take("!")) return { kind: "not", of: this.#unary() };
    if (this.#take("-")) return { kind: "binary", operator: "-", left: { kind: "value", value: 0 }, right: this.#unary() };
    return this.#postfix(this.#primary());
  }

  #primary(): Node {
    if (this.#take("(")) {
      const inner = this.#binary(0);
      this.#expect(")");
      return inner;
    }
    const token = this.#tokens[this.#at++];
    if (token === undefined) this.#fail("the expression ends too early");
    switch (token.kind) {
      case "string":
        return { kind: "value", value: token.text.slice(1, -1) };
      case "number":
        // A scenario's `1.text` is a field of what module 1 gave.
        if (this.#tokens[this.#at]?.text === ".") return { kind: "path", base: null, name: token.text };
        return { kind: "value", value: Number(token.text) };
      case "quoted":
        return { kind: "path", base: null, name: token.text.slice(1, -1) };
      case "name":
        if (this.#take("(")) return { kind: "call", name: token.text, args: this.#args() };
        if (Object.hasOwn(WORDS, token.text)) return { kind: "value", value: WORDS[token.text] };
        return { kind: "path", base: null, name: token.text };
      default:
        return this.#fail(`unexpected \`${token.text}\``);
    }
  }

  #args(): Node[] {
    const args: Node[] = [];
    if (this.#take(")")) return args;
    do args.push(this.#binary(0));
    while (this.#take(this.#separator));
    this.#expect(")");
    return args;
  }

  #postfix(node: Node): Node {
    for (;;) {
      if (this.#take(".")) {
        const token = this.#tokens[this.#at++];
        if (token === undefined || token.kind === "string" || token.kind === "sign") this.#fail("a name is missing");
        node = { kind: "path", base: node, name: token.kind === "quoted" ? token.text.slice(1, -1) : token.text };
      } else if (this.#take("[")) {
        node = { kind: "index", base: node, at: this.#binary(0) };
        this.#expect("]");
      } else return node;
    }
  }
}

/** The parts of a template: text, and expressions in {{ }}. */
export function parse(template: string, dialect: Dialect): (string | Node)[] {
  const parts: (string | Node)[] = [];
  let rest = template;
  while (rest !== "") {
    const start = rest.indexOf("{{");
    const plain = start < 0 ? rest : rest.slice(0, start);
    if (plain.includes("}}")) throw new SyntaxError(`IML: }} without {{ in ${template}`);
    if (plain !== "") parts.push(plain);
    if (start < 0) break;
    const end = rest.indexOf("}}", start);
    if (end < 0) throw new SyntaxError(`IML: {{ without }} in ${template}`);
    parts.push(new Parser(rest.slice(start + 2, end), dialect).parse());
    rest = rest.slice(end + 2);
  }
  return parts;
}

/** What an expression mentions: the functions it calls and the variables it begins with. */
export function mentioned(node: Node, found = { calls: new Set<string>(), names: new Set<string>() }) {
  switch (node.kind) {
    case "call":
      found.calls.add(node.name);
      for (const arg of node.args) mentioned(arg, found);
      break;
    case "path":
      if (node.base) mentioned(node.base, found);
      else found.names.add(node.name);
      break;
    case "index":
      mentioned(node.base, found);
      mentioned(node.at, found);
      break;
    case "not":
      mentioned(node.of, found);
      break;
    case "binary":
      mentioned(node.left, found);
      mentioned(node.right, found);
      break;
  }
  return found;
}

function property(base: unknown, name: string): unknown {
  if (base === undefined || base === null) return undefined;
  const object = base as Scope;
  if (Object.hasOwn(Object(object), name)) return object[name];
  return undefined;
}

function evaluate(node: Node, scope: Scope, functions: Functions): unknown {
  const run = (inner: Node) => evaluate(inner, scope, functions);
  switch (node.kind) {
    case "value":
      return node.value;
    case "path":
      if (node.base) return property(run(node.base), node.name);
      if (!Object.hasOwn(scope, node.name)) throw new ReferenceError(`IML: there is no variable ${node.name} here`);
      return scope[node.name];
    case "index": {
      const at = Number(run(node.at));
      return (run(node.base) as unknown[] | undefined)?.at(at > 0 ? at - 1 : at);
    }
    case "call": {
      const called = functions[node.name] ?? BUILT_IN[node.name];
      if (!called) throw new ReferenceError(`IML: the function ${node.name} is not known here`);
      return called(...node.args.map(run));
    }
    case "not":
      return !run(node.of);
    case "binary":
      return binary(node.operator, run(node.left) as any, run(node.right) as any);
  }
}

function binary(operator: string, left: any, right: any): unknown {
  switch (operator) {
    case "||": return left || right;
    case "&&": return left && right;
    case "=": case "==": case "===": return left === right;
    case "!=": case "!==": return left !== right;
    case "<": return left < right;
    case "<=": return left <= right;
    case ">": return left > right;
    case ">=": return left >= right;
    case "+": return left + right;
    case "-": return left - right;
    case "*": return left * right;
    case "/": return left / right;
    case "%": return left % right;
    default: throw new SyntaxError(`IML: unknown operator ${operator}`);
  }
}

/** A template's value: an expression alone keeps its type, among text it becomes text. */
export function render(template: unknown, scope: Scope, functions: Functions = {}, dialect: Dialect = "app"): any {
  if (typeof template === "string") {
    const parts = parse(template, dialect);
    const values = parts.map((part) => (typeof part === "string" ? part : evaluate(part, scope, functions)));
    if (values.length === 1) return values[0];
    return values.map((value) => (empty(value) ? "" : typeof value === "object" ? JSON.stringify(value) : String(value))).join("");
  }
  if (Array.isArray(template)) return template.map((item) => render(item, scope, functions, dialect));
  if (template === null || typeof template !== "object") return template;
  const made: Scope = {};
  for (const [key, value] of Object.entries(template)) {
    const rendered = render(value, scope, functions, dialect);
    if (key === "{{...}}") Object.assign(made, rendered);
    else made[key] = rendered;
  }
  return made;
}

/** Every template of a file, with where it stands. */
export function templates(file: unknown, at = ""): { at: string; text: string }[] {
  if (typeof file === "string") return file.includes("{{") || file.includes("}}") ? [{ at, text: file }] : [];
  if (file === null || typeof file !== "object") return [];
  return Object.entries(file).flatMap(([key, value]) => templates(value, `${at}/${key}`));
}
