"""OpenAI's own SDK, unmodified, against the service. Every step is asserted."""

import os
import time

import openai
from openai import OpenAI
from pydantic import BaseModel

BASE, KEY = os.environ["BASE"], os.environ["KEY"]
PIXEL = "data:image/png;base64,iVBORw0KGgo="
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "Looks.", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"], "additionalProperties": False}}}]


class Weather(BaseModel):
    city: str
    degrees: int


def said(text):
    return [{"role": "user", "content": text}]


def raises(kind, call, status):
    try:
        call()
    except kind as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"no {kind.__name__}")


def speaks(client, route):
    chat = client.chat.completions
    answer = chat.create(model=route, messages=said("Hi there"))
    assert answer.choices[0].message.content == "You said: Hi there"
    assert (answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (11, 4)

    chunks = list(chat.create(model=route, messages=said("Hi there"), stream=True,
                              stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "You said: Hi there" and chunks[-1].usage.total_tokens == 18

    asked = said("The weather in both cities")
    answer = chat.create(model=route, messages=asked, tools=TOOLS, tool_choice="required")
    calls = answer.choices[0].message.tool_calls
    assert [c.function.arguments for c in calls] == ['{"city":"Paris"}', '{"city":"Rome"}'], calls
    results = [{"role": "tool", "tool_call_id": c.id, "content": "sun"} for c in calls]
    answer = chat.create(model=route, tools=TOOLS,
                         messages=asked + [answer.choices[0].message, *results])
    assert answer.choices[0].message.content == "The tool said: sun"

    with chat.stream(model=route, messages=asked, tools=TOOLS) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds, kinds
    calls = final.choices[0].message.tool_calls
    assert [c.function.parsed_arguments for c in calls] == [{"city": "Paris"}, {"city": "Rome"}]

    answer = chat.parse(model=route, messages=said("Where?"), response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21)

    parts = [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = chat.create(model=route, messages=said(parts))
    assert answer.choices[0].message.content == f"I see {PIXEL}"

    raw = chat.with_raw_response.create(model=route, messages=said("Hi"))
    assert raw.headers["spillway-provider"] == route and raw.headers["spillway-attempts"] == "1"
    answer = raw.parse()
    assert answer._request_id == raw.headers["spillway-request-id"]

    raises(openai.BadRequestError, lambda: chat.create(model=f"{route}-strict", messages=said("Hi")), 400)
    try:
        for _ in chat.create(model=f"{route}-cut", messages=said("Hi there"), stream=True):
            pass
        raise AssertionError("a cut stream passed for whole")
    except openai.APIError as error:
        assert "broke off" in error.message, error


client = OpenAI(base_url=f"{BASE}/openai/v1", api_key=KEY, max_retries=0)
for route in ["openai", "anthropic"]:
    speaks(client, route)

names = [model.id for model in client.models.list()]
assert {"cheap", "task:tag", "gpt-4.1-mini"} <= set(names), names
assert client.models.retrieve("task:tag").id == "task:tag"
answer = client.chat.completions.create(model="task:chat", messages=said("Hi there"))
assert answer.choices[0].message.content == "You said: Hi there"

nobody = OpenAI(base_url=f"{BASE}/v1", api_key="sw_nobody", max_retries=0)
error = raises(openai.AuthenticationError, nobody.models.list, 401)
assert error.code == "invalid_api_key", error
create = client.chat.completions.create
error = raises(openai.NotFoundError, lambda: create(model="nothing", messages=said("Hi")), 404)
assert error.code == "model_not_found"
raises(openai.BadRequestError, lambda: create(model="openai", messages=[]), 400)
raises(openai.InternalServerError, lambda: create(
    model="openai-broken", messages=said("Hi"), extra_headers={"Spillway-Max-Wait": "0"}), 503)

# A caller who does not wait is told when to come again, and the SDK does.
hurried = {"extra_headers": {"Spillway-Max-Wait": "0"}, "model": "slow-openai", "messages": said("Hi")}
def hurry():
    for _ in range(10):
        create(**hurried)
error = raises(openai.RateLimitError, hurry, 429)
wait = int(error.response.headers["retry-after"])
assert 1 <= wait <= 5, wait
began = time.monotonic()
client.with_options(max_retries=2).chat.completions.create(**hurried)
assert 0.5 <= time.monotonic() - began <= 12, time.monotonic() - began
print("well")
