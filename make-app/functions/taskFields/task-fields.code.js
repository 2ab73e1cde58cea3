// The field `input` (to be filled in) or `data` (to be mapped from) of one of the tasks of GET /v1/tasks.
function taskFields(tasks, name, side) {
  const task = (tasks || []).find((one) => one.name === name);
  if (side === 'output') {
    const schema = task && task.output_schema;
    return iml.schemaField('data', schema || {}, false, schema, false);
  }
  if (!task) return { name: 'input', type: 'text', label: 'Input', required: true, multiline: true };
  const schema = task.input_schema || { type: 'string' };
  return Object.assign(iml.schemaField('input', schema, true, schema, true), { label: 'Input' });
}
