// What a submit is made of: the fields *Run Task* and *Submit Task* share, and the request.

import { createHash, randomUUID } from "node:crypto";

import { call, findTask, patience, wasSentAgain } from "./api.js";
import { ANY_INPUT, inputFields } from "./fields.js";
import { readInput } from "./input.js";

export const GROUPS = [
  { key: "task", label: "Task", emphasize: true },
  { key: "options", label: "Options" },
];

export const TASK_FIELD = {
  key: "task",
  label: "Task",
  type: "string",
  required: true,
  dynamic: "tasks.id.name",
  altersDynamicFields: true,
  group: "task",
  helpText: "The kind of work. Its own fields appear below once it is chosen.",
};

/** The chosen task's own fields. */
export async function taskInputs(z, bundle) {
  const name = bundle.inputData.task;
  if (!name) return [];
  const task = await findTask(z, bundle, name);
  return task ? inputFields(task) : [ANY_INPUT];
}

export const OPTION_FIELDS = [
  {
    key: "workflow",
    label: "Workflow",
    type: "string",
    helpText:
      "A name for this Zap, the same on every run. Workflows share the providers' limits evenly, " +
      "so one busy Zap does not hold up the others. Without a name, all Zaps count as one: `zapier`.",
  },
  {
    key: "lane",
    label: "Lane",
    choices: { interactive: "Interactive (goes first)", standard: "Standard", batch: "Batch (can wait)" },
    helpText: "How urgent the job is. Left empty, the task decides.",
  },
  {
    key: "deliver_by",
    label: "Deliver By",
    type: "datetime",
    helpText: "After this time nobody wants the answer: a job that has not ended by then ends `expired`.",
  },
  {
    key: "max_cost_usd",
    label: "Maximum Cost in USD",
    type: "number",
    helpText: "The most all attempts together may cost.",
  },
  {
    key: "session",
    label: "Session",
    type: "string",
    helpText: "The conversation the job belongs to. Jobs of one session stay where their prompt is cached.",
  },
  {
    key: "metadata",
    label: "Metadata",
    dict: true,
    helpText: "Names and values of your own. They come back with the result, unchanged.",
  },
  {
    key: "once_key",
    label: "Only Once For",
    type: "string",
    helpText:
      "What this job is about, such as a record's ID. Within 24 hours another run of the same task and " +
      "workflow with the same value stops here, softly, instead of being paid for again.",
  },
].map((field) => ({ required: false, ...field, group: "options" }));

function workflowOf({ inputData, meta }) {
  // Zapier tells the Zap only in some contexts, and may stop to.
  return inputData.workflow || (meta?.zap?.id ? `zap-${meta.zap.id}` : "zapier");
}

/** The body of a submit; empty fields are left out. */
export async function submission(z, bundle, more) {
  const { inputData } = bundle;
  const task = await findTask(z, bundle, inputData.task);
  const given = ["lane", "deliver_by", "max_cost_usd", "session", "metadata"]
    .map((name) => [name, inputData[name]])
    .filter(([, value]) => value !== undefined && value !== null && value !== "");
  return {
    task: inputData.task,
    input: readInput(z, inputData, task),
    workflow: workflowOf(bundle),
    ...Object.fromEntries(given),
    ...more,
  };
}

/**
 * The idempotency key. `Only Once For` is the person's own word. Otherwise a run is known by its
 * callback URL, which stands in the body: Zapier tells no id of a run, and two runs of the same input
 * must stay two jobs. Without either, the key only lets us repeat a request that was not answered.
 */
function keyOf(bundle, body) {
  const once = bundle.inputData.once_key;
  const words = once
    ? ["once", body.task, body.workflow, bundle.meta?.isLoadingSample ? "test" : "live", once]
    : body.callback_url && bundle.meta?.isLoadingSample !== true
      ? ["run", body]
      : [randomUUID()];
  return `zapier-${createHash("sha256").update(JSON.stringify(words)).digest("hex")}`;
}

/** Ends a run softly, for another one was about the same. */
export function submittedBefore(z, { inputData }, id) {
  const job = id ? `job ${id}` : "a job";
  return new z.errors.HaltedError(
    `For ${inputData.once_key} ${job} was submitted within the last 24 hours, so this run was not paid for again.`,
  );
}

/**
 * Submits. Answers the receipt, or the result when `wait` is set and it came in time, and whether the
 * job was there before this step. When the step's own first request got no answer, it was that one.
 */
export async function submit(z, bundle, body, { wait = false } = {}) {
  const time = patience(bundle);
  const headers = { "Idempotency-Key": keyOf(bundle, body) };
  // A request that waits for a result uses up the step's time: it is not repeated.
  const how = wait
    ? { headers: { ...headers, Prefer: `wait=${time}` }, timeout: time + 2 }
    : { headers, safe: true };
  const response = await call(z, bundle, { method: "POST", path: "/v1/jobs", body, ...how }, [422]);
  if (response.status !== 422) {
    const replayed = response.getHeader("idempotency-replayed") === "true";
    return { job: response.data, repeated: replayed && !wasSentAgain(response) };
  }
  const { detail, code } = response.data ?? {};
  if (code === "idempotency_key_reused") throw submittedBefore(z, bundle);
  throw new z.errors.Error(detail ?? "Spillway refused the job.", code ?? "Refused", 422);
}
