//! Gemini's answers read as they come. There is no last message: the stream is whole when it was
//! told why it stopped and HTTP says that nothing is missing.

use serde_json::Value;

use super::{Gemini, answer};
use crate::domain::completion::{Finish, Usage};
use crate::domain::told::Told;
use crate::provider::ProviderError;
use crate::provider::flow::{Heard, Reader};
use crate::provider::json::{list, text};
use crate::provider::stream::{Ending, Event};

/// An answer under way.
pub(super) struct Generated {
    of: Gemini,
    model: String,
    /// Our own estimate of the prompt.
    input_tokens: u32,
    calls: u32,
    /// Why it stopped; empty until told.
    reason: String,
    is_blocked: bool,
    usage: Option<Usage>,
}

impl Generated {
    /// An answer of which nothing has come.
    pub(super) fn new(of: Gemini, model: &str, input_tokens: u32) -> Self {
        Self {
            of,
            model: model.to_owned(),
            input_tokens,
            calls: 0,
            reason: String::new(),
            is_blocked: false,
            usage: None,
        }
    }

    /// A part stands for itself; also a call comes whole.
    fn part(&mut self, part: &Value, response: &str) -> Vec<Event> {
        if let Some(call) = answer::tool_call(part, self.calls, response) {
            let index = self.calls;
            self.calls += 1;
            let text = call.arguments.to_string();
            return vec![
                Event::Call { index, id: call.id, name: call.name },
                Event::Arguments { index, text },
            ];
        }
        let said = text(part, "/text").to_owned();
        if answer::is_thought(part) {
            vec![Event::Reasoning(said)]
        } else {
            let image = answer::image(part).map(Event::Image);
            std::iter::once(Event::Text(said)).chain(image).collect()
        }
    }
}

impl Reader for Generated {
    fn message(&mut self, name: &str, message: &Value) -> Heard {
        if let Some(error) = answer::error(message) {
            return Heard::Failed(error.clone());
        }
        if name == "error" {
            return Heard::Failed(message.clone());
        }
        let model = text(message, "/modelVersion");
        if !model.is_empty() {
            model.clone_into(&mut self.model);
        }
        // Told again with every message: the last counts.
        if let Some(usage) = message.get("usageMetadata").and_then(answer::usage) {
            self.usage = Some(usage);
        }
        let Some(candidate) = message.pointer("/candidates/0") else {
            self.is_blocked |= !text(message, "/promptFeedback/blockReason").is_empty();
            return Heard::Said(Vec::new());
        };
        let reason = text(candidate, "/finishReason");
        if !reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
        let response = text(message, "/responseId");
        let parts = list(candidate, "/content/parts").iter();
        Heard::Said(parts.flat_map(|part| self.part(part, response)).collect())
    }

    fn end(&mut self) -> Option<Ending> {
        let finish = match self.reason.as_str() {
            "" if self.is_blocked => Finish::ContentFilter,
            "" => return None,
            reason => answer::finished(reason, self.calls > 0),
        };
        let model = std::mem::take(&mut self.model);
        Some(Ending { model, finish, usage: self.usage, ..Ending::default() })
    }

    fn failed(&self, error: &Value, told: Vec<Told>) -> ProviderError {
        self.of.failed(self.of.wire.inside(error, told), self.input_tokens)
    }
}
