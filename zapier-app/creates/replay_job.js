import { call } from "../lib/api.js";
import { JOB_FIELDS, JOB_SAMPLE } from "../lib/result.js";

async function perform(z, bundle) {
  const { job_id: id, what } = bundle.inputData;
  const params = what && what !== "auto" ? { what } : {};
  const path = `/v1/jobs/${encodeURIComponent(id)}/replay`;
  return (await call(z, bundle, { method: "POST", path, params })).data;
}

export default {
  key: "replay_job",
  noun: "Job",
  display: {
    label: "Replay Job",
    description: "Runs a job again that did not succeed, or posts the result of one that did once more.",
  },
  operation: {
    inputFields: [
      { key: "job_id", label: "Job ID", type: "string", required: true },
      {
        key: "what",
        label: "What to Do",
        required: false,
        choices: {
          auto: "Run what did not succeed, post what did",
          post: "Only post the result again (costs nothing)",
          run: "Run it again in any case (is paid for again)",
        },
        default: "auto",
      },
    ],
    perform,
    sample: JOB_SAMPLE,
    outputFields: JOB_FIELDS,
  },
};
