// What a person filled in, as the input a task takes. Zapier hands over texts where numbers, lists
// and objects are meant, and empty ones where nothing was filled in; the task's schema tells.

import { inputOf } from "./schema.js";

const PREFIX = "input__";

function isEmpty(value) {
  return value === undefined || value === null || (typeof value === "string" && value.trim() === "");
}

/** The task's input out of the step's fields; `task` is unknown when its name was mapped wrongly. */
export function readInput(z, inputData, task) {
  const { properties, text, conversation } = inputOf(task);
  const fields = {};
  for (const one of properties) {
    const value = valueOf(z, inputData, one.shape, PREFIX + one.name, one.name);
    if (value !== undefined) fields[one.name] = value;
  }
  if (conversation && !isEmpty(inputData.message)) {
    fields.messages = [...(fields.messages ?? []), { role: "user", content: String(inputData.message) }];
  }
  if (Object.keys(fields).length > 0) return fields;
  if (isEmpty(inputData.input)) {
    throw new z.errors.Error("The task's input is empty. Fill in what it should work on.", "NoInput", 400);
  }
  return !text && typeof inputData.input === "string" ? parsed(z, inputData.input, "Input") : inputData.input;
}

function valueOf(z, data, shape, key, name) {
  if (shape.kind === "object") return objectOf(z, data, shape, key, name);
  if (shape.kind === "rows") return rowsOf(z, data[key], shape, key, name);
  return cast(z, data[key], shape, name);
}

function objectOf(z, data, shape, key, name) {
  const entries = shape.properties
    .map((one) => [one.name, valueOf(z, data, one.shape, `${key}__${one.name}`, `${name} ${one.name}`)])
    .filter(([, value]) => value !== undefined);
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}

/** Line items: a list of objects whose keys are those of the child fields. */
function rowsOf(z, value, shape, key, name) {
  const rows = typeof value === "string" ? parsed(z, value, name) : value;
  if (isEmpty(rows)) return undefined;
  const made = [rows].flat().map((row) => {
    const plain = Object.fromEntries(
      Object.entries(row).map(([child, one]) => [child.startsWith(`${key}__`) ? child : `${key}__${child}`, one]),
    );
    return objectOf(z, plain, shape, key, name);
  });
  const filled = made.filter((row) => row !== undefined);
  return filled.length > 0 ? filled : undefined;
}

function cast(z, value, shape, name) {
  if (isEmpty(value)) return undefined;
  switch (shape.kind) {
    case "integer":
    case "number":
      return numeric(value);
    case "boolean":
      return { true: true, yes: true, 1: true, false: false, no: false, 0: false }[String(value).toLowerCase()] ?? value;
    case "list":
      return listOf(z, value, shape, name);
    case "map":
    case "json":
      return typeof value === "string" ? parsed(z, value, name) : value;
    default:
      return shape.types.includes("string") && typeof value !== "object" ? String(value) : value;
  }
}

/** A number written as text; what is none stays, so that Spillway says what is wrong with it. */
function numeric(value) {
  const number = typeof value === "string" ? Number(value.trim()) : value;
  return Number.isNaN(number) ? value : number;
}

function listOf(z, value, shape, name) {
  const written = typeof value === "string" && value.trim().startsWith("[") ? parsed(z, value, name) : value;
  const items = [written].flat().map((item) => cast(z, item, shape.item, name));
  const filled = items.filter((item) => item !== undefined);
  return filled.length > 0 ? filled : undefined;
}

function parsed(z, text, name) {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (fault) {
    const detail = `The field ${name} must be JSON: ${fault.message}.`;
    throw new z.errors.Error(detail, "NotJson", 400);
  }
}
