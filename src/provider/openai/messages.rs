//! A conversation in the words of OpenAI's chat completions.

use serde_json::{Value, json};

use super::Dialect;
use crate::domain::content::{Content, Image, Part, Piece};
use crate::domain::prompt::{Message, Role};
use crate::provider::output::joined;
use crate::provider::tool_id::portable;
use crate::provider::{ProviderError, unsupported};

/// Who is written to.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub dialect: Dialect,
    pub model: &'a str,
}

impl Reader<'_> {
    /// The whole conversation. Tools answer in text alone: their images follow as a message of the
    /// user's, behind the last of the answers that must stand together.
    pub(super) fn messages(
        self,
        system: Option<&Content>,
        messages: &[Message],
    ) -> Result<Value, ProviderError> {
        let mut written = Vec::new();
        if let Some(system) = system {
            written.push(self.instructions(system)?);
        }
        let mut seen: Vec<Value> = Vec::new();
        for message in messages {
            if message.role == Role::Tool {
                written.push(tool(message));
                for image in message.content.images() {
                    seen.push(self.image(image)?);
                }
                continue;
            }
            if !seen.is_empty() {
                written.push(shown(&mut seen));
            }
            written.push(self.message(message)?);
        }
        if !seen.is_empty() {
            written.push(shown(&mut seen));
        }
        Ok(Value::Array(written))
    }

    fn message(self, message: &Message) -> Result<Value, ProviderError> {
        match message.role {
            Role::System => self.instructions(&message.content),
            Role::User => Ok(json!({ "role": "user", "content": self.content(&message.content)? })),
            Role::Tool => Ok(tool(message)),
            Role::Assistant => assistant(message),
        }
    }

    fn instructions(self, system: &Content) -> Result<Value, ProviderError> {
        if system.images().next().is_some() {
            return Err(unsupported("no image is taken in the instructions"));
        }
        let marked = self.takes_marks() && system.0.iter().any(|part| part.cache.is_some());
        let content = if marked { self.content(system)? } else { joined(system).into() };
        Ok(json!({ "role": "system", "content": content }))
    }

    /// Text alone as a string, which everybody takes; else part by part.
    fn content(self, content: &Content) -> Result<Value, ProviderError> {
        match content.plain() {
            Some(text) => Ok(text.into()),
            None => content.0.iter().map(|part| self.part(part)).collect(),
        }
    }

    fn part(self, part: &Part) -> Result<Value, ProviderError> {
        let mut written = match &part.piece {
            Piece::Text(text) => json!({ "type": "text", "text": text }),
            Piece::Image(image) => self.image(image)?,
        };
        let mark = part.cache.as_ref().filter(|_| self.takes_marks());
        if let (Some(written), Some(mark)) = (written.as_object_mut(), mark) {
            written.insert("cache_control".to_owned(), mark.clone());
        }
        Ok(written)
    }

    fn image(self, image: &Image) -> Result<Value, ProviderError> {
        if self.dialect == Dialect::Cerebras && image.url.is_some() {
            return Err(unsupported("Cerebras takes images only as data, not as addresses"));
        }
        Ok(json!({ "type": "image_url", "image_url": { "url": image.address() } }))
    }

    /// OpenRouter passes the caller's cache marks on to Anthropic; elsewhere they mean nothing.
    fn takes_marks(self) -> bool {
        self.dialect == Dialect::OpenRouter && self.model.starts_with("anthropic/")
    }
}

fn assistant(message: &Message) -> Result<Value, ProviderError> {
    if message.content.images().next().is_some() {
        return Err(unsupported("no image is taken in what the assistant said"));
    }
    let text = message.content.text();
    if message.tool_calls.is_empty() {
        return Ok(json!({ "role": "assistant", "content": text }));
    }
    let calls = message.tool_calls.iter().map(|call| {
        // Arguments are text here.
        let arguments = match &call.arguments {
            Value::String(raw) => raw.clone(),
            other => other.to_string(),
        };
        json!({ "id": portable(&call.id), "type": "function",
                "function": { "name": call.name, "arguments": arguments } })
    });
    let calls: Value = calls.collect();
    let content = Some(text).filter(|text| !text.is_empty());
    Ok(json!({ "role": "assistant", "content": content, "tool_calls": calls }))
}

/// There is no field for a tool that failed, so its answer says it.
fn tool(message: &Message) -> Value {
    let id = portable(message.tool_call_id.as_deref().unwrap_or_default());
    let text = message.content.text();
    let content = match (message.is_error, text.is_empty()) {
        (true, _) => format!("Error: {text}"),
        (false, true) if !message.content.is_empty() => "The answer is the image below.".to_owned(),
        (false, _) => text.into_owned(),
    };
    json!({ "role": "tool", "tool_call_id": id, "content": content })
}

fn shown(images: &mut Vec<Value>) -> Value {
    let mut parts = vec![json!({ "type": "text", "text": "Images from the tools:" })];
    parts.append(images);
    json!({ "role": "user", "content": parts })
}
