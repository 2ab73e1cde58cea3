//! A prompt in the words of Anthropic's Messages.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::cache;
use crate::domain::content::Content;
use crate::domain::limits::glob;
use crate::domain::prompt::{Dialect, Message, Prompt, Role};
use crate::provider::native;
use crate::provider::output::{ANTHROPIC, instructed, joined, strict_schema};
use crate::provider::parameters;
use crate::provider::sampling::takes_temperature;
use crate::provider::tool_id::portable;

/// Models that cannot be held to a schema.
const FREE: [&str; 9] = [
    "claude-instant*",
    "claude-2*",
    "claude-3*",
    "claude-opus-4",
    "claude-opus-4-0*",
    "claude-opus-4-2025*",
    "claude-sonnet-4",
    "claude-sonnet-4-0*",
    "claude-sonnet-4-2025*",
];

/// What is sent: the body and further headers; and whether it is the caller's own request.
pub(super) fn asked(model: &str, prompt: &Prompt, streamed: bool) -> (Value, HeaderMap, bool) {
    if let Some(own) = prompt.native_in(Dialect::Anthropic) {
        let mut body = native::body(own, model, streamed);
        cache::mark(&mut body);
        return (Value::Object(body), native::headers(own), true);
    }
    let mut body = body(model, prompt);
    if streamed && let Some(body) = body.as_object_mut() {
        body.insert("stream".to_owned(), true.into());
    }
    (body, HeaderMap::new(), false)
}

/// What the prompt asks for that the model is not held to, or not sent.
pub(super) fn lacks(model: &str, prompt: &Prompt) -> Option<&'static str> {
    let bound = model.starts_with("claude") && !FREE.iter().any(|free| glob(free, model));
    let free = |schema| !bound || strict_schema(schema, &ANTHROPIC).is_none();
    if prompt.output_schema.as_ref().is_some_and(free) {
        return Some(parameters::SCHEMA);
    }
    let warm = prompt.temperature.is_some() && !takes_temperature(model);
    warm.then_some(parameters::TEMPERATURE)
}

/// The body of a request.
fn body(model: &str, prompt: &Prompt) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("max_tokens".to_owned(), prompt.max_output_tokens.into());
    let mut system = system(prompt);
    if let Some(schema) = &prompt.output_schema {
        let bound = model.starts_with("claude") && !FREE.iter().any(|free| glob(free, model));
        match strict_schema(schema, &ANTHROPIC).filter(|_| bound) {
            Some(schema) => {
                let format = json!({ "format": { "type": "json_schema", "schema": schema } });
                body.insert("output_config".to_owned(), format);
            }
            None => system = Some(instructed(system, schema)),
        }
    }
    if let Some(system) = system {
        body.insert("system".to_owned(), joined(&system).into());
    }
    body.insert("messages".to_owned(), messages(&prompt.messages));
    if let Some(temperature) = prompt.temperature.filter(|_| takes_temperature(model)) {
        // The others' scale ends at 2, this one at 1.
        body.insert("temperature".to_owned(), temperature.min(1.0).into());
    }
    if !prompt.tools.is_empty() {
        let tools = prompt.tools.iter().map(|tool| {
            json!({ "name": tool.name, "description": tool.description,
                    "input_schema": tool.parameters })
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    Value::Object(body)
}

/// Instructions stand beside the conversation, not in it.
fn system(prompt: &Prompt) -> Option<Content> {
    let within = prompt.messages.iter().filter(|message| message.role == Role::System);
    let parts = prompt.system.iter().chain(within.map(|message| &message.content));
    parts.cloned().reduce(Content::and)
}

/// Neighbours of one role become one message: the answers to parallel calls must stand together.
fn messages(messages: &[Message]) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = match message.role {
            Role::System => continue,
            Role::User => ("user", text(message)),
            Role::Assistant => ("assistant", assistant(message)),
            Role::Tool => ("user", vec![tool_result(message)]),
        };
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    // An empty message is refused.
    let turns = turns.into_iter().filter(|(_, blocks)| !blocks.is_empty());
    turns.map(|(role, blocks)| json!({ "role": role, "content": blocks })).collect()
}

fn text(message: &Message) -> Vec<Value> {
    let block = || json!({ "type": "text", "text": message.content.text() });
    (!message.content.is_empty()).then(block).into_iter().collect()
}

fn assistant(message: &Message) -> Vec<Value> {
    let calls = message.tool_calls.iter().map(|call| {
        // Only an object is taken as input; what the model wrote instead is kept inside one.
        let input = match &call.arguments {
            Value::Object(_) => call.arguments.clone(),
            other => json!({ "arguments": other }),
        };
        json!({ "type": "tool_use", "id": portable(&call.id), "name": call.name, "input": input })
    });
    text(message).into_iter().chain(calls).collect()
}

fn tool_result(message: &Message) -> Value {
    let id = portable(message.tool_call_id.as_deref().unwrap_or_default());
    json!({ "type": "tool_result", "tool_use_id": id, "content": message.content.text() })
}
