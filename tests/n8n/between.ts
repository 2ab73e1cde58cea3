// Stands before a service: knows what was submitted there, and decides when and what the asker hears.

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Running } from "../platforms/service.ts";

type Answer = { status: number; body: any };

export class Between {
  readonly url: string;
  /** The groups and jobs that were submitted, in their order. */
  readonly submitted: string[] = [];
  /** Method and path of everything that was asked. */
  readonly requests: string[] = [];
  /** Those of them that got no answer, as nobody was there. */
  readonly unanswered: string[] = [];
  /** Whether nobody is to be met. */
  away = false;
  /** Gets each answer to a `POST`: what it returns is what the asker gets. */
  judge: (answer: Answer) => Promise<Answer> = async (answer) => answer;
  readonly #server: Server;

  private constructor(server: Server) {
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.#server = server;
  }

  /** An address that leads to the service. */
  static async start(service: Running): Promise<Between> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const between = new Between(server);
    server.on("request", (request, response) => void between.#pass(service, request, response));
    return between;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #pass(service: Running, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = `${request.method} ${request.url}`;
    this.requests.push(asked);
    let told = this.away ? undefined : await answerOf(service, request).catch(() => undefined);
    if (told === undefined) {
      this.unanswered.push(asked);
      request.destroy();
      return;
    }
    if (request.method === "POST") {
      if (told.status === 202) this.submitted.push(told.body.id);
      told = await this.judge(told);
    }
    response.writeHead(told.status, { "content-type": "application/json" }).end(JSON.stringify(told.body));
  }
}

/** What the service says to the same request. */
async function answerOf(service: Running, request: IncomingMessage): Promise<Answer> {
  const headers = new Headers();
  for (const name of ["authorization", "content-type", "idempotency-key"]) {
    if (request.headers[name]) headers.set(name, String(request.headers[name]));
  }
  const body = request.method === "POST" ? Buffer.concat(await Array.fromAsync(request)) : undefined;
  const answer = await fetch(service.url + request.url, { method: request.method, headers, body });
  return { status: answer.status, body: await answer.json() };
}
