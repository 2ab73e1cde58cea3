//! An answer that comes piece by piece, in one shape for every provider.
//!
//! A stream begins with the first piece of the answer: what fails before that is an error of the
//! call, and another provider can be asked. It ends with one [`Event::End`] and nothing after it, or
//! with an error, or (dropped) with the call cancelled. One that ends in any other way is not
//! complete; [`whole`] and [`checked`] say so.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Map, Value};

use super::{ErrorClass, ProviderError, codes};
use crate::domain::completion::{Completion, Finish, ToolCall, Usage};
use crate::domain::content::Image;
use crate::domain::told::Told;

/// The pieces of an answer.
pub type Pieces = BoxStream<'static, Result<Piece, ProviderError>>;

/// What one message of the provider's adds to the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// What it means.
    pub events: Vec<Event>,
    /// The message as it came, as a whole server-sent event, when the caller's own request was
    /// sent as it came.
    pub native: Option<Bytes>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// More text.
    Text(String),
    /// More of what the model thinks.
    Reasoning(String),
    /// An image, whole.
    Image(Image),
    /// The model begins to ask for a tool.
    Call {
        /// Counts the calls of this answer from 0.
        index: u32,
        /// The call's name; a tool's answer refers to it.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of a call's arguments, which are JSON once whole.
    Arguments {
        /// Which call.
        index: u32,
        /// The text.
        text: String,
    },
    /// The end.
    End(Box<Ending>),
}

impl Event {
    /// The bytes it adds to the answer.
    fn length(&self) -> usize {
        match self {
            Self::Text(text) | Self::Reasoning(text) | Self::Arguments { text, .. } => text.len(),
            Self::Image(image) => image.data.as_ref().map_or(0, String::len),
            Self::Call { .. } | Self::End(_) => 0,
        }
    }
}

/// How an answer ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ending {
    /// The model as the provider names it in its answer.
    pub model: String,
    /// Why it stopped.
    pub finish: Finish,
    /// What it used; `None` when the provider did not say.
    pub usage: Option<Usage>,
    /// What the provider says it cost.
    pub cost_usd: Option<f64>,
    /// What the provider says of its limits.
    pub told: Vec<Told>,
}

/// Puts an answer together from its pieces.
#[derive(Debug, Default)]
pub struct Assembly {
    completion: Completion,
    calls: BTreeMap<u32, (String, String, String)>,
    ended: bool,
}

impl Assembly {
    /// Adds a piece.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Text(text) => self.completion.text.push_str(text),
            Event::Reasoning(text) => self.completion.reasoning.push_str(text),
            Event::Image(image) => self.completion.images.push(image.clone()),
            Event::Call { index, id, name } => {
                let call = self.calls.entry(*index).or_default();
                call.0.clone_from(id);
                call.1.clone_from(name);
            }
            Event::Arguments { index, text } => {
                self.calls.entry(*index).or_default().2.push_str(text);
            }
            Event::End(ending) => self.end(ending),
        }
    }

    fn end(&mut self, ending: &Ending) {
        self.ended = true;
        let Ending { model, finish, usage, cost_usd, told } = ending.clone();
        let text = std::mem::take(&mut self.completion);
        self.completion = Completion { model, finish, usage, cost_usd, told, ..text };
    }

    /// Whether the end has come.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The answer as far as it has come. A call that was cut is none: nobody is to run it.
    pub fn completion(self) -> Completion {
        let is_cut = matches!(self.completion.finish, Finish::Length | Finish::ContextFull);
        let is_whole = |(_, _, text): &(String, String, String)| {
            !text.trim().is_empty() && read_arguments(text).is_object()
        };
        let calls = self.calls.into_values().filter(|call| !is_cut || is_whole(call));
        let tool_calls = calls.map(|(id, name, arguments)| ToolCall {
            arguments: read_arguments(&arguments),
            id,
            name,
        });
        Completion { tool_calls: tool_calls.collect(), ..self.completion }
    }
}

/// A call's arguments: an object, or the model's own text when it is none. No text is no arguments.
pub fn read_arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Map::new());
    }
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| text.into())
}

/// The longest answer that is collected, in bytes.
const LONGEST: usize = 8 << 20;

/// The whole answer.
pub async fn whole(mut pieces: Pieces) -> Result<Completion, ProviderError> {
    let (mut assembly, mut length) = (Assembly::default(), 0_usize);
    while let Some(piece) = pieces.next().await {
        for event in &piece?.events {
            length = length.saturating_add(event.length());
            assembly.add(event);
        }
        if length > LONGEST {
            let message = format!("the answer is longer than {LONGEST} bytes");
            let class = ErrorClass::FailoverProvider;
            return Err(ProviderError::new(class, codes::TOO_LARGE, message));
        }
    }
    if assembly.has_ended() { Ok(assembly.completion()) } else { Err(cut()) }
}

/// The same pieces, held to the contract: whatever stops without an end gets an error for one, and
/// nothing comes after either.
pub fn checked(pieces: Pieces) -> Pieces {
    let is_end = |event: &Event| matches!(event, Event::End(_));
    let marked = pieces.map(Some).chain(stream::once(future::ready(None)));
    let held = marked.scan(false, move |done, piece| {
        if *done {
            return future::ready(None);
        }
        let piece = piece.unwrap_or_else(|| Err(cut()));
        *done = piece.as_ref().map_or(true, |piece| piece.events.iter().any(is_end));
        future::ready(Some(piece))
    });
    held.boxed()
}

/// The stream stopped in the middle.
pub fn cut() -> ProviderError {
    let message = "the answer broke off before its end";
    ProviderError::new(ErrorClass::FailoverProvider, codes::CUT, message)
}

/// A whole answer as a stream of one piece.
pub fn at_once(completion: Completion) -> Pieces {
    let Completion { model, text, reasoning, images, tool_calls, finish, .. } = completion;
    let mut events = Vec::new();
    if !reasoning.is_empty() {
        events.push(Event::Reasoning(reasoning));
    }
    if !text.is_empty() {
        events.push(Event::Text(text));
    }
    events.extend(images.into_iter().map(Event::Image));
    for (index, call) in (0..).zip(tool_calls) {
        let text = match &call.arguments {
            Value::String(raw) => raw.clone(),
            other => other.to_string(),
        };
        events.push(Event::Call { index, id: call.id, name: call.name });
        events.push(Event::Arguments { index, text });
    }
    let Completion { usage, cost_usd, told, .. } = completion;
    events.push(Event::End(Box::new(Ending { model, finish, usage, cost_usd, told })));
    stream::once(future::ready(Ok(Piece { events, native: None }))).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> Completion {
        let call = |id: &str, arguments: Value| ToolCall {
            id: id.to_owned(),
            name: "look".to_owned(),
            arguments,
        };
        Completion {
            model: "m".to_owned(),
            text: "Hi".to_owned(),
            reasoning: "Hm".to_owned(),
            tool_calls: vec![call("1", json!({ "a": 1 })), call("2", json!("{\"a\":"))],
            finish: Finish::ToolCalls,
            usage: Some(Usage { input_tokens: 3, ..Usage::default() }),
            ..Completion::default()
        }
    }

    #[tokio::test]
    async fn an_answer_taken_apart_is_the_same_when_put_together() {
        assert_eq!(whole(at_once(answer())).await, Ok(answer()));
    }

    #[tokio::test]
    async fn what_has_no_end_is_not_complete() {
        let text = || Ok(Piece { events: vec![Event::Text("a".to_owned())], native: None });
        let end = || Ok(Piece { events: vec![Event::End(Box::default())], native: None });
        let open = || stream::iter([text(), text()]).boxed();
        assert_eq!(whole(open()).await.unwrap_err().code, codes::CUT);
        let held: Vec<_> = checked(open()).collect().await;
        assert_eq!((held.len(), held.last().unwrap().as_ref().unwrap_err().code), (3, codes::CUT));
        let beyond = stream::iter([text(), end(), text(), end()]).boxed();
        assert_eq!(checked(beyond).count().await, 2);
        let failed = stream::iter([text(), Err(cut()), text(), end()]).boxed();
        assert_eq!(checked(failed).count().await, 2);
    }
}
