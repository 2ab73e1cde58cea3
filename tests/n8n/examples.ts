// The example workflows as people get them, with the address and the credentials of a test put in.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { KEY, ROOT, SECRET } from "../platforms/service.ts";
import type { N8n } from "./n8n.ts";

export const EXAMPLES = join(ROOT, "n8n-nodes/examples");

/** By type. */
export type Credentials = Record<string, { id: string; name: string }>;

/** The credentials that the examples name. */
export async function addCredentials(n8n: N8n, url: string): Promise<Credentials> {
  const made: Credentials = {};
  const add = async (name: string, type: string, data: object) => {
    made[type] = { id: await n8n.addCredential(name, type, data), name };
  };
  await add("Spillway API key", "httpHeaderAuth", { name: "Authorization", value: `Bearer ${KEY}` });
  await add("Spillway", "spillwayApi", { baseUrl: url, apiKey: KEY, signingSecret: SECRET });
  await add("Spillway as OpenAI", "openAiApi", { apiKey: KEY, url: `${url}/v1` });
  return made;
}

/** An example's text as it is committed. */
export function example(file: string): any {
  return JSON.parse(readFileSync(join(EXAMPLES, file), "utf8"));
}

/** As after an import: its credentials chosen, its settings filled in by name. */
export function filled(workflow: any, credentials: Credentials, settings: Record<string, string>): any {
  for (const node of workflow.nodes) {
    for (const type of Object.keys(node.credentials ?? {})) node.credentials[type] = credentials[type];
    for (const assignment of node.parameters.assignments?.assignments ?? []) {
      assignment.value = settings[assignment.name] ?? assignment.value;
    }
  }
  return workflow;
}

/** The same workflow started by a webhook of this path, so that it can be published. */
export function hooked(workflow: any, path: string): any {
  const trigger = workflow.nodes.find((node: any) => node.type === "n8n-nodes-base.manualTrigger");
  Object.assign(trigger, {
    type: "n8n-nodes-base.webhook",
    typeVersion: 2,
    webhookId: path,
    parameters: { httpMethod: "POST", path, responseMode: "onReceived", options: {} },
  });
  return workflow;
}

/** The two ways to wait, with the node that has the answers. */
export const WAYS = [
  { name: "Run a task and wait", file: "run-and-wait.json", answers: "Answers" },
  { name: "plain HTTP and Wait", file: "error-branch.json", answers: "Answers" },
];

/** Publishes an example behind a webhook of this path that takes the rows; the workflow's id. */
export async function publishForRows(n8n: N8n, credentials: Credentials, url: string, file: string, path: string): Promise<string> {
  const settings = { spillway_url: url, rows: "={{ $json.body.rows }}" };
  const workflow = await n8n.addWorkflow(hooked(filled(example(file), credentials, settings), path));
  await n8n.publish(workflow, [path]);
  return workflow;
}
