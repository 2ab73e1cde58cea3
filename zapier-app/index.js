import zapier from "zapier-platform-core";

import authentication from "./authentication.js";
import cancelJob from "./creates/cancel_job.js";
import replayJob from "./creates/replay_job.js";
import runTask from "./creates/run_task.js";
import submitTask from "./creates/submit_task.js";
import packageJson from "./package.json" with { type: "json" };
import findJob from "./searches/find_job.js";
import jobFinished from "./triggers/job_finished.js";
import tasks from "./triggers/tasks.js";

export default {
  version: packageJson.version,
  platformVersion: zapier.version,
  authentication,
  triggers: { [jobFinished.key]: jobFinished, [tasks.key]: tasks },
  searches: { [findJob.key]: findJob },
  creates: {
    [runTask.key]: runTask,
    [submitTask.key]: submitTask,
    [replayJob.key]: replayJob,
    [cancelJob.key]: cancelJob,
  },
};
