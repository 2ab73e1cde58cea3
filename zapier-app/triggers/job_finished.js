// A REST hook: Spillway posts every job that ends and matches, signed with the subscription's secret.

import { call } from "../lib/api.js";
import { postedJob } from "../lib/posted.js";
import { fitting, JOB_FIELDS, JOB_SAMPLE, taskOutputs } from "../lib/result.js";
import { isGenuine } from "../lib/signature.js";

const ENDS = ["succeeded", "failed", "cancelled", "expired"];
/** As many as the editor shows. */
const SAMPLES = 3;

/** What the Zap's owner chose; nothing means all. */
function wanted({ inputData }) {
  const list = (value) => [value ?? []].flat().filter(Boolean);
  return { statuses: list(inputData.statuses), tasks: list(inputData.tasks), workflows: list(inputData.workflows) };
}

async function performSubscribe(z, bundle) {
  const body = { url: bundle.targetUrl, name: "Zapier: Job Finished", ...wanted(bundle) };
  const { data } = await call(z, bundle, { method: "POST", path: "/v1/subscriptions", body });
  return { id: data.id, secret: data.secret };
}

async function performUnsubscribe(z, bundle) {
  const path = `/v1/subscriptions/${encodeURIComponent(bundle.subscribeData.id)}`;
  // Gone already is what was wanted.
  await call(z, bundle, { method: "DELETE", path, safe: true }, [404]);
  return { id: bundle.subscribeData.id };
}

function perform(z, bundle) {
  if (!isGenuine(bundle.rawRequest, bundle.subscribeData?.secret)) {
    throw new z.errors.HaltedError(
      "This event does not carry the signature of your Spillway and was dropped. " +
        "If you see this for real jobs, turn the Zap off and on again.",
    );
  }
  return [fitting(z, postedJob(z, bundle))];
}

/** Jobs that ended lately, as samples: one request for each status, each with few answers. */
async function performList(z, bundle) {
  const { statuses, tasks, workflows } = wanted(bundle);
  const only = (list) => (list.length === 1 ? list[0] : undefined);
  const asked = { limit: 20, task: only(tasks), workflow: only(workflows) };
  const pages = await Promise.all(
    (statuses.length > 0 ? statuses : ENDS).map(async (status) => {
      const params = Object.fromEntries(Object.entries({ ...asked, status }).filter(([, value]) => value));
      return (await call(z, bundle, { path: "/v1/jobs", params })).data.data;
    }),
  );
  const fits = (list, value) => list.length === 0 || list.includes(value);
  return pages
    .flat()
    .filter((job) => fits(tasks, job.task) && fits(workflows, job.workflow))
    .sort((one, other) => other.finished_at.localeCompare(one.finished_at))
    .slice(0, SAMPLES);
}

export default {
  key: "job_finished",
  noun: "Job",
  display: {
    label: "Job Finished",
    description: "Triggers when a job has ended: with an answer, failed, cancelled or too late.",
  },
  operation: {
    type: "hook",
    inputFields: [
      {
        key: "statuses",
        label: "Statuses",
        list: true,
        choices: {
          succeeded: "Succeeded",
          failed: "Failed",
          cancelled: "Cancelled",
          expired: "Expired",
        },
        helpText: "Which ends start the Zap. Left empty, all of them.",
      },
      {
        key: "tasks",
        label: "Tasks",
        type: "string",
        list: true,
        dynamic: "tasks.id.name",
        helpText: "Only jobs of these tasks. Left empty, all.",
      },
      {
        key: "workflows",
        label: "Workflows",
        type: "string",
        list: true,
        helpText: "Only jobs submitted under these workflow names. Left empty, all.",
      },
    ].map((field) => ({ required: false, ...field })),
    perform,
    performList,
    performSubscribe,
    performUnsubscribe,
    sample: JOB_SAMPLE,
    outputFields: [...JOB_FIELDS, taskOutputs],
  },
};
