it('sends the fields of a task', () => {
  const parameters = { task: 'tag', inputMode: 'fields', input: { text: 'a "b"\nc', labels: [], max_tags: 3 }, delivery: 'submit' };
  assert.deepStrictEqual(jobBody(parameters), { task: 'tag', input: { text: 'a "b"\nc', max_tags: 3 } });
});

it('sends an input without fields, where there are some', () => {
  const sent = (input) => jobBody({ task: 'own', inputMode: 'fields', input });
  assert.deepStrictEqual(sent({ note: '' }), { task: 'own', input: {} }, 'all empty');
  assert.deepStrictEqual(sent({ 'a~object': { b: null }, c: { d: '' } }), { task: 'own', input: { a: {} } }, 'a required one');
  assert.deepStrictEqual(sent(''), { task: 'own' }, 'no text');
  assert.deepStrictEqual(sent(undefined), { task: 'own' }, 'nothing');
});

it('sends text, and JSON', () => {
  assert.deepStrictEqual(jobBody({ task: 'tag', inputMode: 'text', inputText: 'hi' }), { task: 'tag', input: 'hi' }, 'text');
  assert.deepStrictEqual(jobBody({ task: 'tag', inputMode: 'json', inputJson: '{"text":"hi"}' }), { task: 'tag', input: { text: 'hi' } }, 'JSON');
  assert.deepStrictEqual(jobBody({ task: 'own', inputMode: 'fields', 'input~json': '[1]' }), { task: 'own', input: [1] }, 'a task without fields');
});

it('sends everything else', () => {
  const parameters = {
    task: 'tag', inputMode: 'text', inputText: 'hi', delivery: 'webhook', callbackUrl: 'https://hook.eu1.make.com/abc', webhookKey: 'k',
    workflow: 'w', session: 's', lane: 'batch', deliverBy: new Date(0), maxCostUsd: 0.5,
    metadata: [{ key: 'row', value: 17 }, { key: '', value: 1 }],
  };
  assert.deepStrictEqual(jobBody(parameters), {
    task: 'tag', workflow: 'w', session: 's', lane: 'batch', deliver_by: '1970-01-01T00:00:00.000Z', max_cost_usd: 0.5,
    metadata: { row: 17 }, callback_url: 'https://hook.eu1.make.com/abc',
    callback: { body: 'bare', headers: { 'x-make-apikey': 'k' } }, input: 'hi',
  });
});

it('gives metadata back as it came, whatever it is named', () => {
  const metadata = [{ key: 'note~json', value: '{' }, { key: '~others', value: 'x' }, { key: 'list', value: ['', 'a'] }, { key: 'empty', value: '' }];
  assert.deepStrictEqual(jobBody({ task: 'tag', inputMode: 'text', inputText: 'hi', metadata }), {
    task: 'tag', metadata: { 'note~json': '{', '~others': 'x', list: ['', 'a'] }, input: 'hi',
  });
});

it('sends no input of another mode', () => {
  const parameters = { task: 'tag', input: { text: 'fields' }, inputText: 'text', inputJson: '"JSON"' };
  const sent = (inputMode) => jobBody(Object.assign({ inputMode }, parameters)).input;
  assert.deepStrictEqual([sent('fields'), sent('text'), sent('json')], [{ text: 'fields' }, 'text', 'JSON']);
});
