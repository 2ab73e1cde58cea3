//! What the model says: derived from the prompt, the same every time.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{chance, fit};
use crate::domain::completion::{Finish, ToolCall, Usage};
use crate::domain::prompt::{Prompt, Role, ToolChoice};
use crate::domain::schema::Schema;

/// An answer and what it used.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Tools it asks for.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ends.
    pub finish: Finish,
    /// What it used.
    pub usage: Usage,
    /// What of it was written to the prompt cache for an hour.
    pub written_for_an_hour: u64,
}

/// A token is about four bytes.
const TOKEN: usize = 4;

/// The answer asked for: what it was told to say, else a document that fits the prompt's output
/// schema, else prose.
pub(super) fn proper(prompt: &Prompt, said: Option<&String>) -> Answer {
    let document =
        |schema: &Value| told(prompt, fit::document(schema, &question(prompt)).to_string());
    match (said, &prompt.output_schema) {
        (Some(said), _) => told(prompt, said.clone()),
        (None, Some(schema)) => document(schema),
        (None, None) => match instructed(prompt) {
            Some(schema) => document(&schema),
            None if prompt.json => document(&json!({ "type": "object" })),
            None => told(prompt, summary(&question(prompt))),
        },
    }
}

/// The schema in the instructions: where a provider has no knob for one, it is told in words.
fn instructed(prompt: &Prompt) -> Option<Value> {
    let system = prompt.system.as_ref()?.text();
    let (_, rest) = system.split_once("JSON Schema below")?;
    let (_, schema) = rest.split_once('\n')?;
    serde_json::Deserializer::from_str(schema).into_iter().next()?.ok()
}

/// The tools that the prompt says to ask for, or must be asked for; `None` when there are none.
pub(super) fn calling(
    prompt: &Prompt,
    calls: &[(String, Option<Value>)],
    number: u64,
) -> Option<Answer> {
    let required = match &prompt.tool_choice {
        Some(ToolChoice::None) => return None,
        Some(ToolChoice::Required) => prompt.tools.first().map(|tool| tool.name.as_str()),
        Some(ToolChoice::Tool(name)) => Some(name.as_str()),
        Some(ToolChoice::Auto) | None => None,
    };
    let given = |name: &str| prompt.tools.iter().find(|tool| tool.name == name);
    let asked = calls.iter().map(|(name, arguments)| (name.as_str(), arguments.clone()));
    let mut asked: Vec<_> = asked.filter(|(name, _)| given(name).is_some()).collect();
    if asked.is_empty() {
        asked.extend(required.map(|name| (name, None)));
    }
    if prompt.parallel_tool_calls == Some(false) {
        asked.truncate(1);
    }
    let question = question(prompt);
    let made = |(index, (name, arguments)): (usize, (&str, Option<Value>))| {
        let fitting = || fit::document(&given(name)?.parameters, &question).into();
        let arguments = arguments.or_else(fitting).filter(Value::is_object);
        ToolCall {
            id: format!("{number}_{index}"),
            name: name.to_owned(),
            arguments: arguments.unwrap_or_else(|| json!({})),
        }
    };
    let tool_calls: Vec<ToolCall> = asked.into_iter().enumerate().map(made).collect();
    if tool_calls.is_empty() {
        return None;
    }
    let size: usize =
        tool_calls.iter().map(|call| call.name.len() + call.arguments.to_string().len()).sum();
    let usage = Usage { output_tokens: tokens(size), ..told(prompt, String::new()).usage };
    Some(Answer {
        tool_calls,
        finish: Finish::ToolCalls,
        usage,
        text: String::new(),
        written_for_an_hour: 0,
    })
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(TOKEN)).unwrap_or(u64::MAX)
}

/// The text token by token.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.char_indices().map(|(at, c)| at + c.len_utf8()).find(|end| *end >= TOKEN);
        let (piece, others) = rest.split_at(end.unwrap_or(rest.len()));
        pieces.push(piece);
        rest = others;
    }
    pieces
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
    let usage = Usage {
        input_tokens: u64::from(prompt.estimated_input_tokens()),
        output_tokens: tokens(text.len()),
        reasoning_tokens: Some(0),
        ..Usage::default()
    };
    Answer { text, finish, usage, tool_calls: Vec::new(), written_for_an_hour: 0 }
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
    fn a_tool_is_asked_for_with_arguments_that_fit() {
        let parameters = json!({ "type": "object", "required": ["q"],
            "properties": { "q": { "type": "string" } } });
        let tool = crate::domain::prompt::Tool {
            name: "look".to_owned(),
            description: String::new(),
            parameters: parameters.clone(),
            strict: None,
        };
        let plain = Prompt { tools: vec![tool], ..asking("where is it", 100, None) };
        let fits = Schema::compile(parameters).unwrap();
        assert_eq!(calling(&plain, &[], 1), None);
        assert_eq!(calling(&plain, &[("other".to_owned(), None)], 1), None);
        let must = Prompt { tool_choice: Some(ToolChoice::Required), ..plain.clone() };
        let told = calling(&must, &[], 1).unwrap();
        assert!(fits.violations(&told.tool_calls[0].arguments).is_empty(), "{told:?}");
        let twice = vec![("look".to_owned(), Some(json!({ "q": 1 }))), ("look".to_owned(), None)];
        let told = calling(&plain, &twice, 7).unwrap();
        assert_eq!((told.tool_calls.len(), &told.tool_calls[0].arguments), (2, &json!({ "q": 1 })));
        assert_ne!(told.tool_calls[0].id, told.tool_calls[1].id);
        let one = Prompt { parallel_tool_calls: Some(false), ..plain };
        assert_eq!(calling(&one, &twice, 7).unwrap().tool_calls.len(), 1);
    }

    #[test]
    fn pieces_put_together_are_the_text() {
        for text in ["", "a", "ünïcödé is längér", "日本語のテキスト"] {
            assert_eq!(pieces(text).concat(), text);
        }
    }

    #[test]
    fn a_schema_told_in_words_is_kept_to() {
        let told = "Answer with one JSON document that fits the JSON Schema below, only.\n\
                    {\"type\":\"object\",\"required\":[\"tags\"]}\nAnd be kind.";
        let prompt = Prompt { system: Some(told.into()), ..asking("where", 100, None) };
        let answer: Value = serde_json::from_str(&proper(&prompt, None).text).unwrap();
        assert!(answer.get("tags").is_some(), "{answer}");
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
