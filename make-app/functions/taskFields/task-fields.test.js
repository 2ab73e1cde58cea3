const tasks = [
  {
    name: 'tag',
    input_schema: { type: ['string', 'object'], properties: { text: { type: 'string', maxLength: 80 }, max_tags: { type: 'integer', minimum: 1 } }, required: ['text'] },
    output_schema: { type: 'object', properties: { tags: { type: 'array', items: { type: 'string' } } } },
  },
  { name: 'chat', input_schema: null, output_schema: null },
];

it('offers the fields of the input', () => {
  assert.deepStrictEqual(taskFields(tasks, 'tag', 'input'), {
    name: 'input', label: 'Input', type: 'collection', required: true,
    spec: [
      { name: 'text', label: 'Text', type: 'text', required: true, validate: { max: 80 } },
      { name: 'max_tags', label: 'Max tags', type: 'integer', validate: { min: 1 } },
    ],
  });
});

it('tells the fields of the answer', () => {
  assert.deepStrictEqual(taskFields(tasks, 'tag', 'output'), {
    name: 'data', label: 'Data', type: 'collection', spec: [{ name: 'tags', label: 'Tags', type: 'array', spec: { type: 'text' } }],
  });
});

it('takes text where nothing is known', () => {
  const text = { name: 'input', type: 'text', label: 'Input', required: true, multiline: true };
  assert.deepStrictEqual(taskFields(tasks, 'chat', 'input'), text, 'no schema');
  assert.deepStrictEqual(taskFields(tasks, undefined, 'input'), text, 'no task');
  assert.deepStrictEqual(taskFields(tasks, 'chat', 'output'), { name: 'data', label: 'Data', type: 'any' }, 'no output schema');
});
