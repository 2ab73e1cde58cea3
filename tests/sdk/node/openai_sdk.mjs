// OpenAI's own SDK, unmodified, against the service. Every step is asserted.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const { BASE, KEY } = process.env;
const PIXEL = "data:image/png;base64,iVBORw0KGgo=";
const Weather = z.object({ city: z.string(), degrees: z.number().int() });
const tools = [{ type: "function", function: {
  name: "weather", description: "Looks.",
  parameters: { type: "object", properties: { city: { type: "string" } } } } }];
const said = (content) => [{ role: "user", content }];
const client = new OpenAI({ baseURL: `${BASE}/openai/v1`, apiKey: KEY, maxRetries: 0 });
const chat = client.chat.completions;

async function speaks(model) {
  const whole = await chat.create({ model, messages: said("Hi there") });
  assert.equal(whole.choices[0].message.content, "You said: Hi there");
  assert.equal(whole.usage.prompt_tokens, 11);

  let text = "", used;
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await chat.create({ model, messages: said("Hi there"), ...options })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    used = chunk.usage ?? used;
  }
  assert.equal(text, "You said: Hi there");
  assert.equal(used.total_tokens, 18);

  const asked = said("The weather in both cities");
  const called = (await chat.create({ model, messages: asked, tools })).choices[0].message;
  const both = ['{"city":"Paris"}', '{"city":"Rome"}'];
  assert.deepEqual(called.tool_calls.map((call) => call.function.arguments), both);
  const results = called.tool_calls.map((call) =>
    ({ role: "tool", tool_call_id: call.id, content: "sun" }));
  const last = await chat.create({ model, messages: [...asked, called, ...results], tools });
  assert.equal(last.choices[0].message.content, "The tool said: sun");

  const stream = chat.stream({ model, messages: asked, tools });
  const message = await stream.finalMessage();
  assert.deepEqual(message.tool_calls.map((call) => call.function.arguments), both);

  const parsed = await chat.parse({
    model, messages: said("Where?"), response_format: zodResponseFormat(Weather, "weather") });
  assert.deepEqual(parsed.choices[0].message.parsed, { city: "Paris", degrees: 21 });

  const seen = await chat.create({ model, messages: said([
    { type: "text", text: "See" }, { type: "image_url", image_url: { url: PIXEL } }]) });
  assert.equal(seen.choices[0].message.content, `I see ${PIXEL}`);

  const { data, response } = await chat.create({ model, messages: said("Hi") }).withResponse();
  assert.equal(response.headers.get("spillway-provider"), model);
  assert.equal(data._request_id, response.headers.get("spillway-request-id"));

  await assert.rejects(chat.create({ model: `${model}-strict`, messages: said("Hi") }),
    OpenAI.BadRequestError);
  await assert.rejects(async () => {
    const cut = await chat.create({ model: `${model}-cut`, messages: said("Hi there"), stream: true });
    for await (const _chunk of cut);
  }, (error) => error instanceof OpenAI.APIError && /broke off/.test(error.message));
}

for (const model of ["openai", "anthropic"]) await speaks(model);

const names = [];
for await (const model of client.models.list()) names.push(model.id);
assert.ok(names.includes("cheap") && names.includes("task:tag"), names.join());
assert.equal((await client.models.retrieve("task:tag")).id, "task:tag");

const nobody = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: "sw_nobody", maxRetries: 0 });
await assert.rejects(nobody.models.list(), OpenAI.AuthenticationError);
await assert.rejects(chat.create({ model: "nothing", messages: said("Hi") }), OpenAI.NotFoundError);

const hurried = { model: "slow-openai", messages: said("Hi") };
const now = { headers: { "Spillway-Max-Wait": "0" } };
await assert.rejects(async () => {
  for (let i = 0; i < 10; i += 1) await chat.create(hurried, now);
}, (error) => error instanceof OpenAI.RateLimitError && Number(error.headers.get("retry-after")) >= 1);
await chat.create(hurried, { ...now, maxRetries: 2 });
console.log("well");
