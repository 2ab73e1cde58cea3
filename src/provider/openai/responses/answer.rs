//! Responses read.

use serde_json::{Value, json};

use crate::domain::completion::{Completion, ToolCall, Usage};
use crate::provider::json::{list, text};
use crate::provider::openai::answer::{counted, finished, tool_call, written};

/// An error in place of an answer, which comes with a good status.
pub(super) fn error(response: &Value) -> Option<Value> {
    match response.get("error") {
        Some(error) if !error.is_null() => Some(error.clone()),
        _ if text(response, "/status") == "failed" => {
            Some(json!({ "message": "the response failed without a reason" }))
        }
        _ => None,
    }
}

/// Reads a response; `None` when it is none, or has not ended.
pub(super) fn read(response: &Value, model: &str) -> Option<Completion> {
    let items = response.get("output")?.as_array()?;
    let reason = reason(text(response, "/status"), response)?;
    let (mut said, mut refusal) = (String::new(), String::new());
    let (mut thoughts, mut calls) = (Vec::new(), Vec::new());
    for item in items {
        match text(item, "/type") {
            "message" => {
                for part in list(item, "/content") {
                    said.push_str(text(part, "/text"));
                    refusal.push_str(text(part, "/refusal"));
                }
            }
            "reasoning" => {
                let parts = list(item, "/summary").iter().chain(list(item, "/content"));
                thoughts.extend(parts.map(|part| text(part, "/text")));
            }
            "function_call" => calls.push(call(item, reason)),
            _ => {}
        }
    }
    thoughts.retain(|thought| !thought.is_empty());
    let (tool_calls, finish) = finished(reason, calls, &refusal);
    let model = Some(text(response, "/model")).filter(|name| !name.is_empty()).unwrap_or(model);
    Some(Completion {
        model: model.to_owned(),
        text: if said.is_empty() { refusal } else { said },
        reasoning: thoughts.join("\n\n"),
        tool_calls,
        finish,
        usage: response.get("usage").and_then(usage),
        cost_usd: response.pointer("/usage/cost").and_then(Value::as_f64),
        ..Completion::default()
    })
}

/// Why it stopped, in the words of chat completions; `None` while it has not.
pub(super) fn reason<'a>(status: &'a str, response: &'a Value) -> Option<&'a str> {
    Some(match status {
        "queued" | "in_progress" => return None,
        "completed" => "stop",
        "incomplete" => match text(response, "/incomplete_details/reason") {
            "max_output_tokens" => "length",
            other => other,
        },
        "failed" | "cancelled" => "error",
        other => other,
    })
}

/// The name that a call's answer refers to.
pub(super) fn call_id(item: &Value) -> &str {
    match text(item, "/call_id") {
        "" => text(item, "/id"),
        id => id,
    }
}

/// What was used, by its names here.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    counted(usage, "input_tokens", "output_tokens")
}

fn call(item: &Value, reason: &str) -> ToolCall {
    tool_call((call_id(item), text(item, "/name")), &written(item.get("arguments")), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::completion::Finish;

    fn message(part: &Value) -> Value {
        json!({ "type": "message", "role": "assistant", "content": [part] })
    }

    fn call_with(arguments: &str) -> Value {
        json!({ "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f",
                "arguments": arguments })
    }

    #[test]
    fn every_status_has_its_finish() {
        let said = message(&json!({ "type": "output_text", "text": "Hi" }));
        let refused = message(&json!({ "type": "refusal", "refusal": "No." }));
        for (status, why, item, finish, calls) in [
            ("completed", json!(null), &said, Finish::Stop, 0),
            ("completed", json!(null), &refused, Finish::Refusal, 0),
            ("completed", json!(null), &call_with("{}"), Finish::ToolCalls, 1),
            ("completed", json!(null), &call_with(""), Finish::ToolCalls, 1),
            ("incomplete", json!("max_output_tokens"), &said, Finish::Length, 0),
            ("incomplete", json!("max_output_tokens"), &call_with("{\"a\":"), Finish::Length, 0),
            ("incomplete", json!("max_output_tokens"), &call_with("{}"), Finish::ToolCalls, 1),
            ("incomplete", json!("content_filter"), &said, Finish::ContentFilter, 0),
            ("incomplete", json!("bored"), &said, Finish::Unknown, 0),
            ("cancelled", json!(null), &said, Finish::Error, 0),
            ("paused_for_tea", json!(null), &said, Finish::Unknown, 0),
        ] {
            let response = json!({ "status": status, "incomplete_details": { "reason": why },
                                   "output": [item], "error": null });
            assert_eq!(error(&response), None);
            let read = read(&response, "m").unwrap();
            assert_eq!((read.finish, read.tool_calls.len()), (finish, calls), "{status} {why}");
            assert_eq!((read.model.as_str(), read.usage), ("m", None));
        }
        for status in ["queued", "in_progress"] {
            assert_eq!(read(&json!({ "status": status, "output": [] }), "m"), None);
        }
        assert_eq!(read(&json!({ "status": "completed" }), "m"), None);
    }

    #[test]
    fn all_kinds_of_items_are_read_and_others_passed_over() {
        let summary = |text: &str| json!({ "type": "summary_text", "text": text });
        let read = read(
            &json!({ "status": "completed", "model": "gpt-x-1", "output": [
                { "type": "reasoning", "summary": [summary("One."), summary("Two.")],
                  "content": [], "encrypted_content": "gA" },
                { "type": "web_search_call", "status": "completed" },
                message(&json!({ "type": "output_text", "text": "Hi", "annotations": [] })),
                call_with("{\"q\":1}"),
                { "type": "from_the_future", "text": "?" },
            ] }),
            "m",
        );
        let read = read.unwrap();
        assert_eq!((read.text.as_str(), read.reasoning.as_str()), ("Hi", "One.\n\nTwo."));
        assert_eq!((read.model.as_str(), read.finish), ("gpt-x-1", Finish::ToolCalls));
        let call = read.tool_calls.first().unwrap();
        assert_eq!((call.id.as_str(), &call.arguments), ("call_1", &json!({ "q": 1 })));
    }

    #[test]
    fn what_failed_is_an_error() {
        let told = json!({ "code": "server_error", "message": "m" });
        assert_eq!(error(&json!({ "status": "failed", "error": told })), Some(told));
        assert!(error(&json!({ "status": "failed", "error": null })).is_some());
        assert!(error(&json!({ "status": "completed" })).is_none());
    }

    #[test]
    fn usage_is_counted_by_its_own_names() {
        let all = usage(&json!({
            "input_tokens": 50, "output_tokens": 20, "total_tokens": 70,
            "input_tokens_details": { "cached_tokens": 30, "cache_write_tokens": 15 },
            "output_tokens_details": { "reasoning_tokens": 90 },
        }));
        let all = all.unwrap();
        assert_eq!(
            (all.input_tokens, all.cached_input_tokens, all.cache_write_tokens),
            (50, 30, 15)
        );
        assert_eq!((all.output_tokens, all.reasoning_tokens), (20, Some(20)));
        let little = usage(&json!({ "input_tokens": 5, "input_tokens_details": null })).unwrap();
        assert_eq!((little.input_tokens, little.output_tokens), (5, 0));
        assert_eq!(usage(&json!(null)), None);
    }
}
