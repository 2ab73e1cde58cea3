//! The languages it is spoken to in: how a request is read, and how an answer, an error and a limit
//! are told. A file for each; OpenAI's is also what three others are made of.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Answer;
use super::fault::Fault;
use super::refusal::Limited;
use super::script::Script;
use crate::domain::prompt::Prompt;
use crate::domain::told::Told;

pub(super) mod anthropic;
mod cerebras;
pub(super) mod gemini;
mod groq;
pub(super) mod openai;
mod openrouter;

/// Whose ways it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI's chat completions.
    #[default]
    OpenAi,
    /// Groq's kind of them.
    Groq,
    /// Cerebras' kind of them.
    Cerebras,
    /// OpenRouter's kind of them.
    OpenRouter,
    /// Anthropic's Messages, at an address of their own.
    #[serde(skip)]
    Anthropic,
    /// Gemini's `generateContent`, at an address of its own.
    #[serde(skip)]
    Gemini,
}

/// A header.
pub(super) type Header = (String, String);

/// What somebody asks.
pub(super) struct Asked {
    /// The model.
    pub(super) model: String,
    /// The prompt.
    pub(super) prompt: Prompt,
    /// Whether the answer is to come piece by piece.
    pub(super) stream: bool,
    /// Whether a stream is to end with what was used.
    pub(super) usage: bool,
}

/// What is said, and what about it stands in an answer.
pub(super) struct Said<'a> {
    /// The call's number.
    pub(super) number: u64,
    /// The model.
    pub(super) model: &'a str,
    /// The answer.
    pub(super) answer: &'a Answer,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// Whether a stream is to end with what was used.
    pub(super) usage: bool,
}

/// An error as it goes out.
pub(super) struct Refusal {
    /// The status.
    pub(super) status: u16,
    /// Its headers, beside those of every answer.
    pub(super) headers: Vec<Header>,
    /// What it says.
    pub(super) body: Body,
}

/// What an error says.
pub(super) enum Body {
    /// As the dialect has it.
    Json(Value),
    /// A web page, from something in between.
    Page(String),
    /// Plain text, from something in between.
    Text(&'static str),
}

impl Refusal {
    /// An error without headers of its own.
    pub(super) const fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Body::Json(body) }
    }
}

/// What differs from dialect to dialect.
pub(super) trait Voice {
    /// Headers that stand on every answer.
    fn headers(&self, number: u64, told: &[Told], now: i64) -> Vec<Header>;
    /// An answer's body.
    fn whole(&self, said: &Said<'_>) -> String;
    /// An answer as server-sent events.
    fn script(&self, said: &Said<'_>) -> Script<String>;
    /// A call for which there is no room.
    fn limited(&self, limited: &Limited, model: &str, now: i64) -> Refusal;
    /// A call that goes wrong with a status.
    fn failed(&self, fault: Fault, model: &str) -> Refusal;
    /// An error inside a body with status 200; with the answer so far when there is one.
    fn inside(&self, said: Option<&Said<'_>>) -> String;
    /// The server-sent events with which a stream goes wrong.
    fn broken(&self) -> String;
}

impl Dialect {
    /// How it speaks.
    pub(super) fn voice(self) -> &'static dyn Voice {
        match self {
            Self::OpenAi => &openai::OpenAi,
            Self::Groq => &groq::Groq,
            Self::Cerebras => &cerebras::Cerebras,
            Self::OpenRouter => &openrouter::OpenRouter,
            Self::Anthropic => &anthropic::Anthropic,
            Self::Gemini => &gemini::Gemini,
        }
    }

    /// The status that a fault has in it, if it has one.
    pub(super) const fn status(self, fault: Fault) -> Option<u16> {
        match (fault, self) {
            (Fault::Quota, Self::Anthropic | Self::Groq) | (Fault::BadKey, Self::Gemini) => {
                Some(400)
            }
            (Fault::Quota, Self::Cerebras) => Some(402),
            (Fault::Quota, Self::OpenRouter) => Some(403),
            _ => fault.status(),
        }
    }

    /// How it tells a call that goes wrong with a status. What stands before a server says some of
    /// it, and says it to all in the same way.
    pub(super) fn failed(self, fault: Fault, model: &str) -> Refusal {
        let status = self.status(fault).unwrap_or(500);
        let body = match fault {
            Fault::BadGateway if self != Self::OpenRouter => Body::Page(page("502 Bad Gateway")),
            Fault::PlainUnavailable => Body::Text(fault.message()),
            _ => return self.voice().failed(fault, model),
        };
        Refusal { status, headers: Vec::new(), body }
    }
}

/// What nginx says.
fn page(what: &str) -> String {
    format!(
        "<html>\r\n<head><title>{what}</title></head>\r\n<body>\r\n<center><h1>{what}</h1></center>\r\n\
         <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
}

/// Adds a field to an object.
fn put(object: &mut Value, name: &str, what: impl Into<Value>) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), what.into());
    }
}

/// One server-sent event without a name.
fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// `retry-after` in whole seconds, never too short.
fn retry_after(wait: Option<Duration>) -> Vec<Header> {
    let seconds = wait.map(|wait| wait.as_millis().div_ceil(1_000).to_string());
    seconds.map(|seconds| ("retry-after".to_owned(), seconds)).into_iter().collect()
}

/// A time as Anthropic writes it.
pub(super) fn time(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
