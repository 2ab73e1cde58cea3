//! Chat completions read as they come.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{OpenAi, answer};
use crate::domain::completion::Usage;
use crate::domain::told::Told;
use crate::provider::ProviderError;
use crate::provider::flow::{Heard, Reader};
use crate::provider::json::{count, list, text};
use crate::provider::stream::{Ending, Event};

/// A completion under way.
pub(super) struct Chat {
    of: OpenAi,
    model: String,
    hides_usage: bool,
    /// Why it stopped; empty until told.
    reason: String,
    refusal: String,
    has_text: bool,
    calls: Vec<Call>,
    /// Which call goes on under a server's own index.
    places: BTreeMap<u64, usize>,
    usage: Option<Usage>,
    cost_usd: Option<f64>,
}

#[derive(Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
    is_told: bool,
}

impl Chat {
    /// A completion of which nothing has come. With `hides_usage` the usage at its end was asked
    /// for by us alone.
    pub(super) fn new(of: OpenAi, model: &str, hides_usage: bool) -> Self {
        Self {
            of,
            model: model.to_owned(),
            hides_usage,
            reason: String::new(),
            refusal: String::new(),
            has_text: false,
            calls: Vec::new(),
            places: BTreeMap::new(),
            usage: None,
            cost_usd: None,
        }
    }

    /// Usage comes in a chunk of its own, with the last of the content, or where Groq puts it.
    fn count(&mut self, chunk: &Value) {
        let places = ["/usage", "/x_groq/usage"];
        let mut told = places.iter().filter_map(|place| chunk.pointer(place));
        if let Some(usage) = told.find_map(answer::usage) {
            self.usage = Some(usage);
        }
        if let Some(cost) = chunk.pointer("/usage/cost").and_then(Value::as_f64) {
            self.cost_usd = Some(cost);
        }
    }

    fn delta(&mut self, delta: &Value) -> Vec<Event> {
        let mut events = vec![Event::Reasoning(answer::reasoning(delta).to_owned())];
        let content = answer::content(delta);
        self.has_text |= !content.is_empty();
        events.push(Event::Text(content));
        let refusal = text(delta, "/refusal");
        self.refusal.push_str(refusal);
        if !self.has_text {
            events.push(Event::Text(refusal.to_owned()));
        }
        events.extend(answer::images(delta).into_iter().map(Event::Image));
        for fragment in list(delta, "/tool_calls") {
            events.extend(self.fragment(fragment));
        }
        events
    }

    /// A part of a call. Its id and name come once, the arguments bit by bit.
    fn fragment(&mut self, fragment: &Value) -> Vec<Event> {
        let (id, name) = (text(fragment, "/id"), text(fragment, "/function/name"));
        let at = self.place(count(fragment, "/index"), id, name);
        let Some(call) = self.calls.get_mut(at) else { return Vec::new() };
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        if call.id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if call.name.is_empty() {
            name.clone_into(&mut call.name);
        }
        let mut text = answer::arguments(fragment).into_owned();
        call.arguments.push_str(&text);
        if call.is_told {
            return vec![Event::Arguments { index, text }];
        }
        if call.name.is_empty() {
            return Vec::new();
        }
        call.is_told = true;
        text.clone_from(&call.arguments);
        let (id, name) = (call.id.clone(), call.name.clone());
        vec![Event::Call { index, id, name }, Event::Arguments { index, text }]
    }

    /// The call a fragment belongs to. Some servers send whole calls without an index, or all with
    /// the same: another id is another call.
    fn place(&mut self, index: Option<u64>, id: &str, name: &str) -> usize {
        let known = match index {
            Some(index) => self.places.get(&index).copied(),
            None if id.is_empty() && name.is_empty() => self.calls.len().checked_sub(1),
            None => None,
        };
        let is_other = |call: &Call| !id.is_empty() && !call.id.is_empty() && call.id != id;
        if let Some(at) = known.filter(|at| !self.calls.get(*at).is_some_and(is_other)) {
            return at;
        }
        let at = self.calls.len();
        self.calls.push(Call::default());
        if let Some(index) = index {
            self.places.insert(index, at);
        }
        at
    }
}

impl Reader for Chat {
    fn message(&mut self, name: &str, chunk: &Value) -> Heard {
        if let Some(error) = answer::error(chunk) {
            return Heard::Failed(error);
        }
        if name == "error" {
            return Heard::Failed(chunk.clone());
        }
        let model = text(chunk, "/model");
        if !model.is_empty() {
            model.clone_into(&mut self.model);
        }
        self.count(chunk);
        let choices = list(chunk, "/choices");
        if self.hides_usage
            && choices.is_empty()
            && chunk.get("usage").is_some_and(Value::is_object)
        {
            return Heard::Ours;
        }
        // Of several answers the first is read; a caller who asked for them gets them all as they
        // came.
        let first = choices.iter().find(|choice| count(choice, "/index").unwrap_or_default() == 0);
        let Some(choice) = first else { return Heard::Said(Vec::new()) };
        let reason = text(choice, "/finish_reason");
        if !reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
        Heard::Said(choice.get("delta").map_or_else(Vec::new, |delta| self.delta(delta)))
    }

    fn end(&mut self) -> Option<Ending> {
        if self.reason.is_empty() {
            return None;
        }
        let told = self.calls.iter().filter(|call| call.is_told);
        let calls = told
            .map(|call| answer::tool_call((&call.id, &call.name), &call.arguments, &self.reason));
        let (_, finish) = answer::finished(&self.reason, calls.collect(), &self.refusal);
        Some(Ending {
            model: std::mem::take(&mut self.model),
            finish,
            usage: self.usage,
            cost_usd: self.cost_usd,
            ..Ending::default()
        })
    }

    fn failed(&self, error: &Value, told: Vec<Told>) -> ProviderError {
        self.of.failed(self.of.wire.inside(error, told))
    }
}
