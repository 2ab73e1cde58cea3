//! Anthropic's Messages, from the server's side.

use serde_json::{Map, Value, json};

use super::{Asked, Fault, Header, Limited, Refusal, Said, Script, Voice, put, retry_after, time};
use crate::domain::completion::{Finish, ToolCall};
use crate::domain::content::{self, Content, Part, Piece};
use crate::domain::limits::{Axis, Period};
use crate::domain::prompt::{Message, Prompt, Role, Tool, ToolChoice};
use crate::domain::told::Told;
use crate::provider::json::{list, text};
use crate::provider::scripted::refusal::Short;

/// Anthropic.
pub(super) struct Anthropic;

/// What a request asks. A request to count tokens says nothing of the most that are wanted.
pub(in super::super) fn read(body: &[u8], counts: bool) -> Result<Asked, String> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|fault| format!("The request body is not valid JSON: {fault}"))?;
    let cap = body.get("max_tokens").and_then(Value::as_u64);
    if cap.is_none() && !counts {
        return Err("max_tokens: Field required".to_owned());
    }
    let format = ["/output_config/format", "/output_format"];
    let format = format.into_iter().find_map(|place| body.pointer(place));
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    let mut prompt = Prompt {
        max_output_tokens: u32::try_from(cap.unwrap_or_default()).unwrap_or(u32::MAX),
        temperature: body.get("temperature").and_then(Value::as_f64),
        system: body.get("system").map(content_of).transpose()?,
        tools: list(&body, "/tools").iter().map(tool).collect(),
        tool_choice: match text(choice, "/type") {
            "any" => Some(ToolChoice::Required),
            "tool" => Some(ToolChoice::Tool(text(choice, "/name").to_owned())),
            "none" => Some(ToolChoice::None),
            _ => None,
        },
        parallel_tool_calls: choice
            .get("disable_parallel_tool_use")
            .and_then(Value::as_bool)
            .map(|disabled| !disabled),
        output_schema: format.and_then(|format| format.get("schema")).cloned(),
        ..Prompt::default()
    };
    for message in list(&body, "/messages") {
        add(&mut prompt, message)?;
    }
    if prompt.messages.is_empty() {
        return Err("messages: at least one message is required".to_owned());
    }
    mark(&mut prompt, &body);
    let model = text(&body, "/model");
    if model.is_empty() {
        return Err("model: Field required".to_owned());
    }
    let stream = body.get("stream") == Some(&Value::Bool(true));
    Ok(Asked { model: model.to_owned(), prompt, stream, usage: true })
}

/// Marks that stand where a prompt of ours has no place for one: a mark on a tool comes before the
/// instructions, one on the whole request at the end.
fn mark(prompt: &mut Prompt, body: &Value) {
    let tools = list(body, "/tools").iter();
    let on_tools = tools.filter_map(|tool| tool.get("cache_control")).next_back();
    if let Some(mark) = on_tools {
        let part = Part { piece: Piece::Text(String::new()), cache: Some(mark.clone()) };
        let system = prompt.system.take().unwrap_or_default();
        prompt.system = Some(Content(vec![part]).and(system));
    }
    let last = prompt.messages.last_mut().and_then(|message| message.content.0.last_mut());
    if let (Some(mark), Some(last)) = (body.get("cache_control"), last) {
        last.cache.get_or_insert_with(|| mark.clone());
    }
}

fn tool(tool: &Value) -> Tool {
    Tool {
        name: text(tool, "/name").to_owned(),
        description: text(tool, "/description").to_owned(),
        parameters: tool.get("input_schema").cloned().unwrap_or_default(),
        strict: None,
    }
}

/// A text or blocks; kinds of blocks that are not known are passed over.
fn content_of(content: &Value) -> Result<Content, String> {
    match content {
        Value::String(text) => Ok(text.as_str().into()),
        Value::Array(blocks) => {
            let known = |block: &&Value| matches!(text(block, "/type"), "text" | "image");
            blocks.iter().filter(known).map(content::part).collect::<Result<_, _>>().map(Content)
        }
        _ => Err("content: Input should be a valid list or string".to_owned()),
    }
}

fn add(prompt: &mut Prompt, message: &Value) -> Result<(), String> {
    let role = match text(message, "/role") {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => return Err(format!("messages: '{other}' is not a role")),
    };
    let blocks = list(message, "/content");
    for block in blocks.iter().filter(|block| text(block, "/type") == "tool_result") {
        let mut content = block.get("content").map(content_of).transpose()?.unwrap_or_default();
        if let (Some(last), Some(mark)) = (content.0.last_mut(), block.get("cache_control")) {
            last.cache = Some(mark.clone());
        }
        prompt.messages.push(Message {
            tool_call_id: Some(text(block, "/tool_use_id").to_owned()),
            is_error: block.get("is_error") == Some(&Value::Bool(true)),
            ..Message::new(Role::Tool, content)
        });
    }
    let calls = blocks.iter().filter(|block| text(block, "/type") == "tool_use");
    let tool_calls: Vec<ToolCall> = calls
        .map(|block| ToolCall {
            id: text(block, "/id").to_owned(),
            name: text(block, "/name").to_owned(),
            arguments: block.get("input").cloned().unwrap_or_default(),
        })
        .collect();
    let content = content_of(message.get("content").unwrap_or(&Value::Null))?;
    let only_results = content.0.is_empty() && tool_calls.is_empty() && !blocks.is_empty();
    if !only_results {
        prompt.messages.push(Message { tool_calls, ..Message::new(role, content) });
    }
    Ok(())
}

impl Voice for Anthropic {
    fn headers(&self, number: u64, told: &[Told], now: i64) -> Vec<Header> {
        let mut headers = vec![("request-id".to_owned(), format!("req_scripted_{number}"))];
        for told in told.iter().filter(|told| told.per == Period::Minute) {
            let axis = match told.axis {
                Axis::Requests => "requests",
                Axis::InputTokens => "input-tokens",
                Axis::OutputTokens => "output-tokens",
                Axis::Tokens => "tokens",
            };
            let name = |what: &str| format!("anthropic-ratelimit-{axis}-{what}");
            let rounded = |left: f64| match told.axis {
                Axis::Requests => left,
                _ => (left / 1e3).round() * 1e3,
            };
            let reset = told.reset.map(|reset| {
                now.saturating_add(i64::try_from(reset.as_secs()).unwrap_or_default())
            });
            headers.extend(told.limit.map(|limit| (name("limit"), limit.to_string())));
            headers
                .extend(told.remaining.map(|left| (name("remaining"), rounded(left).to_string())));
            headers.extend(reset.map(|reset| (name("reset"), time(reset))));
        }
        headers
    }

    fn whole(&self, said: &Said<'_>) -> String {
        let answer = said.answer;
        let calls = answer.tool_calls.iter().map(|call| {
            json!({ "type": "tool_use", "id": format!("toolu_{}", call.id), "name": call.name,
                    "input": call.arguments })
        });
        let words = Some(&answer.text).filter(|text| !text.is_empty());
        let words = words.map(|text| json!({ "type": "text", "text": text }));
        let content: Vec<Value> = words.into_iter().chain(calls).collect();
        message(said, &content, Some(finish(said)), &usage(said)).to_string()
    }

    fn script(&self, said: &Said<'_>) -> Script<String> {
        let mut begun = usage(said);
        put(&mut begun, "output_tokens", 1);
        let opening = message(said, &[], None, &begun);
        let early =
            vec![event("message_start", &json!({ "message": opening })), event("ping", &json!({}))];
        let closing = json!({
            "delta": { "stop_reason": finish(said), "stop_sequence": null }, "usage": usage(said),
        });
        let tail = vec![event("message_delta", &closing), event("message_stop", &json!({}))];
        Script { early, tokens: blocks(said), tail }
    }

    fn limited(&self, limited: &Limited, model: &str, _now: i64) -> Refusal {
        let mut headers = retry_after(limited.wait);
        headers.push(("x-should-retry".to_owned(), "true".to_owned()));
        Refusal { headers, ..Refusal::json(429, error("rate_limit_error", &words(limited, model))) }
    }

    fn failed(&self, fault: Fault, model: &str) -> Refusal {
        let missing = format!("model: {model}");
        let (kind, message) = match fault {
            Fault::BadKey => ("authentication_error", "invalid x-api-key"),
            Fault::Quota => (
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & \
                 Billing to upgrade or purchase credits.",
            ),
            Fault::NoCredit => ("billing_error", fault.message()),
            Fault::Forbidden => ("permission_error", fault.message()),
            Fault::NoModel => ("not_found_error", missing.as_str()),
            Fault::TooLarge => ("request_too_large", fault.message()),
            Fault::ContextLength => {
                ("invalid_request_error", "prompt is too long: 212345 tokens > 200000 maximum")
            }
            Fault::Overloaded | Fault::Unavailable => ("overloaded_error", "Overloaded"),
            _ => ("api_error", "Internal server error"),
        };
        let status = if fault == Fault::Quota { Some(400) } else { fault.status() };
        Refusal::json(status.unwrap_or(500), error(kind, message))
    }

    fn inside(&self, _said: Option<&Said<'_>>) -> String {
        error("overloaded_error", "Overloaded").to_string()
    }

    fn broken(&self) -> String {
        event("error", &json!({ "error": { "type": "overloaded_error", "message": "Overloaded" } }))
    }
}

/// The answer's blocks as events, token by token.
fn blocks(said: &Said<'_>) -> Vec<String> {
    let mut events = Vec::new();
    let mut block = |start: Value, deltas: Vec<Value>| {
        let index = u32::try_from(events.len()).unwrap_or_default();
        events.push((index, start, deltas));
    };
    if !said.answer.text.is_empty() {
        let pieces = super::super::answer::pieces(&said.answer.text).into_iter();
        let deltas = pieces.map(|piece| json!({ "type": "text_delta", "text": piece }));
        block(json!({ "type": "text", "text": "" }), deltas.collect());
    }
    for call in &said.answer.tool_calls {
        let input =
            if call.arguments == json!({}) { String::new() } else { call.arguments.to_string() };
        let pieces = super::super::answer::pieces(&input).into_iter();
        let more = pieces.map(|piece| json!({ "type": "input_json_delta", "partial_json": piece }));
        // The first is always empty; of a call without arguments it is the only one.
        let first = json!({ "type": "input_json_delta", "partial_json": "" });
        let id = format!("toolu_{}", call.id);
        let start = json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} });
        block(start, std::iter::once(first).chain(more).collect());
    }
    let mut tokens = Vec::new();
    for (index, (_, start, deltas)) in events.into_iter().enumerate() {
        let start = json!({ "index": index, "content_block": start });
        tokens.push(event("content_block_start", &start));
        tokens.extend(
            deltas.into_iter().map(|delta| {
                event("content_block_delta", &json!({ "index": index, "delta": delta }))
            }),
        );
        tokens.push(event("content_block_stop", &json!({ "index": index })));
    }
    tokens
}

/// A named event, whose data says its name too.
fn event(name: &str, data: &Value) -> String {
    let mut all = Map::new();
    all.insert("type".to_owned(), name.into());
    all.extend(data.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
    format!("event: {name}\ndata: {}\n\n", Value::Object(all))
}

fn message(said: &Said<'_>, content: &[Value], reason: Option<&str>, usage: &Value) -> Value {
    json!({
        "id": format!("msg_scripted_{}", said.number), "type": "message", "role": "assistant",
        "model": said.model, "content": content, "stop_reason": reason, "stop_sequence": null,
        "usage": usage,
    })
}

const fn finish(said: &Said<'_>) -> &'static str {
    match said.answer.finish {
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        _ => "end_turn",
    }
}

/// What was neither read from the cache nor written to it stands apart.
fn usage(said: &Said<'_>) -> Value {
    let usage = said.answer.usage;
    let (read, written) = (usage.cached_input_tokens, usage.cache_write_tokens);
    let hour = said.answer.written_for_an_hour;
    json!({
        "input_tokens": usage.input_tokens.saturating_sub(read).saturating_sub(written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written.saturating_sub(hour),
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    })
}

pub(in super::super) fn error(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message },
            "request_id": "req_scripted" })
}

/// What is told of a limit.
fn words(limited: &Limited, model: &str) -> String {
    let axis = |axis: Axis| match axis {
        Axis::Requests => "requests",
        Axis::InputTokens => "input tokens",
        Axis::OutputTokens => "output tokens",
        Axis::Tokens => "tokens",
    };
    match (limited.short, limited.limit) {
        (Short::Growth(of), _) => format!(
            "This request would exceed your organization's maximum usage increase rate for {} per \
             minute. Please scale up your input tokens usage more gradually to stay within the \
             acceleration limit.",
            axis(of)
        ),
        (Short::Places, _) => {
            "Number of concurrent connections has exceeded your rate limit.".to_owned()
        }
        (Short::Rate(of, per) | Short::TooLarge(of, per, _), Some(limit)) => {
            let per = if per == Period::Day { "day" } else { "minute" };
            format!(
                "This request would exceed your organization's rate limit of {limit} {} per {per} \
                 (org: org-scripted, model: {model}).",
                axis(of)
            )
        }
        (Short::Rate(..) | Short::TooLarge(..), None) => {
            "This request would exceed your account's rate limit. Please try again later."
                .to_owned()
        }
    }
}
