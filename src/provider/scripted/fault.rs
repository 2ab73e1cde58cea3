//! How a call can go wrong, and what decides that it does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chance;
use crate::domain::content::Content;
use crate::domain::prompt::Prompt;
use crate::domain::units::Span;

/// How a call goes wrong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// 429 with `retry-after`, although there is room.
    #[serde(rename = "429")]
    RateLimited,
    /// 500.
    #[serde(rename = "500")]
    ServerError,
    /// 503: the server is overloaded.
    #[serde(rename = "503")]
    Unavailable,
    /// 529, as Anthropic says overloaded.
    #[serde(rename = "529")]
    Overloaded,
    /// 401: the key is not accepted.
    #[serde(rename = "401")]
    BadKey,
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
    pub const ALL: [Self; 14] = [
        Self::RateLimited,
        Self::ServerError,
        Self::Unavailable,
        Self::Overloaded,
        Self::BadKey,
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
            Self::ServerError => "500",
            Self::Unavailable => "503",
            Self::Overloaded => "529",
            Self::BadKey => "401",
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

    /// The HTTP status that comes with it, if any does.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::RateLimited => Some(429),
            Self::ServerError => Some(500),
            Self::Unavailable => Some(503),
            Self::Overloaded => Some(529),
            Self::BadKey => Some(401),
            Self::Html
            | Self::Half
            | Self::Empty
            | Self::Huge
            | Self::InvalidOutput
            | Self::Text => Some(200),
            Self::Hang | Self::Reset | Self::Refuse => None,
        }
    }

    /// What is told about it.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::RateLimited => "Rate limit reached. Please try again in 1s.",
            Self::ServerError => "The server had an error while processing your request. Sorry!",
            Self::Unavailable => "The server is currently overloaded. Please try again later.",
            Self::Overloaded => "Overloaded",
            Self::BadKey => "Incorrect API key provided.",
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
    pub(super) fn strikes(&self, number: u64) -> bool {
        let due = |every: u64| number.is_multiple_of(every.max(1));
        match (self.every, self.share) {
            (None, None) => true,
            (every, share) => {
                every.is_some_and(due) || share.is_some_and(|share| chance::share(number) < share)
            }
        }
    }
}

/// What a prompt asks of the script.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Directives {
    /// How the call goes wrong.
    pub(super) fault: Option<Fault>,
    /// What is answered.
    pub(super) say: Option<String>,
    /// How long it takes.
    pub(super) slow: Option<Duration>,
}

const MARK: &str = "#scripted:";

impl Directives {
    /// The directives in a prompt that are meant for this model. The first of a kind counts.
    pub(super) fn read(prompt: &Prompt, model: &str) -> Self {
        let mut found = Self::default();
        let texts = prompt.messages.iter().flat_map(|message| message.content.texts());
        for text in texts.chain(prompt.system.iter().flat_map(Content::texts)) {
            for rest in text.split(MARK).skip(1) {
                found.add(rest, model);
            }
        }
        found
    }

    fn add(&mut self, text: &str, model: &str) {
        let line = text.lines().next().unwrap_or_default();
        let (name, rest) = split_at_first(line, |c| !c.is_ascii_alphanumeric() && c != '_');
        let (only_for, rest) = match rest.strip_prefix('@') {
            Some(rest) => split_at_first(rest, |c| c.is_whitespace() || "\"'<>,;".contains(c)),
            None => (model, rest),
        };
        if only_for != model {
            return;
        }
        match name {
            "say" => {
                self.say.get_or_insert_with(|| rest.trim().to_owned());
            }
            "slow" => {
                let (span, _) =
                    split_at_first(rest.trim_start(), |c| !c.is_ascii_alphanumeric() && c != '.');
                self.slow = self.slow.or_else(|| Span::parse(span).map(|span| span.0));
            }
            _ => self.fault = self.fault.or_else(|| Fault::parse(name)),
        }
    }
}

fn split_at_first(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::prompt::Message;

    fn read(text: &str) -> Directives {
        let content = text.to_owned();
        let user = Message::user(content);
        let prompt = Prompt { messages: vec![user], ..Prompt::default() };
        Directives::read(&prompt, "small")
    }

    #[test]
    fn names_are_the_same_in_code_and_on_the_wire() {
        for fault in Fault::ALL {
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.as_str());
            assert_eq!(Fault::parse(fault.as_str()), Some(fault));
        }
    }

    #[test]
    fn directives_are_found_wherever_they_stand() {
        assert_eq!(read("Tag: \"#scripted:503\".").fault, Some(Fault::Unavailable));
        assert_eq!(read("#scripted:invalid_output, please").fault, Some(Fault::InvalidOutput));
        assert_eq!(read("#scripted:teapot"), Directives::default());
        assert_eq!(read("x #scripted:say a b \nc").say.as_deref(), Some("a b"));
        let both = read("#scripted:slow 1.5s #scripted:say yes");
        assert_eq!(both.slow, Some(Duration::from_millis(1_500)));
        assert_eq!(both.say.as_deref(), Some("yes"));
    }

    #[test]
    fn a_directive_can_be_meant_for_one_model() {
        assert_eq!(read("#scripted:503@large"), Directives::default());
        assert_eq!(read("#scripted:503@small").fault, Some(Fault::Unavailable));
        let text = "#scripted:say@large no\n#scripted:say@small yes";
        assert_eq!(read(text).say.as_deref(), Some("yes"));
    }

    #[test]
    fn rules_strike_every_nth_call_or_a_share() {
        let struck = |rule: &FaultRule| (1..=1_000).filter(|n| rule.strikes(*n)).count();
        let rule = |every, share| FaultRule { every, share, answer: Fault::Html };
        assert_eq!(struck(&rule(Some(10), None)), 100);
        assert_eq!(struck(&rule(None, None)), 1_000);
        assert!((50..150).contains(&struck(&rule(None, Some(0.1)))));
        assert_eq!(struck(&rule(None, Some(0.0))), 0);
    }
}
