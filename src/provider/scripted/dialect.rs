//! OpenAI's chat dialect, from the server's side.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::fault::Fault;
use super::refusal::Limited;
use crate::domain::completion::Finish;
use crate::domain::limits::Axis;
use crate::domain::prompt::{Message, Prompt, Role, Tool};
use crate::domain::told::{Period, Told};

/// What is asked when a request does not say how long the answer may be.
const DEFAULT_MAX_TOKENS: u32 = 4_096;

#[derive(Deserialize)]
struct ChatRequest {
    model: String,
    messages: Vec<ChatMessage>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    response_format: Option<Value>,
    #[serde(default)]
    tools: Vec<ChatTool>,
    #[serde(default)]
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct ChatTool {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Value,
}

/// The model and prompt of a request; what is wrong with it when it is none.
pub(super) fn read(body: &[u8]) -> Result<(String, Prompt), String> {
    let request: ChatRequest = serde_json::from_slice(body)
        .map_err(|fault| format!("We could not parse the JSON body of your request: {fault}"))?;
    if request.stream == Some(true) {
        return Err("Unsupported value: 'stream' does not support true.".to_owned());
    }
    let schema = request
        .response_format
        .and_then(|mut format| format.pointer_mut("/json_schema/schema").map(Value::take));
    let mut prompt = Prompt {
        max_output_tokens: request
            .max_completion_tokens
            .or(request.max_tokens)
            .unwrap_or(DEFAULT_MAX_TOKENS),
        temperature: request.temperature,
        output_schema: schema,
        tools: request.tools.into_iter().map(tool).collect(),
        ..Prompt::default()
    };
    for message in request.messages {
        add(&mut prompt, message)?;
    }
    if prompt.messages.is_empty() {
        return Err("Invalid 'messages': empty array.".to_owned());
    }
    Ok((request.model, prompt))
}

fn tool(ChatTool { function }: ChatTool) -> Tool {
    let Function { name, description, parameters } = function;
    Tool { name, description, parameters, strict: None }
}

fn add(prompt: &mut Prompt, message: ChatMessage) -> Result<(), String> {
    let content = text_of(&message.content);
    let role = match message.role.as_str() {
        "system" | "developer" => {
            let before = prompt.system.take().unwrap_or_default();
            prompt.system = Some(before.and(content.into()));
            return Ok(());
        }
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => return Err(format!("Invalid value: '{other}' is not a role.")),
    };
    let tool_call_id = message.tool_call_id;
    prompt.messages.push(Message { tool_call_id, ..Message::new(role, content) });
    Ok(())
}

/// A message's text: a string, or the text parts of a list.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// An answer's body.
pub(super) fn completion(number: u64, model: &str, answer: &Answer, created: i64) -> Value {
    let finish = if answer.finish == Finish::Length { "length" } else { "stop" };
    let usage = answer.usage;
    json!({
        "id": format!("chatcmpl-scripted-{number}"),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant", "content": answer.text, "refusal": null, "annotations": [],
            },
            "logprobs": null,
            "finish_reason": finish,
        }],
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": { "cached_tokens": usage.cached_input_tokens },
            "completion_tokens_details": { "reasoning_tokens": 0 },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    })
}

/// An error's body.
fn error(message: &str, kind: &str, code: Option<&str>) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

/// The body of a request that cannot be served.
pub(super) fn invalid(message: &str) -> Value {
    error(message, "invalid_request_error", None)
}

/// The body of a 429.
pub(super) fn rate_limited(limited: &Limited, model: &str) -> Value {
    let (kind, code) = limited.kind();
    error(&limited.message(model), kind, Some(code))
}

/// The body of another error status.
pub(super) fn failed(fault: Fault) -> Value {
    let (kind, code) = match fault {
        Fault::BadKey => ("invalid_request_error", Some("invalid_api_key")),
        Fault::Unavailable => ("service_unavailable_error", Some("server_is_overloaded")),
        Fault::Overloaded => ("overloaded_error", None),
        _ => ("server_error", None),
    };
    error(fault.message(), kind, code)
}

/// The `x-ratelimit-*` headers. OpenAI has no names for input and output tokens apart, nor for a
/// day's limit beside a minute's: there it is Cerebras' suffix.
pub(super) fn limit_headers(told: &[Told]) -> Vec<(String, String)> {
    let each = |told: &Told| {
        let axis = match told.axis {
            Axis::Requests => "requests",
            Axis::InputTokens => "input-tokens",
            Axis::OutputTokens => "output-tokens",
            Axis::Tokens => "tokens",
        };
        let suffix = if told.per == Period::Day { "-day" } else { "" };
        let name = |what: &str| format!("x-ratelimit-{what}-{axis}{suffix}");
        [
            told.limit.map(|limit| (name("limit"), limit.to_string())),
            told.remaining.map(|left| (name("remaining"), left.to_string())),
            told.reset.map(|reset| (name("reset"), duration(reset))),
        ]
    };
    told.iter().flat_map(each).flatten().collect()
}

/// A duration as OpenAI writes it: `2ms`, `1.04s`, `6m0s`, `1h8m25.745s`.
fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let (seconds, rest) = (rest / 1_000, rest % 1_000);
    let fraction = format!("{rest:03}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{seconds}{point}{fraction}s");
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_a_prompt() {
        let body = json!({
            "model": "m",
            "messages": [
                { "role": "developer", "content": "Be short." },
                { "role": "user", "content": [{ "type": "text", "text": "Hi" }] },
            ],
            "max_completion_tokens": 7,
            "response_format": { "type": "json_schema",
                "json_schema": { "name": "r", "strict": true, "schema": { "type": "object" } } },
            "seed": 1,
        });
        let (model, prompt) = read(body.to_string().as_bytes()).unwrap();
        assert_eq!((model.as_str(), prompt.system), ("m", Some("Be short.".into())));
        assert_eq!(prompt.messages.first().map(|m| m.content.clone()), Some("Hi".into()));
        assert_eq!(prompt.max_output_tokens, 7);
        assert_eq!(prompt.output_schema, Some(json!({ "type": "object" })));
        for bad in ["", "{}", r#"{"model":"m","messages":[]}"#] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (millis, text) in
            [(2, "2ms"), (1_040, "1.04s"), (360_000, "6m0s"), (4_105_745, "1h8m25.745s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
