//! Answers and errors as OpenAI's chat completions have them.

use actix_web::http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::Head;
use crate::domain::completion::{Completion, Finish, ToolCall, Usage};
use crate::domain::content::Image;

/// An answer.
pub(in super::super) fn whole(head: &Head, answer: &Completion) -> Value {
    let declined = answer.finish == Finish::Refusal;
    let silent = answer.text.is_empty() && !answer.tool_calls.is_empty();
    let content = (!declined && !silent).then_some(&answer.text);
    let refusal = declined.then_some(&answer.text);
    let mut message = Map::new();
    let mut say = |name: &str, value: Value| message.insert(name.to_owned(), value);
    say("role", "assistant".into());
    say("content", json!(content));
    say("refusal", json!(refusal));
    if !answer.reasoning.is_empty() {
        say("reasoning_content", answer.reasoning.as_str().into());
    }
    if !answer.images.is_empty() {
        say("images", answer.images.iter().map(image).collect());
    }
    if !answer.tool_calls.is_empty() {
        say("tool_calls", answer.tool_calls.iter().map(tool_call).collect());
    }
    json!({
        "id": head.name("chatcmpl-"),
        "object": "chat.completion",
        "created": head.created,
        "model": answer.model,
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish(answer.finish),
        }],
        "usage": answer.usage.as_ref().map(usage),
    })
}

/// An image that the model made, as OpenRouter writes it.
pub(super) fn image(image: &Image) -> Value {
    json!({ "type": "image_url", "image_url": { "url": image.address() } })
}

fn tool_call(call: &ToolCall) -> Value {
    let arguments = match &call.arguments {
        Value::String(raw) => raw.clone(),
        other => other.to_string(),
    };
    json!({ "id": call.id, "type": "function",
            "function": { "name": call.name, "arguments": arguments } })
}

/// Why the model stopped, in OpenAI's words. There is none for a broken generation; OpenRouter's
/// is used.
pub(super) const fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Paused | Finish::Unknown | Finish::Refusal => "stop",
        Finish::Length | Finish::ContextFull => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        Finish::Error => "error",
    }
}

/// What was used. Cached tokens are a part of the prompt's here, too.
pub(super) fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens.unwrap_or_default(),
        },
    })
}

/// An error's body.
pub(in super::super) fn error(
    status: StatusCode,
    code: &str,
    message: &str,
    place: Option<&str>,
) -> Value {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    // The names that programs look for.
    let code = match code {
        "unauthorized" => "invalid_api_key",
        "context_length" => "context_length_exceeded",
        "refused" => "content_filter",
        other => other,
    };
    json!({ "error": { "message": message, "type": kind, "param": place, "code": code } })
}
