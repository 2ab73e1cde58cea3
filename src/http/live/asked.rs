//! What a request asks, whatever its dialect, and how its fields are read.

use serde_json::{Map, Value};

use super::super::choice;
use super::super::problem::{Kind, Problem};
use crate::domain::choice::ProviderChoice;
use crate::domain::content::{self, Content, Part};
use crate::domain::prompt::{Bound, Dialect, Message, Prompt};
use crate::domain::schema::Violation;

/// What a request asks.
pub(super) struct Asked {
    /// The model, route or task.
    pub(super) name: String,
    /// What is asked of it.
    pub(super) prompt: Prompt,
    /// The answer is wanted as it comes.
    pub(super) stream: bool,
    /// A stream's end tells what was used.
    pub(super) tell_usage: bool,
    /// Names the conversation, when the request itself does.
    pub(super) session: Option<String>,
    /// Which steps may be used, when the request itself says.
    pub(super) provider: Option<ProviderChoice>,
}

/// A fault at a place such as `/messages/0/content`.
pub(super) fn fault(place: &str, detail: impl Into<String>) -> Problem {
    let (detail, field) = (detail.into(), place.trim_start_matches('/').replace('/', "."));
    let violation = Violation { pointer: format!("#{place}"), detail: detail.clone() };
    Problem::new(Kind::InvalidRequest, format!("`{field}` {detail}.")).with_errors(vec![violation])
}

/// Which steps may be used, in OpenRouter's words.
pub(super) fn choice(given: Option<&Value>) -> Result<Option<ProviderChoice>, Problem> {
    let Some(given) = given.filter(|given| !given.is_null()) else { return Ok(None) };
    let wrong = |told: String| fault("/provider", format!("is not understood: {told}"));
    let read = choice::read(object(given, "/provider")?.clone());
    read.map(|(choice, _ignored)| Some(choice)).map_err(wrong)
}

/// The fields of an object at a place.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) place: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) const fn of(object: &'a Map<String, Value>) -> Self {
        Self { object, place: "" }
    }

    /// A field's value; null counts as absent.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        self.read(name, "must be a text", Value::as_str)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.read(name, "must be true or false", Value::as_bool)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, Problem> {
        self.read(name, "must be a number", Value::as_f64)
    }

    pub(super) fn list(&self, name: &str) -> Result<&'a [Value], Problem> {
        let list = |value: &'a Value| value.as_array().map(Vec::as_slice);
        Ok(self.read(name, "must be a list", list)?.unwrap_or_default())
    }

    /// A whole number of tokens.
    pub(super) fn tokens(&self, name: &str) -> Result<Option<u32>, Problem> {
        let whole = |value: &Value| {
            let whole = value.as_u64().map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            whole.or_else(|| value.as_f64().and_then(whole_number))
        };
        self.read(name, "must be a whole number of tokens", whole)
    }

    /// A text or a list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        let texts = |value: &Value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(list) => {
                list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        Ok(self.read(name, "must be a text or a list of texts", texts)?.unwrap_or_default())
    }

    /// A text that must be there.
    pub(super) fn needed(&self, name: &str) -> Result<&'a str, Problem> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| self.fault(name, "is missing"))
    }

    pub(super) fn fault(&self, name: &str, detail: impl Into<String>) -> Problem {
        fault(&format!("{}/{name}", self.place), detail)
    }

    fn read<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.value(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.fault(name, wanted))
    }
}

/// A number such as `100.0`, which some programs write for 100.
fn whole_number(number: f64) -> Option<u32> {
    let is_whole = number >= 0.0 && number.fract() == 0.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast keeps to the bounds"
    )]
    let whole = number as u32;
    is_whole.then_some(whole)
}

/// Whether a field says nothing: an empty list or object.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// An item of a list must be an object.
pub(super) fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Map<String, Value>, Problem> {
    value.as_object().ok_or_else(|| fault(place, "must be an object"))
}

/// Collects a conversation. What only one language has words for is remembered, not refused.
pub(super) struct Conversation {
    dialect: Dialect,
    pub(super) system: Option<Content>,
    pub(super) messages: Vec<Message>,
    pub(super) bound: Option<Bound>,
}

impl Conversation {
    pub(super) const fn new(dialect: Dialect) -> Self {
        Self { dialect, system: None, messages: Vec::new(), bound: None }
    }

    /// Remembers what no other language has words for.
    pub(super) fn bind(&mut self, by: impl Into<String>) {
        self.bound.get_or_insert_with(|| Bound { to: self.dialect, by: by.into() });
    }

    /// More instructions.
    pub(super) fn instruct(&mut self, more: Content) {
        let before = self.system.take().into_iter();
        self.system = before.chain(Some(more)).reduce(Content::and);
    }

    /// A part of a message: text or an image.
    pub(super) fn part(&mut self, part: &Value, place: &str) -> Result<Option<Part>, Problem> {
        const KNOWN: [&str; 6] =
            ["text", "input_text", "output_text", "image", "image_url", "input_image"];
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        if part.is_object() && !kind.is_empty() && !KNOWN.contains(&kind) {
            self.bind(format!("a part of type `{kind}`"));
            return Ok(None);
        }
        content::part(part).map(Some).map_err(|detail| fault(place, format!("is wrong: {detail}")))
    }

    /// A message's text, or its list of parts.
    pub(super) fn content(&mut self, value: &Value, place: &str) -> Result<Content, Problem> {
        match value {
            Value::Null => Ok(Content::default()),
            Value::String(text) => Ok(text.as_str().into()),
            Value::Array(parts) => {
                let mut content = Content::default();
                for (index, part) in parts.iter().enumerate() {
                    content.0.extend(self.part(part, &format!("{place}/{index}"))?);
                }
                Ok(content)
            }
            _ => Err(fault(place, "must be a text or a list of parts")),
        }
    }
}
