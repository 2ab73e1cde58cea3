//! How a call can go wrong, and what decides that it does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chance;
use crate::domain::limits::glob;

/// How a call goes wrong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// 429 with `retry-after`, although there is room.
    #[serde(rename = "429")]
    RateLimited,
    /// 429 that does not say when to come back.
    #[serde(rename = "429_no_hint")]
    RateLimitedBare,
    /// No money left, as the dialect tells it: a 429 (OpenAI, Gemini), 400 (Anthropic, Groq), 402
    /// (Cerebras) or 403 (OpenRouter).
    Quota,
    /// 500.
    #[serde(rename = "500")]
    ServerError,
    /// 502: a web page of something in between.
    #[serde(rename = "502")]
    BadGateway,
    /// 503: the server is overloaded.
    #[serde(rename = "503")]
    Unavailable,
    /// 503 in plain text, as a proxy before the server says it.
    #[serde(rename = "503_text")]
    PlainUnavailable,
    /// 529, as Anthropic says overloaded.
    #[serde(rename = "529")]
    Overloaded,
    /// 401: the key is not accepted. Gemini says 400.
    #[serde(rename = "401")]
    BadKey,
    /// 402: nothing is left to pay with.
    #[serde(rename = "402")]
    NoCredit,
    /// 403: the key may not use this.
    #[serde(rename = "403")]
    Forbidden,
    /// 404: there is no such model.
    #[serde(rename = "404")]
    NoModel,
    /// 413: the request is too large.
    #[serde(rename = "413")]
    TooLarge,
    /// 400: the prompt is longer than the model's window.
    ContextLength,
    /// An error inside an answer with status 200; in a stream before its first word.
    #[serde(rename = "error_in_200")]
    ErrorInside,
    /// The same with half of the answer before it.
    ErrorMidway,
    /// A stream that ends in the middle; `#scripted:cut 200` after so many bytes. What is no stream is
    /// `half`.
    Cut,
    /// An answer that stops in the middle and never goes on.
    Stall,
    /// A web page with status 200.
    Html,
    /// Half an answer, then the connection closes.
    Half,
    /// Status 200 with no body.
    Empty,
    /// An answer larger than anybody should read.
    Huge,
    /// No answer, ever.
    Hang,
    /// The connection closes before the answer's first byte.
    Reset,
    /// No connection. Over HTTP the same as `reset`: it is too late to refuse.
    Refuse,
    /// A proper answer that does not fit the output schema.
    InvalidOutput,
    /// A proper answer in prose where JSON was asked for.
    Text,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 27] = [
        Self::RateLimited,
        Self::RateLimitedBare,
        Self::Quota,
        Self::ServerError,
        Self::BadGateway,
        Self::Unavailable,
        Self::PlainUnavailable,
        Self::Overloaded,
        Self::BadKey,
        Self::NoCredit,
        Self::Forbidden,
        Self::NoModel,
        Self::TooLarge,
        Self::ContextLength,
        Self::ErrorInside,
        Self::ErrorMidway,
        Self::Cut,
        Self::Stall,
        Self::Html,
        Self::Half,
        Self::Empty,
        Self::Huge,
        Self::Hang,
        Self::Reset,
        Self::Refuse,
        Self::InvalidOutput,
        Self::Text,
    ];

    /// The fault's name in settings and directives.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "429",
            Self::RateLimitedBare => "429_no_hint",
            Self::Quota => "quota",
            Self::ServerError => "500",
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::PlainUnavailable => "503_text",
            Self::Overloaded => "529",
            Self::BadKey => "401",
            Self::NoCredit => "402",
            Self::Forbidden => "403",
            Self::NoModel => "404",
            Self::TooLarge => "413",
            Self::ContextLength => "context_length",
            Self::ErrorInside => "error_in_200",
            Self::ErrorMidway => "error_midway",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Html => "html",
            Self::Half => "half",
            Self::Empty => "empty",
            Self::Huge => "huge",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Refuse => "refuse",
            Self::InvalidOutput => "invalid_output",
            Self::Text => "text",
        }
    }

    /// Reads a fault's name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == text)
    }

    /// The HTTP status that comes with it, if any does. Some dialects use another.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::RateLimited | Self::RateLimitedBare | Self::Quota => Some(429),
            Self::ServerError => Some(500),
            Self::BadGateway => Some(502),
            Self::Unavailable | Self::PlainUnavailable => Some(503),
            Self::Overloaded => Some(529),
            Self::BadKey => Some(401),
            Self::NoCredit => Some(402),
            Self::Forbidden => Some(403),
            Self::NoModel => Some(404),
            Self::TooLarge => Some(413),
            Self::ContextLength => Some(400),
            Self::ErrorInside
            | Self::ErrorMidway
            | Self::Cut
            | Self::Stall
            | Self::Html
            | Self::Half
            | Self::Empty
            | Self::Huge
            | Self::InvalidOutput
            | Self::Text => Some(200),
            Self::Hang | Self::Reset | Self::Refuse => None,
        }
    }

    /// Whether part of an answer comes before it goes wrong.
    pub(super) const fn is_midway(self) -> bool {
        matches!(self, Self::Cut | Self::Half | Self::Stall | Self::ErrorInside | Self::ErrorMidway)
    }

    /// What is told about it.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::RateLimited => "Rate limit reached. Please try again in 1s.",
            Self::RateLimitedBare => "Rate limit reached.",
            Self::Quota => {
                "You exceeded your current quota, please check your plan and billing details."
            }
            Self::ServerError | Self::ErrorInside | Self::ErrorMidway => {
                "The server had an error while processing your request. Sorry!"
            }
            Self::BadGateway => "Bad gateway",
            Self::Unavailable => "The server is currently overloaded. Please try again later.",
            Self::PlainUnavailable => {
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 connection termination"
            }
            Self::Overloaded => "Overloaded",
            Self::BadKey => "Incorrect API key provided.",
            Self::NoCredit => "Payment required to access this resource.",
            Self::Forbidden => "This key is not allowed to use this.",
            Self::NoModel => "The model does not exist or you do not have access to it.",
            Self::TooLarge => "The request exceeds the maximum size.",
            Self::ContextLength => {
                "This model's maximum context length is 8192 tokens. Your messages are longer."
            }
            Self::Cut => "the answer broke off before its end",
            Self::Stall => "the answer does not go on",
            Self::Html => "the answer is a web page",
            Self::Half => "the answer ends in the middle",
            Self::Empty => "the answer is empty",
            Self::Huge => "the answer is larger than the cap",
            Self::Hang => "no answer in time",
            Self::Reset => "the connection was closed before an answer",
            Self::Refuse => "the connection was refused",
            Self::InvalidOutput => "the answer does not fit its schema",
            Self::Text => "the answer is prose, not JSON",
        }
    }
}

/// Some calls go wrong. With neither `every` nor `share` every call does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Only calls of models whose name is like this; a star stands for any letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// One call in so many: the tenth, the twentieth, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub every: Option<u64>,
    /// So many of all: `0.1` is one in ten, scattered the same way in every run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: Option<f64>,
    /// How they go wrong.
    pub answer: Fault,
}

impl FaultRule {
    /// Whether this rule strikes the call with this number; the first call is number 1.
    pub(super) fn strikes(&self, number: u64, model: &str) -> bool {
        if self.model.as_deref().is_some_and(|pattern| !glob(pattern, model)) {
            return false;
        }
        let due = |every: u64| number.is_multiple_of(every.max(1));
        match (self.every, self.share) {
            (None, None) => true,
            (every, share) => {
                every.is_some_and(due) || share.is_some_and(|share| chance::share(number) < share)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_code_and_on_the_wire() {
        for fault in Fault::ALL {
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.as_str());
            assert_eq!(Fault::parse(fault.as_str()), Some(fault));
        }
    }

    #[test]
    fn rules_strike_every_nth_call_or_a_share() {
        let struck = |rule: &FaultRule| (1..=1_000).filter(|n| rule.strikes(*n, "m")).count();
        let rule = |every, share| FaultRule { model: None, every, share, answer: Fault::Html };
        assert_eq!(struck(&rule(Some(10), None)), 100);
        assert_eq!(struck(&rule(None, None)), 1_000);
        assert!((50..150).contains(&struck(&rule(None, Some(0.1)))));
        assert_eq!(struck(&rule(None, Some(0.0))), 0);
        let other = FaultRule { model: Some("n*".to_owned()), ..rule(None, None) };
        assert_eq!((struck(&other), other.strikes(1, "next")), (0, true));
    }
}
