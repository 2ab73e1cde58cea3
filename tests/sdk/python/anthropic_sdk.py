"""Anthropic's own SDK, unmodified, against the service. Every step is asserted."""

import os
import time

import anthropic
from anthropic import Anthropic
from pydantic import BaseModel

BASE, KEY = os.environ["BASE"], os.environ["KEY"]
TOOLS = [{"name": "weather", "description": "Looks.",
          "input_schema": {"type": "object", "properties": {"city": {"type": "string"}},
                           "required": ["city"], "additionalProperties": False}}]


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
    asked = {"model": route, "max_tokens": 100}
    create = client.messages.create
    answer = create(messages=said("Hi there"), system="Be brief.", **asked)
    assert answer.content[0].text == "You said: Hi there" and answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (7, 4)

    kinds = [event.type for event in create(messages=said("Hi there"), stream=True, **asked)]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds

    with client.messages.stream(messages=said("Hi there"), **asked) as stream:
        assert "".join(stream.text_stream) == "You said: Hi there"
        final = stream.get_final_message()
    assert final.usage.output_tokens == 7 and final.stop_reason == "end_turn"

    question = said("The weather in both cities")
    answer = create(messages=question, tools=TOOLS, tool_choice={"type": "any"}, **asked)
    assert [call.input for call in answer.content] == [{"city": "Paris"}, {"city": "Rome"}]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sun"}
               for call in answer.content]
    answer = create(tools=TOOLS, **asked, messages=question + [
        {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}])
    assert answer.content[0].text == "The tool said: sun"

    with client.messages.stream(messages=question, tools=TOOLS, **asked) as stream:
        deltas = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(deltas) >= 4 and final.stop_reason == "tool_use"
    assert [call.input for call in final.content] == [{"city": "Paris"}, {"city": "Rome"}]

    answer = client.messages.parse(messages=said("Where?"), output_format=Weather, **asked)
    assert answer.parsed_output == Weather(city="Paris", degrees=21), answer

    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    answer = create(messages=said([{"type": "image", "source": source}]), **asked)
    assert answer.content[0].text == "I see data:image/png;base64,iVBORw0KGgo="

    raw = client.messages.with_raw_response.create(messages=said("Hi"), **asked)
    assert raw.headers["spillway-provider"] == route and raw.headers["spillway-attempts"] == "1"
    assert raw.parse()._request_id == raw.headers["spillway-request-id"]

    counted = client.messages.count_tokens(model=route, messages=said("Hi"))
    assert counted.input_tokens == 1234 if route == "anthropic" else counted.input_tokens > 0

    asked["model"] = f"{route}-strict"
    raises(anthropic.BadRequestError, lambda: create(messages=said("Hi"), **asked), 400)
    asked["model"] = f"{route}-cut"
    try:
        with client.messages.stream(messages=said("Hi there"), **asked) as stream:
            stream.until_done()
        raise AssertionError("a cut stream passed for whole")
    except anthropic.APIError as error:
        assert "broke off" in str(error), error


client = Anthropic(base_url=f"{BASE}/anthropic", api_key=KEY, max_retries=0)
for route in ["anthropic", "openai"]:
    speaks(client, route)

names = [model.id for model in client.models.list()]
assert {"cheap", "task:tag", "claude-haiku-4-5"} <= set(names), names
assert client.models.retrieve("task:tag").display_name == "task:tag"
# The base URL alone, and a bearer token as Claude Code sends it.
plain = Anthropic(base_url=BASE, auth_token=KEY, api_key=None, max_retries=0)
create = plain.messages.create
answer = create(model="task:chat", max_tokens=100, messages=said("Hi there"))
assert answer.content[0].text == "You said: Hi there"
assert plain.models.list().data[0].type == "model"
answer = plain.beta.messages.create(model="anthropic", max_tokens=100, messages=said("Hi"),
                                    betas=["files-2026"])
assert answer.content[0].text == "You said: Hi"

nobody = Anthropic(base_url=BASE, api_key="sw_nobody", max_retries=0)
asked = {"max_tokens": 100, "messages": said("Hi")}
error = raises(anthropic.AuthenticationError,
               lambda: nobody.messages.create(model="openai", **asked), 401)
assert error.type == "authentication_error", error.type
raises(anthropic.NotFoundError, lambda: create(model="nothing", **asked), 404)
raises(anthropic.BadRequestError, lambda: create(model="openai", max_tokens=9, messages=[]), 400)

# A caller who does not wait is told when to come again, and the SDK does.
hurried = {"extra_headers": {"Spillway-Max-Wait": "0"}, "model": "slow-anthropic", **asked}
def hurry():
    for _ in range(10):
        create(**hurried)
error = raises(anthropic.RateLimitError, hurry, 429)
wait = int(error.response.headers["retry-after"])
assert 1 <= wait <= 5, wait
began = time.monotonic()
plain.with_options(max_retries=2).messages.create(**hurried)
assert 0.5 <= time.monotonic() - began <= 12, time.monotonic() - began
print("well")
