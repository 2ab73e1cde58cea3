// Leaves out what a form left empty, and the empty items of lists whose order says nothing.
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
    if (item !== undefined) kept[key] = item;
  });
  return Object.keys(kept).length === 0 ? undefined : kept;
}
