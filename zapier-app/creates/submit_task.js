// Submits a job and goes on at once.

import { GROUPS, OPTION_FIELDS, submission, submit, submittedBefore, TASK_FIELD, taskInputs } from "../lib/submit.js";

async function perform(z, bundle) {
  const callback = bundle.inputData.callback_url;
  const posted = callback ? { callback_url: callback, callback: { body: "bare" } } : {};
  const { job, repeated } = await submit(z, bundle, await submission(z, bundle, posted));
  // A person at the editor may test twice.
  if (repeated && bundle.inputData.once_key && !bundle.meta?.isLoadingSample) throw submittedBefore(z, bundle, job.id);
  return job;
}

export default {
  key: "submit_task",
  noun: "Job",
  display: {
    label: "Submit Task",
    description: "Submits a language-model task and goes on at once, without its result.",
  },
  operation: {
    inputFieldGroups: GROUPS,
    inputFields: [
      TASK_FIELD,
      taskInputs,
      {
        key: "callback_url",
        label: "Callback URL",
        type: "string",
        required: false,
        group: "options",
        helpText:
          "Where the result is posted, such as a Catch Hook of Webhooks by Zapier. " +
          "A Zap that begins with Job Finished needs none.",
      },
      ...OPTION_FIELDS,
    ],
    perform,
    sample: {
      id: "job_0_01K0EXAMPLE",
      object: "job",
      status: "queued",
      status_url: "https://spillway.example.com/v1/jobs/job_0_01K0EXAMPLE",
      queue_position: 118,
      estimated_start_at: "2026-11-20T18:00:00Z",
      estimated_finish_at: "2026-11-20T18:00:02Z",
      estimated_cost_usd: 0.0004,
      warnings: [],
    },
    outputFields: [
      { key: "id", label: "Job ID", type: "string" },
      { key: "status", label: "Status", type: "string" },
      { key: "status_url", label: "Status URL", type: "string" },
      { key: "queue_position", label: "Queue Position", type: "integer" },
      { key: "estimated_start_at", label: "Estimated Start", type: "datetime" },
      { key: "estimated_finish_at", label: "Estimated Finish", type: "datetime" },
      { key: "estimated_cost_usd", label: "Estimated Cost in USD", type: "number" },
      { key: "warnings", label: "Warnings", type: "string", list: true },
    ],
  },
};
