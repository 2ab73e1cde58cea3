//! A prompt in the words of OpenAI's Responses.
//!
//! What is known of models and of those who speak chat completions holds here too; so the request
//! is written as a chat completion first and then said in other words.

use serde_json::{Map, Value, json};

use super::super::{Dialect, request};
use crate::domain::prompt::Prompt;
use crate::provider::json::{list, text};
use crate::provider::{ProviderError, unsupported};

/// The fewest tokens that OpenAI lets an answer be cut at. Whoever wants fewer gets up to these.
const FEWEST_TOKENS: u32 = 16;

/// Fields that both have.
const SAME: [&str; 5] =
    ["model", "temperature", "top_p", "parallel_tool_calls", "prompt_cache_key"];

/// The body of a request.
pub(super) fn body(
    dialect: Dialect,
    model: &str,
    prompt: &Prompt,
    streamed: bool,
) -> Result<Value, ProviderError> {
    let chat = Value::Object(request::body(dialect, model, prompt)?);
    if chat.get("stop").is_some() {
        return Err(unsupported("the Responses API takes no stop sequences"));
    }
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    for name in SAME {
        if let Some(value) = chat.get(name) {
            put(name, value.clone());
        }
    }
    let format = chat.get("response_format").map(format);
    // JSON of any shape is refused unless the input itself speaks of it: instructions do not count.
    let apart = format.as_ref().is_none_or(|format| text(format, "/type") != "json_object");
    let (instructions, messages) = match list(&chat, "/messages") {
        [first, rest @ ..] if apart && text(first, "/role") == "system" => {
            (first.get("content").cloned(), rest)
        }
        all => (None, all),
    };
    if let Some(instructions) = instructions {
        put("instructions", instructions);
    }
    put("input", messages.iter().flat_map(items).collect());
    let fewest = if dialect == Dialect::OpenAi { FEWEST_TOKENS } else { 1 };
    put("max_output_tokens", prompt.max_output_tokens.max(fewest).into());
    if let Some(format) = format {
        put("text", json!({ "format": format }));
    }
    if chat.get("tools").is_some() {
        put("tools", list(&chat, "/tools").iter().map(tool).collect());
    }
    if let Some(choice) = chat.get("tool_choice") {
        put("tool_choice", tool_choice(choice));
    }
    if let Some(effort) = chat.get("reasoning_effort") {
        put("reasoning", json!({ "effort": effort }));
    }
    // Else OpenAI keeps the answer for a month.
    put("store", false.into());
    if streamed {
        put("stream", true.into());
    }
    Ok(Value::Object(body))
}

/// A message as items: what is said, and each call on its own.
fn items(message: &Value) -> Vec<Value> {
    let role = text(message, "/role");
    if role == "tool" {
        return vec![json!({ "type": "function_call_output",
                            "call_id": text(message, "/tool_call_id"),
                            "output": text(message, "/content") })];
    }
    let content = message.get("content").filter(|content| !content.is_null());
    let said = content.map(|content| json!({ "role": role, "content": parts(content) }));
    let calls = list(message, "/tool_calls").iter().map(|call| {
        json!({ "type": "function_call", "call_id": text(call, "/id"),
                "name": text(call, "/function/name"),
                "arguments": text(call, "/function/arguments") })
    });
    said.into_iter().chain(calls).collect()
}

/// Text as a string, or part by part.
fn parts(content: &Value) -> Value {
    let Some(parts) = content.as_array() else { return content.clone() };
    let written = parts.iter().map(|part| match part.pointer("/image_url/url") {
        Some(url) => json!({ "type": "input_image", "image_url": url, "detail": "auto" }),
        None => json!({ "type": "input_text", "text": text(part, "/text") }),
    });
    written.collect()
}

/// What stands in an object of its own there stands here beside the type.
fn format(format: &Value) -> Value {
    flat(format, "json_schema")
}

/// A tool is strict here unless the request says otherwise.
fn tool(tool: &Value) -> Value {
    let mut tool = flat(tool, "function");
    if let Some(tool) = tool.as_object_mut() {
        tool.entry("strict").or_insert(false.into());
    }
    tool
}

fn tool_choice(choice: &Value) -> Value {
    if choice.is_object() { flat(choice, "function") } else { choice.clone() }
}

fn flat(value: &Value, inner: &str) -> Value {
    let mut flat = Map::new();
    flat.insert("type".to_owned(), text(value, "/type").into());
    if let Some(inner) = value.get(inner).and_then(Value::as_object) {
        flat.extend(inner.clone());
    }
    Value::Object(flat)
}
