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
  const metadata = {};
  (parameters.metadata || []).forEach((entry) => {
    if (entry && entry.key) metadata[entry.key] = entry.value;
  });
  body.metadata = metadata;
  if (parameters.delivery === 'webhook') {
    body.callback_url = parameters.callbackUrl;
    body.callback = { body: 'bare', headers: { 'x-make-apikey': parameters.webhookKey } };
  }
  if (parameters.inputMode === 'text') body.input = parameters.inputText;
  else if (parameters.inputMode === 'json') body['input~json'] = parameters.inputJson;
  else if (parameters['input~json'] !== undefined) body['input~json'] = parameters['input~json'];
  else body.input = parameters.input;
  return iml.withoutEmpty(body);
}
