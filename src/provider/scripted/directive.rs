//! What a prompt asks of the script.

use std::time::Duration;

use serde_json::Value;

use super::fault::Fault;
use crate::domain::content::Content;
use crate::domain::prompt::{Prompt, Role};
use crate::domain::units::Span;

/// What a prompt asks of the script. The first of a kind counts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Directives {
    /// How the call goes wrong.
    pub(super) fault: Option<Fault>,
    /// After how many bytes a stream is cut.
    pub(super) cut_after: Option<usize>,
    /// What is answered.
    pub(super) say: Option<String>,
    /// How long it takes until the first word.
    pub(super) slow: Option<Duration>,
    /// How long each further token takes.
    pub(super) pace: Option<Duration>,
    /// Tools that are asked for, with their arguments if these are told.
    pub(super) calls: Vec<(String, Option<Value>)>,
}

const MARK: &str = "#scripted:";

impl Directives {
    /// The directives in a prompt that are meant for this model. Tools are asked for only where
    /// the last message says so: a tool's answer is answered.
    pub(super) fn read(prompt: &Prompt, model: &str) -> Self {
        let mut found = Self::default();
        let texts = prompt.messages.iter().flat_map(|message| message.content.texts());
        for text in texts.chain(prompt.system.iter().flat_map(Content::texts)) {
            found.read_text(text, model);
        }
        let mut last = Self::default();
        let spoken = prompt.messages.last().filter(|message| message.role == Role::User);
        for text in spoken.iter().flat_map(|message| message.content.texts()) {
            last.read_text(text, model);
        }
        found.calls = last.calls;
        found
    }

    fn read_text(&mut self, text: &str, model: &str) {
        for rest in text.split(MARK).skip(1) {
            self.add(rest, model);
        }
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
        let (word, _) =
            split_at_first(rest.trim_start(), |c| !c.is_ascii_alphanumeric() && c != '.');
        let span = || Span::parse(word).map(|span| span.0);
        match name {
            "say" => {
                self.say.get_or_insert_with(|| rest.trim().to_owned());
            }
            "slow" => self.slow = self.slow.or_else(span),
            "pace" => self.pace = self.pace.or_else(span),
            "call" => self.calls.extend(call(rest)),
            _ => {
                self.fault = self.fault.or_else(|| Fault::parse(name));
                if name == Fault::Cut.as_str() {
                    self.cut_after = self.cut_after.or_else(|| word.parse().ok());
                }
            }
        }
    }
}

/// `look {"q": "x"}`; without arguments they are made to fit.
fn call(text: &str) -> Option<(String, Option<Value>)> {
    let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let (name, rest) = split_at_first(text.trim_start(), |c| !belongs(c));
    let arguments = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next();
    let arguments = arguments.and_then(Result::ok).filter(Value::is_object);
    (!name.is_empty()).then(|| (name.to_owned(), arguments))
}

fn split_at_first(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::prompt::Message;
    use serde_json::json;

    fn read(text: &str) -> Directives {
        let prompt = Prompt { messages: vec![Message::user(text)], ..Prompt::default() };
        Directives::read(&prompt, "small")
    }

    #[test]
    fn directives_are_found_wherever_they_stand() {
        assert_eq!(read("Tag: \"#scripted:503\".").fault, Some(Fault::Unavailable));
        assert_eq!(read("#scripted:invalid_output, please").fault, Some(Fault::InvalidOutput));
        assert_eq!(read("#scripted:teapot"), Directives::default());
        assert_eq!(read("x #scripted:say a b \nc").say.as_deref(), Some("a b"));
        let both = read("#scripted:slow 1.5s #scripted:pace 2ms #scripted:say yes");
        assert_eq!(both.slow, Some(Duration::from_millis(1_500)));
        assert_eq!(both.pace, Some(Duration::from_millis(2)));
        assert_eq!(both.say.as_deref(), Some("yes"));
        let cut = read("#scripted:cut 20");
        assert_eq!((cut.fault, cut.cut_after), (Some(Fault::Cut), Some(20)));
        assert_eq!(read("#scripted:cut").cut_after, None);
    }

    #[test]
    fn a_directive_can_be_meant_for_one_model() {
        assert_eq!(read("#scripted:503@large"), Directives::default());
        assert_eq!(read("#scripted:503@small").fault, Some(Fault::Unavailable));
        let text = "#scripted:say@large no\n#scripted:say@small yes";
        assert_eq!(read(text).say.as_deref(), Some("yes"));
    }

    #[test]
    fn tools_are_asked_for_until_they_have_answered() {
        let text = "#scripted:call look {\"q\": \"x y\"} #scripted:call find_it";
        let calls =
            vec![("look".to_owned(), Some(json!({ "q": "x y" }))), ("find_it".to_owned(), None)];
        assert_eq!(read(text).calls, calls);
        let answer = Message::new(Role::Tool, "42");
        let messages = vec![Message::user(text), answer];
        let prompt = Prompt { messages, ..Prompt::default() };
        assert_eq!(Directives::read(&prompt, "small").calls, []);
    }
}
