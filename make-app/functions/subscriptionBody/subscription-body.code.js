// The body of POST /v1/subscriptions: which results go to this webhook, and the token that shows they are ours.
function subscriptionBody(url, parameters) {
  return iml.withoutEmpty({
    url,
    name: 'Make',
    statuses: parameters.statuses,
    tasks: parameters.tasks,
    workflows: parameters.workflows,
    callback: { headers: { 'x-spillway-token': parameters.token } },
  });
}
