//! OpenAI's chat dialect, from the server's side.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Fault, Header, Limited, Refusal, Said, Script, Voice, event, put, retry_after};
use crate::domain::completion::{Finish, ToolCall};
use crate::domain::content::Content;
use crate::domain::limits::{Axis, Period};
use crate::domain::prompt::{Message, Prompt, Role, Tool, ToolChoice};
use crate::domain::told::Told;
use crate::provider::stream::read_arguments;

/// OpenAI itself.
pub(super) struct OpenAi;

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
    tool_choice: Option<Value>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<Value>,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Content,
    #[serde(default)]
    tool_calls: Option<Vec<ChatCall>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct ChatCall {
    id: String,
    function: Called,
}

#[derive(Deserialize)]
struct Called {
    name: String,
    #[serde(default)]
    arguments: String,
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

/// What a request asks; what is wrong with it when it asks nothing.
pub(in super::super) fn read(body: &[u8]) -> Result<Asked, String> {
    let request: ChatRequest = serde_json::from_slice(body)
        .map_err(|fault| format!("We could not parse the JSON body of your request: {fault}"))?;
    let format = request.response_format.unwrap_or_default();
    let told = |place: &str| format.pointer(place).and_then(Value::as_str);
    let mut prompt = Prompt {
        max_output_tokens: request
            .max_completion_tokens
            .or(request.max_tokens)
            .unwrap_or(DEFAULT_MAX_TOKENS),
        temperature: request.temperature,
        json: told("/type") == Some("json_object"),
        output_schema: format.pointer("/json_schema/schema").cloned(),
        tools: request.tools.into_iter().map(tool).collect(),
        tool_choice: request.tool_choice.as_ref().and_then(choice),
        parallel_tool_calls: request.parallel_tool_calls,
        ..Prompt::default()
    };
    for message in request.messages {
        add(&mut prompt, message)?;
    }
    if prompt.messages.is_empty() {
        return Err("Invalid 'messages': empty array.".to_owned());
    }
    let options = request.stream_options.unwrap_or_default();
    Ok(Asked {
        model: request.model,
        prompt,
        stream: request.stream == Some(true),
        usage: options.get("include_usage") == Some(&Value::Bool(true)),
    })
}

/// `"auto"`, `"required"`, `{"type": "function", "function": {"name": "f"}}`.
fn choice(choice: &Value) -> Option<ToolChoice> {
    let name = choice.pointer("/function/name").and_then(Value::as_str);
    match (choice.as_str(), name) {
        (Some("none"), _) => Some(ToolChoice::None),
        (Some("required"), _) => Some(ToolChoice::Required),
        (_, Some(name)) => Some(ToolChoice::Tool(name.to_owned())),
        _ => None,
    }
}

fn tool(ChatTool { function }: ChatTool) -> Tool {
    let Function { name, description, parameters } = function;
    Tool { name, description, parameters, strict: None }
}

fn add(prompt: &mut Prompt, message: ChatMessage) -> Result<(), String> {
    let ChatMessage { role, content, tool_calls, tool_call_id } = message;
    let role = match role.as_str() {
        "system" | "developer" => {
            let before = prompt.system.take().unwrap_or_default();
            prompt.system = Some(before.and(content));
            return Ok(());
        }
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => return Err(format!("Invalid value: '{other}' is not a role.")),
    };
    let called = |call: ChatCall| ToolCall {
        id: call.id,
        arguments: read_arguments(&call.function.arguments),
        name: call.function.name,
    };
    let tool_calls = tool_calls.unwrap_or_default().into_iter().map(called).collect();
    prompt.messages.push(Message { tool_calls, tool_call_id, ..Message::new(role, content) });
    Ok(())
}

impl Voice for OpenAi {
    fn headers(&self, number: u64, told: &[Told], _now: i64) -> Vec<Header> {
        let mut headers = limit_headers(told);
        headers.push(("x-request-id".to_owned(), format!("req_scripted_{number}")));
        headers
    }

    fn whole(&self, said: &Said<'_>) -> String {
        let mut body = completion(said);
        put(&mut body, "service_tier", "default");
        body.to_string()
    }

    fn script(&self, said: &Said<'_>) -> Script<String> {
        chunks(said).script(said.usage)
    }

    fn limited(&self, limited: &Limited, model: &str, _now: i64) -> Refusal {
        let mut headers = retry_after(limited.wait);
        let millis = limited.wait.map(|wait| wait.as_millis().to_string());
        headers.extend(millis.map(|millis| ("retry-after-ms".to_owned(), millis)));
        let (kind, code) = limited.kind();
        let body = error(&limited.message(model), kind, Some(code));
        Refusal { headers, ..Refusal::json(429, body) }
    }

    fn failed(&self, fault: Fault, model: &str) -> Refusal {
        Refusal::json(fault.status().unwrap_or(500), failed(fault, model))
    }

    fn inside(&self, _said: Option<&Said<'_>>) -> String {
        failed(Fault::ErrorInside, "").to_string()
    }

    fn broken(&self) -> String {
        event(&failed(Fault::ErrorMidway, ""))
    }
}

/// An answer's body, as all speak it.
pub(super) fn completion(said: &Said<'_>) -> Value {
    let Said { number, model, answer, now, .. } = said;
    let content = Some(&answer.text).filter(|_| answer.tool_calls.is_empty());
    let mut message = json!({
        "role": "assistant", "content": content, "refusal": null, "annotations": [],
    });
    if !answer.tool_calls.is_empty() {
        let calls: Value = answer.tool_calls.iter().map(called).collect();
        put(&mut message, "tool_calls", calls);
    }
    json!({
        "id": format!("chatcmpl-scripted-{number}"),
        "object": "chat.completion",
        "created": now,
        "model": model,
        "choices": [{
            "index": 0, "message": message, "logprobs": null, "finish_reason": finish(said),
        }],
        "usage": usage(said),
        "system_fingerprint": "fp_scripted",
    })
}

fn called(call: &ToolCall) -> Value {
    json!({
        "id": format!("call_{}", call.id), "type": "function",
        "function": { "name": call.name, "arguments": call.arguments.to_string() },
    })
}

/// Why it ended.
pub(super) const fn finish(said: &Said<'_>) -> &'static str {
    match said.answer.finish {
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        _ => "stop",
    }
}

/// What it used.
pub(super) fn usage(said: &Said<'_>) -> Value {
    let usage = said.answer.usage;
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    })
}

/// A stream's messages, before they are written down.
pub(super) struct Chunks {
    /// The first, which says who speaks.
    pub(super) first: Value,
    /// The answer, token by token.
    pub(super) tokens: Vec<Value>,
    /// The last of the answer, which says why it ends.
    pub(super) last: Value,
    /// What was used.
    pub(super) usage: Value,
}

impl Chunks {
    /// All of them as server-sent events.
    pub(super) fn script(&self, usage: bool) -> Script<String> {
        let mut tail = vec![event(&self.last)];
        if usage {
            tail.push(event(&self.usage));
        }
        tail.push("data: [DONE]\n\n".to_owned());
        let tokens = std::iter::once(&self.first).chain(&self.tokens).map(event).collect();
        Script { early: Vec::new(), tokens, tail }
    }
}

/// A stream's messages, as all speak them.
pub(super) fn chunks(said: &Said<'_>) -> Chunks {
    let Said { number, model, answer, now, .. } = said;
    let whole = |choices: Value| {
        json!({
            "id": format!("chatcmpl-scripted-{number}"), "object": "chat.completion.chunk",
            "created": now, "model": model, "system_fingerprint": "fp_scripted",
            "choices": choices,
        })
    };
    let chunk = |delta: Value, finish: Option<&str>| {
        whole(json!([{
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish,
        }]))
    };
    let text = super::super::answer::pieces(&answer.text);
    let mut tokens: Vec<Value> =
        text.into_iter().map(|piece| chunk(json!({ "content": piece }), None)).collect();
    for (index, call) in answer.tool_calls.iter().enumerate() {
        let mut begun = called(call);
        let arguments = call.arguments.to_string();
        put(&mut begun, "index", index);
        put(&mut begun, "function", json!({ "name": call.name, "arguments": "" }));
        tokens.push(chunk(json!({ "tool_calls": [begun] }), None));
        tokens.extend(super::super::answer::pieces(&arguments).into_iter().map(|piece| {
            let more = json!([{ "index": index, "function": { "arguments": piece } }]);
            chunk(json!({ "tool_calls": more }), None)
        }));
    }
    let content = Some("").filter(|_| answer.tool_calls.is_empty());
    let opening = json!({ "role": "assistant", "content": content, "refusal": null });
    let mut used = whole(json!([]));
    put(&mut used, "usage", usage(said));
    Chunks {
        first: chunk(opening, None),
        tokens,
        last: chunk(json!({}), Some(finish(said))),
        usage: used,
    }
}

/// An error's body.
pub(super) fn error(message: &str, kind: &str, code: Option<&str>) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

/// The body of a request that cannot be served.
pub(in super::super) fn invalid(message: &str) -> Value {
    error(message, "invalid_request_error", None)
}

/// The body of another error status.
pub(super) fn failed(fault: Fault, model: &str) -> Value {
    let (kind, code) = match fault {
        Fault::BadKey => ("invalid_request_error", Some("invalid_api_key")),
        Fault::Unavailable => ("service_unavailable_error", Some("server_is_overloaded")),
        Fault::Overloaded => ("overloaded_error", None),
        Fault::Quota => ("insufficient_quota", Some("insufficient_quota")),
        Fault::NoCredit => ("billing_error", Some("payment_required")),
        Fault::Forbidden => ("permission_error", Some("permission_denied")),
        Fault::NoModel => {
            let message =
                format!("The model `{model}` does not exist or you have no access to it.");
            return error(&message, "invalid_request_error", Some("model_not_found"));
        }
        Fault::TooLarge => ("invalid_request_error", Some("request_too_large")),
        Fault::ContextLength => ("invalid_request_error", Some("context_length_exceeded")),
        _ => ("server_error", None),
    };
    error(fault.message(), kind, code)
}

/// The `x-ratelimit-*` headers. OpenAI has no names for input and output tokens apart, nor for a
/// day's limit beside a minute's: there it is Cerebras' suffix.
pub(super) fn limit_headers(told: &[Told]) -> Vec<Header> {
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
        let Asked { model, prompt, stream, .. } = read(body.to_string().as_bytes()).unwrap();
        assert!(!stream);
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
