// The real n8n in a folder of its own, on loopback, quiet, with its REST interface as the editor uses it.

import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { ROOT, until } from "../platforms/service.ts";

/** Where `make n8n` has put it. */
export const N8N = join(ROOT, "target/n8n");
/** Modules of that installation. */
export const installed = createRequire(join(N8N, "package.json"));

const PROGRAM = join(N8N, "node_modules/n8n/bin/n8n");
/** A folder after n8n's first start, whose migrations take longer than everything else. */
const TEMPLATE = join(N8N, "template");
/** Where n8n looks for our package in its folder. */
const PACKAGE = ".n8n/nodes/node_modules/n8n-nodes-spillway";
const EMAIL = "owner@example.test";
const PASSWORD = "Spillway-test-1";

// A test that is interrupted takes what it has started with it: that hangs on `exit`.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));

/** How an execution ended, as lists of executions tell it. */
export type Execution = { id: string; status: string; workflowId: string };
/** What one node gave: the items of its first run by output, or its error. */
export type Item = { json: any; pairedItem?: any; error?: any };

export class N8n {
  readonly url: string;
  readonly #folder: string;
  readonly #port: number;
  readonly #env: NodeJS.ProcessEnv;
  #process: ChildProcess | undefined;
  readonly #workers = new Map<string, ChildProcess>();
  #cookie = "";

  private constructor(folder: string, port: number, brokerPort: number, settings: NodeJS.ProcessEnv = {}) {
    this.#folder = folder;
    this.#port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.#env = { ...environment(folder, port, brokerPort), ...settings };
  }

  /** Ready for requests, with our package in it; `settings` are further environment variables. */
  static async start(settings: NodeJS.ProcessEnv = {}): Promise<N8n> {
    if (!existsSync(TEMPLATE)) await makeTemplate();
    const n8n = new N8n(mkdtempSync(join(tmpdir(), "spillway-n8n-")), await freePort(), await freePort(), settings);
    cpSync(TEMPLATE, n8n.#folder, { recursive: true });
    unpackNodes(join(n8n.#folder, PACKAGE));
    await n8n.resume();
    return n8n;
  }

  /** Starts the process again on the same folder and port. */
  async resume(): Promise<void> {
    this.launch();
    await until("n8n is ready", () => this.#running() && this.#isReady(), 120);
    await until("n8n lets its owner in", () => this.#running() && this.#logIn(), 60);
  }

  /** Starts the process and does not wait for it to be ready. */
  launch(): void {
    this.#process = this.#spawn(this.#env, "n8n.log", "start");
  }

  /** Starts a worker for queue mode, in a folder of its own as in a container, and waits for it to be ready. */
  async addWorker(name: string): Promise<void> {
    const folder = join(this.#folder, name);
    unpackNodes(join(folder, PACKAGE));
    const own = {
      HOME: folder,
      N8N_USER_FOLDER: folder,
      DB_SQLITE_DATABASE: join(this.#folder, ".n8n/database.sqlite"),
      N8N_RUNNERS_BROKER_PORT: String(await freePort()),
    };
    this.#workers.set(name, this.#spawn({ ...this.#env, ...own }, `${name}.log`, "worker", "--concurrency=1"));
    await until("the worker is ready", () => this.log(name).includes("n8n worker is now ready"), 120);
  }

  #spawn(env: NodeJS.ProcessEnv, logFile: string, ...args: string[]): ChildProcess {
    const log = openSync(join(this.#folder, logFile), "a");
    // A group of its own: n8n's task runners end with it.
    const child = spawn("setpriv", bound(...args), { env, detached: true, stdio: ["ignore", log, log] });
    const killed = () => killGroup(child);
    process.once("exit", killed);
    child.once("exit", () => process.off("exit", killed));
    return child;
  }

  /** As a crash or a power cut ends it. */
  async kill(): Promise<void> {
    await end(this.#process!);
  }

  async killWorker(name: string): Promise<void> {
    await end(this.#workers.get(name)!);
  }

  /** Ends it for good and forgets its folder. */
  async stop(): Promise<void> {
    await Promise.all([this.kill(), ...[...this.#workers.values()].map(end)]);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** What it, or a worker of this name, has logged so far, over all its starts. */
  log(name = "n8n"): string {
    return readFileSync(join(this.#folder, `${name}.log`), "utf8");
  }

  /** n8n's command line on the same folder; its standard output. */
  async cli(...args: string[]): Promise<string> {
    // The tests' own sockets are served meanwhile.
    const done = await promisify(execFile)("setpriv", bound(...args), { env: this.#env, timeout: 120_000 });
    return done.stdout;
  }

  /** The editor's own interface; fails on an error. */
  async rest(method: string, path: string, body?: object): Promise<any> {
    const answer = await fetch(`${this.url}/rest/${path}`, {
      method,
      headers: { cookie: this.#cookie, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text).data;
  }

  /** Makes a credential; its id. */
  async addCredential(name: string, type: string, data: object): Promise<string> {
    return (await this.rest("POST", "credentials", { name, type, data, isGlobal: false })).id;
  }

  /** As *Import from file* does it; the workflow's id. */
  async addWorkflow(workflow: object): Promise<string> {
    return (await this.rest("POST", "workflows", { settings: {}, ...workflow, active: false })).id;
  }

  /** Publishes, and waits until its webhooks answer. */
  async publish(id: string, webhooks: string[] = []): Promise<void> {
    const { versionId } = await this.rest("GET", `workflows/${id}`);
    await this.rest("POST", `workflows/${id}/activate`, { versionId, name: "", description: "" });
    for (const path of webhooks) await until(`webhook ${path} is registered`, () => this.isRegistered(path));
  }

  async unpublish(id: string): Promise<void> {
    await this.rest("POST", `workflows/${id}/deactivate`, {});
  }

  /** A production webhook answers a preflight only once it is registered. */
  async isRegistered(path: string): Promise<boolean> {
    const headers = { origin: this.url, "access-control-request-method": "POST" };
    const answer = await fetch(`${this.url}/webhook/${path}`, { method: "OPTIONS", headers });
    return answer.status === 204;
  }

  /** *Execute workflow* from a trigger; the execution's id. */
  async run(id: string, trigger: string): Promise<string> {
    return (await this.rest("POST", `workflows/${id}/run`, { triggerToStartFrom: { name: trigger } })).executionId;
  }

  /** Calls a production webhook. */
  async post(path: string, body: object): Promise<void> {
    const answer = await fetch(`${this.url}/webhook/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`webhook ${path}: ${answer.status} ${await answer.text()}`);
  }

  /** A workflow's executions, the oldest first. */
  async executions(workflowId: string): Promise<Execution[]> {
    const filter = encodeURIComponent(JSON.stringify({ workflowId }));
    return (await this.rest("GET", `executions?filter=${filter}&limit=100`)).results.reverse();
  }

  /** *Retry* in the list of executions, with the workflow as it was; the new execution's id. */
  async retry(executionId: string): Promise<string> {
    return (await this.rest("POST", `executions/${executionId}/retry`, { loadWorkflow: false })).id;
  }

  /** Waits for a workflow's only execution to have this status; its id. */
  async reached(workflowId: string, status: string, seconds = 60): Promise<string> {
    let seen: Execution[] = [];
    const found = async () => {
      seen = await this.executions(workflowId);
      const [only] = seen;
      if (only && only.status !== status && ["error", "crashed", "canceled", "success"].includes(only.status)) {
        throw new Error(`execution ${only.id} ended: ${only.status}\n${await this.#errorOf(only.id)}\n${this.log().slice(-3000)}`);
      }
      return only?.status === status && only.id;
    };
    return until(`an execution is ${status}`, found, seconds).catch((fault) => {
      throw new Error(`${fault.message}; executions: ${JSON.stringify(seen)}\n${this.log().slice(-3000)}`);
    });
  }

  /** An execution's data: what each node gave. */
  async data(executionId: string): Promise<any> {
    const { data } = await this.rest("GET", `executions/${executionId}`);
    return installed("flatted").parse(data).resultData;
  }

  /** The items a node gave at one of its outputs, over all its runs. */
  async output(executionId: string, node: string, output = 0): Promise<Item[]> {
    const runs = (await this.data(executionId)).runData[node] ?? [];
    return runs.flatMap((run: any) => run.data?.main?.[output] ?? []);
  }

  async #errorOf(executionId: string): Promise<string> {
    const { error, lastNodeExecuted } = await this.data(executionId);
    return `at "${lastNodeExecuted}": ${error?.message} ${error?.description ?? ""}`;
  }

  #running(): boolean {
    const { exitCode, signalCode } = this.#process!;
    if (exitCode !== null || signalCode !== null) throw new Error(`n8n ended:\n${this.log().slice(-3000)}`);
    return true;
  }

  async #isReady(): Promise<boolean> {
    return (await fetch(`${this.url}/healthz/readiness`).catch(() => undefined))?.ok ?? false;
  }

  async #logIn(): Promise<boolean> {
    const answer = await fetch(`${this.url}/rest/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ emailOrLdapLoginId: EMAIL, password: PASSWORD }),
    }).catch(() => undefined);
    this.#cookie = answer?.headers.getSetCookie().map((cookie) => cookie.split(";")[0]).join("; ") ?? "";
    return answer?.ok === true && this.#cookie !== "";
  }

  /** What the owner types into the login form. */
  static readonly owner = { email: EMAIL, password: PASSWORD };

  /** Once for all tests: another one that does the same at the same time does no harm. */
  static async prepare(): Promise<void> {
    const n8n = new N8n(mkdtempSync(`${TEMPLATE}-`), await freePort(), await freePort());
    await n8n.resume();
    const ended = once(n8n.#process!, "exit");
    n8n.#process!.kill("SIGTERM");
    await ended;
    rmSync(join(n8n.#folder, "n8n.log"));
    if (existsSync(TEMPLATE)) rmSync(n8n.#folder, { recursive: true });
    else renameSync(n8n.#folder, TEMPLATE);
  }
}

const makeTemplate = () => N8n.prepare();

/** For `setpriv`: the kernel ends n8n with the test, however that ends. */
const bound = (...args: string[]) => ["--pdeathsig", "KILL", process.execPath, PROGRAM, ...args];

async function end(child: ChildProcess): Promise<void> {
  const ended = child.exitCode === null && child.signalCode === null ? once(child, "exit") : undefined;
  killGroup(child);
  await ended;
}

function killGroup(child: ChildProcess): void {
  try {
    process.kill(-child.pid!, "SIGKILL");
  } catch (fault: any) {
    if (fault.code !== "ESRCH") throw fault;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** As an installed community package lies in n8n's folder. */
function unpackNodes(folder: string): void {
  const packed = join(ROOT, "target/n8n-package");
  const tarball = existsSync(packed) && readdirSync(packed).find((name) => /^n8n-nodes-spillway-.*\.tgz$/.test(name));
  if (!tarball) throw new Error("no package below target/n8n-package: `make n8n-package` packs it");
  mkdirSync(folder, { recursive: true });
  const done = spawnSync("tar", ["xzf", join(packed, tarball), "-C", folder, "--strip-components=1"], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`cannot unpack ${tarball}: ${done.stderr}`);
}

/** Loopback only, no call to n8n's servers, an owner without a form, all that is useful in the log. */
function environment(folder: string, port: number, brokerPort: number): NodeJS.ProcessEnv {
  const own = `http://127.0.0.1:${port}/`;
  return {
    PATH: process.env.PATH,
    HOME: folder,
    NODE_ENV: "production",
    DB_TYPE: "sqlite",
    GENERIC_TIMEZONE: "Etc/UTC",
    N8N_USER_FOLDER: folder,
    N8N_ENCRYPTION_KEY: "spillway-tests-0000000000000000",
    N8N_PORT: String(port),
    N8N_LISTEN_ADDRESS: "127.0.0.1",
    N8N_HOST: "127.0.0.1",
    N8N_PROTOCOL: "http",
    N8N_WEBHOOK_URL: own,
    N8N_EDITOR_BASE_URL: own,
    N8N_RUNNERS_BROKER_PORT: String(brokerPort),
    N8N_RUNNERS_BROKER_LISTEN_ADDRESS: "127.0.0.1",
    N8N_SECURE_COOKIE: "false",
    N8N_LOG_LEVEL: "debug",
    N8N_ENFORCE_SETTINGS_FILE_PERMISSIONS: "true",
    N8N_INSTANCE_OWNER_MANAGED_BY_ENV: "true",
    N8N_INSTANCE_OWNER_EMAIL: EMAIL,
    N8N_INSTANCE_OWNER_FIRST_NAME: "Spillway",
    N8N_INSTANCE_OWNER_LAST_NAME: "Tests",
    N8N_INSTANCE_OWNER_PASSWORD_HASH: installed("bcryptjs").hashSync(PASSWORD, 10),
    N8N_DIAGNOSTICS_ENABLED: "false",
    N8N_VERSION_NOTIFICATIONS_ENABLED: "false",
    N8N_VERSION_NOTIFICATIONS_WHATS_NEW_ENABLED: "false",
    N8N_DYNAMIC_BANNERS_ENABLED: "false",
    N8N_TEMPLATES_ENABLED: "false",
    N8N_PERSONALIZATION_ENABLED: "false",
    N8N_HIRING_BANNER_ENABLED: "false",
    N8N_LICENSE_AUTO_RENEW_ENABLED: "false",
    N8N_LICENSE_SERVER_URL: "http://127.0.0.1:9",
    N8N_VERIFIED_PACKAGES_ENABLED: "false",
    N8N_SENTRY_DSN: "",
    N8N_FRONTEND_SENTRY_DSN: "",
    N8N_DISABLED_MODULES:
      "mcp-registry,mcp,instance-ai,agents,chat-hub,insights,workflow-builder,quick-connect,instance-version-history",
  };
}
