//! A stream read: what the readers of all wire formats share.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use serde_json::Value;

use super::ProviderError;
use super::stream::{Ending, Event, Piece, Pieces, cut};
use super::wire::{Frame, Frames};
use crate::domain::completion::{Completion, Finish};
use crate::domain::told::Told;

/// The message that ends a stream of OpenAI's and its kin.
const DONE: &[u8] = b"[DONE]";

/// That message as it comes.
const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

/// Reads one wire format's messages. It knows what has come so far.
pub(super) trait Reader: Send + 'static {
    /// What a message means; its event's name is empty when it has none.
    fn message(&mut self, name: &str, message: &Value) -> Heard;

    /// How the answer ended, now that no more messages come and nothing was said of an end; `None`
    /// when it was cut. What the headers told is added to it.
    fn end(&mut self) -> Option<Ending>;

    /// How the answer ended, now that `[DONE]` has come.
    fn done(&mut self) -> Option<Ending> {
        self.end()
    }

    /// An error that came as a message, judged. `told` is what the headers told.
    fn failed(&self, error: &Value, told: Vec<Told>) -> ProviderError;
}

/// What a message means.
pub(super) enum Heard {
    /// This much more of the answer, or nothing, or its end.
    Said(Vec<Event>),
    /// What we asked for and the caller did not: it is not passed on.
    Ours,
    /// An error.
    Failed(Value),
    /// The answer breaks off.
    Cut,
}

/// A stream from its first piece of content on; what fails before is an error of the call. With
/// `native` the messages are passed on as they came.
pub(super) async fn begin(
    frames: Frames,
    reader: impl Reader,
    native: bool,
) -> Result<Pieces, ProviderError> {
    let mut flow = Flow { frames, reader, native, state: State::Silent };
    let mut before = Vec::new();
    loop {
        let piece = flow.next().await?.ok_or_else(cut)?;
        let has_begun = !piece.events.is_empty();
        before.push(Ok(piece));
        if has_begun {
            break;
        }
    }
    flow.frames.has_begun();
    let rest = stream::try_unfold(flow, async |mut flow| {
        Ok(flow.next().await?.map(|piece| (piece, flow)))
    });
    Ok(stream::iter(before).chain(rest).boxed())
}

/// A whole answer where a stream was asked for.
pub(super) fn at_once(completion: Completion) -> Result<Pieces, ProviderError> {
    if completion.finish == Finish::Error {
        return Err(ProviderError { told: completion.told, ..broken() });
    }
    Ok(super::stream::at_once(completion))
}

/// The provider ended the answer with an error.
fn broken() -> ProviderError {
    let message = "the provider ended the answer with an error";
    ProviderError { message: message.to_owned(), ..cut() }
}

struct Flow<R> {
    frames: Frames,
    reader: R,
    native: bool,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    /// No message has come.
    Silent,
    Speaking,
    Done,
}

impl<R: Reader> Flow<R> {
    /// The next piece that says something or is to be passed on.
    async fn next(&mut self) -> Result<Option<Piece>, ProviderError> {
        while self.state != State::Done {
            let Some(frame) = self.frames.next().await? else {
                if self.state == State::Silent {
                    return Err(self.frames.garbled("the answer is no stream of messages"));
                }
                let ending = self.reader.end();
                return self.ended(ending, Bytes::from_static(DONE_EVENT)).map(Some);
            };
            self.state = State::Speaking;
            if *frame.data == *DONE {
                let ending = self.reader.done();
                return self.ended(ending, frame.raw).map(Some);
            }
            if let Some(piece) = self.read(frame)? {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn read(&mut self, frame: Frame) -> Result<Option<Piece>, ProviderError> {
        let message = match serde_json::from_slice(&frame.data) {
            Ok(message) => message,
            Err(_half) if frame.is_last => return Err(self.cut()),
            Err(fault) => {
                let message = format!("a message of the stream is not JSON: {fault}");
                return Err(self.frames.garbled(&message));
            }
        };
        let mut events = match self.reader.message(&frame.name, &message) {
            Heard::Said(events) => events,
            Heard::Ours => return Ok(None),
            Heard::Failed(error) => return Err(self.reader.failed(&error, self.told())),
            Heard::Cut => return Err(self.cut()),
        };
        events.retain(says_something);
        for event in &mut events {
            if let Event::End(ending) = event {
                if ending.finish == Finish::Error {
                    return Err(self.broken());
                }
                ending.told = self.told();
                self.state = State::Done;
                self.frames.has_ended();
            }
        }
        let native = self.native.then_some(frame.raw);
        let is_of_use = native.is_some() || !events.is_empty();
        Ok(is_of_use.then_some(Piece { events, native }))
    }

    /// The stream is over.
    fn ended(&mut self, ending: Option<Ending>, raw: Bytes) -> Result<Piece, ProviderError> {
        self.state = State::Done;
        self.frames.has_ended();
        let ending = ending.ok_or_else(|| self.cut())?;
        if ending.finish == Finish::Error {
            return Err(self.broken());
        }
        let ending = Ending { told: self.told(), ..ending };
        let events = vec![Event::End(Box::new(ending))];
        Ok(Piece { events, native: self.native.then_some(raw) })
    }

    fn cut(&self) -> ProviderError {
        ProviderError { told: self.told(), ..cut() }
    }

    /// The provider says itself that the answer is none.
    fn broken(&mut self) -> ProviderError {
        self.state = State::Done;
        self.frames.has_ended();
        ProviderError { told: self.told(), ..broken() }
    }

    fn told(&self) -> Vec<Told> {
        self.frames.told().to_vec()
    }
}

/// Providers send empty texts along with what they mean to say.
fn says_something(event: &Event) -> bool {
    match event {
        Event::Text(text) | Event::Reasoning(text) | Event::Arguments { text, .. } => {
            !text.is_empty()
        }
        Event::Image(_) | Event::Call { .. } | Event::End(_) => true,
    }
}
