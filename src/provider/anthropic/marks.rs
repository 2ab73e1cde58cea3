//! Where the prompt is marked to be cached. A mark caches all that stands before it, in the order
//! tools, system, messages; below a model's least size nothing is cached and nothing is said.

use serde_json::{Map, Value, json};

use crate::domain::limits::glob;
use crate::domain::prompt::{CacheUse, Prompt};

/// The least tokens that are cached, by model; where sources differ, the smaller: a mark that
/// caches nothing costs nothing.
const LEAST: [(&str, u32); 9] = [
    ("claude-opus-4-5*", 4_096),
    ("claude-opus-4-6*", 4_096),
    ("claude-haiku-4-5*", 4_096),
    ("claude-opus-4-7*", 2_048),
    ("claude-3-haiku*", 2_048),
    ("claude-3-5-haiku*", 2_048),
    ("claude-opus-5*", 512),
    ("claude-fable-5*", 512),
    ("*", 1_024),
];

/// Which places are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// The end of what every call of a task has in common: tools and instructions.
    pub system: bool,
    /// The end of the conversation so far, for its next turn.
    pub last: bool,
}

impl Marks {
    /// None of ours where the caller has set their own, the prompt is too short, or nothing is
    /// expected to come again: what is written to the cache costs a quarter more.
    pub(super) fn of(model: &str, prompt: &Prompt) -> Self {
        let least = LEAST.iter().find(|(pattern, _)| glob(pattern, model)).map_or(0, |(_, n)| *n);
        let long = prompt.estimated_input_tokens() >= least;
        let ours = long && !prompt.is_marked();
        Self {
            system: ours && prompt.cache != CacheUse::None,
            last: ours && prompt.cache == CacheUse::All,
        }
    }

    /// Marks a body that has its tools, its system and its messages.
    pub(super) fn put(self, body: &mut Map<String, Value>) {
        if self.system {
            match body.get_mut("system") {
                Some(Value::Array(blocks)) => mark(blocks.last_mut()),
                Some(Value::String(text)) => {
                    let mut block = json!({ "type": "text", "text": std::mem::take(text) });
                    mark(Some(&mut block));
                    body.insert("system".to_owned(), json!([block]));
                }
                _ => mark(
                    body.get_mut("tools").and_then(Value::as_array_mut).and_then(|t| t.last_mut()),
                ),
            }
        }
        if self.last {
            let last = body.get_mut("messages").and_then(Value::as_array_mut);
            let blocks = last.and_then(|all| all.last_mut()?.get_mut("content")?.as_array_mut());
            mark(blocks.and_then(|blocks| blocks.last_mut()));
        }
    }
}

fn mark(block: Option<&mut Value>) {
    if let Some(block) = block.and_then(Value::as_object_mut) {
        block.insert("cache_control".to_owned(), json!({ "type": "ephemeral" }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::prompt::Message;

    fn prompt(system: usize, turns: usize) -> Prompt {
        Prompt {
            system: Some("x".repeat(system).into()),
            messages: (0..turns).map(|_| Message::user("Hi")).collect(),
            cache: CacheUse::All,
            ..Prompt::default()
        }
    }

    #[test]
    fn what_is_long_enough_is_marked_unless_the_caller_has_done_so() {
        let of = |model: &str, prompt: &Prompt| {
            let Marks { system, last } = Marks::of(model, prompt);
            (system, last)
        };
        assert_eq!(of("claude-sonnet-5-5", &prompt(4_000, 3)), (false, false));
        assert_eq!(of("claude-sonnet-5-5", &prompt(5_000, 3)), (true, true));
        assert_eq!(of("claude-haiku-4-5", &prompt(5_000, 3)), (false, false));
        assert_eq!(of("claude-opus-5", &prompt(3_000, 3)), (true, true));
        let with = |cache| Prompt { cache, ..prompt(5_000, 3) };
        assert_eq!(of("claude-sonnet-5-5", &with(CacheUse::Shared)), (true, false));
        assert_eq!(of("claude-sonnet-5-5", &with(CacheUse::None)), (false, false));
        let mut own = prompt(5_000, 3);
        own.messages[0].content.0[0].cache = Some(json!({ "type": "ephemeral" }));
        assert_eq!(of("claude-sonnet-5-5", &own), (false, false));
    }

    #[test]
    fn a_mark_stands_on_the_last_block() {
        let both = Marks { system: true, last: true };
        let mark = json!({ "type": "ephemeral" });
        let body = json!({
            "tools": [{ "name": "a" }], "system": "Be brief.",
            "messages": [{ "content": [{ "text": "a" }] }, { "content": [{ "text": "b" }, { "text": "c" }] }],
        });
        let mut marked = body.as_object().unwrap().clone();
        both.put(&mut marked);
        let marked = Value::Object(marked);
        assert_eq!(marked.pointer("/system/0/cache_control"), Some(&mark));
        assert_eq!(marked.pointer("/messages/1/content/1/cache_control"), Some(&mark));
        assert_eq!(marked.to_string().matches("ephemeral").count(), 2);
        let mut bare = body.as_object().unwrap().clone();
        bare.shift_remove("system");
        both.put(&mut bare);
        assert_eq!(Value::Object(bare).pointer("/tools/0/cache_control"), Some(&mark));
    }
}
