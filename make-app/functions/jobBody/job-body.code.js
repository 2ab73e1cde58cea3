// The body of POST /v1/jobs out of the module's fields.
function jobBody(parameters) {
  const body = {
    task: parameters.task,
    workflow: parameters.workflow,
    session: parameters.session,
    lane: parameters.lane,
    deliver_by: parameters.deliverBy,
    max_cost_usd: parameters.maxCostUsd,
  };
  if (parameters.delivery === 'webhook') {
    body.callback_url = parameters.callbackUrl;
    body.callback = { body: 'bare', headers: { 'x-make-apikey': parameters.webhookKey } };
  }
  const metadata = {};
  (parameters.metadata || []).forEach((entry) => {
    const isEmpty = !entry || !entry.key || entry.value === undefined || entry.value === null || entry.value === '';
    if (!isEmpty) metadata[entry.key] = entry.value;
  });
  const { input } = parameters;
  const isObject = input && typeof input === 'object' && !Array.isArray(input) && typeof input.toISOString !== 'function';
  // A task whose fields are all optional takes an object without any.
  let given = isObject ? { 'input~object': input } : { input, 'input~json': parameters['input~json'] };
  if (parameters.inputMode === 'text') given = { input: parameters.inputText };
  else if (parameters.inputMode === 'json') given = { 'input~json': parameters.inputJson };
  return Object.assign(
    iml.withoutEmpty(body),
    Object.keys(metadata).length > 0 ? { metadata } : {},
    iml.taskInput(given, true),
  );
}
