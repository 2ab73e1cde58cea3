//! A prompt cache as providers have it: what a prompt begins with is read from it when another
//! began the same a while ago.
//!
//! Nothing here asks the time: `now` is an argument, in µs since 1970.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::content::{Content, Piece};
use crate::domain::prompt::Prompt;
use crate::domain::units::Span;

/// `cache` in the settings: what the provider remembers of prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Which beginnings of a prompt are kept.
    pub mode: Mode,
    /// How long something is kept after it was last read. A mark may ask for an hour.
    pub ttl: Span,
    /// What is shorter is not kept.
    pub min_tokens: u64,
    /// Whether tokens read from the cache count towards the limits.
    pub counted: bool,
}

/// Which beginnings of a prompt are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Those that end at a mark, as Anthropic does it: at most four, and up to twenty parts before
    /// each are looked at for what is there already.
    #[default]
    Marked,
    /// All, in steps of 128 tokens, as OpenAI does it.
    Automatic,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { mode: Mode::Marked, ttl: Span::secs(300), min_tokens: 1_024, counted: false }
    }
}

/// A token is about four bytes.
const TOKEN: u64 = 4;
/// Bytes in a block of the automatic mode: 128 tokens.
const BLOCK: usize = 512;
/// Bytes of text that an image stands for, as it is estimated.
const IMAGE: usize = 6_000;
/// Marks that count in a prompt.
const MARKS: usize = 4;
/// Parts before a mark that are looked at.
const LOOK_BACK: usize = 20;
const HOUR: Duration = Duration::from_secs(3_600);

/// A beginning of a prompt.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    hash: u64,
    tokens: u64,
    /// How long it is to be kept; `None` when it is only looked at.
    keep: Option<Duration>,
}

/// What a call takes from the cache and is to leave there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Tokens read.
    pub read: u64,
    /// Tokens written.
    pub written: u64,
    /// Those of them that are kept for an hour.
    pub written_for_an_hour: u64,
    kept: Vec<(u64, Duration)>,
}

/// What is remembered: until when, by the hash of the beginning.
#[derive(Debug)]
pub struct Cache {
    settings: CacheSettings,
    entries: HashMap<u64, (i64, Duration)>,
}

impl Cache {
    /// Remembers nothing yet.
    pub fn new(settings: CacheSettings) -> Self {
        Self { settings, entries: HashMap::new() }
    }

    /// Whether what is read counts towards the limits.
    pub const fn is_counted(&self) -> bool {
        self.settings.counted
    }

    /// What of a prompt is there, and what it will leave once [`Self::begun`] says that its answer
    /// has begun.
    pub fn look(&self, model: &str, prompt: &Prompt, now: i64) -> Found {
        let all = match self.settings.mode {
            Mode::Marked => marked(model, prompt, self.settings.ttl.0),
            Mode::Automatic => automatic(model, prompt, self.settings.ttl.0),
        };
        let long_enough = |prefix: &&Prefix| prefix.tokens >= self.settings.min_tokens;
        let all: Vec<Prefix> = all.iter().filter(long_enough).copied().collect();
        let live = |hash| self.entries.get(&hash).is_some_and(|(until, _)| *until >= now);
        let read = all.iter().rev().find(|prefix| live(prefix.hash)).copied();
        let mut found = Found::default();
        if let Some((prefix, (_, time))) = read.zip(read.and_then(|it| self.entries.get(&it.hash)))
        {
            found.read = prefix.tokens;
            found.kept.push((prefix.hash, *time));
        }
        let read = found.read;
        let mut before = read;
        for prefix in &all {
            let Some(time) = prefix.keep else { continue };
            found.kept.push((prefix.hash, time));
            let more = prefix.tokens.saturating_sub(before);
            before = before.max(prefix.tokens);
            found.written += more;
            if time >= HOUR {
                found.written_for_an_hour += more;
            }
        }
        found
    }

    /// The answer to a call has begun: from now on others can read what it leaves, and what it read
    /// is kept longer.
    pub fn begun(&mut self, found: &Found, now: i64) {
        self.entries.retain(|_, (until, _)| *until >= now);
        for (hash, time) in &found.kept {
            let until = now.saturating_add(micros(*time));
            let entry = self.entries.entry(*hash).or_insert((until, *time));
            *entry = (entry.0.max(until), entry.1.max(*time));
        }
    }
}

/// Goes through a prompt in the order in which caches see it: tools, instructions, messages.
struct Walk {
    hasher: DefaultHasher,
    bytes: usize,
}

impl Walk {
    fn new(model: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        Self { hasher, bytes: 0 }
    }

    fn add(&mut self, what: &str, bytes: usize) {
        what.hash(&mut self.hasher);
        self.bytes += bytes;
    }

    fn here(&self, keep: Option<Duration>) -> Prefix {
        Prefix { hash: self.hasher.finish(), tokens: tokens(self.bytes), keep }
    }
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(TOKEN)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Everything that is said, with who says it, in order.
fn said(prompt: &Prompt) -> impl Iterator<Item = (String, &Content)> {
    let system = prompt.system.iter().map(|content| ("system".to_owned(), content));
    let messages = prompt.messages.iter().map(|message| {
        let calls = serde_json::to_string(&message.tool_calls).unwrap_or_default();
        let calls = if message.tool_calls.is_empty() { String::new() } else { calls };
        let answers = message.tool_call_id.as_deref().unwrap_or_default();
        (format!("{:?}{calls}{answers}", message.role), &message.content)
    });
    system.chain(messages)
}

/// The ends of parts at which something is kept or looked for.
fn marked(model: &str, prompt: &Prompt, ttl: Duration) -> Vec<Prefix> {
    let mut walk = Walk::new(model);
    for tool in &prompt.tools {
        let schema = tool.parameters.to_string();
        walk.add(&tool.name, 32);
        walk.add(&tool.description, tool.description.len());
        walk.add(&schema, schema.len());
    }
    let mut ends = Vec::new();
    for (who, content) in said(prompt) {
        walk.add(&who, 16);
        for part in &content.0 {
            match &part.piece {
                Piece::Text(text) => walk.add(text, text.len()),
                Piece::Image(image) => walk.add(&image.address(), IMAGE),
            }
            ends.push(walk.here(part.cache.as_ref().map(|mark| time_of(mark, ttl))));
        }
    }
    let marks: Vec<usize> = (0..ends.len()).filter(|at| is_mark(&ends, *at)).take(MARKS).collect();
    let seen = |at: usize| marks.iter().any(|mark| (at..=at + LOOK_BACK).contains(mark));
    let keep = |(at, end): (usize, &Prefix)| Prefix {
        keep: end.keep.filter(|_| marks.contains(&at)),
        ..*end
    };
    ends.iter().enumerate().filter(|(at, _)| seen(*at)).map(keep).collect()
}

fn is_mark(ends: &[Prefix], at: usize) -> bool {
    ends.get(at).is_some_and(|end| end.keep.is_some())
}

/// `{"type": "ephemeral", "ttl": "1h"}`.
fn time_of(mark: &Value, usual: Duration) -> Duration {
    match mark.get("ttl").and_then(Value::as_str) {
        Some("1h") => HOUR,
        _ => usual,
    }
}

/// Every block of 128 tokens.
fn automatic(model: &str, prompt: &Prompt, ttl: Duration) -> Vec<Prefix> {
    let tools = prompt.tools.iter();
    let mut text: String = tools
        .flat_map(|tool| [tool.name.clone(), tool.description.clone(), tool.parameters.to_string()])
        .collect();
    for (who, content) in said(prompt) {
        text.push_str(&who);
        for part in &content.0 {
            match &part.piece {
                Piece::Text(said) => text.push_str(said),
                Piece::Image(image) => {
                    let name = super::chance::of_text(&image.address()).to_string();
                    text.extend(name.chars().cycle().take(IMAGE));
                }
            }
        }
    }
    let mut walk = Walk::new(model);
    let whole = text.as_bytes().chunks_exact(BLOCK);
    whole
        .map(|block| {
            block.hash(&mut walk.hasher);
            walk.bytes += BLOCK;
            walk.here(Some(ttl))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::content::Part;
    use crate::domain::prompt::Message;
    use serde_json::json;

    const SECOND: i64 = 1_000_000;

    fn part(text: &str, mark: Value) -> Content {
        Content(vec![Part { piece: Piece::Text(text.to_owned()), cache: Some(mark) }])
    }

    fn ephemeral() -> Value {
        json!({ "type": "ephemeral" })
    }

    /// A long system prompt with a mark, and a question.
    fn prompt(question: &str) -> Prompt {
        Prompt {
            system: Some(part(&"rule ".repeat(1_600), ephemeral())),
            messages: vec![Message::user(question)],
            ..Prompt::default()
        }
    }

    fn cache(mode: Mode) -> Cache {
        Cache::new(CacheSettings { mode, ..CacheSettings::default() })
    }

    #[test]
    fn what_was_written_is_read_once_its_answer_has_begun() {
        let mut cache = cache(Mode::Marked);
        let first = cache.look("m", &prompt("a"), 0);
        assert_eq!((first.read, first.written), (0, 2_004));
        let meanwhile = cache.look("m", &prompt("b"), SECOND);
        assert_eq!((meanwhile.read, meanwhile.written), (0, 2_004), "both pay in full");
        cache.begun(&first, 2 * SECOND);
        let second = cache.look("m", &prompt("b"), 3 * SECOND);
        assert_eq!((second.read, second.written), (2_004, 0));
        assert_eq!(cache.look("other", &prompt("b"), 3 * SECOND).read, 0);
        // Reading keeps it: five minutes from then on.
        let third = cache.look("m", &prompt("c"), 300 * SECOND);
        cache.begun(&third, 301 * SECOND);
        assert_eq!(cache.look("m", &prompt("c"), 600 * SECOND).read, 2_004);
        assert_eq!(cache.look("m", &prompt("c"), 602 * SECOND).read, 0);
    }

    #[test]
    fn a_conversation_reads_what_it_wrote_and_writes_the_rest() {
        let mut cache = cache(Mode::Marked);
        let turn = |turns: usize| {
            let mut messages: Vec<Message> =
                (0..turns).map(|n| Message::user(format!("{n} ").repeat(400).as_str())).collect();
            let last = messages.last_mut().unwrap();
            last.content = part(&last.content.text(), ephemeral());
            Prompt { messages, ..prompt("") }
        };
        let first = cache.look("m", &turn(1), 0);
        cache.begun(&first, 0);
        let second = cache.look("m", &turn(2), SECOND);
        assert_eq!(second.read, first.written);
        assert!((200..220).contains(&second.written), "{second:?}");
        cache.begun(&second, SECOND);
        // Farther than twenty parts ahead only the mark on the system prompt is found.
        let far = cache.look("m", &turn(30), SECOND);
        assert_eq!(far.read, 2_004);
    }

    #[test]
    fn an_hour_is_told_apart_and_short_prompts_are_not_kept() {
        let mut cache = cache(Mode::Marked);
        let long = json!({ "type": "ephemeral", "ttl": "1h" });
        let hour = Prompt { system: Some(part(&"rule ".repeat(1_600), long)), ..Prompt::default() };
        let found = cache.look("m", &hour, 0);
        assert_eq!(found.written_for_an_hour, found.written);
        cache.begun(&found, 0);
        assert!(cache.look("m", &hour, 3_599 * SECOND).read > 0);
        let short = Prompt { system: Some(part("rule", ephemeral())), ..Prompt::default() };
        assert_eq!(cache.look("m", &short, 0), Found::default());
    }

    #[test]
    fn without_marks_whole_blocks_are_shared() {
        let mut cache = cache(Mode::Automatic);
        let first = cache.look("m", &prompt("one question"), 0);
        assert_eq!((first.read, first.written), (0, 1_920));
        cache.begun(&first, 0);
        let other = cache.look("m", &prompt(&"another ".repeat(400)), SECOND);
        assert_eq!(other.read, 1_920);
        assert!(other.written >= 768 && other.written.is_multiple_of(128), "{other:?}");
        let elsewhere = Prompt { system: Some("short".into()), ..prompt(&"x".repeat(9_000)) };
        assert_eq!(cache.look("m", &elsewhere, SECOND).read, 0);
    }
}
