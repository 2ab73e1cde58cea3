// Leaves out what a form left empty, and reads the fields that hold JSON (their names end in ~json).
// Spillway holds a task's input to its schema, where null is a value of its own.
function withoutEmpty(value) {
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value !== 'object') return value;
  if (typeof value.toISOString === 'function') return value.toISOString();
  if (Array.isArray(value)) {
    const items = value.map((item) => iml.withoutEmpty(item)).filter((item) => item !== undefined);
    return items.length === 0 ? undefined : items;
  }
  const kept = {};
  Object.keys(value).forEach((key) => {
    const item = iml.withoutEmpty(value[key]);
    if (item === undefined) return;
    if (!key.endsWith('~json')) {
      kept[key] = item;
      return;
    }
    const name = key.slice(0, -5);
    if (typeof item !== 'string') {
      kept[name] = item;
      return;
    }
    try {
      kept[name] = JSON.parse(item);
    } catch (fault) {
      throw new Error(`The field ${name} is not JSON: ${fault.message}. Build it with JSON > Create JSON.`);
    }
  });
  return Object.keys(kept).length === 0 ? undefined : kept;
}
