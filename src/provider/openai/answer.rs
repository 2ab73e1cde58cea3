//! Chat completions read.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::domain::completion::{Completion, Finish, ToolCall, Usage};
use crate::domain::content::Image;
use crate::provider::json::{count, list, text};
use crate::provider::stream::read_arguments;

/// An error inside an answer with a good status, as OpenRouter sends it when generation had
/// already begun. It wins over everything beside it. Cerebras tells its status beside it.
pub(super) fn error(answer: &Value) -> Option<Value> {
    let choices = list(answer, "/choices").iter();
    let places = [answer].into_iter().chain(choices);
    let error = places.filter_map(|place| place.get("error")).find(|error| !error.is_null())?;
    let mut error = error.clone();
    if let (Some(error), Some(status)) = (error.as_object_mut(), answer.get("status_code")) {
        error.entry("status_code").or_insert_with(|| status.clone());
    }
    Some(error)
}

/// Reads a chat completion; `None` when it is none.
pub(super) fn read(answer: &Value, model: &str) -> Option<Completion> {
    let choice = answer.pointer("/choices/0")?;
    let message = choice.get("message")?;
    let (reason, refusal) = (text(choice, "/finish_reason"), text(message, "/refusal"));
    let calls = list(message, "/tool_calls").iter().map(|call| {
        let (id, name) = (text(call, "/id"), text(call, "/function/name"));
        tool_call((id, name), &arguments(call), reason)
    });
    // The form of old servers, which has no id.
    let old = message.get("function_call").filter(|call| call.is_object());
    let old = old.map(|call| json!({ "function": call })).map(|call| {
        tool_call(("call_0", text(&call, "/function/name")), &arguments(&call), reason)
    });
    let (tool_calls, finish) = finished(reason, calls.chain(old).collect(), refusal);
    let content = content(message);
    let model = Some(text(answer, "/model")).filter(|name| !name.is_empty()).unwrap_or(model);
    Some(Completion {
        model: model.to_owned(),
        text: if content.is_empty() { refusal.to_owned() } else { content },
        reasoning: reasoning(message).to_owned(),
        images: images(message),
        tool_calls,
        finish,
        usage: answer.get("usage").and_then(usage),
        cost_usd: answer.pointer("/usage/cost").and_then(Value::as_f64),
        ..Completion::default()
    })
}

/// Text, or a list of parts of which some are text.
pub(super) fn content(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(content)) => content.clone(),
        Some(Value::Array(parts)) => parts.iter().map(|part| text(part, "/text")).collect(),
        _ => String::new(),
    }
}

/// What the model thought, by the names that servers have for it.
pub(super) fn reasoning(message: &Value) -> &str {
    match text(message, "/reasoning_content") {
        "" => text(message, "/reasoning"),
        thought => thought,
    }
}

/// Images that the model made: OpenRouter's list, or parts of the content.
pub(super) fn images(message: &Value) -> Vec<Image> {
    let parts = list(message, "/images").iter().chain(list(message, "/content"));
    let images = parts.map(|part| text(part, "/image_url/url")).filter(|url| !url.is_empty());
    images.map(Image::at).collect()
}

/// A call's arguments, or a part of them, as text. Some servers do not wrap the object in text.
pub(super) fn arguments(call: &Value) -> Cow<'_, str> {
    written(call.pointer("/function/arguments"))
}

/// The text, or what should have been one.
pub(super) fn written(arguments: Option<&Value>) -> Cow<'_, str> {
    match arguments {
        Some(Value::String(raw)) => raw.into(),
        Some(other) if !other.is_null() => other.to_string().into(),
        _ => "".into(),
    }
}

/// A call. One without arguments has none, unless they are what was cut.
pub(super) fn tool_call((id, name): (&str, &str), arguments: &str, reason: &str) -> ToolCall {
    let is_cut = reason == "length" && arguments.trim().is_empty();
    let arguments = if is_cut { "".into() } else { read_arguments(arguments) };
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments }
}

/// A refusal counts before tool calls and these before the word. A call that was cut in the
/// middle is no call: it is left out, so that nobody runs it.
pub(super) fn finished(
    reason: &str,
    mut calls: Vec<ToolCall>,
    refusal: &str,
) -> (Vec<ToolCall>, Finish) {
    let finish = match reason {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "content_filter" => Finish::ContentFilter,
        "error" => Finish::Error,
        _ => Finish::Unknown,
    };
    if !refusal.is_empty() {
        return (calls, Finish::Refusal);
    }
    let before = calls.len();
    if finish == Finish::Length {
        calls.retain(|call| !call.arguments.is_string());
    }
    let cut = calls.len() < before;
    let finish = if calls.is_empty() || cut { finish } else { Finish::ToolCalls };
    (calls, finish)
}

/// Details may be missing, and one provider tells more reasoning than output.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    counted(usage, "prompt_tokens", "completion_tokens")
}

/// What was used, by the names that input and output have.
pub(super) fn counted(usage: &Value, input: &str, output: &str) -> Option<Usage> {
    let at = |place: String| count(usage, &place);
    let sent = at(format!("/{input}"))?;
    let received = at(format!("/{output}")).unwrap_or_default();
    let part = |name| at(format!("/{input}_details/{name}")).unwrap_or_default().min(sent);
    Some(Usage {
        input_tokens: sent,
        cached_input_tokens: part("cached_tokens"),
        cache_write_tokens: part("cache_write_tokens"),
        cache_write_1h_tokens: 0,
        output_tokens: received,
        reasoning_tokens: at(format!("/{output}_details/reasoning_tokens"))
            .map(|reasoning| reasoning.min(received)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(reason: &Value, message: &Value) -> (Finish, usize) {
        let answer = json!({ "choices": [{ "message": message, "finish_reason": reason }] });
        let completion = read(&answer, "m").unwrap();
        (completion.finish, completion.tool_calls.len())
    }

    fn calls(arguments: &[&str]) -> Value {
        let calls: Vec<Value> = arguments
            .iter()
            .map(|text| json!({ "id": "c", "function": { "name": "f", "arguments": text } }))
            .collect();
        json!({ "content": null, "tool_calls": calls })
    }

    #[test]
    fn what_is_there_counts_before_the_word() {
        let said = json!({ "content": "hi" });
        for (reason, expected) in [
            (json!("stop"), Finish::Stop),
            (json!("length"), Finish::Length),
            (json!("content_filter"), Finish::ContentFilter),
            (json!("tool_calls"), Finish::ToolCalls),
            (json!("function_call"), Finish::ToolCalls),
            (json!("error"), Finish::Error),
            (json!("eos"), Finish::Unknown),
            (json!(null), Finish::Unknown),
            (json!(7), Finish::Unknown),
        ] {
            assert_eq!(finish(&reason, &said), (expected, 0), "{reason}");
        }
        assert_eq!(finish(&json!("stop"), &calls(&["{}", ""])), (Finish::ToolCalls, 2));
        assert_eq!(finish(&json!("length"), &calls(&["{}", "{\"a\":"])), (Finish::Length, 1));
        assert_eq!(finish(&json!("length"), &calls(&["{}", ""])), (Finish::Length, 1));
        assert_eq!(finish(&json!("stop"), &calls(&["{\"a\":"])), (Finish::ToolCalls, 1));
        let refused = json!({ "content": null, "refusal": "I cannot." });
        assert_eq!(finish(&json!("stop"), &refused).0, Finish::Refusal);
        assert_eq!(finish(&json!("content_filter"), &refused).0, Finish::Refusal);
    }

    #[test]
    fn arguments_are_an_object_or_the_models_own_text() {
        let of = |written: Value| {
            tool_call(("", ""), &arguments(&json!({ "function": { "arguments": written } })), "")
        };
        assert_eq!(of(json!("{\"a\":1}")).arguments, json!({ "a": 1 }));
        assert_eq!(of(json!(" ")).arguments, json!({}));
        assert_eq!(of(json!(null)).arguments, json!({}));
        assert_eq!(of(json!({ "a": 1 })).arguments, json!({ "a": 1 }));
        assert_eq!(of(json!("{\"a\":")).arguments, json!("{\"a\":"));
        assert_eq!(of(json!("[1]")).arguments, json!("[1]"));
    }

    #[test]
    fn what_was_thought_and_made_is_read() {
        for name in ["reasoning", "reasoning_content"] {
            let answer = json!({ "choices": [{ "message": { name: "hm", "content": "a" } }] });
            let read = read(&answer, "m").unwrap();
            assert_eq!((read.reasoning.as_str(), read.text.as_str()), ("hm", "a"));
        }
        let made = json!({ "type": "image_url",
                           "image_url": { "url": "data:image/png;base64,QUJD" } });
        for message in [
            json!({ "content": null, "images": [made] }),
            json!({ "content": [{ "type": "text", "text": "" }, made] }),
        ] {
            let images = images(&message);
            assert_eq!(images.first().unwrap().data.as_deref(), Some("QUJD"));
        }
        let old = json!({ "function_call": { "name": "f", "arguments": "{\"a\":1}" } });
        assert_eq!(finish(&json!("function_call"), &old), (Finish::ToolCalls, 1));
    }

    #[test]
    fn usage_is_clamped_and_may_be_missing() {
        let all = usage(&json!({ "prompt_tokens": 50, "completion_tokens": null,
            "prompt_tokens_details": { "cached_tokens": 30, "cache_write_tokens": 15 } }));
        let all = all.unwrap();
        assert_eq!((all.cached_input_tokens, all.cache_write_tokens), (30, 15));
        assert_eq!((all.output_tokens, all.reasoning_tokens), (0, None));
        let told = usage(&json!({ "prompt_tokens": 5, "completion_tokens": 10,
            "prompt_tokens_details": null,
            "completion_tokens_details": { "reasoning_tokens": 11 } }));
        let told = told.unwrap();
        assert_eq!((told.reasoning_tokens, told.cached_input_tokens), (Some(10), 0));
        assert_eq!(usage(&json!({})), None);
        assert_eq!(usage(&json!(null)), None);
    }

    #[test]
    fn an_error_beside_an_answer_is_found() {
        let top = json!({ "error": { "code": 400 }, "choices": [{}] });
        let within = json!({ "choices": [{ "error": { "code": 502 } }] });
        assert!(error(&top).is_some() && error(&within).is_some());
        assert!(error(&json!({ "error": null, "choices": [{ "error": null }] })).is_none());
    }
}
