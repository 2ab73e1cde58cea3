const field = (schema, editable = true) => schemaField('the_name', schema, false, schema, editable);

it('knows the simple types', () => {
  assert.deepStrictEqual(field({ type: 'integer', minimum: 1, maximum: 9 }), { name: 'the_name', label: 'The name', type: 'integer', validate: { min: 1, max: 9 } }, 'integer');
  assert.deepStrictEqual(field({ type: ['number', 'null'] }), { name: 'the_name', label: 'The name', type: 'number' }, 'number');
  assert.deepStrictEqual(field({ type: 'boolean', default: true }), { name: 'the_name', label: 'The name', type: 'boolean', default: true }, 'boolean');
  assert.deepStrictEqual(field({ type: 'string', format: 'date-time' }), { name: 'the_name', label: 'The name', type: 'date' }, 'date');
});

it('marks an object that is required within another', () => {
  const within = (required) => field({ type: 'object', required, properties: { a: { type: 'object', properties: { b: { type: 'string', maxLength: 9 } } } } });
  assert.strictEqual(within(['a']).name, 'the_name', 'not the outermost');
  assert.strictEqual(within(['a']).spec[0].name, 'a~object', 'required');
  assert.strictEqual(within([]).spec[0].name, 'a', 'optional');
});

it('offers choices to fill in and tells text to map from', () => {
  const schema = { type: 'string', enum: ['a', 'b'], description: 'One.' };
  assert.deepStrictEqual(field(schema), { name: 'the_name', label: 'The name', type: 'select', options: [{ label: 'a', value: 'a' }, { label: 'b', value: 'b' }], help: 'One.' }, 'in');
  assert.deepStrictEqual(field(schema, false), { name: 'the_name', label: 'The name', type: 'text' }, 'out');
});

it('has a field of JSON for what Make has none for', () => {
  assert.deepStrictEqual(field({ type: 'object', description: 'Anything.' }), { name: 'the_name~json', label: 'The name', multiline: true, type: 'text', help: 'Anything. As JSON.' }, 'in');
  assert.deepStrictEqual(field({ type: 'object' }, false), { name: 'the_name', label: 'The name', type: 'any' }, 'out');
});

it('keeps apart what a name ends with and what its end says', () => {
  const named = (name, schema, editable = true) => schemaField(name, schema, false, schema, editable).name;
  assert.strictEqual(named('a~json', { type: 'string' }), 'a~json~own', 'text');
  assert.strictEqual(named('a~json', { type: 'object' }), 'a~json~json', 'JSON');
  assert.strictEqual(named('a~own', { type: 'integer' }), 'a~own~own', 'own');
  assert.strictEqual(named('a~json', { type: 'string' }, false), 'a~json', 'out');
});

it('has a field for what a schema allows and does not name', () => {
  const further = { name: '~others', label: 'Further fields', type: 'text', multiline: true, help: 'What else is taken, as a JSON object such as `{"name": "value"}`.' };
  const properties = { a: { type: 'integer' } };
  const a = { name: 'a', label: 'A', type: 'integer' };
  assert.deepStrictEqual(field({ type: 'object', properties, additionalProperties: true }).spec, [a, further], 'anything');
  assert.deepStrictEqual(field({ type: 'object', properties, additionalProperties: { type: 'string' } }).spec, [a, further], 'texts');
  assert.deepStrictEqual(field({ type: 'array', items: { type: 'object', properties, additionalProperties: {} } }).spec, [a, further], 'in rows');
  assert.deepStrictEqual(field({ type: 'object', properties, additionalProperties: false }).spec, [a], 'nothing');
  assert.deepStrictEqual(field({ type: 'object', properties, additionalProperties: true }, false).spec, [a], 'out');
});
