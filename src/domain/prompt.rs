//! What goes to a model, in one shape for every provider.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

use super::completion::ToolCall;
use super::content::{Content, IMAGE_BYTES};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(default)]
    pub content: Content,
    /// Tools the assistant asked for in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// For a tool's answer: the call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// For a tool's answer: the tool failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

impl Message {
    /// Somebody says something.
    pub fn new(role: Role, content: impl Into<Content>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            is_error: false,
        }
    }

    /// About how large it is, in bytes of text.
    fn estimated_bytes(&self) -> usize {
        let arguments = self.tool_calls.iter().map(|call| value_bytes(&call.arguments) + 16);
        self.content.estimated_bytes() + arguments.sum::<usize>() + 16
    }

    /// The person or workflow says something.
    pub fn user(content: impl Into<Content>) -> Self {
        Self::new(Role::User, content)
    }
}

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// The person or workflow.
    User,
    /// The model.
    Assistant,
    /// A tool's answer.
    Tool,
}

/// A tool the model may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
    /// Whether the arguments must fit the schema exactly, where the provider can see to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// Whether and which tools the model must ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Tool(String),
}

/// How much to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Not at all, where the model can do without.
    None,
    /// As little as possible.
    Minimal,
    /// A little.
    Low,
    /// As usual.
    Medium,
    /// Much.
    High,
}

/// A language that callers speak to us and we to providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
}

/// A caller's own request. A provider that speaks the same language gets it as it came, with only
/// the model replaced, so that nothing we do not know is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// The language.
    pub dialect: Dialect,
    /// The request.
    pub body: Map<String, Value>,
    /// Headers that go along, such as `anthropic-beta`; names in small letters.
    pub headers: Vec<(String, String)>,
}

/// What keeps a prompt to one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The language.
    pub to: Dialect,
    /// What no other language has words for, such as ``a part of type `document` ``.
    pub by: String,
}

/// How much of a prompt is worth caching where the provider is to be told so (Anthropic). Writing
/// costs more than reading plainly: it pays for what is sent again soon. The caller's own marks
/// go before this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// None of it: nothing is expected to come again.
    #[default]
    None,
    /// Tools and instructions, which other prompts begin with too.
    Shared,
    /// All of it: the conversation goes on.
    All,
}

/// A prompt, ready for any provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Instructions.
    pub system: Option<Content>,
    /// The conversation; at least one message.
    pub messages: Vec<Message>,
    /// Tools the model may ask for.
    pub tools: Vec<Tool>,
    /// Whether and which of them it must ask for; `None` leaves it to the provider.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may ask for several at once; `None` leaves it to the provider.
    pub parallel_tool_calls: Option<bool>,
    /// The most tokens the answer may have.
    pub max_output_tokens: u32,
    /// How freely to choose; `None` leaves it to the model.
    pub temperature: Option<f64>,
    /// From how much of the likelihood to choose; `None` leaves it to the model.
    pub top_p: Option<f64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// How much to think; `None` leaves it to the model.
    pub effort: Option<Effort>,
    /// The answer must be JSON, whatever its shape.
    pub json: bool,
    /// JSON Schema the answer must fit.
    pub output_schema: Option<Value>,
    /// Names what several prompts have in common, so that a provider's cache finds it.
    pub cache_key: Option<String>,
    /// How much of it is to be marked for the provider's cache.
    pub cache: CacheUse,
    /// The caller's own request in a provider's language. Whoever speaks that language sends this
    /// instead of all of the above.
    pub native: Option<Arc<Native>>,
    /// Set when the caller's own request holds what nothing above can hold: only who speaks its
    /// language can be asked.
    pub bound: Option<Bound>,
}

/// What of a caller's own request the model reads.
const READ: [&str; 4] = ["messages", "system", "tools", "functions"];

impl Native {
    /// About how large what the model reads is, in bytes of text.
    fn estimated_bytes(&self) -> usize {
        READ.iter().filter_map(|name| self.body.get(*name)).map(value_bytes).sum()
    }
}

/// About how large a value is, in bytes of text; a file in Base64 counts as an image.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) if is_file(text) => IMAGE_BYTES,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

/// Whether a text is data in Base64, which may have its kind before it.
fn is_file(text: &str) -> bool {
    const LEAST: usize = 4_096;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_:;,.".contains(&byte);
    text.len() > LEAST && text.bytes().all(fits)
}

impl Dialect {
    /// Whose language it is.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
        }
    }
}

impl Prompt {
    /// A careful guess of the prompt's tokens: a token is about four bytes of English and fewer
    /// of most other text. Settled afterwards by what the provider reports.
    pub fn estimated_input_tokens(&self) -> u32 {
        let text: usize = self.system.as_ref().map_or(0, Content::estimated_bytes)
            + self.messages.iter().map(Message::estimated_bytes).sum::<usize>();
        let schemas: usize = self
            .tools
            .iter()
            .map(|tool| tool.parameters.to_string().len() + tool.description.len() + 32)
            .sum::<usize>()
            + self.output_schema.as_ref().map_or(0, |schema| schema.to_string().len());
        // What nothing above can hold stands in the caller's own request alone.
        let own = self.native.as_ref().map_or(0, |native| native.estimated_bytes());
        u32::try_from((text + schemas).max(own).div_ceil(4).max(1)).unwrap_or(u32::MAX)
    }

    /// The caller's own request, when it is in this language.
    pub fn native_in(&self, dialect: Dialect) -> Option<&Native> {
        self.native.as_deref().filter(|native| native.dialect == dialect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn native(body: &Value) -> Prompt {
        let body = body.as_object().unwrap().clone();
        let native = Native { dialect: Dialect::Anthropic, body, headers: Vec::new() };
        Prompt { native: Some(Arc::new(native)), ..Prompt::default() }
    }

    #[test]
    fn what_a_tool_is_asked_for_counts() {
        let mut message = Message::new(Role::Assistant, "");
        let arguments = json!({ "text": "word ".repeat(800) });
        message.tool_calls.push(ToolCall { id: "1".into(), name: "look".into(), arguments });
        let prompt = Prompt { messages: vec![message], ..Prompt::default() };
        assert!(prompt.estimated_input_tokens() >= 1_000);
    }

    #[test]
    fn what_stands_in_the_callers_own_request_alone_counts() {
        let document = |data: String| {
            let source = json!({ "type": "text", "media_type": "text/plain", "data": data });
            let part = json!({ "type": "document", "source": source });
            native(&json!({ "messages": [{ "role": "user", "content": [part] }] }))
        };
        let text = document("word ".repeat(80_000)).estimated_input_tokens();
        assert!((100_000..100_100).contains(&text), "{text}");
        let file = document("QUJD".repeat(100_000)).estimated_input_tokens();
        assert!((1_500..1_600).contains(&file), "{file}");
        let letters = document("\u{4e2d}".repeat(40_000)).estimated_input_tokens();
        assert!(letters >= 30_000, "{letters}");
    }
}
