// One of Make's fields out of a JSON Schema: to be filled in (`editable`) or to be mapped from.
// Names to be filled in may end in a word for taskInput: ~json holds what Make has no field for, ~others
// what the schema allows and does not name, ~object one that is sent even when all its fields are empty,
// and ~own is behind a name that itself ends like these.
function schemaField(name, schema, required, root, editable, depth = 0) {
  const resolve = (part) => {
    if (!part || typeof part !== 'object') return {};
    if (typeof part.$ref !== 'string') return part;
    const found = part.$ref.replace(/^#\/?/, '').split('/').filter(Boolean)
      .reduce((at, key) => at && at[key.replace(/~1/g, '/').replace(/~0/g, '~')], root);
    return Object.assign({}, found, part, { $ref: undefined });
  };
  const real = resolve(schema);
  const choices = (real.anyOf || real.oneOf || []).map(resolve).filter((one) => one.type !== 'null');
  const known = choices.length === 1 ? Object.assign({}, choices[0], real) : real;
  const types = [].concat(known.type || []).filter((type) => type !== 'null');
  const has = (type) => types.includes(type);
  const deep = depth >= 6;

  const words = name.replace(/_/g, ' ');
  const isOdd = editable && /~(json|others|object|own)$/.test(name);
  const field = { name: isOdd ? `${name}~own` : name, label: known.title && depth > 0 ? known.title : words.charAt(0).toUpperCase() + words.slice(1) };
  const describe = (type, more) => {
    const validate = {};
    const number = type === 'number' || type === 'integer';
    const min = number ? known.minimum : known.minLength > 1 ? known.minLength : undefined;
    const max = number ? known.maximum : known.maxLength;
    Object.assign(field, { type }, more);
    if (!editable) return field;
    if (known.description) field.help = known.description;
    if (required) field.required = true;
    if (known.default !== undefined && known.default !== null && typeof known.default !== 'object') field.default = known.default;
    if (type === 'array') {
      if (known.minItems > 0 && required) validate.minItems = known.minItems;
      if (known.maxItems !== undefined) validate.maxItems = known.maxItems;
    } else if (type !== 'collection' && type !== 'select') {
      if (min !== undefined) validate.min = min;
      if (max !== undefined) validate.max = max;
    }
    if (Object.keys(validate).length > 0) field.validate = validate;
    return field;
  };
  const asJson = () => {
    if (!editable) return describe('any');
    field.name = `${name}~json`;
    field.multiline = true;
    describe('text');
    field.help = `${known.description ? `${known.description} ` : ''}As JSON.`;
    return field;
  };
  const fields = (part) => {
    const named = Object.keys(part.properties)
      .map((key) => iml.schemaField(key, part.properties[key], (part.required || []).includes(key), root, editable, depth + 1));
    if (!editable || !part.additionalProperties) return named;
    const help = 'What else is taken, as a JSON object such as `{"name": "value"}`.';
    return named.concat({ name: '~others', label: 'Further fields', type: 'text', multiline: true, help });
  };

  const values = known.const !== undefined ? [known.const] : known.enum;
  if (values) {
    if (!editable) return describe('text');
    return describe('select', { options: values.filter((value) => value !== null).map((value) => ({ label: String(value), value })) });
  }
  if (has('object') && known.properties && !deep) {
    if (editable && required && depth > 0) field.name = `${name}~object`;
    return describe('collection', { spec: fields(known) });
  }
  if (has('array') && !deep) {
    const items = resolve(known.items);
    const kinds = [].concat(items.type || []);
    if (kinds.includes('object') && items.properties) return describe('array', { spec: fields(items) });
    const one = iml.schemaField('item', items, false, root, editable, depth + 1);
    if (kinds.length > 0 && !one.name.endsWith('~json') && one.type !== 'array') {
      const spec = Object.assign({}, one);
      delete spec.name;
      delete spec.label;
      return describe('array', { spec });
    }
    if (!has('string')) return asJson();
  }
  if (!editable && types.length > 1) return describe('any');
  if (has('boolean')) return describe('boolean');
  if (has('integer')) return describe('integer');
  if (has('number')) return describe('number');
  if (has('string')) {
    const formats = { 'date-time': 'date', email: 'email', uri: 'url', url: 'url' };
    if (formats[known.format]) return describe(formats[known.format]);
    return describe('text', editable && !(known.maxLength <= 120) ? { multiline: true } : {});
  }
  return asJson();
}
