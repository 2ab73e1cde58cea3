// Numbers that JavaScript would round, such as an ID of 19 digits, kept as they are written.

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const WHOLE = /^[+-]?\d+$/;

/** Whether a whole number may have had other digits when it was written. */
function isRounded(value) {
  return Number.isInteger(value) && !Number.isSafeInteger(value);
}

/** `JSON.parse`; what it would round stays as it is written, and `JSON.stringify` writes it so. */
export function parse(text) {
  return JSON.parse(text, (_, value, { source }) => (isRounded(value) ? JSON.rawJSON(source) : value));
}

/** The number a text stands for; nothing where it is none. */
export function numberIn(text) {
  if (!NUMBER.test(text)) return undefined;
  const number = Number(text);
  if (isRounded(number) && WHOLE.test(text)) return JSON.rawJSON(String(BigInt(text)));
  return Number.isFinite(number) ? number : undefined;
}

/** The first number within a value that was a number already, and rounded, when it came here. */
export function roundedIn(value) {
  if (isRounded(value)) return value;
  if (typeof value !== "object" || value === null) return undefined;
  return Object.values(value).map(roundedIn).find((found) => found !== undefined);
}
