//! What a job's prompt begins with, told to the queue, so that jobs that begin alike leave their line
//! together.

use std::time::Duration;

use serde_json::value::RawValue;

use super::Engine;
use super::tie::{HOUR, LEAST_TOKENS};
use crate::domain::content::Content;
use crate::domain::job::CachedPrefix;
use crate::domain::prompt::{Message, Prompt};
use crate::domain::task::Task;

/// What a job's prompt will be made of.
pub(super) struct Made<'a> {
    pub(super) caller: &'a str,
    pub(super) task: &'a Task,
    pub(super) session: Option<&'a str>,
    pub(super) input: &'a RawValue,
    /// The prompt, when the input is a conversation.
    pub(super) conversation: Option<&'a Prompt>,
}

impl Engine {
    /// What others' prompts may begin with as well: the session, or what is likely to come again.
    /// `None` when there is nothing that would be cached; then nothing is computed either.
    pub(super) fn cached_prefix(&self, made: &Made<'_>) -> Option<CachedPrefix> {
        let task = made.task;
        let fixed = [&task.system, &task.template].into_iter().flatten().map(String::len);
        let bytes = made.input.get().len() + fixed.sum::<usize>();
        if u64::try_from(bytes / 4).unwrap_or(u64::MAX) < LEAST_TOKENS {
            return None;
        }
        let hour = made.conversation.is_some_and(Prompt::is_marked_for_an_hour);
        let warm: Duration = if hour { HOUR } else { self.settings.sessions.ttl.0 };
        if let Some(session) = made.session {
            return Some(CachedPrefix::of(
                &[made.caller, task.name.as_str(), "session", session],
                warm,
            ));
        }
        let digest = match made.conversation {
            Some(prompt) => stable(prompt),
            // Its message differs from job to job; the prompt's beginning is the task's own.
            None => stable(&Prompt {
                system: task.system.clone().map(Content::from),
                output_schema: task.output.as_ref().map(|schema| schema.source().clone()),
                messages: vec![Message::user(String::new())],
                ..Prompt::default()
            }),
        }?;
        Some(CachedPrefix::of(&[made.caller, task.name.as_str(), "prefix", &digest], warm))
    }
}

/// What comes before the part that is new: tools, instructions and how the conversation opens; of a
/// single message all of its parts but the last.
fn stable(prompt: &Prompt) -> Option<String> {
    let all = prompt.prefixes();
    let (_, before) = all.split_last()?;
    let longest = before.last().filter(|prefix| prefix.tokens >= LEAST_TOKENS)?;
    let opening = before.iter().find(|prefix| prefix.opening);
    Some(opening.unwrap_or(longest).digest.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::prompt::Role;

    fn asked(system: &str, messages: Vec<Message>) -> Option<String> {
        stable(&Prompt { system: Some(system.into()), messages, ..Prompt::default() })
    }

    #[test]
    fn what_is_new_in_a_prompt_is_no_part_of_its_stable_beginning() {
        let long = "x".repeat(5_000);
        let ask = |text: &str| vec![Message::user(text.to_owned())];
        assert_eq!(asked("Be kind.", ask(&long)), None, "nothing before it is long enough");
        let instructed = asked(&long, ask("a"));
        assert!(instructed.is_some());
        assert_eq!(instructed, asked(&long, ask("b")));
        let parts = |question: &str| {
            let content = serde_json::from_value(json!([long, question])).unwrap();
            vec![Message { content, ..Message::user(String::new()) }]
        };
        let document = asked("", parts("a"));
        assert!(document.is_some() && document != instructed);
        assert_eq!(document, asked("", parts("b")));
    }

    #[test]
    fn a_conversation_is_known_by_how_it_opens() {
        let long = "x".repeat(5_000);
        let said = |count: usize, opening: &str| {
            let roles = [Role::User, Role::Assistant];
            let rest = (1..count).map(|turn| Message::new(roles[turn % 2], format!("{turn}")));
            asked("", std::iter::once(Message::user(opening.to_owned())).chain(rest).collect())
        };
        assert!(said(3, &long).is_some());
        assert_eq!(said(3, &long), said(9, &long));
        assert_ne!(said(3, &long), said(3, &format!("{long}y")));
        assert_eq!(said(3, "Hi"), None);
    }
}
