// Stands between n8n and Spillway and decides when, and whether, n8n sees an answer.

import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Running } from "../platforms/service.ts";

/** Gets each answer to a submit: what it returns is what n8n gets. */
export type Judge = (answer: { status: number; body: any }) => Promise<{ status: number; body: any }>;

/** An address that leads to the service; answers to `POST` go through the judge. */
export async function startBetween(service: Running, judge: Judge): Promise<{ url: string; server: Server }> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const headers = new Headers({ "content-type": request.headers["content-type"] ?? "application/json" });
    for (const name of ["authorization", "idempotency-key"]) {
      if (request.headers[name]) headers.set(name, String(request.headers[name]));
    }
    const posted = request.method === "POST";
    const answer = await fetch(service.url + request.url, {
      method: request.method,
      headers,
      body: posted ? Buffer.concat(chunks) : undefined,
    });
    let told = { status: answer.status, body: await answer.json() };
    if (posted) told = await judge(told);
    response.writeHead(told.status, { "content-type": "application/json" }).end(JSON.stringify(told.body));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}
