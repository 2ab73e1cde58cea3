// The real binary and its scripted provider, for the tests of what runs inside n8n, Zapier and Make.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** The repository's root. */
export const ROOT = join(import.meta.dirname, "../..");

/** Built by `make`; the tests never build it themselves. */
export const BINARY = process.env.SPILLWAY_BINARY ?? join(ROOT, "target/debug/spillway");

/** What callers show. */
export const KEY = "sw_testtest_0123456789abcdefghijABCDEFGHIJ";

/** What callbacks are signed with. */
export const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/** A process that tells its address on standard output. */
export class Running {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(url: string, process: ChildProcess, folder: string) {
    this.url = url;
    this.#process = process;
    this.#folder = folder;
  }

  static async start(args: string[], announces: string, settings?: string): Promise<Running> {
    const folder = mkdtempSync(join(tmpdir(), "spillway-"));
    const all = settings === undefined ? args : [...args, "--config", join(folder, "spillway.toml")];
    if (settings !== undefined) writeFileSync(join(folder, "spillway.toml"), settings);
    const log = openSync(join(folder, "log"), "w");
    // The settings are the test's: none comes from the environment.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SPILLWAY_")));
    // Nothing a test starts outlives it, however it ends.
    const bound = ["--pdeathsig", "KILL", BINARY, ...all];
    const child = spawn("setpriv", bound, { cwd: folder, env, stdio: ["ignore", "pipe", log] });
    const url = await new Promise<string>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", () => {
        reject(new Error(`${BINARY} ${all.join(" ")} did not start:\n${readFileSync(join(folder, "log"))}`));
      });
      createInterface({ input: child.stdout! }).on("line", (line) => {
        if (line.startsWith(announces)) resolve(line.slice(announces.length));
      });
    });
    return new Running(url, child, folder);
  }

  /** What it has logged so far. */
  log(): string {
    return readFileSync(join(this.#folder, "log"), "utf8");
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = new Promise((resolve) => this.#process.once("exit", resolve));
      this.#process.kill("SIGKILL");
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** `spillway scripted`: a provider with real limits and faults; `GET {url}/stats` counts. */
export function startScripted(settings: object = {}): Promise<Running> {
  const args = ["scripted", "--listen", "127.0.0.1:0", "--settings", JSON.stringify(settings)];
  return Running.start(args, "The scripted provider listens on ");
}

/** Routes over one account, so that every built-in task has one. */
export const ROUTES = `
[routes.cheap]
steps = ["main/tiny-1"]
[routes.premium]
steps = ["main/grand-1"]
`;

/**
 * `spillway serve` with an embedded store on a free port. Without `more` its provider is built in
 * and has no limits. `server` stands within `[server]`, `auth` is a list of further keys.
 */
export function startService({ more, server = "" }: { more?: string; server?: string } = {}): Promise<Running> {
  const accounts = more ?? `[accounts.main]\nprovider = "scripted"\nscripted = { latency = "5ms" }\n${ROUTES}`;
  const settings = `
[server]
listen = "127.0.0.1:0"
${server}
[store]
url = "embedded:./data"
[auth]
keys = ["${KEY}", { caller = "other", key = "sw_otherkey_0123456789abcdefghijABCDEFGHIJ" }]
[callbacks]
secret = "${SECRET}"
allow_networks = ["127.0.0.0/8"]
${accounts}`;
  return Running.start(["serve"], "Spillway listens on ", settings);
}

/** A request with the tests' key; the answer's JSON, whatever its status. */
export async function call(service: Running, method: string, path: string, body?: object) {
  const answer = await fetch(service.url + path, {
    method,
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, body: text === "" ? null : JSON.parse(text) };
}

/** Asks until the answer is given; fails after the deadline. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | null | false> | T | undefined | null | false,
  seconds = 60,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await ask();
    if (found !== undefined && found !== null && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
