//! Responses read as they come.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::OpenAi;
use super::super::answer::{finished, tool_call, written};
use super::answer::{self, call_id, reason};
use crate::domain::told::Told;
use crate::provider::ProviderError;
use crate::provider::flow::{Heard, Reader};
use crate::provider::json::{count, list, text};
use crate::provider::stream::{Ending, Event};

/// A response under way.
pub(super) struct Response {
    of: OpenAi,
    model: String,
    /// How many bytes of each part have come, by its item, its kind and its place there.
    told: BTreeMap<(String, Kind, usize), usize>,
    calls: Vec<Call>,
    has_text: bool,
    has_thought: bool,
    refusal: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Text,
    Refusal,
    Summary,
    Thought,
}

struct Call {
    /// The item it is.
    item: String,
    id: String,
    name: String,
    arguments: String,
}

impl Response {
    /// A response of which nothing has come.
    pub(super) fn new(of: OpenAi, model: &str) -> Self {
        Self {
            of,
            model: model.to_owned(),
            told: BTreeMap::new(),
            calls: Vec::new(),
            has_text: false,
            has_thought: false,
            refusal: String::new(),
        }
    }

    /// More of a part, or with `whole` all of it: then what has not come yet is more.
    fn part(
        &mut self,
        (item, kind, at): (&str, Kind, usize),
        said: &str,
        whole: bool,
    ) -> Vec<Event> {
        let told = self.told.entry((item.to_owned(), kind, at)).or_default();
        let (is_first, from) = (*told == 0, if whole { *told } else { 0 });
        let Some(more) = said.get(from..).filter(|more| !more.is_empty()) else {
            return Vec::new();
        };
        *told += more.len();
        match kind {
            Kind::Text => {
                self.has_text = true;
                vec![Event::Text(more.to_owned())]
            }
            Kind::Refusal => {
                self.refusal.push_str(more);
                if self.has_text { Vec::new() } else { vec![Event::Text(more.to_owned())] }
            }
            Kind::Summary | Kind::Thought => {
                let gap = if is_first && self.has_thought { "\n\n" } else { "" };
                self.has_thought = true;
                vec![Event::Reasoning(format!("{gap}{more}"))]
            }
        }
    }

    /// All of an item that has come so far. What came bit by bit is not said again.
    fn item(&mut self, place: &str, item: &Value) -> Vec<Event> {
        let kinds: &[(&str, &str, Kind)] = match text(item, "/type") {
            "message" => {
                &[("/content", "/text", Kind::Text), ("/content", "/refusal", Kind::Refusal)]
            }
            "reasoning" => {
                &[("/summary", "/text", Kind::Summary), ("/content", "/text", Kind::Thought)]
            }
            "function_call" => return self.call(place, item),
            _ => &[],
        };
        let mut events = Vec::new();
        for (parts, field, kind) in kinds {
            for (at, part) in list(item, parts).iter().enumerate() {
                events.extend(self.part((place, *kind, at), text(part, field), true));
            }
        }
        events
    }

    fn call(&mut self, place: &str, item: &Value) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.calls.iter().any(|call| call.item == place) {
            let (id, name) = (call_id(item).to_owned(), text(item, "/name").to_owned());
            let index = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
            events.push(Event::Call { index, id: id.clone(), name: name.clone() });
            let (item, arguments) = (place.to_owned(), String::new());
            self.calls.push(Call { item, id, name, arguments });
        }
        events.extend(self.arguments(place, &written(item.get("arguments")), true));
        events
    }

    fn arguments(&mut self, place: &str, said: &str, whole: bool) -> Option<Event> {
        let at = self.calls.iter().position(|call| call.item == place)?;
        let call = self.calls.get_mut(at)?;
        let more = said.get(if whole { call.arguments.len() } else { 0 }..)?.to_owned();
        call.arguments.push_str(&more);
        Some(Event::Arguments { index: u32::try_from(at).unwrap_or(u32::MAX), text: more })
    }

    /// The end. Some servers say everything only here.
    fn ended(&mut self, status: &str, response: &Value) -> Vec<Event> {
        let mut events = Vec::new();
        let is_silent = !self.has_text && !self.has_thought && self.refusal.is_empty();
        if is_silent && self.calls.is_empty() {
            for (at, item) in list(response, "/output").iter().enumerate() {
                events.extend(self.item(&at.to_string(), item));
            }
        }
        let reason = reason(status, response).unwrap_or_default();
        let calls = self.calls.iter();
        let calls = calls.map(|call| tool_call((&call.id, &call.name), &call.arguments, reason));
        let (_, finish) = finished(reason, calls.collect(), &self.refusal);
        events.push(Event::End(Box::new(Ending {
            model: std::mem::take(&mut self.model),
            finish,
            usage: response.get("usage").and_then(answer::usage),
            cost_usd: response.pointer("/usage/cost").and_then(Value::as_f64),
            ..Ending::default()
        })));
        events
    }
}

impl Reader for Response {
    fn message(&mut self, name: &str, event: &Value) -> Heard {
        let kind = match text(event, "/type") {
            "" => name,
            kind => kind,
        };
        let nothing = Value::Null;
        let response = event.get("response").unwrap_or(&nothing);
        // Errors come within an object of their own, as documented flat, or in the response.
        let error = event.get("error").filter(|error| !error.is_null());
        if kind == "error" || error.is_some() {
            return Heard::Failed(error.unwrap_or(event).clone());
        }
        if let Some(error) = answer::error(response) {
            return Heard::Failed(error);
        }
        if kind == "response.failed" {
            return Heard::Failed(event.clone());
        }
        let model = text(response, "/model");
        if !model.is_empty() {
            model.clone_into(&mut self.model);
        }
        // Servers err in the ids of items; their places hold.
        let place = match count(event, "/output_index") {
            Some(place) => place.to_string(),
            None => [text(event, "/item_id"), text(event, "/item/id")].concat(),
        };
        let place = place.as_str();
        let at = |field| count(event, field).and_then(|at| at.try_into().ok()).unwrap_or_default();
        let (content, summary) = (at("/content_index"), at("/summary_index"));
        let delta = text(event, "/delta");
        Heard::Said(match kind {
            "response.output_item.added" | "response.output_item.done" => {
                self.item(place, event.get("item").unwrap_or(&nothing))
            }
            "response.output_text.delta" => self.part((place, Kind::Text, content), delta, false),
            "response.output_text.done" => {
                self.part((place, Kind::Text, content), text(event, "/text"), true)
            }
            "response.refusal.delta" => self.part((place, Kind::Refusal, content), delta, false),
            "response.refusal.done" => {
                self.part((place, Kind::Refusal, content), text(event, "/refusal"), true)
            }
            "response.reasoning_summary_text.delta" => {
                self.part((place, Kind::Summary, summary), delta, false)
            }
            "response.reasoning_text.delta" => {
                self.part((place, Kind::Thought, content), delta, false)
            }
            "response.function_call_arguments.delta" => {
                self.arguments(place, delta, false).into_iter().collect()
            }
            "response.function_call_arguments.done" => {
                self.arguments(place, text(event, "/arguments"), true).into_iter().collect()
            }
            "response.completed" => self.ended("completed", response),
            "response.incomplete" => self.ended("incomplete", response),
            _ => Vec::new(),
        })
    }

    /// The end is always said, and never with `[DONE]`.
    fn end(&mut self) -> Option<Ending> {
        None
    }

    fn failed(&self, error: &Value, told: Vec<Told>) -> ProviderError {
        self.of.failed(self.of.wire.inside(error, told))
    }
}
