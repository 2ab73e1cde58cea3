//! A prompt in the words of Gemini's `generateContent`.

use serde_json::{Map, Value, json};

use super::thinking;
use crate::domain::completion::ToolCall;
use crate::domain::content::{Content, Image, Piece};
use crate::domain::limits::glob;
use crate::domain::prompt::{Message, Prompt, Role, ToolChoice};
use crate::provider::output::{instructed, instructed_json, joined, with_rule};
use crate::provider::parameters;
use crate::provider::tool_id::signature;
use crate::provider::{ProviderError, unsupported};

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

/// The most texts that may end an answer.
const MOST_STOPS: usize = 5;

/// The body of a request; an error when Gemini cannot be asked this.
pub(super) fn body(model: &str, prompt: &Prompt) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    let (system, mut config) = answer_form(model, prompt);
    sampling(&mut config, prompt)?;
    if let Some(thinking) = thinking::config(model, prompt.effort) {
        config.insert("thinkingConfig".to_owned(), thinking);
    }
    if let Some(system) = system {
        if system.images().next().is_some() {
            return Err(unsupported("Gemini takes no image in the instructions"));
        }
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
        if let Some(choice) = &prompt.tool_choice {
            let config = json!({ "functionCallingConfig": calling(choice) });
            body.insert("toolConfig".to_owned(), config);
        }
    }
    body.insert("generationConfig".to_owned(), Value::Object(config));
    Ok(Value::Object(body))
}

/// The instructions, and the configuration with what brings the answer into its form.
fn answer_form(model: &str, prompt: &Prompt) -> (Option<Content>, Map<String, Value>) {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    let mut config = Map::new();
    config.insert("maxOutputTokens".to_owned(), prompt.max_output_tokens.into());
    let mut system = system(prompt);
    // There is no knob for this one.
    if prompt.parallel_tool_calls == Some(false) && !prompt.tools.is_empty() {
        system = Some(with_rule(system, "Call at most one function at a time.".to_owned()));
    }
    let json_mode = model.starts_with("gemini") && (prompt.tools.is_empty() || any(&BOTH));
    if json_mode && (prompt.json || prompt.output_schema.is_some()) {
        config.insert("responseMimeType".to_owned(), "application/json".into());
    }
    match &prompt.output_schema {
        Some(schema) if json_mode && !any(&SCHEMALESS) => {
            config.insert("responseJsonSchema".to_owned(), schema.clone());
        }
        Some(schema) => system = Some(instructed(system, schema)),
        None if prompt.json && !json_mode => system = Some(instructed_json(system)),
        None => {}
    }
    (system, config)
}

fn sampling(config: &mut Map<String, Value>, prompt: &Prompt) -> Result<(), ProviderError> {
    if let Some(temperature) = prompt.temperature {
        config.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(top_p) = prompt.top_p {
        config.insert("topP".to_owned(), top_p.into());
    }
    if prompt.stop.len() > MOST_STOPS {
        return Err(unsupported(format!("Gemini takes at most {MOST_STOPS} stop sequences")));
    }
    if !prompt.stop.is_empty() {
        config.insert("stopSequences".to_owned(), json!(prompt.stop));
    }
    Ok(())
}

fn calling(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!({ "mode": "AUTO" }),
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Required => json!({ "mode": "ANY" }),
        ToolChoice::Tool(name) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
    }
}

/// Instructions stand beside the conversation, not in it.
fn system(prompt: &Prompt) -> Option<Content> {
    let within = prompt.messages.iter().filter(|message| message.role == Role::System);
    let parts = prompt.system.iter().chain(within.map(|message| &message.content));
    parts.cloned().reduce(Content::and)
}

/// Neighbours of one role become one turn: the answers to parallel calls must stand together, with
/// the images of all of them behind.
fn contents(messages: &[Message]) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let (role, new) = match message.role {
            Role::System => continue,
            Role::User => ("user", parts(&message.content)),
            Role::Assistant => ("model", assistant(message)),
            Role::Tool => {
                let before = messages.get(..index).unwrap_or_default();
                let images = message.content.images().map(image);
                let all = std::iter::once(function_response(message, before)).chain(images);
                ("user", all.collect())
            }
        };
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(new),
            _ => turns.push((role, new)),
        }
    }
    let ordered = turns.into_iter().map(|(role, mut parts)| {
        parts.sort_by_key(|part| part.get("functionResponse").is_none() && role == "user");
        json!({ "role": role, "parts": parts })
    });
    ordered.collect()
}

fn parts(content: &Content) -> Vec<Value> {
    let said = content.0.iter().filter(|part| match &part.piece {
        Piece::Text(text) => !text.is_empty(),
        Piece::Image(_) => true,
    });
    let written = said.map(|part| match &part.piece {
        Piece::Text(text) => json!({ "text": text }),
        Piece::Image(shown) => image(shown),
    });
    written.collect()
}

/// Data stands in the request; of an address the kind is told by its ending.
fn image(image: &Image) -> Value {
    let Some(url) = &image.url else {
        let kind = image.media_type.as_deref().unwrap_or("image/png");
        return json!({ "inlineData": { "mimeType": kind, "data": image.data } });
    };
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let ending = path.rsplit('.').next().unwrap_or_default();
    let kind = match ending {
        "png" | "webp" | "gif" | "heic" | "heif" => format!("image/{ending}"),
        _ => image.media_type.clone().unwrap_or_else(|| "image/jpeg".to_owned()),
    };
    json!({ "fileData": { "mimeType": kind, "fileUri": url } })
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
    parts(&message.content).into_iter().chain(calls).collect()
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
    let text = message.content.text();
    let answer = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
    let kind = if message.is_error { "error" } else { "result" };
    let response = answer.filter(|_| !message.is_error).unwrap_or_else(|| json!({ kind: text }));
    json!({ "functionResponse": { "name": name, "response": response } })
}
