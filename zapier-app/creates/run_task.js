// Submits a job and lets the Zap sleep until its result is posted to Zapier's callback URL: no
// limit of 30 seconds applies, however long the job waits for its turn.

import { call } from "../lib/api.js";
import { postedJob } from "../lib/posted.js";
import { JOB_FIELDS, JOB_SAMPLE, settled, taskOutputs } from "../lib/result.js";
import { GROUPS, OPTION_FIELDS, submission, submit, TASK_FIELD, taskInputs } from "../lib/submit.js";

/** A result must not come before Zapier has put the Zap to sleep. */
const MIN_DELAY = "1s";

async function perform(z, bundle) {
  // Zapier advises against callbacks at the editor: nobody would resume the test.
  if (bundle.meta?.isLoadingSample) return performTest(z, bundle);
  const callbackUrl = z.generateCallbackUrl();
  // `zapier-platform invoke` has none.
  if (!callbackUrl) return performTest(z, bundle);
  const body = await submission(z, bundle, {
    callback_url: callbackUrl,
    callback: { body: "bare", min_delay: MIN_DELAY },
  });
  const { job, repeated } = await submit(z, bundle, body);
  if (repeated) await postAgain(z, bundle, job.id);
  return { id: job.id, status: job.status, status_url: job.status_url, if_failed: bundle.inputData.if_failed };
}

/**
 * Zapier runs this step a second time with the callback URL it had before. Its job may have ended:
 * a result is then posted again, for nothing; what failed is run again.
 */
async function postAgain(z, bundle, id) {
  await call(z, bundle, { method: "POST", path: `/v1/jobs/${id}/replay` }, [409]);
}

async function performTest(z, bundle) {
  const body = await submission(z, bundle, {});
  const { job } = await submit(z, bundle, body, { wait: true });
  if (job.finished_at) return settled(z, job, bundle.inputData.if_failed);
  // Every field, none of them made up: what a job has before its end.
  const { data } = await call(z, bundle, { path: `/v1/jobs/${job.id}` });
  const text =
    "(The job was still waiting when this test had to end. " +
    "A Zap that is turned on waits for the result, however long it takes.)";
  return { ...data, text };
}

function performResume(z, bundle) {
  const { outputData } = bundle;
  const job = postedJob(z, bundle);
  if (job.id !== outputData.id) {
    const detail = `The callback was about ${job.id ?? "no job"}, this step waits for ${outputData.id}.`;
    throw new z.errors.Error(detail, "WrongJob", 400);
  }
  return settled(z, job, outputData.if_failed);
}

export default {
  key: "run_task",
  noun: "Job",
  display: {
    label: "Run Task",
    description: "Runs a language-model task and waits for its result, however long it takes.",
  },
  operation: {
    inputFieldGroups: GROUPS,
    inputFields: [
      TASK_FIELD,
      taskInputs,
      {
        key: "if_failed",
        label: "If the Task Fails",
        required: false,
        choices: {
          stop: "Stop with an error (Zapier tells you and may replay it)",
          halt: "Stop quietly (the Zap is never turned off for it)",
          continue: "Go on (Succeeded is false, Error Message says why)",
        },
        default: "stop",
        group: "options",
      },
      ...OPTION_FIELDS,
    ],
    perform,
    performResume,
    sample: JOB_SAMPLE,
    outputFields: [...JOB_FIELDS, taskOutputs],
  },
};
