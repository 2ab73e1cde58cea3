//! What comes back from a model, in one shape for every provider.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::Image;
use super::told::Told;

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

/// Why a model stopped. `providers.md` section 1.1 has each provider's words for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    #[default]
    Unknown,
}

/// Tokens used. `cached` and `cache_write` are parts of `input`, `cache_write_1h` is a part of
/// `cache_write`, `reasoning` is a part of `output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Everything sent, cached or not.
    pub input_tokens: u64,
    /// Read from the provider's prompt cache.
    pub cached_input_tokens: u64,
    /// Written to the provider's prompt cache.
    pub cache_write_tokens: u64,
    /// Of these, the ones written to stay there for an hour, which costs more at Anthropic.
    #[serde(default)]
    #[schemars(!default)]
    pub cache_write_1h_tokens: u64,
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
            cache_write_1h_tokens: self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            reasoning_tokens: match (self.reasoning_tokens, other.reasoning_tokens) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or_default() + b.unwrap_or_default()),
            },
        }
    }
}

/// A model's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The model as the provider names it in its answer.
    pub model: String,
    /// The text.
    pub text: String,
    /// What the model thought before it answered, where the provider shows it.
    pub reasoning: String,
    /// Images it made.
    pub images: Vec<Image>,
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
    /// The answer as it came, when the caller's own request was sent as it came.
    pub native: Option<Bytes>,
}
