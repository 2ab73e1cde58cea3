// Hidden: fills the list of tasks in the other steps.

import { listTasks } from "../lib/api.js";

async function perform(z, bundle) {
  const tasks = await listTasks(z, bundle);
  return tasks.map(({ name, description }) => ({ id: name, name, description }));
}

export default {
  key: "tasks",
  noun: "Task",
  display: { label: "New Task", description: "Lists the tasks your Spillway offers.", hidden: true },
  operation: {
    perform,
    sample: { id: "tag", name: "tag", description: "Gives a text a few short tags." },
    outputFields: [
      { key: "id", label: "ID", type: "string" },
      { key: "name", label: "Name", type: "string" },
      { key: "description", label: "Description", type: "string" },
    ],
  },
};
