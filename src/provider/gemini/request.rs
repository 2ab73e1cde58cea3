//! A prompt in the words of Gemini's `generateContent`.

use serde_json::{Map, Value, json};

use crate::domain::completion::ToolCall;
use crate::domain::content::Content;
use crate::domain::limits::glob;
use crate::domain::prompt::{Message, Prompt, Role};
use crate::provider::output::{instructed, joined};
use crate::provider::parameters;
use crate::provider::tool_id::signature;

/// Models that know JSON but no schema in JSON Schema's own words.
const SCHEMALESS: [&str; 2] = ["gemini-1*", "gemini-2.0*"];

/// Models that take a schema beside tools.
const BOTH: [&str; 1] = ["gemini-3*"];

/// Stands for the signature of a call that Gemini did not make: a conversation begun elsewhere.
const UNSIGNED: &str = "skip_thought_signature_validator";

/// What the prompt asks for that the model is not held to.
pub(super) fn lacks(model: &str, prompt: &Prompt) -> Option<&'static str> {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    let beside = prompt.tools.is_empty() || any(&BOTH);
    let bound = model.starts_with("gemini") && beside && !any(&SCHEMALESS);
    (prompt.output_schema.is_some() && !bound).then_some(parameters::SCHEMA)
}

/// The body of a request.
pub(super) fn body(model: &str, prompt: &Prompt) -> Value {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    let mut body = Map::new();
    let mut config = Map::new();
    config.insert("maxOutputTokens".to_owned(), prompt.max_output_tokens.into());
    if let Some(temperature) = prompt.temperature {
        config.insert("temperature".to_owned(), temperature.into());
    }
    let mut system = system(prompt);
    if let Some(schema) = &prompt.output_schema {
        let json_mode = model.starts_with("gemini") && (prompt.tools.is_empty() || any(&BOTH));
        if json_mode {
            config.insert("responseMimeType".to_owned(), "application/json".into());
        }
        if json_mode && !any(&SCHEMALESS) {
            config.insert("responseJsonSchema".to_owned(), schema.clone());
        } else {
            system = Some(instructed(system, schema));
        }
    }
    if let Some(system) = system {
        body.insert(
            "systemInstruction".to_owned(),
            json!({ "parts": [{ "text": joined(&system) }] }),
        );
    }
    body.insert("contents".to_owned(), contents(&prompt.messages));
    if !prompt.tools.is_empty() {
        let declarations: Value = prompt
            .tools
            .iter()
            .map(|tool| {
                json!({ "name": tool.name, "description": tool.description,
                        "parametersJsonSchema": tool.parameters })
            })
            .collect();
        body.insert("tools".to_owned(), json!([{ "functionDeclarations": declarations }]));
    }
    body.insert("generationConfig".to_owned(), Value::Object(config));
    Value::Object(body)
}

/// Instructions stand beside the conversation, not in it.
fn system(prompt: &Prompt) -> Option<Content> {
    let within = prompt.messages.iter().filter(|message| message.role == Role::System);
    let parts = prompt.system.iter().chain(within.map(|message| &message.content));
    parts.cloned().reduce(Content::and)
}

/// Neighbours of one role become one turn: the answers to parallel calls must stand together.
fn contents(messages: &[Message]) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let (role, parts) = match message.role {
            Role::System => continue,
            Role::User => ("user", text(message)),
            Role::Assistant => ("model", assistant(message)),
            Role::Tool => {
                let before = messages.get(..index).unwrap_or_default();
                ("user", vec![function_response(message, before)])
            }
        };
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(parts),
            _ => turns.push((role, parts)),
        }
    }
    turns.into_iter().map(|(role, parts)| json!({ "role": role, "parts": parts })).collect()
}

fn text(message: &Message) -> Vec<Value> {
    let part = || json!({ "text": message.content.text() });
    (!message.content.is_empty()).then(part).into_iter().collect()
}

/// Newer models want the signature of a turn's first call back.
fn assistant(message: &Message) -> Vec<Value> {
    let calls = message.tool_calls.iter().enumerate().map(|(index, call)| {
        let mut part = json!({ "functionCall": { "name": call.name, "args": arguments(call) } });
        let signature = signature(&call.id).or((index == 0).then_some(UNSIGNED));
        if let (Some(part), Some(signature)) = (part.as_object_mut(), signature) {
            part.insert("thoughtSignature".to_owned(), signature.into());
        }
        part
    });
    text(message).into_iter().chain(calls).collect()
}

/// Only an object is taken; what the model wrote instead is kept inside one.
fn arguments(call: &ToolCall) -> Value {
    match &call.arguments {
        Value::Object(_) => call.arguments.clone(),
        other => json!({ "arguments": other }),
    }
}

/// Answers refer to calls by name here, so the name is looked up.
fn function_response(message: &Message, before: &[Message]) -> Value {
    let id = message.tool_call_id.as_deref().unwrap_or_default();
    let call = before.iter().rev().flat_map(|m| &m.tool_calls).find(|call| call.id == id);
    let name = call.map_or(id, |call| call.name.as_str());
    let answer =
        serde_json::from_str::<Value>(&message.content.text()).ok().filter(Value::is_object);
    let response = answer.unwrap_or_else(|| json!({ "result": message.content.text() }));
    json!({ "functionResponse": { "name": name, "response": response } })
}
