// What a person sees in n8n's editor: the node is found, its lists fill, a run shows the result.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { call, ROOT, type Running, startService, until } from "../platforms/service.ts";
import { addCredentials, type Credentials, example, filled } from "./examples.ts";
import { installed, N8n } from "./n8n.ts";

const { chromium, selectors } = installed("playwright-core");

/** `UPDATE=1` takes the pictures that the README shows. */
const PICTURES = join(ROOT, process.env.UPDATE ? "n8n-nodes/screenshots" : "target/n8n-screenshots");

let n8n: N8n;
let service: Running;
let credentials: Credentials;
let browser: any;
let page: any;

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  service = await startService();
  n8n = await N8n.start();
  credentials = await addCredentials(n8n, service.url);
  selectors.setTestIdAttribute("data-test-id");
  // Containers have no user namespaces for its sandbox; it only sees our own n8n.
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  page = await browser.newPage({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce" });
  page.setDefaultTimeout(30_000);
  await page.goto(`${n8n.url}/signin`);
  await page.getByLabel("Email").fill(N8n.owner.email);
  await page.getByLabel("Password").fill(N8n.owner.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL((url: URL) => !url.pathname.includes("signin"));
});

after(async () => {
  await browser?.close();
  await n8n?.stop();
  await service?.stop();
});

async function picture(name: string): Promise<void> {
  // n8n's messages would lie over what is to be seen. One that goes by itself needs no click.
  for (const message of await page.locator(".el-notification__closeBtn").all()) {
    await message.click({ timeout: 2_000 }).catch(() => {});
  }
  await page.locator(".el-notification").first().waitFor({ state: "detached" });
  // What still moves stands still.
  await page.evaluate(() => Promise.all(document.getAnimations().map(({ finished }) => finished.catch(() => {}))));
  await page.screenshot({ path: join(PICTURES, `${name}.png`), animations: "disabled", caret: "hide" });
}

/** Opens an example in the editor. */
async function opens(file: string): Promise<void> {
  const workflow = await n8n.addWorkflow(filled(example(file), credentials, { spillway_url: service.url }));
  await page.goto(`${n8n.url}/workflow/${workflow}`);
  await page.getByTestId("canvas-node").first().waitFor();
}

const node = (name: string) => page.getByTestId("canvas-node").filter({ hasText: name });

test("a search in the node panel finds the node and the trigger", async () => {
  await opens("run-and-wait.json");
  await page.getByTestId("node-creator-plus-button").click();
  await page.getByTestId("node-creator-search-bar").fill("spillway");
  // n8n shows a node and its trigger as one, with their actions behind it.
  const found = page.getByTestId("node-creator-item-name").filter({ hasText: /^\s*Spillway\s*$/ });
  await found.waitFor();
  await page.getByText("Run LLM tasks within the providers' limits; start workflows").waitFor();
  await picture("node-panel");
  await found.click();
  const actions = page.getByTestId("node-creator-item-name");
  await actions.filter({ hasText: "Run a task and wait" }).waitFor();
  const names = (await actions.allTextContents()).map((name: string) => name.trim());
  for (const name of ["Run a task and wait", "Submit a task", "Cancel a job or group", "List jobs"]) {
    assert.ok(names.includes(name), names.join());
  }
});

test("the task list fills from the server", async () => {
  await opens("run-and-wait.json");
  await node("Summarize").dblclick();
  // While the list loads the field cannot be opened, and a click on it is lost.
  const options = page.getByRole("option");
  await until("the list is open", async () => {
    if (!(await options.first().isVisible())) await page.getByTestId("parameter-input-task").click();
    return options.filter({ hasText: "classify" }).waitFor({ timeout: 2_000 }).then(() => true, () => false);
  });
  const shown = (await options.allTextContents()).join("\n");
  const { tasks } = await tasksOf(service);
  assert.ok(tasks.length > 0);
  for (const { name, description } of tasks) {
    assert.ok(shown.includes(name), name);
    assert.ok(shown.includes(description), description);
  }
  await picture("tasks");
});

test("a run shows the result", async () => {
  await opens("run-and-wait.json");
  await page.getByTestId("execute-workflow-button").first().click();
  await node("Answers").getByTestId("canvas-node-status-success").waitFor();
  await picture("workflow");
  await node("Summarize").dblclick();
  const output = page.getByTestId("output-panel");
  await output.getByText("succeeded").first().waitFor();
  assert.match(await output.innerText(), /3 items/);
  // One field a line, so that the answer is seen.
  await output.getByTestId("ndv-run-data-display-mode").getByText("Schema").click();
  await output.getByText("finish", { exact: true }).first().waitFor();
  await picture("result");
});

async function tasksOf(service: Running): Promise<{ tasks: { name: string; description: string }[] }> {
  const { body } = await call(service, "GET", "/v1/tasks");
  return { tasks: body.data };
}
