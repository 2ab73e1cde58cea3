// Zapier's side: its own core runs the app, a local server stands for its callback and hook URLs.

import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

import zapier from "zapier-platform-core";

import { KEY, type Running } from "../../tests/platforms/service.ts";
import App from "../index.js";

const createLambdaHandler = createRequire(import.meta.url)("zapier-platform-core/src/tools/create-lambda-handler");

/** Runs a function of the app as Zapier does: with its `z`, its checks, its middleware. */
export const run = zapier.createAppTester(App);

/** What the app's steps get beside their fields. */
export function bundleOf(service: Running, inputData: object = {}, more: object = {}) {
  return { authData: { baseUrl: service.url, apiKey: KEY }, inputData, meta: {}, ...more };
}

/** A step as a Zap that is turned on runs it; `createAppTester` knows one fixed callback URL only. */
export async function runLive(method: string, bundle: object, callbackUrl: string) {
  const logs: string[] = [];
  const customLogger = (message: string, data: object) => logs.push(`${message} ${JSON.stringify(data)}`);
  const event = { command: "execute", method, bundle, callback_url: callbackUrl, customLogger };
  const { results, status } = await createLambdaHandler(App)(event);
  return { results, status, logs: logs.join("\n") };
}

/** The name and the words of what a step ended with. */
export async function errorOf(ran: Promise<unknown>): Promise<{ name: string; message: string; delay?: number }> {
  const error = await ran.then(
    (results) => {
      throw new Error(`should have failed, but answered ${JSON.stringify(results)}`);
    },
    (error) => error,
  );
  // Core packs what Zapier needs into the message.
  const packed = error.message.startsWith("{") ? JSON.parse(error.message) : { message: error.message };
  return { ...packed, name: error.name };
}

/** A POST as Zapier hands it to `perform` and `performResume`. */
export interface Posted {
  rawRequest: { method: string; querystring: string; headers: Record<string, string>; content: string };
  cleanedRequest: any;
}

/** Takes what Spillway posts, as Zapier would, at any path. */
export class Receiver {
  readonly posts: Posted[] = [];
  status = 200;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<Receiver> {
    const server = createServer(async (request, response) => {
      let content = "";
      for await (const chunk of request) content += chunk;
      response.statusCode = receiver.status;
      response.end("{}");
      const headers = zapierHeaders(request.headers);
      const rawRequest = { method: "POST", querystring: request.url!.split("?")[1] ?? "", headers, content };
      receiver.posts.push({ rawRequest, cleanedRequest: JSON.parse(content) });
    });
    const receiver = new Receiver(server);
    await listening(server);
    return receiver;
  }

  /** A new address, as each run and each Zap has its own. */
  url(name: string): string {
    return `${address(this.#server)}/hooks/${name}/0f0e?sig=abcdef`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Zapier writes `webhook-id` as `Http-Webhook-Id`. */
function zapierHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const entries = Object.entries(headers).map(([name, value]) => {
    const camel = name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase());
    return [name.startsWith("content-") ? camel : `Http-${camel}`, String(value)];
  });
  return Object.fromEntries(entries);
}

/** Somebody else's server, for as long as the test runs. Answers its address. */
export async function serve(t: TestContext, handler: RequestListener): Promise<string> {
  const server = createServer(handler);
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await listening(server);
  return address(server);
}

/** Listens on a free port of the loopback. */
export async function listening(server: import("node:net").Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
}

export function address(server: import("node:net").Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
