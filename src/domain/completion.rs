//! What goes to a model and what comes back, in one shape for every provider.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::told::Told;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(default)]
    pub content: String,
    /// Tools the assistant asked for in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// For a tool's answer: the call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
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
}

/// A tool the model asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// The call's name; a tool's answer refers to it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments: an object, or the raw text when the model wrote no valid JSON.
    pub arguments: Value,
}

/// A prompt, ready for any provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Instructions.
    pub system: Option<String>,
    /// The conversation; at least one message.
    pub messages: Vec<Message>,
    /// Tools the model may ask for.
    pub tools: Vec<Tool>,
    /// The most tokens the answer may have.
    pub max_output_tokens: u32,
    /// How freely to choose; `None` leaves it to the model.
    pub temperature: Option<f64>,
    /// JSON Schema the answer must fit.
    pub output_schema: Option<Value>,
}

impl Prompt {
    /// A careful guess of the prompt's tokens: a token is about four bytes of English and fewer
    /// of most other text. Settled afterwards by what the provider reports.
    pub fn estimated_input_tokens(&self) -> u32 {
        let text: usize = self.system.as_deref().map_or(0, str::len)
            + self.messages.iter().map(|m| m.content.len() + 16).sum::<usize>();
        let schemas: usize = self
            .tools
            .iter()
            .map(|tool| tool.parameters.to_string().len() + tool.description.len() + 32)
            .sum::<usize>()
            + self.output_schema.as_ref().map_or(0, |schema| schema.to_string().len());
        u32::try_from((text + schemas).div_ceil(4).max(1)).unwrap_or(u32::MAX)
    }
}

/// Why a model stopped. `providers.md` section 1.1 has each provider's words for these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The natural end, or a stop sequence.
    Stop,
    /// The output cap was reached; the answer is cut.
    Length,
    /// The context window ran out in mid-answer.
    ContextFull,
    /// The model asks for tools.
    ToolCalls,
    /// The provider's filter blocked the prompt or the answer.
    ContentFilter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn.
    Paused,
    /// Generation broke.
    Error,
    /// A word we do not know.
    Unknown,
}

/// Tokens used. `cached` and `cache_write` are parts of `input`, `reasoning` is a part of `output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Everything sent, cached or not.
    pub input_tokens: u64,
    /// Read from the provider's prompt cache.
    pub cached_input_tokens: u64,
    /// Written to the provider's prompt cache.
    pub cache_write_tokens: u64,
    /// Everything billed as output.
    pub output_tokens: u64,
    /// Spent on thinking; `null` when the provider does not tell.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// The two added up: a job's receipt covers all its attempts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens + other.input_tokens,
            cached_input_tokens: self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens: self.cache_write_tokens + other.cache_write_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            reasoning_tokens: match (self.reasoning_tokens, other.reasoning_tokens) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or_default() + b.unwrap_or_default()),
            },
        }
    }
}

/// A model's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The model as the provider names it in its answer.
    pub model: String,
    /// The text.
    pub text: String,
    /// Tools it asks for.
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: Finish,
    /// What it used; `None` when the provider did not say.
    pub usage: Option<Usage>,
    /// What the provider says it cost (OpenRouter does).
    pub cost_usd: Option<f64>,
    /// What the provider says of its limits.
    pub told: Vec<Told>,
}
