it('asks for everything', () => {
  assert.deepStrictEqual(subscriptionBody('https://hook.eu1.make.com/abc', {}), { url: 'https://hook.eu1.make.com/abc', name: 'Make' });
});

it('asks for some, with a token', () => {
  const parameters = { statuses: ['failed'], tasks: ['tag'], workflows: ['w', ''], token: 'sixteen-and-more' };
  assert.deepStrictEqual(subscriptionBody('https://hook.eu1.make.com/abc', parameters), {
    url: 'https://hook.eu1.make.com/abc', name: 'Make', statuses: ['failed'], tasks: ['tag'], workflows: ['w'],
    callback: { headers: { 'x-spillway-token': 'sixteen-and-more' } },
  });
});
