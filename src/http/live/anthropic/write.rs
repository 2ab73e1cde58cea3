//! Answers and errors as Anthropic's Messages have them.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use super::super::Head;
use crate::domain::completion::{Completion, Finish, Usage};

/// An answer. What another model thought is left out: a thinking block needs a signature, and
/// without one Anthropic would refuse the conversation when it goes on there.
pub(in super::super) fn whole(head: &Head, answer: &Completion) -> Value {
    let mut content = Vec::new();
    if !answer.text.is_empty() {
        content.push(json!({ "type": "text", "text": answer.text }));
    }
    for call in &answer.tool_calls {
        let input = match &call.arguments {
            Value::Object(_) => call.arguments.clone(),
            other => json!({ "arguments": other }),
        };
        let (id, name) = (&call.id, &call.name);
        content.push(json!({ "type": "tool_use", "id": id, "name": name, "input": input }));
    }
    json!({
        "id": head.name("msg_"),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason(answer.finish),
        "stop_sequence": null,
        "usage": usage(&answer.usage.unwrap_or_default()),
    })
}

/// Why the model stopped, in Anthropic's words.
pub(super) const fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Unknown => "end_turn",
        // There is no word for a broken generation: it is cut in any case.
        Finish::Length | Finish::Error => "max_tokens",
        Finish::ContextFull => "model_context_window_exceeded",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter | Finish::Refusal => "refusal",
        Finish::Paused => "pause_turn",
    }
}

/// What was used. What the cache has served or taken is no part of `input_tokens` here.
pub(super) fn usage(usage: &Usage) -> Value {
    let cached = usage.cached_input_tokens + usage.cache_write_tokens;
    json!({
        "input_tokens": usage.input_tokens.saturating_sub(cached),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    })
}

/// An error's body.
pub(in super::super) fn error(
    status: StatusCode,
    message: &str,
    request_id: Option<&str>,
) -> Value {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let error = json!({ "type": kind, "message": message });
    json!({ "type": "error", "error": error, "request_id": request_id })
}
