//! Ollama's chats read as they come, line by line.

use serde_json::Value;

use super::{Ollama, answer};
use crate::domain::told::Told;
use crate::provider::ProviderError;
use crate::provider::flow::{Heard, Reader};
use crate::provider::json::text;
use crate::provider::stream::{Ending, Event};

/// A chat under way.
pub(super) struct Chat {
    of: Ollama,
    model: String,
    calls: usize,
}

impl Chat {
    /// A chat of which nothing has come.
    pub(super) fn new(of: Ollama, model: &str) -> Self {
        Self { of, model: model.to_owned(), calls: 0 }
    }

    fn calls(&mut self, line: &Value) -> Vec<Event> {
        let mut events = Vec::new();
        for call in answer::calls(line, self.calls) {
            let index = u32::try_from(self.calls).unwrap_or(u32::MAX);
            self.calls += 1;
            events.push(Event::Call { index, id: call.id, name: call.name });
            events.push(Event::Arguments { index, text: call.arguments.to_string() });
        }
        events
    }
}

impl Reader for Chat {
    fn message(&mut self, _name: &str, line: &Value) -> Heard {
        if let Some(error) = line.get("error") {
            return Heard::Failed(error.clone());
        }
        let model = text(line, "/model");
        if !model.is_empty() {
            model.clone_into(&mut self.model);
        }
        let mut events = vec![
            Event::Reasoning(text(line, "/message/thinking").to_owned()),
            Event::Text(text(line, "/message/content").to_owned()),
        ];
        events.extend(self.calls(line));
        if answer::is_done(line) {
            events.push(Event::End(Box::new(Ending {
                model: std::mem::take(&mut self.model),
                finish: answer::finish(line, self.calls > 0),
                usage: answer::usage(line),
                ..Ending::default()
            })));
        }
        Heard::Said(events)
    }

    /// The last line says that it is the last.
    fn end(&mut self) -> Option<Ending> {
        None
    }

    fn failed(&self, error: &Value, told: Vec<Told>) -> ProviderError {
        self.of.broke(error, told)
    }
}
