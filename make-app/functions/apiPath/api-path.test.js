it('takes a path with and without its slash', () => {
  assert.strictEqual(apiPath('/v1/limits'), 'v1/limits', 'with');
  assert.strictEqual(apiPath('v1/jobs?limit=2'), 'v1/jobs?limit=2', 'without');
});

it('refuses other addresses', () => {
  const told = { message: 'Enter a path relative to the Spillway URL, such as /v1/limits, not a whole address.' };
  assert.throws(() => apiPath('https://elsewhere.example/v1/me'), told, 'whole');
  assert.throws(() => apiPath('//elsewhere.example/v1/me'), told, 'without a scheme');
  assert.throws(() => apiPath('/\\elsewhere.example'), told, 'with a backslash');
});
