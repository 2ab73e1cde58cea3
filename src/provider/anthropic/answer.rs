//! Anthropic's messages read.

use serde_json::{Map, Value};

use crate::domain::completion::{Completion, Finish, ToolCall, Usage};
use crate::provider::json::{count, text};

/// An error where a message is expected.
pub(super) fn error(answer: &Value) -> Option<&Value> {
    answer.get("error").filter(|error| !error.is_null())
}

/// Reads a message; `None` when it is none. Kinds of blocks we do not know are passed over.
pub(super) fn read(answer: &Value, model: &str) -> Option<Completion> {
    let blocks = answer.get("content")?.as_array()?;
    let of = |kind: &'static str| blocks.iter().filter(move |b| text(b, "/type") == kind);
    let mut tool_calls: Vec<ToolCall> = of("tool_use").map(tool_call).collect();
    let finish = finished(text(answer, "/stop_reason"), !tool_calls.is_empty());
    // What was written last is what was cut.
    let last = blocks.last().map(|block| text(block, "/type"));
    if is_cut(finish) && last == Some("tool_use") {
        tool_calls.pop();
    }
    let model = Some(text(answer, "/model")).filter(|name| !name.is_empty()).unwrap_or(model);
    Some(Completion {
        model: model.to_owned(),
        text: of("text").map(|block| text(block, "/text")).collect(),
        reasoning: of("thinking").map(|block| text(block, "/thinking")).collect(),
        tool_calls,
        finish,
        usage: answer.get("usage").and_then(usage),
        ..Completion::default()
    })
}

fn tool_call(block: &Value) -> ToolCall {
    ToolCall {
        id: text(block, "/id").to_owned(),
        name: text(block, "/name").to_owned(),
        arguments: block.get("input").cloned().unwrap_or_else(|| Value::Object(Map::new())),
    }
}

/// With tool calls present they are what counts, unless the answer ended in the middle of one.
pub(super) fn finished(reason: &str, has_calls: bool) -> Finish {
    match finish(reason) {
        finish if is_cut(finish) || finish == Finish::Refusal || !has_calls => finish,
        _ => Finish::ToolCalls,
    }
}

/// Whether there was no room for more.
const fn is_cut(finish: Finish) -> bool {
    matches!(finish, Finish::Length | Finish::ContextFull)
}

fn finish(reason: &str) -> Finish {
    match reason {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "max_tokens" => Finish::Length,
        "model_context_window_exceeded" => Finish::ContextFull,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::Refusal,
        "pause_turn" => Finish::Paused,
        _ => Finish::Unknown,
    }
}

/// `input_tokens` counts only what was neither read from nor written to the cache.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    let plain = count(usage, "/input_tokens")?;
    let cached = count(usage, "/cache_read_input_tokens").unwrap_or_default();
    let written = count(usage, "/cache_creation_input_tokens").unwrap_or_default();
    let hour = count(usage, "/cache_creation/ephemeral_1h_input_tokens").unwrap_or_default();
    let output = count(usage, "/output_tokens").unwrap_or_default();
    Some(Usage {
        input_tokens: plain + cached + written,
        cached_input_tokens: cached,
        cache_write_tokens: written,
        cache_write_1h_tokens: hour.min(written),
        output_tokens: output,
        reasoning_tokens: count(usage, "/output_tokens_details/thinking_tokens")
            .map(|thinking| thinking.min(output)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_reason_to_stop_is_known_or_unknown() {
        for (reason, expected) in [
            ("end_turn", Finish::Stop),
            ("stop_sequence", Finish::Stop),
            ("max_tokens", Finish::Length),
            ("model_context_window_exceeded", Finish::ContextFull),
            ("refusal", Finish::Refusal),
            ("pause_turn", Finish::Paused),
            ("something_new", Finish::Unknown),
        ] {
            let answer = json!({ "content": [], "stop_reason": reason });
            assert_eq!(read(&answer, "m").unwrap().finish, expected, "{reason}");
        }
    }

    #[test]
    fn strange_blocks_and_missing_counts_do_no_harm() {
        let answer = json!({
            "content": [{ "type": "thinking", "thinking": "…" }, { "type": "text", "text": "a" },
                        { "type": "brand_new" }, 7, { "type": "text", "text": "b" }],
            "stop_reason": "end_turn", "usage": { "input_tokens": 1, "new": {} },
        });
        let read_back = read(&answer, "m").unwrap();
        assert_eq!((read_back.text.as_str(), read_back.model.as_str()), ("ab", "m"));
        assert_eq!(read_back.reasoning, "…");
        assert_eq!(read_back.usage.unwrap().reasoning_tokens, None);
        assert!(read(&json!({ "content": "text" }), "m").is_none());
        assert!(read(&json!([]), "m").is_none());
    }

    #[test]
    fn a_tool_call_that_was_cut_is_not_a_tool_call() {
        let call = json!({ "type": "tool_use", "id": "t", "name": "n", "input": {} });
        let answer = |reason: &str| json!({ "content": [call], "stop_reason": reason });
        assert_eq!(read(&answer("end_turn"), "m").unwrap().finish, Finish::ToolCalls);
        let cut = read(&answer("max_tokens"), "m").unwrap();
        assert_eq!((cut.finish, cut.tool_calls.len()), (Finish::Length, 0));
    }

    #[test]
    fn what_is_written_for_an_hour_is_told_apart() {
        let told = usage(&json!({ "input_tokens": 10, "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 100, "output_tokens": 1,
            "cache_creation": { "ephemeral_5m_input_tokens": 40,
                                "ephemeral_1h_input_tokens": 60 } }));
        let told = told.unwrap();
        assert_eq!((told.input_tokens, told.cached_input_tokens), (115, 5));
        assert_eq!((told.cache_write_tokens, told.cache_write_1h_tokens), (100, 60));
    }
}
