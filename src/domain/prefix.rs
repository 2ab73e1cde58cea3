//! The beginnings of a prompt: what two prompts have in common, a provider that cached it for one
//! has cached for the other.

use sha2::{Digest, Sha256};

use super::content::{Content, Piece};
use super::id::hex;
use super::prompt::{Message, Prompt, Role};

/// The beginning of a prompt up to a natural boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Names it: equal for equal beginnings.
    pub digest: String,
    /// About how many tokens it has.
    pub tokens: u64,
    /// Whether it is tools and instructions alone, which many conversations begin with.
    pub shared: bool,
    /// Whether it ends with the first message, which the whole conversation has in common.
    pub opening: bool,
}

/// Bytes of a digest that are kept: enough that no two prompts meet.
const KEPT: usize = 16;

impl Prompt {
    /// Its beginnings, the shortest first: tools, instructions, then each message, and within a
    /// message each of its parts. The last is all of it.
    pub fn prefixes(&self) -> Vec<Prefix> {
        let mut chain = Chain::default();
        let schema = self.output_schema.as_ref().map(ToString::to_string);
        chain.text("schema", schema.as_deref().unwrap_or_default());
        for tool in &self.tools {
            chain.text("tool", &tool.name);
            chain.text("description", &tool.description);
            chain.text("parameters", &tool.parameters.to_string());
        }
        if !self.tools.is_empty() {
            chain.boundary(true, false);
        }
        if let Some(system) = &self.system {
            chain.content(system);
            chain.boundary(true, false);
        }
        for (index, message) in self.messages.iter().enumerate() {
            chain.message(message);
            chain.boundary(false, index == 0);
        }
        chain.found
    }

    /// Whether the caller has marked themselves what is to be cached.
    pub fn is_marked(&self) -> bool {
        self.contents().any(|content| content.0.iter().any(|part| part.cache.is_some()))
    }

    /// Whether the caller has asked for an hour in the cache.
    pub fn is_marked_for_an_hour(&self) -> bool {
        let hour = |mark: &serde_json::Value| mark.get("ttl").is_some_and(|ttl| ttl == "1h");
        let mut parts = self.contents().flat_map(|content| &content.0);
        parts.any(|part| part.cache.as_ref().is_some_and(hour))
    }

    fn contents(&self) -> impl Iterator<Item = &Content> {
        self.system.iter().chain(self.messages.iter().map(|message| &message.content))
    }
}

/// A digest of all that has come so far.
#[derive(Default)]
struct Chain {
    hash: Sha256,
    bytes: usize,
    found: Vec<Prefix>,
}

impl Chain {
    fn boundary(&mut self, shared: bool, opening: bool) {
        let digest = self.hash.clone().finalize();
        let tokens = u64::try_from(self.bytes.div_ceil(4)).unwrap_or(u64::MAX);
        let digest = hex(digest.get(..KEPT).unwrap_or_default());
        self.found.push(Prefix { digest, tokens, shared, opening });
    }

    /// The lengths keep what follows from running into it.
    fn text(&mut self, kind: &str, text: &str) {
        self.hash.update(kind.as_bytes());
        self.hash.update(text.len().to_le_bytes());
        self.hash.update(text.as_bytes());
        self.bytes += text.len();
    }

    fn content(&mut self, content: &Content) {
        for part in &content.0 {
            self.part(&part.piece);
        }
    }

    fn part(&mut self, piece: &Piece) {
        match piece {
            Piece::Text(text) => self.text("text", text),
            Piece::Image(image) => {
                let before = self.bytes;
                self.text("image", &image.address());
                self.bytes = before + piece.estimated_bytes();
            }
        }
    }

    fn message(&mut self, message: &Message) {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        self.text(role, message.tool_call_id.as_deref().unwrap_or_default());
        let parts = message.content.0.len();
        for (index, part) in message.content.0.iter().enumerate() {
            self.part(&part.piece);
            if index + 1 < parts {
                self.boundary(false, false);
            }
        }
        for call in &message.tool_calls {
            self.text("call", &call.name);
            self.text("id", &call.id);
            self.text("arguments", &call.arguments.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prompt(system: &str, said: &[&str]) -> Prompt {
        let roles = [Role::User, Role::Assistant];
        let message = |(index, text): (usize, &&str)| Message::new(roles[index % 2], *text);
        Prompt {
            system: Some(system.into()),
            messages: said.iter().enumerate().map(message).collect(),
            ..Prompt::default()
        }
    }

    fn digests(prompt: &Prompt) -> Vec<String> {
        prompt.prefixes().into_iter().map(|prefix| prefix.digest).collect()
    }

    #[test]
    fn a_conversation_that_goes_on_begins_as_before() {
        let before = digests(&prompt("Be kind.", &["Hi"]));
        let after = digests(&prompt("Be kind.", &["Hi", "Hello", "How?"]));
        assert_eq!(before, after[..2]);
        let other = digests(&prompt("Be kind.", &["Ho", "Hello", "How?"]));
        assert_eq!((other[0] == after[0], other[1] == after[1]), (true, false));
        assert!(
            other[2..].iter().all(|digest| !after.contains(digest)),
            "all that follows differs"
        );
    }

    #[test]
    fn beginnings_tell_their_size_and_whose_they_are() {
        let mut both = prompt(&"x".repeat(400), &[&"y".repeat(400), "z"]);
        both.tools = vec![super::super::prompt::Tool {
            name: "look".to_owned(),
            description: String::new(),
            parameters: json!({}),
            strict: None,
        }];
        let told: Vec<_> =
            both.prefixes().iter().map(|p| (p.tokens, p.shared, p.opening)).collect();
        let (tools, system) = ((2, true, false), (102, true, false));
        assert_eq!(told, [tools, system, (202, false, true), (202, false, false)]);
        let parts: Content = serde_json::from_value(json!(["a", "b"])).unwrap();
        both.messages = vec![Message::user(parts)];
        assert_eq!(both.prefixes().len(), 4, "each part of a message ends one");
    }

    #[test]
    fn a_callers_marks_are_seen() {
        let mut own = prompt("Be kind.", &["Hi"]);
        assert!(!own.is_marked());
        own.messages[0].content.0[0].cache = Some(json!({ "type": "ephemeral", "ttl": "1h" }));
        assert!(own.is_marked() && own.is_marked_for_an_hour());
        own.messages[0].content.0[0].cache = Some(json!({ "type": "ephemeral" }));
        assert!(own.is_marked() && !own.is_marked_for_an_hour());
    }
}
