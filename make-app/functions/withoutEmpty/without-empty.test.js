it('leaves out what is empty and nothing else', () => {
  const input = { a: '', b: null, c: [], d: {}, e: [null, ''], f: 0, g: false, h: { i: '', j: 'x' } };
  assert.deepStrictEqual(withoutEmpty(input), { f: 0, g: false, h: { j: 'x' } });
});

it('gives nothing for nothing', () => {
  assert.strictEqual(withoutEmpty({ a: { b: '' } }), undefined);
});

it('reads fields of JSON', () => {
  assert.deepStrictEqual(withoutEmpty({ 'schema~json': '{"type":"object"}' }), { schema: { type: 'object' } }, 'text');
  assert.deepStrictEqual(withoutEmpty({ 'schema~json': { type: 'object' } }), { schema: { type: 'object' } }, 'mapped');
  assert.throws(() => withoutEmpty({ 'schema~json': '{"a": "b" c"}' }), /The field schema is not JSON/, 'broken');
});

it('writes dates as Spillway reads them', () => {
  assert.strictEqual(withoutEmpty(new Date(0)), '1970-01-01T00:00:00.000Z');
});
