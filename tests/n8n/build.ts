// Small workflows, put together by tests that look at one thing.

import type { Credentials } from "./examples.ts";

type Node = { name: string; type: string; [more: string]: unknown };

const node = (name: string, type: string, typeVersion: number, parameters: object, more: object = {}): Node => ({
  id: name,
  name,
  type,
  typeVersion,
  position: [0, 0],
  parameters,
  ...more,
});

/** Gives these items. */
export function gives(name: string, items: object[]): Node {
  const jsCode = `return ${JSON.stringify(items.map((json) => ({ json })))}`;
  return node(name, "n8n-nodes-base.code", 2, { jsCode });
}

export function loop(name: string, batchSize: number): Node {
  return node(name, "n8n-nodes-base.splitInBatches", 3, { batchSize, options: {} });
}

/** Calls a sub-workflow, once for each item. */
export function calls(name: string, workflow: string): Node {
  return node(name, "n8n-nodes-base.executeWorkflow", 1.2, {
    mode: "each",
    workflowId: { __rl: true, mode: "id", value: workflow },
    workflowInputs: { mappingMode: "defineBelow", value: {} },
    options: { waitForSubWorkflow: true },
  });
}

/** Where a sub-workflow begins. */
export const CALLED = node("Called", "n8n-nodes-base.executeWorkflowTrigger", 1.1, { inputSource: "passthrough" });

/** Our node; without another operation it summarises each item's text and waits. */
export function spillway(name: string, credentials: Credentials, parameters: object = {}, more: object = {}): Node {
  const text = { operation: "runAndWait", task: "summarize", inputMode: "text", inputText: "={{ $json.text }}", options: {} };
  const settings = { credentials: { spillwayApi: credentials.spillwayApi }, ...more };
  return node(name, "n8n-nodes-spillway.spillway", 1, { ...text, ...parameters }, settings);
}

/** These nodes one after the other, from a click on unless they begin themselves. */
export function chained(name: string, ...nodes: Node[]): any {
  const first = nodes[0] === CALLED ? [] : [node("Click", "n8n-nodes-base.manualTrigger", 1, {})];
  const all = [...first, ...nodes];
  const connections: Record<string, any> = {};
  for (const [at, { name }] of all.slice(0, -1).entries()) connections[name] = { main: [[to(all[at + 1].name)]] };
  return { name, nodes: all, connections, settings: { executionOrder: "v1" } };
}

/** Where a connection leads. */
export const to = (node: string) => ({ node, type: "main", index: 0 });
