//! Anthropic's words.

use serde_json::{Value, json};

use super::Said;

fn usage(output: u64) -> Value {
    json!({ "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
            "output_tokens": output, "service_tier": "standard" })
}

fn tool_use(index: usize, name: &str, input: &Value) -> Value {
    json!({ "type": "tool_use", "id": format!("toolu_{index}"), "name": name, "input": input })
}

const fn reason(said: &Said) -> &'static str {
    match said {
        Said::Text(_) => "end_turn",
        Said::Calls(_) => "tool_use",
        Said::Refusal(_) => "refusal",
    }
}

fn message(model: &str, content: &Value, stop: &Value, usage: &Value) -> Value {
    json!({ "id": "msg_vendor", "type": "message", "role": "assistant",
            "model": format!("{model}-2026"), "content": content, "stop_reason": stop,
            "stop_sequence": null, "container": null, "usage": usage })
}

/// A whole answer.
pub(super) fn whole(model: &str, said: &Said) -> Value {
    let content = match said {
        Said::Text(text) => json!([{ "type": "text", "text": text, "citations": null }]),
        Said::Refusal(why) => json!([{ "type": "text", "text": why }]),
        Said::Calls(calls) => {
            let calls = calls.iter().enumerate();
            calls.map(|(at, (name, input))| tool_use(at, name, input)).collect()
        }
    };
    message(model, &content, &json!(reason(said)), &usage(7))
}

/// A stream's messages.
pub(super) fn stream(model: &str, said: &Said) -> Vec<String> {
    let event = |event: Value| {
        let name = event["type"].as_str().unwrap().to_owned();
        format!("event: {name}\ndata: {event}\n\n")
    };
    let started = message(model, &json!([]), &Value::Null, &usage(1));
    let mut told = vec![
        event(json!({ "type": "message_start", "message": started })),
        event(json!({ "type": "ping" })),
    ];
    let mut block = |index: usize, block: Value, deltas: Vec<Value>| {
        told.push(event(
            json!({ "type": "content_block_start", "index": index, "content_block": block }),
        ));
        for delta in deltas {
            told.push(event(
                json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            ));
        }
        told.push(event(json!({ "type": "content_block_stop", "index": index })));
    };
    match said {
        Said::Text(text) | Said::Refusal(text) => {
            let words = text.split_inclusive(' ');
            let deltas = words.map(|word| json!({ "type": "text_delta", "text": word })).collect();
            block(0, json!({ "type": "text", "text": "" }), deltas);
        }
        Said::Calls(calls) => {
            for (at, (name, input)) in calls.iter().enumerate() {
                let text = input.to_string();
                let (first, second) = text.split_at(text.len() / 2);
                let delta = |text| json!({ "type": "input_json_delta", "partial_json": text });
                let deltas = ["", first, second].map(delta).to_vec();
                block(at, tool_use(at, name, &json!({})), deltas);
            }
        }
    }
    let delta = json!({ "stop_reason": reason(said), "stop_sequence": null });
    told.push(event(json!({ "type": "message_delta", "delta": delta, "usage": usage(7) })));
    told.push(event(json!({ "type": "message_stop" })));
    told
}
