// What a person filled in, as the input a task takes. Zapier hands over texts where numbers, lists
// and objects are meant, and empty ones where nothing was filled in; the task's schema tells.

import { numberIn, parse, roundedIn } from "./exact.js";
import { FURTHER, inputOf, keyOf } from "./schema.js";

function isEmpty(value) {
  return value === undefined || value === null || (typeof value === "string" && value.trim() === "");
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !JSON.isRawJSON(value);
}

function refused(z, detail, code) {
  return new z.errors.Error(detail, code, 400);
}

/** The task's input out of the step's fields; `task` is unknown when its name was mapped wrongly. */
export function readInput(z, inputData, task) {
  const { text, conversation, ...shape } = inputOf(task);
  const said = conversation && !isEmpty(inputData.message);
  const fields = objectOf(z, inputData, shape, "input", "", said || (isEmpty(inputData.input) && mayBeEmpty(shape)));
  if (said) fields.messages = [...(fields.messages ?? []), { role: "user", content: String(inputData.message) }];
  if (fields) return fields;
  if (isEmpty(inputData.input)) {
    throw refused(z, "The task's input is empty. Fill in what it should work on.", "NoInput");
  }
  return text && typeof inputData.input === "string" ? inputData.input : jsonOf(z, inputData.input, "Input");
}

/** Whether a form that nothing was filled in is an input: it asks for nothing but objects. */
function mayBeEmpty({ properties }) {
  return properties.length > 0 && properties.every((one) => !one.required || one.shape.kind === "object");
}

/** What a required object is when nothing was filled in. Spillway says whether the task takes it. */
function emptyOf({ properties }) {
  const required = properties.filter((one) => one.required && one.shape.kind === "object");
  return Object.fromEntries(required.map((one) => [one.name, emptyOf(one.shape)]));
}

function valueOf(z, data, shape, key, name) {
  if (shape.kind === "object") return objectOf(z, data, shape, key, name);
  if (shape.kind === "rows") return rowsOf(z, data[key], shape, key, name);
  return cast(z, data[key], shape, name);
}

/** Without anything filled in there is no object, unless it is `needed`. */
function objectOf(z, data, { properties, open }, key, name, needed = false) {
  const label = (part) => `${name} ${part}`.trim();
  const named = properties.map((one) => [
    one.name,
    valueOf(z, data, one.shape, `${key}__${keyOf(one.name)}`, label(one.name)),
  ]);
  const others = open ? furtherOf(z, data[`${key}__${FURTHER}`], properties, label("Further Fields")) : [];
  const entries = [...named.filter(([, value]) => value !== undefined), ...others];
  return needed || entries.length > 0 ? { ...emptyOf({ properties }), ...Object.fromEntries(entries) } : undefined;
}

/** The properties that have no field of their own. */
function furtherOf(z, value, properties, name) {
  if (isEmpty(value)) return [];
  const others = jsonOf(z, value, name);
  if (!isObject(others)) {
    throw refused(z, `The field ${name} must be a JSON object such as {"name": "value"}.`, "NotAnObject");
  }
  const twice = properties.find((one) => Object.hasOwn(others, one.name));
  if (twice) {
    throw refused(z, `The field ${name} holds ${twice.name}, which has a field of its own. Fill in that one.`, "Twice");
  }
  return Object.entries(others);
}

/**
 * Line items: a list of objects whose keys are those of the child fields. A list of whole objects
 * has the properties' own names; what has no field there goes on as it is.
 */
function rowsOf(z, value, shape, key, name) {
  if (isEmpty(value)) return undefined;
  const rows = typeof value === "string" ? parsed(z, value, name) : value;
  const made = [rows].flat().map((row) => rowOf(z, row, shape, key, name));
  const filled = made.filter((row) => row !== undefined);
  return filled.length > 0 ? filled : undefined;
}

function rowOf(z, row, shape, key, name) {
  if (isEmpty(row)) return undefined;
  if (!isObject(row)) {
    const detail = `The line items of ${name} must be objects; ${JSON.stringify(row).slice(0, 60)} is none.`;
    throw refused(z, detail, "NotAnObject");
  }
  const keys = new Map(shape.properties.map((one) => [one.name, `${key}__${keyOf(one.name)}`]));
  const isField = (child) => keys.has(child) || child.startsWith(`${key}__`);
  const entries = Object.entries(row);
  const fields = Object.fromEntries(entries.map(([child, one]) => [keys.get(child) ?? child, one]));
  const others = entries.filter(([child, one]) => !isField(child) && !isEmpty(one));
  const made = objectOf(z, fields, shape, key, name, others.length > 0);
  return made && { ...Object.fromEntries(others), ...made };
}

function cast(z, value, shape, name) {
  if (isEmpty(value)) return undefined;
  if (JSON.isRawJSON(value)) return shape.types.includes("string") ? value.rawJSON : value;
  switch (shape.kind) {
    // What is no number stays, so that Spillway says what is wrong with it.
    case "integer":
      return typeof value === "string" ? (numberIn(value.trim()) ?? value) : unrounded(z, value, name);
    case "number":
      return typeof value === "string" ? (numberIn(value.trim()) ?? value) : value;
    case "boolean":
      return { true: true, yes: true, 1: true, false: false, no: false, 0: false }[String(value).toLowerCase()] ?? value;
    case "list":
      return listOf(z, value, shape, name);
    case "map":
    case "json":
      return jsonOf(z, value, name);
    default:
      return shape.types.includes("string") && typeof value !== "object" ? String(value) : value;
  }
}

function listOf(z, value, shape, name) {
  const items = [writtenList(value) ?? value].flat().map((item) => cast(z, item, shape.item, name));
  const filled = items.filter((item) => item !== undefined);
  return filled.length > 0 ? filled : undefined;
}

/** A list written as JSON. `[urgent] customer` is a text like any other. */
function writtenList(value) {
  if (typeof value !== "string" || !value.trim().startsWith("[")) return undefined;
  try {
    return parse(value);
  } catch {
    return undefined;
  }
}

/** JSON as a text, or as Zapier has read it. */
function jsonOf(z, value, name) {
  return typeof value === "string" ? parsed(z, value, name) : unrounded(z, value, name);
}

function parsed(z, text, name) {
  try {
    return parse(text);
  } catch (fault) {
    throw refused(z, `The field ${name} must be JSON: ${fault.message}.`, "NotJson");
  }
}

/** A number that came as one has lost its digits on the way: nobody can tell which it had. */
function unrounded(z, value, name) {
  const rounded = roundedIn(value);
  if (rounded === undefined) return value;
  const detail =
    `The field ${name} holds ${rounded}, a number too large to reach this app with all its digits. ` +
    "If it is an ID, let the task's input schema have a text there.";
  throw refused(z, detail, "Rounded");
}
