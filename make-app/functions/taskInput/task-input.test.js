it('leaves out what is empty and nothing else', () => {
  const input = { a: '', b: null, c: [], d: {}, e: [null, ''], f: 0, g: false, h: { i: '', j: 'x' }, k: ['', 'x'], l: [{ m: '' }] };
  assert.deepStrictEqual(taskInput(input), { f: 0, g: false, h: { j: 'x' }, k: ['x'] });
  assert.strictEqual(taskInput({ a: { b: '' } }), undefined, 'nothing for nothing');
});

it('keeps every row in its place', () => {
  const row = (sku) => ({ sku, note: '' });
  assert.deepStrictEqual(taskInput([row('a'), row(''), null, row('d'), row('')]), [{ sku: 'a' }, {}, {}, { sku: 'd' }], 'of objects');
  assert.deepStrictEqual(taskInput([[], ['', 'b']]), [[], ['b']], 'of lists');
});

it('keeps a required object that is empty, within one that is there', () => {
  const input = (x, y) => ({ x, 'a~object': { y, 'b~object': { z: '' } } });
  assert.deepStrictEqual(taskInput(input('x')), { x: 'x', a: { b: {} } }, 'beside another field');
  assert.deepStrictEqual(taskInput(input('', 'y')), { a: { y: 'y', b: {} } }, 'beside one within');
  assert.strictEqual(taskInput(input('')), undefined, 'in none');
  assert.deepStrictEqual(taskInput(input(''), true), { a: { b: {} } }, 'in one that is needed');
  assert.deepStrictEqual(taskInput({ 'a~object': null, x: 1 }), { a: {}, x: 1 }, 'null');
  assert.deepStrictEqual(taskInput({ 'a~object~own': 'x' }), { 'a~object': 'x' }, 'a name of its own');
});

it('reads fields of JSON', () => {
  assert.deepStrictEqual(taskInput({ 'schema~json': '{"a":null,"b":[""]}' }), { schema: { a: null, b: [''] } }, 'text');
  assert.deepStrictEqual(taskInput({ 'schema~json': { a: null, b: [''] } }), { schema: { a: null, b: [''] } }, 'mapped');
  assert.strictEqual(taskInput({ 'schema~json': ' ', 'other~json': null }), undefined, 'empty');
  assert.throws(() => taskInput({ 'schema~json': '{"a": "b" c"}' }), /The field schema is not JSON.*Create JSON/, 'broken');
});

it('rounds no ID', () => {
  assert.throws(() => taskInput({ 'a~json': '{"ids":[9007199254740993]}' }), /The field a has a number near 9007199254740992/, 'refused');
  assert.deepStrictEqual(taskInput({ 'a~json': '[9007199254740991, "9007199254740993", 6e23, 0.1]' }), { a: [9007199254740991, '9007199254740993', 6e23, 0.1] }, 'taken');
});

it('knows a property whose own name ends like that', () => {
  const input = { 'a~json~own': '{', 'a~json~json': '[1]', 'b~own~own': 'x', '~others~own': 'y' };
  assert.deepStrictEqual(taskInput(input), { 'a~json': [1], 'b~own': 'x', '~others': 'y' });
});

it('puts further fields beside the others', () => {
  assert.deepStrictEqual(taskInput({ a: 1, '~others': '{"b":null}' }), { a: 1, b: null }, 'text');
  assert.deepStrictEqual(taskInput({ a: '', '~others': { a: 2 } }), { a: 2 }, 'mapped');
  assert.deepStrictEqual(taskInput({ a: 1, '~others': '' }), { a: 1 }, 'empty');
  assert.throws(() => taskInput({ '~others': '[1]' }), /must be a JSON object/, 'a list');
  assert.throws(() => taskInput({ '~others': 'null' }), /must be a JSON object/, 'null');
  assert.throws(() => taskInput({ a: 1, '~others': '{"a":2}' }), /holds a, which has a field of its own/, 'twice');
});

it('writes dates as Spillway reads them', () => {
  assert.strictEqual(taskInput(new Date(0)), '1970-01-01T00:00:00.000Z', 'one');
  assert.deepStrictEqual(taskInput([null, new Date(0)]), ['1970-01-01T00:00:00.000Z'], 'a list');
});
