//! Gemini's answers read.

use serde_json::{Map, Value};

use crate::domain::completion::{Completion, Finish, ToolCall, Usage};
use crate::domain::content::Image;
use crate::provider::json::{count, list, text};
use crate::provider::tool_id::with_signature;

/// An error where an answer is expected, also in a list of one.
pub(super) fn error(answer: &Value) -> Option<&Value> {
    let answer = answer.get(0).unwrap_or(answer);
    answer.get("error").filter(|error| !error.is_null())
}

/// Reads an answer; `None` when it is none. A prompt that was blocked gives no candidate.
pub(super) fn read(answer: &Value, model: &str) -> Option<Completion> {
    let model =
        Some(text(answer, "/modelVersion")).filter(|name| !name.is_empty()).unwrap_or(model);
    let empty = Completion {
        model: model.to_owned(),
        finish: Finish::ContentFilter,
        usage: answer.get("usageMetadata").and_then(usage),
        ..Completion::default()
    };
    let Some(candidate) = answer.pointer("/candidates/0") else {
        return (!text(answer, "/promptFeedback/blockReason").is_empty()).then_some(empty);
    };
    // A blocked candidate has content without parts.
    let parts = list(candidate, "/content/parts");
    let spoken = |thoughts: bool| parts.iter().filter(move |part| is_thought(part) == thoughts);
    let tool_calls = tool_calls(parts, text(answer, "/responseId"));
    let finish = finished(text(candidate, "/finishReason"), !tool_calls.is_empty());
    Some(Completion {
        text: spoken(false).map(|part| text(part, "/text")).collect(),
        reasoning: spoken(true).map(|part| text(part, "/text")).collect(),
        images: spoken(false).filter_map(image).collect(),
        tool_calls,
        finish,
        ..empty
    })
}

/// Whether a part is what the model thought, not what it says.
pub(super) fn is_thought(part: &Value) -> bool {
    part.get("thought") == Some(&Value::Bool(true))
}

/// An image the model made.
pub(super) fn image(part: &Value) -> Option<Image> {
    let (kind, data) = (text(part, "/inlineData/mimeType"), text(part, "/inlineData/data"));
    (kind.starts_with("image/") && !data.is_empty()).then(|| Image {
        media_type: Some(kind.to_owned()),
        data: Some(data.to_owned()),
        url: None,
    })
}

fn tool_calls(parts: &[Value], response: &str) -> Vec<ToolCall> {
    let calls = parts.iter().filter(|part| part.get("functionCall").is_some());
    (0..).zip(calls).filter_map(|(index, part)| tool_call(part, index, response)).collect()
}

/// The call in a part. It has no id on older models: one is made of its place in the response,
/// unique in the conversation.
pub(super) fn tool_call(part: &Value, index: u32, response: &str) -> Option<ToolCall> {
    let call = part.get("functionCall")?;
    let id = match text(call, "/id") {
        "" => format!("{response}_{index}"),
        id => id.to_owned(),
    };
    let arguments = call.get("args").filter(|args| args.is_object());
    Some(ToolCall {
        id: with_signature(&id, text(part, "/thoughtSignature")),
        name: text(call, "/name").to_owned(),
        arguments: arguments.cloned().unwrap_or_else(|| Value::Object(Map::new())),
    })
}

/// Calls count before the word for a natural end.
pub(super) fn finished(reason: &str, has_calls: bool) -> Finish {
    match finish(reason) {
        Finish::Stop | Finish::Unknown if has_calls => Finish::ToolCalls,
        finish => finish,
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "STOP" => Finish::Stop,
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "LANGUAGE"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Finish::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "OTHER"
        | "NO_IMAGE"
        | "IMAGE_OTHER" => Finish::Error,
        _ => Finish::Unknown,
    }
}

/// Thoughts are billed as output and stand outside the candidates; cached is inside the prompt.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    let prompt = count(usage, "/promptTokenCount")?;
    let input = prompt + count(usage, "/toolUsePromptTokenCount").unwrap_or_default();
    let thoughts = count(usage, "/thoughtsTokenCount");
    let spoken = count(usage, "/candidatesTokenCount").unwrap_or_default();
    Some(Usage {
        input_tokens: input,
        cached_input_tokens: count(usage, "/cachedContentTokenCount")
            .unwrap_or_default()
            .min(input),
        cache_write_tokens: 0,
        cache_write_1h_tokens: 0,
        output_tokens: spoken + thoughts.unwrap_or_default(),
        reasoning_tokens: thoughts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finished(reason: &str, parts: &Value) -> Finish {
        let answer = json!({ "candidates": [
            { "content": { "parts": parts }, "finishReason": reason }
        ] });
        read(&answer, "m").unwrap().finish
    }

    #[test]
    fn every_reason_to_stop_is_known_or_unknown() {
        let call = json!([{ "functionCall": { "name": "f" } }]);
        for (reason, parts, expected) in [
            ("STOP", json!([]), Finish::Stop),
            ("STOP", call.clone(), Finish::ToolCalls),
            ("MAX_TOKENS", json!([]), Finish::Length),
            ("MAX_TOKENS", call.clone(), Finish::Length),
            ("SAFETY", json!([]), Finish::ContentFilter),
            ("RECITATION", json!([]), Finish::ContentFilter),
            ("BLOCKLIST", json!([]), Finish::ContentFilter),
            ("PROHIBITED_CONTENT", json!([]), Finish::ContentFilter),
            ("SPII", json!([]), Finish::ContentFilter),
            ("LANGUAGE", json!([]), Finish::ContentFilter),
            ("IMAGE_SAFETY", json!([]), Finish::ContentFilter),
            ("IMAGE_PROHIBITED_CONTENT", json!([]), Finish::ContentFilter),
            ("IMAGE_RECITATION", json!([]), Finish::ContentFilter),
            ("MALFORMED_FUNCTION_CALL", json!([]), Finish::Error),
            ("UNEXPECTED_TOOL_CALL", json!([]), Finish::Error),
            ("TOO_MANY_TOOL_CALLS", json!([]), Finish::Error),
            ("OTHER", json!([]), Finish::Error),
            ("NO_IMAGE", json!([]), Finish::Error),
            ("IMAGE_OTHER", json!([]), Finish::Error),
            ("SOMETHING_NEW", json!([]), Finish::Unknown),
            ("SOMETHING_NEW", call, Finish::ToolCalls),
        ] {
            assert_eq!(finished(reason, &parts), expected, "{reason}");
        }
    }

    #[test]
    fn an_image_it_made_is_read() {
        let made = json!({ "inlineData": { "mimeType": "image/png", "data": "QUJD" } });
        let draft = json!({ "inlineData": { "mimeType": "image/png", "data": "X" },
                            "thought": true });
        let sound = json!({ "inlineData": { "mimeType": "audio/wav", "data": "X" } });
        let answer = json!({ "candidates": [{ "finishReason": "STOP",
            "content": { "parts": [{ "text": "Here." }, draft, made, sound] } }] });
        let images = read(&answer, "m").unwrap().images;
        let addresses: Vec<String> = images.iter().map(Image::address).collect();
        assert_eq!(addresses, ["data:image/png;base64,QUJD"]);
    }

    #[test]
    fn a_blocked_prompt_is_an_answer_and_nothing_is_none() {
        let blocked = json!({ "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" },
                              "usageMetadata": { "promptTokenCount": 9 } });
        let answer = read(&blocked, "m").unwrap();
        assert_eq!((answer.finish, answer.text.as_str()), (Finish::ContentFilter, ""));
        assert_eq!(answer.usage.unwrap().input_tokens, 9);
        assert!(read(&json!({}), "m").is_none());
        assert!(read(&json!([{}]), "m").is_none());
    }

    #[test]
    fn thoughts_are_not_said_and_calls_get_ids() {
        let answer = json!({
            "responseId": "r",
            "candidates": [{ "finishReason": "STOP", "content": { "parts": [
                { "text": "hm", "thought": true }, { "text": "a" }, { "text": "b" },
                { "functionCall": { "name": "f", "args": { "x": 1 } }, "thoughtSignature": "S=" },
                { "functionCall": { "name": "g", "id": "own" } },
            ] } }],
        });
        let read_back = read(&answer, "m").unwrap();
        assert_eq!((read_back.text.as_str(), read_back.reasoning.as_str()), ("ab", "hm"));
        let ids: Vec<&str> = read_back.tool_calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["r_0~S=", "own"]);
        assert_eq!(read_back.tool_calls[1].arguments, json!({}));
    }
}
