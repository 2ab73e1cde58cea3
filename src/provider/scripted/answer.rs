//! What the model says: derived from the prompt, the same every time.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{chance, fit};
use crate::domain::completion::{Finish, Usage};
use crate::domain::prompt::{Prompt, Role};
use crate::domain::schema::Schema;

/// An answer and what it used.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ends.
    pub finish: Finish,
    /// What it used.
    pub usage: Usage,
}

/// A token is about four bytes.
const TOKEN: usize = 4;

/// The answer asked for: what it was told to say, else a document that fits the prompt's output
/// schema, else prose.
pub(super) fn proper(prompt: &Prompt, said: Option<&String>) -> Answer {
    match (said, &prompt.output_schema) {
        (Some(said), _) => told(prompt, said.clone()),
        (None, Some(schema)) => told(prompt, fit::document(schema, &question(prompt)).to_string()),
        (None, None) => told(prompt, summary(&question(prompt))),
    }
}

/// JSON that does not fit the prompt's output schema.
pub(super) fn unfitting(prompt: &Prompt) -> Answer {
    let candidates =
        [json!({ "scripted": "invalid_output" }), json!([[]]), json!("?"), Value::Null];
    let schema = prompt.output_schema.clone().and_then(|schema| Schema::compile(schema).ok());
    let unfit = |value: &&Value| match &schema {
        Some(schema) => !schema.violations(value).is_empty(),
        None => true,
    };
    let text = candidates.iter().find(unfit).map_or_else(|| "{".to_owned(), Value::to_string);
    told(prompt, text)
}

/// Prose, whatever was asked for.
pub(super) fn prose(prompt: &Prompt) -> Answer {
    told(prompt, format!("Of course! {}", summary(&question(prompt))))
}

/// The text, cut where the prompt's cap is reached.
fn told(prompt: &Prompt, mut text: String) -> Answer {
    let cap = usize::try_from(prompt.max_output_tokens).unwrap_or(usize::MAX);
    let most = cap.saturating_mul(TOKEN);
    let end_of = |(at, c): (usize, char)| at + c.len_utf8();
    let cut = text.char_indices().map(end_of).take_while(|end| *end <= most).last().unwrap_or(0);
    let finish = if cut < text.len() { Finish::Length } else { Finish::Stop };
    text.truncate(cut);
    let output = u64::try_from(text.len().div_ceil(TOKEN)).unwrap_or(u64::MAX);
    let usage = Usage {
        input_tokens: u64::from(prompt.estimated_input_tokens()),
        output_tokens: output,
        reasoning_tokens: Some(0),
        ..Usage::default()
    };
    Answer { text, finish, usage }
}

/// What the user said last.
fn question(prompt: &Prompt) -> Cow<'_, str> {
    let mut said = prompt.messages.iter().rev();
    said.find(|message| message.role == Role::User)
        .map_or(Cow::Borrowed(""), |message| message.content.text())
}

/// A sentence of the question's own words.
fn summary(question: &str) -> String {
    let mut words = fit::Words::of(question);
    let count = 12 + chance::of_text(question) % 24;
    let count = usize::try_from(count).unwrap_or_default().min(words.len());
    format!("In short: {}.", words.phrase(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::prompt::Message;

    fn asking(text: &str, cap: u32, schema: Option<Value>) -> Prompt {
        let content = text.to_owned();
        let user = Message::user(content);
        Prompt {
            messages: vec![user],
            max_output_tokens: cap,
            output_schema: schema,
            ..Prompt::default()
        }
    }

    #[test]
    fn an_answer_is_never_longer_than_its_cap() {
        let said = "ünïcödé ".repeat(100);
        let answer = proper(&asking("x", 5, None), Some(&said));
        assert_eq!(answer.finish, Finish::Length);
        assert!(answer.text.len() <= 20 && answer.usage.output_tokens <= 5);
        let answer = proper(&asking("x", 5, None), Some(&"short".to_owned()));
        assert_eq!((answer.finish, answer.usage.output_tokens), (Finish::Stop, 2));
    }

    #[test]
    fn invalid_output_never_fits() {
        for schema in [
            json!({}),
            json!(true),
            json!({ "type": "object" }),
            json!({ "type": ["object", "array", "null"] }),
            json!({ "type": "object", "required": ["tags"] }),
        ] {
            let answer = unfitting(&asking("x", 100, Some(schema.clone())));
            let fits = serde_json::from_str(&answer.text).is_ok_and(|value| {
                Schema::compile(schema.clone()).unwrap().violations(&value).is_empty()
            });
            assert!(!fits, "{} fits {schema}", answer.text);
        }
    }
}
