//! Ollama's chats read.

use serde_json::{Map, Value};

use crate::domain::completion::{Completion, Finish, ToolCall, Usage};
use crate::provider::json::{count, list, text};

/// Reads a chat; `None` when it is none, or has not ended.
pub(super) fn read(chat: &Value, model: &str) -> Option<Completion> {
    let message = chat.get("message").filter(|message| message.is_object())?;
    if !is_done(chat) {
        return None;
    }
    let tool_calls = calls(chat, 0);
    let model = Some(text(chat, "/model")).filter(|name| !name.is_empty()).unwrap_or(model);
    Some(Completion {
        model: model.to_owned(),
        text: text(message, "/content").to_owned(),
        reasoning: text(message, "/thinking").to_owned(),
        finish: finish(chat, !tool_calls.is_empty()),
        tool_calls,
        usage: usage(chat),
        ..Completion::default()
    })
}

/// Whether the answer is whole.
pub(super) fn is_done(chat: &Value) -> bool {
    chat.get("done") == Some(&Value::Bool(true))
}

/// Why it stopped. Old versions do not tell; other words, such as `load`, stand for no answer.
pub(super) fn finish(chat: &Value, has_calls: bool) -> Finish {
    match text(chat, "/done_reason") {
        "stop" | "length" | "" if has_calls => Finish::ToolCalls,
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "" => Finish::Unknown,
        _ => Finish::Error,
    }
}

/// The calls of a message, which come whole; `before` have come already. Old versions give them no
/// id: the time tells them from those of other answers.
pub(super) fn calls(chat: &Value, before: usize) -> Vec<ToolCall> {
    let time: String = text(chat, "/created_at").chars().filter(char::is_ascii_digit).collect();
    let calls = list(chat, "/message/tool_calls").iter().enumerate();
    let calls = calls.map(|(at, call)| ToolCall {
        id: match text(call, "/id") {
            "" => format!("call_{time}_{}", before + at),
            id => id.to_owned(),
        },
        name: text(call, "/function/name").to_owned(),
        arguments: match call.pointer("/function/arguments") {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(arguments) => arguments.clone(),
        },
    });
    calls.collect()
}

/// Either count may be missing: a prompt that was all cached is not counted by old versions.
pub(super) fn usage(chat: &Value) -> Option<Usage> {
    let (sent, received) = (count(chat, "/prompt_eval_count"), count(chat, "/eval_count"));
    (sent.is_some() || received.is_some()).then(|| Usage {
        input_tokens: sent.unwrap_or_default(),
        output_tokens: received.unwrap_or_default(),
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_reason_has_its_finish() {
        let call = json!([{ "function": { "name": "f", "arguments": { "a": 1 } } }]);
        for (reason, calls, finish) in [
            (json!("stop"), json!(null), Finish::Stop),
            (json!("stop"), call.clone(), Finish::ToolCalls),
            (json!("length"), json!([]), Finish::Length),
            (json!("length"), call.clone(), Finish::ToolCalls),
            (json!("load"), json!([]), Finish::Error),
            (json!("unload"), call.clone(), Finish::Error),
            (json!(null), json!([]), Finish::Unknown),
            (json!(null), call, Finish::ToolCalls),
        ] {
            let chat = json!({ "message": { "content": "", "tool_calls": calls },
                               "done": true, "done_reason": reason });
            assert_eq!(read(&chat, "m").unwrap().finish, finish, "{chat}");
        }
        for open in [json!({ "message": { "content": "H" }, "done": false }), json!({}), json!([])]
        {
            assert_eq!(read(&open, "m"), None);
        }
    }

    #[test]
    fn calls_have_ids_of_their_own() {
        let chat = json!({ "created_at": "2026-11-20T12:00:00.25Z", "message": { "tool_calls": [
            { "function": { "name": "f", "arguments": { "a": 1 } } },
            { "id": "call_x", "function": { "name": "g", "arguments": null } },
        ] } });
        let calls = calls(&chat, 2);
        let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["call_2026112012000025_2", "call_x"]);
        assert_eq!(calls[0].arguments, json!({ "a": 1 }));
        assert_eq!(calls[1].arguments, json!({}));
    }

    #[test]
    fn either_count_may_be_missing() {
        let counted = |chat: Value| usage(&chat).map(|u| (u.input_tokens, u.output_tokens));
        assert_eq!(counted(json!({ "prompt_eval_count": 17, "eval_count": 63 })), Some((17, 63)));
        assert_eq!(counted(json!({ "eval_count": 63 })), Some((0, 63)));
        assert_eq!(counted(json!({ "prompt_eval_count": 17 })), Some((17, 0)));
        assert_eq!(counted(json!({ "eval_count": null })), None);
    }
}
