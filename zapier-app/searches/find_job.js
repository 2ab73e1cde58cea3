import { call, patience } from "../lib/api.js";
import { fitting, JOB_FIELDS, JOB_SAMPLE, taskOutputs } from "../lib/result.js";

async function perform(z, bundle) {
  const { job_id: id, status, task, workflow, wait } = bundle.inputData;
  const job = id
    ? await byId(z, bundle, id, wait)
    : await newest(z, bundle, { limit: 1, status, task, workflow }, wait);
  return job ? [fitting(z, job)] : [];
}

async function byId(z, bundle, id, wait) {
  const time = patience(bundle);
  const waiting = wait ? { params: { wait: time }, timeout: time + 2, safe: false } : {};
  const response = await call(z, bundle, { path: `/v1/jobs/${encodeURIComponent(id)}`, ...waiting }, [404]);
  if (response.data?.object === "job") return response.data;
  if (response.data?.code === "not_found") return undefined;
  throw new z.errors.Error("What answers at the Spillway URL is not Spillway.", "NotSpillway", 404);
}

async function newest(z, bundle, asked, wait) {
  const params = Object.fromEntries(Object.entries(asked).filter(([, value]) => value));
  const [job] = (await call(z, bundle, { path: "/v1/jobs", params })).data.data;
  return job && wait && !job.finished_at ? byId(z, bundle, job.id, wait) : job;
}

export default {
  key: "find_job",
  noun: "Job",
  display: {
    label: "Find Job",
    description: "Finds a job by its ID, or the newest one by its status, task or workflow.",
  },
  operation: {
    inputFields: [
      { key: "job_id", label: "Job ID", type: "string", helpText: "With an ID the fields below do not matter." },
      {
        key: "status",
        label: "Status",
        choices: ["queued", "running", "succeeded", "failed", "cancelled", "expired"],
      },
      { key: "task", label: "Task", type: "string", dynamic: "tasks.id.name", altersDynamicFields: true },
      { key: "workflow", label: "Workflow", type: "string" },
      {
        key: "wait",
        label: "Wait for Its End",
        type: "boolean",
        helpText: "Waits up to 25 seconds for a job that has not ended. Run Task waits longer.",
      },
    ].map((field) => ({ required: false, ...field })),
    perform,
    sample: JOB_SAMPLE,
    outputFields: [...JOB_FIELDS, taskOutputs],
  },
};
