it('leaves out what is empty and nothing else', () => {
  const input = { a: '', b: null, c: [], d: {}, e: [null, ''], f: 0, g: false, h: { i: '', j: 'x' }, k: ['', 'y'], 'l~json': '{' };
  assert.deepStrictEqual(withoutEmpty(input), { f: 0, g: false, h: { j: 'x' }, k: ['y'], 'l~json': '{' });
});

it('gives nothing for nothing', () => {
  assert.strictEqual(withoutEmpty({ a: { b: '' } }), undefined);
});

it('writes dates as Spillway reads them', () => {
  assert.strictEqual(withoutEmpty(new Date(0)), '1970-01-01T00:00:00.000Z');
});
