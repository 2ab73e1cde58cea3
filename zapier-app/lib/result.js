// A job as the steps after ours see it.

import { findTask } from "./api.js";
import { outputFields } from "./fields.js";

/** What Zapier takes from a step. */
const MOST_BYTES = 6 * 1024 * 1024;

/** The fields every job has, those that people map first. */
export const JOB_FIELDS = [
  { key: "id", label: "Job ID", type: "string" },
  { key: "ok", label: "Succeeded", type: "boolean" },
  { key: "status", label: "Status", type: "string" },
  { key: "task", label: "Task", type: "string" },
  { key: "text", label: "Text", type: "string" },
  { key: "error__message", label: "Error Message", type: "string" },
  { key: "error__code", label: "Error Code", type: "string" },
  { key: "error__hint", label: "Error Hint", type: "string" },
  { key: "error__retryable", label: "Error Retryable", type: "boolean" },
  { key: "cost_usd", label: "Cost in USD", type: "number" },
  { key: "provider", label: "Provider", type: "string" },
  { key: "model", label: "Model", type: "string" },
  { key: "route", label: "Route", type: "string" },
  { key: "fell_back", label: "Fell Back", type: "boolean" },
  { key: "escalated", label: "Escalated", type: "boolean" },
  { key: "finish", label: "Finish", type: "string" },
  { key: "usage__input_tokens", label: "Input Tokens", type: "integer" },
  { key: "usage__output_tokens", label: "Output Tokens", type: "integer" },
  { key: "timing__queued_ms", label: "Queued Milliseconds", type: "integer" },
  { key: "timing__running_ms", label: "Running Milliseconds", type: "integer" },
  { key: "timing__total_ms", label: "Total Milliseconds", type: "integer" },
  { key: "workflow", label: "Workflow", type: "string" },
  { key: "session", label: "Session", type: "string" },
  { key: "created_at", label: "Created At", type: "datetime" },
  { key: "finished_at", label: "Finished At", type: "datetime" },
];

/** Shown where no job is at hand. */
export const JOB_SAMPLE = {
  id: "job_0_01K0EXAMPLE",
  object: "job",
  status: "succeeded",
  ok: true,
  task: "tag",
  text: "billing, urgent",
  data: { tags: ["billing", "urgent"] },
  finish: "stop",
  tool_calls: [],
  images: [],
  provider: "groq",
  model: "llama-3.3-70b-versatile",
  route: "cheap",
  fell_back: false,
  escalated: false,
  cost_usd: 0.00031,
  usage: {
    input_tokens: 812,
    cached_input_tokens: 640,
    cache_write_tokens: 0,
    output_tokens: 21,
    reasoning_tokens: 0,
  },
  timing: { queued_ms: 1840, running_ms: 412, total_ms: 2252 },
  attempts: [],
  error: null,
  workflow: "lead-intake",
  session: null,
  metadata: { row: "17" },
  created_at: "2026-11-20T18:00:00Z",
  finished_at: "2026-11-20T18:00:02Z",
};

/** The fields of the chosen task's answer. */
export async function taskOutputs(z, bundle) {
  const chosen = [bundle.inputData.task ?? bundle.inputData.tasks ?? []].flat();
  return chosen.length === 1 ? outputFields(await findTask(z, bundle, chosen[0])) : [];
}

/** Refuses what Zapier would cut or drop, and says where it is. */
export function fitting(z, job) {
  const bytes = Buffer.byteLength(JSON.stringify(job));
  if (bytes <= MOST_BYTES) return job;
  const megabytes = (bytes / 1024 / 1024).toFixed(1);
  const detail =
    `The result of ${job.id} has ${megabytes} MB; a step in Zapier takes 6 MB. ` +
    `GET /v1/jobs/${job.id} has it for as long as Spillway keeps results.`;
  throw new z.errors.Error(detail, "TooLarge", 413);
}

/** Hands on a job that has ended, or stops the Zap when it failed and that is wanted. */
export function settled(z, job, ifFailed) {
  if (job.ok || ifFailed === "continue") return fitting(z, job);
  const { message, hint, code } = job.error ?? {};
  const what = message ?? `The job ended as ${job.status}.`;
  const detail = [what, hint, `(${job.id})`].filter(Boolean).join(" ");
  if (ifFailed === "halt") throw new z.errors.HaltedError(detail);
  throw new z.errors.Error(detail, code ?? job.status, 422);
}
