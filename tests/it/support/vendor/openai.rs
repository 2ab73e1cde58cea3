//! OpenAI's words.

use serde_json::{Value, json};

use super::Said;

fn usage() -> Value {
    json!({ "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
            "prompt_tokens_details": { "cached_tokens": 4 },
            "completion_tokens_details": { "reasoning_tokens": 0 } })
}

fn call(index: usize, name: &str, arguments: &str) -> Value {
    json!({ "index": index, "id": format!("call_{index}"), "type": "function",
            "function": { "name": name, "arguments": arguments } })
}

/// A whole answer.
pub(super) fn whole(model: &str, said: &Said) -> Value {
    let (message, reason) = match said {
        Said::Text(text) => (json!({ "role": "assistant", "content": text }), "stop"),
        Said::Refusal(why) => {
            (json!({ "role": "assistant", "content": null, "refusal": why }), "stop")
        }
        Said::Calls(calls) => {
            let calls = calls.iter().enumerate();
            let calls: Vec<Value> =
                calls.map(|(at, (name, input))| call(at, name, &input.to_string())).collect();
            (json!({ "role": "assistant", "content": null, "tool_calls": calls }), "tool_calls")
        }
    };
    json!({
        "id": "chatcmpl-vendor", "object": "chat.completion", "created": 1_790_000_000,
        "model": format!("{model}-2026"), "service_tier": "default", "system_fingerprint": "fp_v",
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": reason }],
        "usage": usage(),
    })
}

/// A stream's messages.
pub(super) fn stream(model: &str, said: &Said, tells_usage: bool) -> Vec<String> {
    let around = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "chatcmpl-vendor", "object": "chat.completion.chunk", "created": 1_790_000_000,
            "model": format!("{model}-2026"), "system_fingerprint": "fp_v", "obfuscation": "xyz",
            "choices": choices, "usage": usage,
        });
        format!("data: {chunk}\n\n")
    };
    let chunk = |delta: Value, reason: Value| {
        around(json!([{ "index": 0, "delta": delta, "finish_reason": reason }]), Value::Null)
    };
    let mut told = vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)];
    let reason = match said {
        Said::Text(text) => {
            let words = text.split_inclusive(' ');
            told.extend(words.map(|word| chunk(json!({ "content": word }), Value::Null)));
            "stop"
        }
        Said::Refusal(why) => {
            told.push(chunk(json!({ "refusal": why }), Value::Null));
            "stop"
        }
        Said::Calls(calls) => {
            for (at, (name, input)) in calls.iter().enumerate() {
                let text = input.to_string();
                let (first, second) = text.split_at(text.len() / 2);
                told.push(chunk(json!({ "tool_calls": [call(at, name, "")] }), Value::Null));
                for arguments in [first, second] {
                    let call = json!({ "index": at, "function": { "arguments": arguments } });
                    told.push(chunk(json!({ "tool_calls": [call] }), Value::Null));
                }
            }
            "tool_calls"
        }
    };
    told.push(chunk(json!({}), json!(reason)));
    if tells_usage {
        told.push(around(json!([]), usage()));
    }
    told.push("data: [DONE]\n\n".to_owned());
    told
}
