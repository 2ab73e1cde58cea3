it('waits within the time Make gives a module', () => {
  assert.deepStrictEqual(jobHeaders({ delivery: 'wait', waitSeconds: 10 }), { prefer: 'wait=10' }, 'as asked');
  assert.deepStrictEqual(jobHeaders({ delivery: 'wait', waitSeconds: '300' }), { prefer: 'wait=30' }, 'mapped, too long');
  assert.deepStrictEqual(jobHeaders({ delivery: 'wait' }), { prefer: 'wait=25' }, 'not said');
});

it('does not wait otherwise', () => {
  assert.deepStrictEqual(jobHeaders({ delivery: 'webhook' }), {}, 'webhook');
  assert.deepStrictEqual(jobHeaders({ delivery: 'submit', waitSeconds: 20 }), {}, 'submit');
});

it('sends a key that a header can hold', () => {
  assert.deepStrictEqual(jobHeaders({ delivery: 'submit', idempotencyKey: ' invoice-17 ' }), { 'idempotency-key': 'invoice-17' }, 'plain');
  const hashed = jobHeaders({ delivery: 'submit', idempotencyKey: 'Müller "17"' })['idempotency-key'];
  assert.match(hashed, /^[0-9a-f]{64}$/, 'hashed');
  assert.strictEqual(jobHeaders({ delivery: 'submit', idempotencyKey: 'Müller "17"' })['idempotency-key'], hashed, 'the same again');
});
