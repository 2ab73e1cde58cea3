const field = (schema, editable = true) => schemaField('the_name', schema, false, schema, editable);

it('knows the simple types', () => {
  assert.deepStrictEqual(field({ type: 'integer', minimum: 1, maximum: 9 }), { name: 'the_name', label: 'The name', type: 'integer', validate: { min: 1, max: 9 } }, 'integer');
  assert.deepStrictEqual(field({ type: ['number', 'null'] }), { name: 'the_name', label: 'The name', type: 'number' }, 'number');
  assert.deepStrictEqual(field({ type: 'boolean', default: true }), { name: 'the_name', label: 'The name', type: 'boolean', default: true }, 'boolean');
  assert.deepStrictEqual(field({ type: 'string', format: 'date-time' }), { name: 'the_name', label: 'The name', type: 'date' }, 'date');
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
