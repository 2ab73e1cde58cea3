//! Anthropic's messages read as they come.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Anthropic, answer};
use crate::domain::told::Told;
use crate::provider::ProviderError;
use crate::provider::flow::{Heard, Reader};
use crate::provider::json::{count, text};
use crate::provider::stream::{Ending, Event};

/// A message under way.
pub(super) struct Message {
    of: Anthropic,
    model: String,
    /// The calls among the blocks: the block's index, and the call's.
    calls: BTreeMap<u64, u32>,
    /// Why it stopped; empty until told.
    reason: String,
    usage: Map<String, Value>,
}

impl Message {
    /// A message of which nothing has come.
    pub(super) fn new(of: Anthropic, model: &str) -> Self {
        let (model, calls) = (model.to_owned(), BTreeMap::new());
        Self { of, model, calls, reason: String::new(), usage: Map::new() }
    }

    /// What is told later replaces what was told before: counts are of the whole message.
    fn count(&mut self, usage: Option<&Value>) {
        let told = usage.and_then(Value::as_object).into_iter().flatten();
        let told = told.filter(|(_, value)| !value.is_null());
        self.usage.extend(told.map(|(name, value)| (name.clone(), value.clone())));
    }

    /// A block begins. Compatible servers put text and input in here already.
    fn block(&mut self, message: &Value) -> Vec<Event> {
        let said = |place: &str| text(message, place).to_owned();
        match text(message, "/content_block/type") {
            "text" => vec![Event::Text(said("/content_block/text"))],
            "thinking" => vec![Event::Reasoning(said("/content_block/thinking"))],
            "tool_use" => {
                let index = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
                self.calls.insert(count(message, "/index").unwrap_or_default(), index);
                let (id, name) = (said("/content_block/id"), said("/content_block/name"));
                let input = message.pointer("/content_block/input").and_then(Value::as_object);
                let input = input.filter(|input| !input.is_empty()).cloned();
                let text = input.map_or(String::new(), |input| Value::Object(input).to_string());
                vec![Event::Call { index, id, name }, Event::Arguments { index, text }]
            }
            _ => Vec::new(),
        }
    }

    fn delta(&self, message: &Value) -> Option<Event> {
        let said = |place: &str| text(message, place).to_owned();
        match text(message, "/delta/type") {
            "text_delta" => Some(Event::Text(said("/delta/text"))),
            "thinking_delta" => Some(Event::Reasoning(said("/delta/thinking"))),
            // Tools that Anthropic runs itself have input too, which is none of the caller's.
            "input_json_delta" => {
                let index = *self.calls.get(&count(message, "/index")?)?;
                Some(Event::Arguments { index, text: said("/delta/partial_json") })
            }
            _ => None,
        }
    }
}

impl Reader for Message {
    fn message(&mut self, name: &str, message: &Value) -> Heard {
        if let Some(error) = answer::error(message) {
            return Heard::Failed(error.clone());
        }
        let kind = Some(text(message, "/type")).filter(|kind| !kind.is_empty()).unwrap_or(name);
        Heard::Said(match kind {
            "error" => return Heard::Failed(message.clone()),
            "message_start" => {
                let model = text(message, "/message/model");
                if !model.is_empty() {
                    model.clone_into(&mut self.model);
                }
                self.count(message.pointer("/message/usage"));
                Vec::new()
            }
            "content_block_start" => self.block(message),
            "content_block_delta" => self.delta(message).into_iter().collect(),
            "message_delta" => {
                self.count(message.get("usage"));
                let reason = text(message, "/delta/stop_reason");
                if !reason.is_empty() {
                    reason.clone_into(&mut self.reason);
                }
                Vec::new()
            }
            "message_stop" if self.reason.is_empty() => return Heard::Cut,
            "message_stop" => vec![Event::End(Box::new(Ending {
                model: std::mem::take(&mut self.model),
                finish: answer::finished(&self.reason, !self.calls.is_empty()),
                usage: answer::usage(&Value::Object(std::mem::take(&mut self.usage))),
                ..Ending::default()
            }))],
            _ => Vec::new(),
        })
    }

    /// Without `message_stop` it is cut.
    fn end(&mut self) -> Option<Ending> {
        None
    }

    fn failed(&self, error: &Value, told: Vec<Told>) -> ProviderError {
        self.of.failed(self.of.wire.inside(error, told))
    }
}
