// The shapes of a custom app's files and of a scenario's blueprint, written down from Make's
// documentation as far as our files use them: what is not here is refused.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { ROOT } from "../platforms/service.ts";

/** Installed by `make`, below `target`. */
export const { Ajv2020 } = createRequire(join(ROOT, "target/make-app/package.json"))("ajv/dist/2020.js");

const iml = { type: "string", pattern: "\\{\\{.+\\}\\}" };
const text = (most: number) => ({ type: "string", minLength: 1, maxLength: most });
const closed = (properties: object, required: string[] = []) => ({ type: "object", properties, required, additionalProperties: false });
const list = (items: object) => ({ type: "array", items });
const scalar = { type: ["string", "number", "boolean", "null"] };
const any = {};
const flat = { type: "object", additionalProperties: { anyOf: [scalar, list(scalar)] } };

export const ERROR_TYPES = [
  "RuntimeError",
  "DataError",
  "RateLimitError",
  "OutOfSpaceError",
  "ConnectionError",
  "InvalidConfigurationError",
  "InvalidAccessTokenError",
  "IncompleteDataError",
  "DuplicateDataError",
];
const one = closed({ message: text(1024), type: { enum: ERROR_TYPES } }, ["message"]);
const error = {
  type: "object",
  properties: one.properties,
  patternProperties: { "^[45][0-9][0-9]$": one },
  required: ["message"],
  additionalProperties: false,
};
const kind = { enum: ["automatic", "json", "urlencoded", "text", "raw", "string", "binary", "xml"] };
const type = { anyOf: [kind, { type: "object", patternProperties: { "^(\\*|\\d{3}(-\\d{3})?)$": kind }, additionalProperties: false }] };
const log = closed({ sanitize: list({ type: "string", pattern: "^(request|response)\\.(headers|qs|body)(\\.\\w+)*$" }) }, ["sanitize"]);
const respond = closed({ type: { enum: ["json", "urlencoded", "text"] }, status: { type: "integer", minimum: 100, maximum: 599 }, headers: flat, body: any });

const response = {
  type,
  error,
  valid: { anyOf: [iml, closed({ condition: iml, message: text(1024), type: { enum: ERROR_TYPES } }, ["condition", "message", "type"])] },
  limit: { type: ["integer", "string"] },
  iterate: { ...iml, maxLength: 512 },
  output: any,
  data: { type: "object" },
  metadata: closed({ type: { enum: ["text", "email"] }, value: text(512) }, ["type", "value"]),
};
const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
const request = {
  url: text(512),
  encodeUrl: { const: false },
  method: { anyOf: [{ enum: methods }, iml] },
  headers: flat,
  qs: flat,
  body: any,
  type: { enum: ["json", "urlencoded", "multipart/form-data", "text", "string", "raw", "binary"] },
  pagination: closed({ qs: flat, condition: iml }, ["condition"]),
  response: closed(response),
  log,
};

/** A module's, an RPC's, an attach's or a detach's request. A body is a must for what has one. */
export const COMMUNICATION = {
  ...closed(request, ["url", "method"]),
  if: { properties: { method: { enum: ["POST", "PUT", "PATCH"] } } },
  then: { required: ["body"] },
};
export const NO_REQUEST = closed({});
export const CONNECTION = closed(request, ["url", "headers", "response", "log"]);
export const BASE = closed({ baseUrl: iml, headers: flat, response: closed(response, ["error"]), log }, ["baseUrl", "headers", "response", "log"]);
export const WEBHOOK = closed({ verification: closed({ condition: iml, respond }, ["condition", "respond"]), respond, condition: iml, output: any });
export const GROUPS = list(closed({ label: text(256), modules: list({ type: "string" }) }, ["label", "modules"]));
export const OBJECT = { type: "object" };

const TYPES = "any array boolean buffer collection date email integer json number password select text timestamp uinteger url uuid".split(" ");
const rpc = { type: "string", pattern: "^rpc://[a-zA-Z][0-9a-zA-Z]{2,63}$" };
const parameters = { $ref: "#/$defs/parameters" };
const nested = { anyOf: [rpc, parameters] };
const option = closed({ label: text(256), value: scalar, nested }, ["label", "value"]);
const limits = closed({ min: { type: "number" }, max: { type: "number" }, pattern: { type: "string", format: "regex" } });
const counts = closed({ minItems: { type: "integer" }, maxItems: { type: "integer" } });
const parameter = {
  ...closed(
    {
      name: text(128),
      type: { enum: TYPES },
      label: text(256),
      help: text(2000),
      required: { type: "boolean" },
      advanced: { type: "boolean" },
      multiline: { type: "boolean" },
      multiple: { type: "boolean" },
      default: any,
      labels: closed({ add: text(64) }),
      mappable: { type: "boolean" },
      options: { anyOf: [rpc, list(option), closed({ store: rpc, nested }, ["store"])] },
      spec: { anyOf: [{ $ref: "#/$defs/parameter" }, parameters] },
      validate: any,
    },
    ["type"],
  ),
  allOf: [
    { if: { properties: { type: { const: "select" } } }, then: { required: ["options"] }, else: { properties: { options: false, multiple: false } } },
    { if: { properties: { type: { enum: ["array"] } } }, then: { required: ["spec"], properties: { validate: counts } }, else: { properties: { validate: limits } } },
    { if: { properties: { type: { const: "collection" } } }, then: { required: ["spec"] } },
    { if: { properties: { type: { enum: ["array", "collection"] } } }, else: { properties: { spec: false } } },
    { if: { properties: { type: { const: "text" } } }, else: { properties: { multiline: false } } },
  ],
};

/** Fields to fill in or to map from. Those of a list have names; an array's items may have none. */
export const PARAMETERS = {
  $defs: { parameter, parameters: list({ anyOf: [rpc, { allOf: [{ $ref: "#/$defs/parameter" }], required: ["name", "label"] }] }) },
  ...parameters,
};

const path = { type: "string", pattern: "^[a-zA-Z0-9/-]+(\\.[a-z-]+)+$" };
const files = (...names: string[]) => closed(Object.fromEntries(names.map((name) => [name, path])), names);
const components = (id: string, shape: object) => ({ type: "object", propertyNames: { pattern: id }, additionalProperties: shape });
const ID = "^[a-zA-Z][0-9a-zA-Z]{2,63}$";
const label = text(64);
const module = (moduleType: object, code: object, more: object, required: string[]) =>
  closed({ label, description: { type: "string", pattern: "\\.$" }, moduleType, codeFiles: code, ...more }, ["label", "description", "moduleType", "codeFiles", ...required]);
const all = files("communication", "mappableParams", "interface", "samples");
const connection = { connection: { const: "spillway" } };

export const MANIFEST = closed(
  {
    fileVersion: { const: 1 },
    generalCodeFiles: files("base", "common", "readme", "groups"),
    components: closed(
      {
        connection: components(ID, closed({ label, connectionType: { const: "basic" }, codeFiles: files("communication", "params") }, ["label", "connectionType", "codeFiles"])),
        webhook: components(ID, closed({ label, webhookType: { enum: ["web", "web-shared"] }, codeFiles: files("communication", "params", "attach", "detach"), ...connection }, ["label", "webhookType", "codeFiles", "connection"])),
        module: components(ID, {
          anyOf: [
            module({ const: "action" }, all, { actionCrud: { enum: ["create", "read", "update", "delete"] }, ...connection }, ["actionCrud", "connection"]),
            module({ enum: ["search", "universal"] }, all, connection, ["connection"]),
            module({ const: "instant_trigger" }, files("communication", "interface", "samples"), { webhook: { type: "string" } }, ["webhook"]),
          ],
        }),
        rpc: components(ID, closed({ label, codeFiles: files("communication"), ...connection }, ["label", "codeFiles", "connection"])),
        function: components("^[a-zA-Z][0-9a-zA-Z]{1,94}[0-9a-zA-Z]$", closed({ codeFiles: files("code", "test") }, ["codeFiles"])),
        endpoint: closed({}),
      },
      ["connection", "webhook", "module", "rpc", "function", "endpoint"],
    ),
    // Whose app on which of Make's servers: each who deploys it adds their own.
    origins: { const: [] },
  },
  ["fileVersion", "generalCodeFiles", "components", "origins"],
);

const condition = closed({ a: { type: "string" }, o: { enum: ["text:equal", "text:notequal", "exist", "notexist"] }, b: { type: "string" } }, ["a", "o"]);
const nodes = list({ $ref: "#/$defs/node" });
const node = closed(
  {
    id: { type: "integer", minimum: 1 },
    module: { type: "string", pattern: "^[a-z0-9-]+:[A-Z]?[a-zA-Z]+$" },
    version: { type: "integer", minimum: 1 },
    // Nothing here: connections and webhooks are chosen after the import.
    parameters: closed({ handleErrors: { type: "boolean" }, useNewZLibDeCompress: { type: "boolean" } }),
    mapper: { type: ["object", "null"] },
    filter: closed({ name: text(64), conditions: list({ ...list(condition), minItems: 1 }) }, ["name", "conditions"]),
    routes: list(closed({ flow: nodes }, ["flow"])),
    onerror: nodes,
    metadata: closed(
      {
        designer: closed({ x: { type: "integer" }, y: { type: "integer" }, name: text(64) }, ["x", "y"]),
        // What is chosen after the import, such as a key of the keychain.
        parameters: list(closed({ name: text(64), type: { type: "string", pattern: "^keychain:[a-z]+$" }, label: text(64), required: { const: true } }, ["name", "type", "label", "required"])),
      },
      ["designer"],
    ),
  },
  ["id", "module", "version", "metadata"],
);
const flag = { type: "boolean" };
export const BLUEPRINT = {
  $defs: { node },
  ...closed(
    {
      name: text(120),
      flow: { ...nodes, minItems: 1 },
      metadata: closed(
        {
          instant: flag,
          version: { const: 1 },
          scenario: closed(
            { roundtrips: { type: "integer" }, maxErrors: { type: "integer" }, autoCommit: flag, autoCommitTriggerLast: flag, sequential: flag, confidential: flag, dataloss: flag, dlq: flag, freshVariables: flag },
            ["roundtrips", "maxErrors", "autoCommit", "autoCommitTriggerLast", "sequential", "confidential", "dataloss", "dlq", "freshVariables"],
          ),
          designer: closed({ orphans: list(any) }, ["orphans"]),
        },
        ["instant", "version", "scenario", "designer"],
      ),
    },
    ["name", "flow", "metadata"],
  ),
};

/** A check that says what does not fit. */
export function validator(schema: object): (value: unknown, what: string) => void {
  const check = new Ajv2020({ strict: false, validateFormats: false }).compile(schema);
  return (value, what) => {
    const faults = check(value) ? [] : check.errors.map(({ instancePath, message, params }: any) => `${instancePath} ${message} ${JSON.stringify(params)}`);
    assert.deepEqual(faults, [], what);
  };
}
