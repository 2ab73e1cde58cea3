//! A prompt in the words of Anthropic's Messages.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::cache;
use super::marks::Marks;
use super::thinking::Thinking;
use crate::domain::content::{Content, Image, Part, Piece};
use crate::domain::limits::glob;
use crate::domain::prompt::{CacheUse, Dialect, Message, Prompt, Role, Tool, ToolChoice};
use crate::provider::native;
use crate::provider::output::{
    ANTHROPIC, Strict, instructed, instructed_json, joined, strict_schema, strict_within,
};
use crate::provider::parameters;
use crate::provider::sampling::takes_temperature;
use crate::provider::tool_id::portable;
use crate::provider::{ProviderError, unsupported};

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

/// Kinds of images that are taken.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The most tools that may be strict.
const MOST_STRICT: usize = 20;

/// What is sent: the body and further headers; and whether it is the caller's own request. An error
/// when Anthropic cannot be asked this.
pub(super) fn asked(
    model: &str,
    prompt: &Prompt,
    streamed: bool,
) -> Result<(Value, HeaderMap, bool), ProviderError> {
    if let Some(own) = prompt.native_in(Dialect::Anthropic) {
        let mut body = native::body(own, model, streamed);
        if prompt.cache == CacheUse::All {
            cache::mark(&mut body);
        }
        return Ok((Value::Object(body), native::headers(own), true));
    }
    let mut body = body(model, prompt)?;
    if streamed && let Some(body) = body.as_object_mut() {
        body.insert("stream".to_owned(), true.into());
    }
    Ok((body, HeaderMap::new(), false))
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

/// What is about the answer is nothing to be counted, and refused there.
const UNCOUNTED: [&str; 7] =
    ["max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata"];

/// What is sent to have its tokens counted.
pub(super) fn counted(model: &str, prompt: &Prompt) -> Result<(Value, HeaderMap), ProviderError> {
    let (mut asked, headers, _) = asked(model, prompt, false)?;
    if let Some(fields) = asked.as_object_mut() {
        fields.retain(|name, _| !UNCOUNTED.contains(&name.as_str()));
    }
    Ok((asked, headers))
}

/// The body of a request.
fn body(model: &str, prompt: &Prompt) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("max_tokens".to_owned(), prompt.max_output_tokens.into());
    let bound = model.starts_with("claude") && !FREE.iter().any(|free| glob(free, model));
    // What the schemas of one request together may have.
    let mut left = ANTHROPIC;
    let thinking = Thinking::of(model, prompt);
    let mut config = Map::new();
    if let Some(effort) = thinking.effort {
        config.insert("effort".to_owned(), effort.into());
    }
    let mut system = system(prompt);
    if let Some(schema) = &prompt.output_schema {
        match bound.then(|| strict_within(schema, &mut left)).flatten() {
            Some(schema) => {
                let format = json!({ "type": "json_schema", "schema": schema });
                config.insert("format".to_owned(), format);
            }
            None => system = Some(instructed(system, schema)),
        }
    } else if prompt.json {
        system = Some(instructed_json(system));
    }
    if !config.is_empty() {
        body.insert("output_config".to_owned(), Value::Object(config));
    }
    if let Some(system) = system {
        body.insert("system".to_owned(), instructions(&system)?);
    }
    body.insert("messages".to_owned(), messages(&prompt.messages)?);
    sampling(&mut body, model, prompt, &thinking)?;
    if let Some(thinking) = thinking.thinking {
        body.insert("thinking".to_owned(), thinking);
    }
    if !prompt.tools.is_empty() {
        body.insert("tools".to_owned(), tools(&prompt.tools, bound.then_some(&mut left)));
        if let Some(choice) = tool_choice(prompt) {
            body.insert("tool_choice".to_owned(), choice);
        }
    }
    Marks::of(model, prompt).put(&mut body);
    Ok(Value::Object(body))
}

/// Newer models refuse both ways of sampling at once; `temperature` is the one that is meant more
/// often.
fn sampling(
    body: &mut Map<String, Value>,
    model: &str,
    prompt: &Prompt,
    thinking: &Thinking,
) -> Result<(), ProviderError> {
    if takes_temperature(model) && !thinking.is_on() {
        if let Some(temperature) = prompt.temperature {
            // The others' scale ends at 2, this one at 1.
            body.insert("temperature".to_owned(), temperature.min(1.0).into());
        } else if let Some(top_p) = prompt.top_p {
            body.insert("top_p".to_owned(), top_p.into());
        }
    }
    if prompt.stop.iter().any(|stop| stop.trim().is_empty()) {
        return Err(unsupported("Anthropic takes no stop sequence of nothing but blanks"));
    }
    if !prompt.stop.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(prompt.stop));
    }
    Ok(())
}

fn tools(tools: &[Tool], mut left: Option<&mut Strict>) -> Value {
    let mut strict = 0;
    let written = tools.iter().map(|tool| {
        let wanted = tool.strict == Some(true) && strict < MOST_STRICT;
        let held = left.as_deref_mut().filter(|_| wanted);
        let schema = held.and_then(|left| strict_within(&tool.parameters, left));
        let is_strict = schema.is_some();
        strict += usize::from(is_strict);
        let schema = schema.unwrap_or_else(|| tool.parameters.clone());
        let mut written = json!({ "name": tool.name, "description": tool.description,
                                  "input_schema": schema });
        if let Some(written) = written.as_object_mut().filter(|_| is_strict) {
            written.insert("strict".to_owned(), true.into());
        }
        written
    });
    written.collect()
}

fn tool_choice(prompt: &Prompt) -> Option<Value> {
    let one = prompt.parallel_tool_calls == Some(false);
    let mut choice = match &prompt.tool_choice {
        None if !one => return None,
        None | Some(ToolChoice::Auto) => json!({ "type": "auto" }),
        Some(ToolChoice::None) => return Some(json!({ "type": "none" })),
        Some(ToolChoice::Required) => json!({ "type": "any" }),
        Some(ToolChoice::Tool(name)) => json!({ "type": "tool", "name": name }),
    };
    if let Some(choice) = choice.as_object_mut().filter(|_| one) {
        choice.insert("disable_parallel_tool_use".to_owned(), true.into());
    }
    Some(choice)
}

/// Instructions stand beside the conversation, not in it.
fn system(prompt: &Prompt) -> Option<Content> {
    let within = prompt.messages.iter().filter(|message| message.role == Role::System);
    let parts = prompt.system.iter().chain(within.map(|message| &message.content));
    parts.cloned().reduce(Content::and)
}

/// One text, or blocks where the caller has marked some.
fn instructions(system: &Content) -> Result<Value, ProviderError> {
    if system.images().next().is_some() {
        return Err(unsupported("Anthropic takes no image in the instructions"));
    }
    if system.0.iter().all(|part| part.cache.is_none()) {
        return Ok(joined(system).into());
    }
    blocks(system).map(Value::Array)
}

/// Neighbours of one role become one message: the answers to parallel calls must stand together.
fn messages(messages: &[Message]) -> Result<Value, ProviderError> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = match message.role {
            Role::System => continue,
            Role::User => ("user", blocks(&message.content)?),
            Role::Assistant => ("assistant", assistant(message)?),
            Role::Tool => ("user", vec![tool_result(message)?]),
        };
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    // An empty message is refused.
    let turns = turns.into_iter().filter(|(_, blocks)| !blocks.is_empty());
    Ok(turns.map(|(role, blocks)| json!({ "role": role, "content": blocks })).collect())
}

/// What is said, block by block. Empty text is refused, so it is left out.
fn blocks(content: &Content) -> Result<Vec<Value>, ProviderError> {
    let said = |part: &&Part| !matches!(&part.piece, Piece::Text(text) if text.is_empty());
    content.0.iter().filter(said).map(block).collect()
}

fn block(part: &Part) -> Result<Value, ProviderError> {
    let mut block = match &part.piece {
        Piece::Text(text) => json!({ "type": "text", "text": text }),
        Piece::Image(image) => json!({ "type": "image", "source": source(image)? }),
    };
    if let (Some(block), Some(mark)) = (block.as_object_mut(), &part.cache) {
        block.insert("cache_control".to_owned(), mark.clone());
    }
    Ok(block)
}

fn source(image: &Image) -> Result<Value, ProviderError> {
    if let Some(url) = &image.url {
        return Ok(json!({ "type": "url", "url": url }));
    }
    let kind = image.media_type.as_deref().unwrap_or("image/png");
    if !IMAGES.contains(&kind) {
        return Err(unsupported(format!("Anthropic takes no {kind}: {}", IMAGES.join(", "))));
    }
    Ok(json!({ "type": "base64", "media_type": kind, "data": image.data }))
}

fn assistant(message: &Message) -> Result<Vec<Value>, ProviderError> {
    if message.content.images().next().is_some() {
        return Err(unsupported("Anthropic takes no image in what the assistant said"));
    }
    let calls = message.tool_calls.iter().map(|call| {
        // Only an object is taken as input; what the model wrote instead is kept inside one.
        let input = match &call.arguments {
            Value::Object(_) => call.arguments.clone(),
            other => json!({ "arguments": other }),
        };
        json!({ "type": "tool_use", "id": portable(&call.id), "name": call.name, "input": input })
    });
    Ok(blocks(&message.content)?.into_iter().chain(calls).collect())
}

fn tool_result(message: &Message) -> Result<Value, ProviderError> {
    let id = portable(message.tool_call_id.as_deref().unwrap_or_default());
    let content = match message.content.plain() {
        Some(text) => text.into(),
        None => Value::Array(blocks(&message.content)?),
    };
    let mut result = json!({ "type": "tool_result", "tool_use_id": id, "content": content });
    if let Some(result) = result.as_object_mut().filter(|_| message.is_error) {
        result.insert("is_error".to_owned(), true.into());
    }
    Ok(result)
}
