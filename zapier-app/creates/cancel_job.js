import { call } from "../lib/api.js";
import { JOB_FIELDS, JOB_SAMPLE } from "../lib/result.js";

async function perform(z, bundle) {
  const path = `/v1/jobs/${encodeURIComponent(bundle.inputData.job_id)}`;
  return (await call(z, bundle, { method: "DELETE", path })).data;
}

export default {
  key: "cancel_job",
  noun: "Job",
  display: {
    label: "Cancel Job",
    description: "Withdraws a job that has not ended yet. Nothing more is spent on it.",
  },
  operation: {
    inputFields: [{ key: "job_id", label: "Job ID", type: "string", required: true }],
    perform,
    sample: { ...JOB_SAMPLE, status: "cancelled", ok: false, text: null, data: null, provider: null, model: null },
    outputFields: JOB_FIELDS,
  },
};
