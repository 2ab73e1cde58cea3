// A task's input out of the fields that schemaField made, without those left empty: Spillway holds it
// to the task's schema, where null is a value of its own. How a field's name ends says what it holds.
// An object that is `needed` is one even when nothing is in it.
function taskInput(value, needed = false) {
  if (value === undefined || value === null || value === '') return needed ? {} : undefined;
  if (typeof value !== 'object') return value;
  if (typeof value.toISOString === 'function') return value.toISOString();
  if (Array.isArray(value)) {
    const items = value.map((item) => iml.taskInput(item));
    const hasRows = value.some((item) => item && typeof item === 'object' && typeof item.toISOString !== 'function');
    if (!hasRows) {
      const filled = items.filter((item) => item !== undefined);
      return filled.length === 0 ? undefined : filled;
    }
    // An empty row keeps its place, so that no other moves; at the end it was added and never filled in.
    while (items.length > 0 && items[items.length - 1] === undefined) items.pop();
    const rows = items.map((item, at) => (item !== undefined ? item : Array.isArray(value[at]) ? [] : {}));
    return rows.length === 0 ? undefined : rows;
  }

  const json = (name, item) => {
    if (item === undefined || item === null) return undefined;
    if (typeof item !== 'string') return item;
    if (item.trim() === '') return undefined;
    let lost;
    const look = (key, one) => {
      // Larger ones are measures, no IDs: nobody minds their last digits.
      if (Number.isInteger(one) && !Number.isSafeInteger(one) && Math.abs(one) < 1e20) lost = one;
      return one;
    };
    let parsed;
    try {
      parsed = JSON.parse(item, look);
    } catch (fault) {
      throw new Error(`The field ${name} is not JSON: ${fault.message}. Build it with JSON > Create JSON.`);
    }
    if (lost === undefined) return parsed;
    throw new Error(`The field ${name} has a number near ${lost} that would lose digits. An ID is better a text in the task's input schema.`);
  };
  const kept = {};
  const keep = (name, item) => {
    if (item !== undefined) kept[name] = item;
  };
  const isRequired = (key) => key.endsWith('~object');
  Object.keys(value).forEach((key) => {
    if (key === '~others') return;
    if (key.endsWith('~json')) keep(key.slice(0, -5), json(key.slice(0, -5), value[key]));
    else if (key.endsWith('~own')) keep(key.slice(0, -4), iml.taskInput(value[key]));
    else if (isRequired(key)) keep(key.slice(0, -7), iml.taskInput(value[key]));
    else keep(key, iml.taskInput(value[key]));
  });
  const others = json('Further fields', value['~others']);
  if (others !== undefined && (others === null || typeof others !== 'object' || Array.isArray(others))) {
    throw new Error('The field Further fields must be a JSON object such as {"name": "value"}.');
  }
  Object.keys(others || {}).forEach((name) => {
    if (Object.prototype.hasOwnProperty.call(kept, name)) {
      throw new Error(`Further fields holds ${name}, which has a field of its own. Fill in that one.`);
    }
    kept[name] = others[name];
  });
  if (Object.keys(kept).length === 0 && !needed) return undefined;
  Object.keys(value).filter(isRequired).forEach((key) => {
    const name = key.slice(0, -7);
    if (!Object.prototype.hasOwnProperty.call(kept, name)) kept[name] = iml.taskInput(value[key], true);
  });
  return kept;
}
