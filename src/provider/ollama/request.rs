//! A prompt in the words of Ollama's chat.

use serde_json::{Map, Value, json};

use crate::domain::completion::ToolCall;
use crate::domain::content::Content;
use crate::domain::limits::glob;
use crate::domain::prompt::{Effort, Message, Prompt, Role, Tool, ToolChoice};
use crate::provider::openai::effort::{at_least_low, thinks_openly};
use crate::provider::output::{instructed, instructed_json, joined, with_rule};
use crate::provider::parameters;
use crate::provider::tool_id::portable;
use crate::provider::{ProviderError, unsupported};

/// What the prompt asks for that the model is not held to.
pub(super) fn lacks(prompt: &Prompt) -> Option<&'static str> {
    (prompt.output_schema.is_some() && !tools(prompt).is_empty()).then_some(parameters::SCHEMA)
}

/// The body of a request.
pub(super) fn body(model: &str, prompt: &Prompt, streamed: bool) -> Result<Value, ProviderError> {
    let (system, format) = answer_form(prompt);
    let messages = messages(with_rules(system, prompt).as_ref(), &prompt.messages)?;
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    put("model", model.into());
    put("messages", messages.into());
    put("stream", streamed.into());
    put("options", options(prompt));
    // Else what is longer than the window loses its beginning, and nobody is told.
    put("truncate", false.into());
    let tools = tools(prompt);
    if !tools.is_empty() {
        put("tools", tools.into_iter().map(tool).collect());
    }
    if let Some(format) = format {
        put("format", format);
    }
    if let Some(think) = prompt.effort.and_then(|effort| think(model, effort)) {
        put("think", think);
    }
    Ok(Value::Object(body))
}

/// The tools that may be asked for: there is no knob that names or forbids some.
fn tools(prompt: &Prompt) -> Vec<&Tool> {
    let may = |tool: &&Tool| match &prompt.tool_choice {
        Some(ToolChoice::None) => false,
        Some(ToolChoice::Tool(name)) => tool.name == *name,
        Some(ToolChoice::Auto | ToolChoice::Required) | None => true,
    };
    prompt.tools.iter().filter(may).collect()
}

fn tool(tool: &Tool) -> Value {
    json!({ "type": "function", "function": { "name": tool.name,
            "description": tool.description, "parameters": tool.parameters } })
}

/// The instructions and the knob that bring the answer into its form. The knob leaves no room for
/// tools.
fn answer_form(prompt: &Prompt) -> (Option<Content>, Option<Value>) {
    let system = prompt.system.clone();
    let free = tools(prompt).is_empty();
    match &prompt.output_schema {
        Some(schema) if free => (system, Some(schema.clone())),
        Some(schema) => (Some(instructed(system, schema)), None),
        // Without the word some models write blanks without end.
        None if prompt.json => (Some(instructed_json(system)), free.then(|| "json".into())),
        None => (system, None),
    }
}

/// What has no knob, in words.
fn with_rules(system: Option<Content>, prompt: &Prompt) -> Option<Content> {
    let mut rules = Vec::new();
    match &prompt.tool_choice {
        Some(ToolChoice::Required) => rules.push("Call at least one of the tools."),
        Some(ToolChoice::Tool(_)) => rules.push("Call the tool."),
        Some(ToolChoice::Auto | ToolChoice::None) | None => {}
    }
    if prompt.parallel_tool_calls == Some(false) {
        rules.push("Call at most one tool at a time.");
    }
    if rules.is_empty() || tools(prompt).is_empty() {
        return system;
    }
    Some(with_rule(system, rules.join(" ")))
}

fn options(prompt: &Prompt) -> Value {
    let mut options = Map::new();
    options.insert("num_predict".to_owned(), prompt.max_output_tokens.into());
    if let Some(temperature) = prompt.temperature {
        options.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(top_p) = prompt.top_p {
        options.insert("top_p".to_owned(), top_p.into());
    }
    if !prompt.stop.is_empty() {
        options.insert("stop".to_owned(), json!(prompt.stop));
    }
    Value::Object(options)
}

/// Whether to think. Asked of a model that cannot it is refused, so only the known ones are asked;
/// not to think may be asked of all but the one family that always does.
fn think(model: &str, effort: Effort) -> Option<Value> {
    if glob("*gpt-oss*", model) {
        return Some(at_least_low(effort).into());
    }
    match effort {
        Effort::None => Some(false.into()),
        _ => thinks_openly(model).then(|| true.into()),
    }
}

/// The whole conversation. Images that tools answered with follow as a message of the user's.
fn messages(system: Option<&Content>, messages: &[Message]) -> Result<Vec<Value>, ProviderError> {
    let mut written = Vec::new();
    if let Some(system) = system {
        written.push(said("system", &joined(system), &images(system)?)?);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if message.role != Role::Tool && !seen.is_empty() {
            written.push(said("user", SHOWN, &std::mem::take(&mut seen))?);
        }
        let (text, shown) = (message.content.text(), images(&message.content)?);
        written.push(match message.role {
            Role::System => said("system", &joined(&message.content), &shown)?,
            Role::User => said("user", &text, &shown)?,
            Role::Assistant => assistant(message, &text, &shown)?,
            Role::Tool => {
                seen.extend(shown);
                answer(message, &text, messages.get(..index).unwrap_or_default())
            }
        });
    }
    if !seen.is_empty() {
        written.push(said("user", SHOWN, &seen)?);
    }
    Ok(written)
}

/// Stands beside images that tools answered with.
const SHOWN: &str = "Images from the tools:";

fn said(role: &str, text: &str, images: &[&str]) -> Result<Value, ProviderError> {
    if images.is_empty() {
        return Ok(json!({ "role": role, "content": text }));
    }
    if role != "user" {
        return Err(unsupported("Ollama takes images only from the user"));
    }
    Ok(json!({ "role": role, "content": text, "images": images }))
}

fn assistant(message: &Message, text: &str, shown: &[&str]) -> Result<Value, ProviderError> {
    let mut written = said("assistant", text, shown)?;
    let calls = message.tool_calls.iter().map(|call| {
        json!({ "id": portable(&call.id),
                "function": { "name": call.name, "arguments": arguments(call) } })
    });
    let calls: Vec<Value> = calls.collect();
    if let Some(written) = written.as_object_mut().filter(|_| !calls.is_empty()) {
        written.insert("tool_calls".to_owned(), calls.into());
    }
    Ok(written)
}

/// Only an object is taken; what the model wrote instead is kept inside one.
fn arguments(call: &ToolCall) -> Value {
    match &call.arguments {
        Value::Object(_) => call.arguments.clone(),
        other => json!({ "arguments": other }),
    }
}

/// A tool's answer. Templates tell it by the tool's name, so the name is looked up.
fn answer(message: &Message, text: &str, before: &[Message]) -> Value {
    let id = message.tool_call_id.as_deref().unwrap_or_default();
    let call = before.iter().rev().flat_map(|m| &m.tool_calls).find(|call| call.id == id);
    let name = call.map_or(id, |call| call.name.as_str());
    let text = match (message.is_error, text.is_empty()) {
        (true, _) => format!("Error: {text}"),
        (false, true) if !message.content.is_empty() => "The answer is the image below.".to_owned(),
        (false, _) => text.to_owned(),
    };
    json!({ "role": "tool", "tool_name": name, "tool_call_id": portable(id), "content": text })
}

fn images(content: &Content) -> Result<Vec<&str>, ProviderError> {
    let data = content.images().map(|image| image.data.as_deref());
    let refusal = || unsupported("Ollama takes images only as data, not as addresses");
    data.map(|data| data.ok_or_else(refusal)).collect()
}
