// Anthropic's own SDK, unmodified, against the service. Every step is asserted.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const { BASE, KEY } = process.env;
const tools = [{ name: "weather", description: "Looks.",
  input_schema: { type: "object", properties: { city: { type: "string" } } } }];
const said = (content) => [{ role: "user", content }];
const client = new Anthropic({ baseURL: `${BASE}/anthropic`, apiKey: KEY, maxRetries: 0 });

async function speaks(model) {
  const asked = { model, max_tokens: 100 };
  const whole = await client.messages.create({ ...asked, messages: said("Hi there") });
  assert.equal(whole.content[0].text, "You said: Hi there");
  assert.equal(whole.usage.input_tokens, 7);

  const kinds = [];
  const events = { ...asked, messages: said("Hi there"), stream: true };
  for await (const event of await client.messages.create(events)) kinds.push(event.type);
  assert.equal(kinds.at(-1), "message_stop");

  const final = await client.messages.stream({ ...asked, messages: said("Hi there") }).finalMessage();
  assert.equal(final.content[0].text, "You said: Hi there");
  assert.equal(final.usage.output_tokens, 7);

  const question = said("The weather in both cities");
  const both = [{ city: "Paris" }, { city: "Rome" }];
  const called = await client.messages.create({ ...asked, messages: question, tools });
  assert.deepEqual(called.content.map((call) => call.input), both);
  const results = called.content.map((call) =>
    ({ type: "tool_result", tool_use_id: call.id, content: "sun" }));
  const last = await client.messages.create({ ...asked, tools, messages: [...question,
    { role: "assistant", content: called.content }, { role: "user", content: results }] });
  assert.equal(last.content[0].text, "The tool said: sun");

  let bits = 0;
  const stream = client.messages.stream({ ...asked, messages: question, tools });
  stream.on("inputJson", () => { bits += 1; });
  const streamed = await stream.finalMessage();
  assert.deepEqual(streamed.content.map((call) => call.input), both);
  assert.ok(bits >= 4 && streamed.stop_reason === "tool_use", `${bits}`);

  const schema = { type: "object", properties: { city: { type: "string" }, degrees: { type: "integer" } },
    required: ["city", "degrees"], additionalProperties: false };
  const structured = await client.messages.create({ ...asked, messages: said("Where?"),
    output_config: { format: { type: "json_schema", schema } } });
  assert.deepEqual(JSON.parse(structured.content[0].text), { city: "Paris", degrees: 21 });

  const source = { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" };
  const seen = await client.messages.create({ ...asked, messages: said([{ type: "image", source }]) });
  assert.equal(seen.content[0].text, "I see data:image/png;base64,iVBORw0KGgo=");

  const { data, response } =
    await client.messages.create({ ...asked, messages: said("Hi") }).withResponse();
  assert.equal(response.headers.get("spillway-provider"), model);
  assert.equal(data._request_id, response.headers.get("spillway-request-id"));
  assert.ok((await client.messages.countTokens({ model, messages: said("Hi") })).input_tokens > 0);

  await assert.rejects(
    client.messages.create({ ...asked, model: `${model}-strict`, messages: said("Hi") }),
    Anthropic.BadRequestError);
  await assert.rejects(
    client.messages.stream({ ...asked, model: `${model}-cut`, messages: said("Hi there") }).finalMessage(),
    (error) => error instanceof Anthropic.APIError && /broke off/.test(error.message));
}

for (const model of ["anthropic", "openai"]) await speaks(model);

const names = [];
for await (const model of client.models.list()) names.push(model.id);
assert.ok(names.includes("cheap") && names.includes("task:tag"), names.join());

const asked = { max_tokens: 100, messages: said("Hi") };
const nobody = new Anthropic({ baseURL: BASE, apiKey: "sw_nobody", maxRetries: 0 });
await assert.rejects(nobody.messages.create({ model: "openai", ...asked }), Anthropic.AuthenticationError);
await assert.rejects(client.messages.create({ model: "nothing", ...asked }), Anthropic.NotFoundError);

const hurried = { model: "slow-anthropic", ...asked };
const now = { headers: { "Spillway-Max-Wait": "0" } };
await assert.rejects(async () => {
  for (let i = 0; i < 10; i += 1) await client.messages.create(hurried, now);
}, (error) => error instanceof Anthropic.RateLimitError && Number(error.headers.get("retry-after")) >= 1);
await client.messages.create(hurried, { ...now, maxRetries: 2 });
console.log("well");
