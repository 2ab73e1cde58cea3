// What a task's JSON Schema says, in the few words that a form needs.

/** Follows a reference within the schema's own document. */
function resolved(root, schema, depth = 0) {
  const reference = schema?.$ref;
  if (typeof reference !== "string" || !reference.startsWith("#/") || depth > 8) return schema ?? {};
  const path = reference.slice(2).split("/");
  const step = (at, part) => at?.[part.replaceAll("~1", "/").replaceAll("~0", "~")];
  return resolved(root, { ...path.reduce(step, root), ...without(schema, "$ref") }, depth + 1);
}

function without(schema, name) {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== name));
}

/** The types a value may have; none named means any. */
function typesOf(root, schema) {
  if (schema.type !== undefined) return [schema.type].flat();
  if (schema.enum) return [...new Set(schema.enum.map(typeOf))];
  if (schema.const !== undefined) return [typeOf(schema.const)];
  const branches = schema.anyOf ?? schema.oneOf;
  if (branches) return branches.flatMap((branch) => typesOf(root, resolved(root, branch)));
  return schema.properties ? ["object"] : [];
}

function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

/** How deep objects become fields of their own; what lies deeper is one field of JSON. */
const DEEPEST = 3;

/**
 * What kind of field a schema makes: `text`, `choice`, `integer`, `number`, `boolean`, `datetime`,
 * `list` (of `item`s), `rows` (objects of simple values), `object`, `map` (of texts) or `json`.
 */
export function shapeOf(root, given, depth = 0) {
  const schema = resolved(root, given);
  const types = typesOf(root, schema).filter((type) => type !== "null");
  const has = (type) => types.includes(type);
  const shape = { schema, description: schema.description, types };
  if (has("array")) {
    const item = shapeOf(root, schema.items, depth + 1);
    if (isSimple(item)) return { ...shape, kind: "list", item };
    if (item.kind === "object" && !has("string") && item.properties.every((one) => isSimple(one.shape))) {
      return { ...shape, kind: "rows", properties: item.properties, open: item.open };
    }
    if (!has("string")) return { ...shape, kind: "json" };
  }
  if (has("string")) return { ...shape, kind: kindOfText(root, schema), choices: choicesOf(root, schema) };
  const scalar = scalarOf(types);
  if (scalar) return { ...shape, kind: scalar, choices: choicesOf(root, schema) };
  if (types.length === 0 && depth > 0) return { ...shape, kind: "text", any: true };
  const properties = depth > DEEPEST ? [] : propertiesOf(root, schema, depth);
  if (properties.length > 0) return { ...shape, kind: "object", properties, open: isOpen(schema) };
  const values = schema.additionalProperties;
  const texts = typeof values === "object" && resolved(root, values).type === "string";
  return { ...shape, kind: texts ? "map" : "json" };
}

function scalarOf(types) {
  if (types.length === 0) return undefined;
  if (types.every((type) => type === "integer")) return "integer";
  if (types.every((type) => type === "integer" || type === "number")) return "number";
  return types.every((type) => type === "boolean") ? "boolean" : undefined;
}

function kindOfText(root, schema) {
  if (choicesOf(root, schema)) return "choice";
  return schema.format === "date-time" ? "datetime" : "text";
}

function choicesOf(root, schema) {
  const branches = [schema, ...(schema.anyOf ?? schema.oneOf ?? [])].map((one) => resolved(root, one));
  const found = branches.find((branch) => Array.isArray(branch.enum) || branch.const !== undefined);
  const values = (found?.enum ?? [found?.const]).filter((one) => ["string", "number"].includes(typeof one));
  return values.length > 0 ? values.map(String) : undefined;
}

export function isSimple(shape) {
  return ["text", "choice", "integer", "number", "boolean", "datetime"].includes(shape.kind);
}

/** Whether a schema says that an object takes more than the properties it names. */
function isOpen({ additionalProperties }) {
  return additionalProperties === true || typeof additionalProperties === "object";
}

/**
 * A property's name as a part of a field's key. The parts are joined by `__`, and what could be
 * taken for that is written as its code: `a__b` is one property, not `b` within `a`.
 */
export function keyOf(name) {
  const special = /[^\p{L}\p{N}_]|(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])/gu;
  return name.replace(special, (letter) => `-${letter.codePointAt(0).toString(16)}-`);
}

/** The last part of the key of the field for all other properties; no name makes it. */
export const FURTHER = "-further";

/** The properties of an object: name, whether it is required, shape. */
export function propertiesOf(root, schema, depth = 0) {
  return Object.entries(schema.properties ?? {}).map(([name, property]) => ({
    name,
    required: (schema.required ?? []).includes(name),
    shape: shapeOf(root, property, depth + 1),
  }));
}

/** A task's input: its properties, whether it takes others, and whether a plain text does as well. */
export function inputOf(task) {
  const root = task?.input_schema ?? {};
  const schema = resolved(root, root);
  const types = typesOf(root, schema);
  const properties = propertiesOf(root, schema);
  const text = types.length === 0 || types.includes("string");
  const messages = properties.find((one) => one.name === "messages" && one.required);
  const items = messages && resolved(root, resolved(root, messages.shape.schema).items);
  // A conversation: a person at a form has one message, not a list of roles.
  const conversation = Boolean(items?.properties?.role && items.properties.content);
  return { properties, open: properties.length > 0 && isOpen(schema), text, conversation };
}
