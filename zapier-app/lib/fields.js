// A task's schemas as Zapier's fields: what a person fills in, and what later steps can use.

import { FURTHER, inputOf, isSimple, keyOf, propertiesOf, shapeOf } from "./schema.js";

const MOST_HELP = 1000;

/** `max_words` as `Max Words`, as Zapier writes labels. */
function labelOf(name) {
  const words = name.replace(/([a-z])([A-Z])/g, "$1 $2").split(/[\s_.-]+/).filter(Boolean);
  return words.map((word) => word[0].toUpperCase() + word.slice(1)).join(" ") || name;
}

function help(...parts) {
  const text = parts.filter(Boolean).join(" ");
  if (text === "") return {};
  return { helpText: text.length > MOST_HELP ? `${text.slice(0, MOST_HELP - 1)}…` : text };
}

/** For a task whose name comes from an earlier step: nobody knows its fields yet. */
export const ANY_INPUT = {
  key: "input",
  label: "Input",
  type: "text",
  required: true,
  group: "task",
  helpText: "The text the task works on, or its input as JSON where it takes no plain text.",
};

/** The fields of a task's input, in Zapier's form. Their keys are `input__` and the path. */
export function inputFields(task) {
  const { properties, open, text, conversation } = inputOf(task);
  const about = { key: "about", type: "copy", ...help(task.description) };
  const fields = task.description ? [about] : [];
  if (conversation) {
    fields.push({ key: "message", label: "Message", type: "text", required: true, ...help("What the user says.") });
  } else if (properties.length === 0) {
    const kind = text ? { type: "text" } : { type: "json" };
    fields.push({ key: "input", label: "Input", ...kind, required: true, ...help(task.input_schema?.description) });
  }
  const asked = properties.map((one) => (conversation && one.name === "messages" ? earlier(one) : one));
  const made = asked.flatMap((one) => fieldsOf(one, "input", ""));
  // Required fields first: that is the order a person fills them in.
  fields.push(...made.filter((field) => field.required), ...made.filter((field) => !field.required));
  if (open) fields.push(further("input", ""));
  return fields.map((field) => ({ ...field, group: "task" }));
}

/** For the properties that a schema allows and does not name. */
function further(prefix, before) {
  const text = 'What else the task takes, as a JSON object such as {"name": "value"}.';
  return { key: `${prefix}__${FURTHER}`, label: `${before}Further Fields`, type: "json", required: false, ...help(text) };
}

/** With a message to fill in, the messages before it are an extra. */
function earlier(messages) {
  const shape = { ...messages.shape, description: "What was said before, as a JSON list of messages." };
  return { ...messages, required: false, shape };
}

function fieldsOf({ name, required, shape }, prefix, before) {
  const key = `${prefix}__${keyOf(name)}`;
  const label = before + labelOf(name);
  const base = { key, label, required, ...help(shape.description) };
  switch (shape.kind) {
    case "list":
      return [{ ...base, ...scalarType(shape.item), list: true }];
    case "rows": {
      // Zapier shows no help beside line items.
      const children = shape.properties.map((one) => fieldsOf(one, key, "")[0]);
      return [{ key, label, required, children: shape.open ? [...children, further(key, "")] : children }];
    }
    case "object": {
      const within = `${label} `;
      const named = shape.properties.flatMap((one) =>
        fieldsOf({ ...one, required: required && one.required }, key, within),
      );
      return shape.open ? [...named, further(key, within)] : named;
    }
    case "map":
      return [{ ...base, dict: true }];
    case "json":
      return [{ ...base, type: "json", ...help(shape.description, "Written as JSON.") }];
    default:
      return [{ ...base, ...scalarType(shape, required) }];
  }
}

function scalarType(shape, long = false) {
  const choices = shape.choices ? { choices: shape.choices } : {};
  switch (shape.kind) {
    case "integer":
    case "number":
    case "boolean":
    case "datetime":
      return { type: shape.kind, ...choices };
    case "choice":
      return { type: "string", ...choices };
    default:
      return { type: long && !(shape.schema.maxLength <= 200) ? "text" : "string" };
  }
}

/** The fields of what a task answers, below `data`. A task without an output schema answers text alone. */
export function outputFields(task) {
  const schema = task?.output_schema;
  if (!schema) return [];
  const made = propertiesOf(schema, schema).flatMap((one) => outputsOf(one, "data__", ""));
  // Zapier itself names `b` within `a` and a property `a__b` alike.
  return made.filter(({ key }, index) => made.findIndex((one) => one.key === key) === index);
}

function outputsOf({ name, shape }, prefix, before) {
  const key = prefix + name;
  const label = before + labelOf(name);
  if (shape.kind === "object") {
    return shape.properties.flatMap((one) => outputsOf(one, `${key}__`, `${label} `));
  }
  if (shape.kind === "rows") {
    return shape.properties.flatMap((one) => outputsOf(one, `${key}[]`, `${label} `));
  }
  // What a model answers is listed with its items, however deep those are.
  const items = shape.schema.items && shape.kind === "json" ? shapeOf(shape.schema, shape.schema.items, 1) : undefined;
  if (items?.kind === "object") {
    return items.properties.flatMap((one) => outputsOf(one, `${key}[]`, `${label} `));
  }
  if (shape.kind === "list") return [{ key, label, list: true, ...outputType(shape.item) }];
  return [{ key, label, ...(isSimple(shape) ? outputType(shape) : {}) }];
}

function outputType({ kind, any }) {
  if (any) return {};
  return { type: kind === "text" || kind === "choice" ? "string" : kind };
}
