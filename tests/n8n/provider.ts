// The scripted provider behind HTTP, enforcing what it allows, and Spillway before it.

import assert from "node:assert/strict";
import { call, type Running, startScripted, startService, until } from "../platforms/service.ts";

export const RATE = "600/min";

/** A provider that allows 600 calls a minute, and Spillway with a bucket of the same size. */
export async function startLimited(): Promise<{ provider: Running; service: Running }> {
  const provider = await startScripted({ requests: RATE, latency: "50ms" });
  return { provider, service: await startServiceBefore(provider, RATE) };
}

/** Settings with one account at this provider. */
export function accountAt(provider: { url: string }, requests = "60000/min"): string {
  return `
[accounts.main]
provider = "openai"
api_key = "sk-scripted"
base_url = "${provider.url}"
[[accounts.main.limits]]
requests = "${requests}"
[routes.cheap]
steps = ["main/tiny-1"]
[routes.premium]
steps = ["main/tiny-1"]
`;
}

/** Spillway with one account at this provider. */
export function startServiceBefore(provider: { url: string }, requests?: string): Promise<Running> {
  return startService({ more: accountAt(provider, requests) });
}

/** What the provider has seen. */
export async function stats(provider: Running): Promise<any> {
  return (await fetch(`${provider.url}/stats`)).json();
}

/** What it answers to the task `summarize`, as words in the prompt. */
export function saying(answer: string): string {
  return `#scripted:say ${JSON.stringify({ summary: answer, points: [] })}`;
}

export type Row = { id: string; text: string };

/** Rows that are each answered `answer to <id>`; one in seven takes longer, so that answers overtake each other. */
export function rows(count: number): Row[] {
  return Array.from({ length: count }, (_, at) => {
    const slow = at % 7 === 0 ? "#scripted:slow 700ms " : "";
    return { id: `row-${at}`, text: `${slow}${saying(`answer to row-${at}`)}` };
  });
}

export type Attempts = { status: number | null; error: string | null }[];
export type Deliveries = { stage: string; attempts: Attempts };

/** Every attempt to post a group's or job's result, the oldest first. */
export async function deliveries(service: Running, id: string): Promise<Deliveries> {
  const kind = id.startsWith("grp_") ? "groups" : "jobs";
  return (await call(service, "GET", `/v1/${kind}/${id}/deliveries`)).body;
}

/** The result was taken once, and nobody was called after that. */
export async function assertTakenOnce(service: Running, id: string): Promise<Deliveries> {
  const delivered = await until(`${id} is delivered`, async () => {
    const seen = await deliveries(service, id);
    return seen.stage === "done" && seen;
  });
  // While it starts, n8n answers 200 to calls that it does nothing with.
  const isPutOff = (error: string | null) => error === "200: but n8n is only starting up";
  const taken = delivered.attempts.map(({ status, error }) => status !== null && status < 300 && !isPutOff(error));
  assert.equal(taken.indexOf(true), taken.length - 1, JSON.stringify(delivered.attempts));
  return delivered;
}
