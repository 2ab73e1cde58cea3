//! A vendor's API. Each file but this one speaks one wire format.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::{Dialect, Prompt};
use crate::domain::told::Told;
use settings::{AccountSettings, Api, Vendor};
use stream::Pieces;

pub mod anthropic;
pub mod duration;
pub mod gemini;
pub mod ollama;
pub mod openai;
pub mod scripted;
pub mod settings;

mod fault;
mod flow;
mod hint;
mod json;
mod native;
mod output;
mod sampling;
pub mod stream;
mod supports;
mod told;
mod tool_id;
mod wire;

/// Asks a model.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// One call. It ends within `timeout`, reads no more than the wire's cap, and follows no
    /// redirect.
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError>;

    /// One call whose answer comes piece by piece. Resolves with the answer's first piece, within
    /// `timeouts.first`; all of it comes within `timeouts.total`. Dropping it cancels the call.
    async fn stream(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        self.complete(model, prompt, timeouts.total).await.map(stream::at_once)
    }

    /// What this prompt asks for that the model is known not to support by itself, in a word;
    /// `None` when it supports all of it, or nobody knows.
    fn lacks(&self, _model: &str, _prompt: &Prompt) -> Option<&'static str> {
        None
    }

    /// The callers' language it speaks, too: a request in that language is sent on as it came.
    fn speaks(&self) -> Option<Dialect> {
        None
    }

    /// The tokens this prompt has, as the provider counts them; `None` when it does not count.
    async fn count_tokens(
        &self,
        _model: &str,
        _prompt: &Prompt,
        _timeout: Duration,
    ) -> Result<Option<u64>, ProviderError> {
        Ok(None)
    }

    /// Whether the key is accepted, told without paying for an answer.
    async fn check(&self, timeout: Duration) -> Result<(), ProviderError>;
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the first piece of the answer.
    pub first: Duration,
    /// Until its end.
    pub total: Duration,
}

/// What providers may be known not to support.
pub mod parameters {
    /// An output schema that the model is held to by the provider.
    pub const SCHEMA: &str = "an output schema";
    /// A temperature.
    pub const TEMPERATURE: &str = "a temperature";
}

/// A provider many hold.
pub type SharedProvider = Arc<dyn Provider>;

/// The adapter for an account that speaks its vendor's usual API; nothing is sent yet.
pub fn connect(
    vendor: Vendor,
    base_url: Option<&str>,
    api_key: Option<SecretString>,
    clock: SharedClock,
) -> Result<SharedProvider, String> {
    let base_url = base_url.map(str::to_owned);
    connect_account(AccountSettings { vendor, base_url, api_key, api: None }, clock)
}

/// The adapter for an account; nothing is sent yet. The scripted provider has an account of
/// another kind and is made elsewhere.
pub fn connect_account(
    account: AccountSettings,
    clock: SharedClock,
) -> Result<SharedProvider, String> {
    let vendor = account.vendor;
    if vendor.needs_key() && account.api_key.is_none() {
        return Err(format!("`{}` needs an api_key", vendor.as_str()));
    }
    if let Some(api) = account.api.filter(|api| !vendor.has(*api)) {
        return Err(format!("`{}` has no API `{}`", vendor.as_str(), api.as_str()));
    }
    if account.api == Some(Api::Responses) {
        return Ok(Arc::new(openai::Responses::new(account, clock)?));
    }
    if account.api == Some(Api::Native) {
        return Ok(Arc::new(ollama::Ollama::new(account, clock)?));
    }
    Ok(match vendor {
        Vendor::Anthropic => Arc::new(anthropic::Anthropic::new(account, clock)?),
        Vendor::Gemini => Arc::new(gemini::Gemini::new(account, clock)?),
        Vendor::OpenAi
        | Vendor::Groq
        | Vendor::Cerebras
        | Vendor::OpenRouter
        | Vendor::Ollama
        | Vendor::OpenAiCompatible => Arc::new(openai::OpenAi::new(account, clock)?),
        Vendor::Scripted => return Err("`scripted` is not reached over the network".to_owned()),
    })
}

/// Why there is no answer. No part of it repeats a key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// What can be done about it.
    pub class: ErrorClass,
    /// The particular fault, in the words of [`codes`].
    pub code: &'static str,
    /// The HTTP status, when there was one.
    pub status: Option<u16>,
    /// When the provider said to come back.
    pub retry_after: Option<Duration>,
    /// What the provider says of its limits.
    pub told: Vec<Told>,
    /// What happened, for a person.
    pub message: String,
}

impl ProviderError {
    /// An error that came with no status, no hint and no word about limits.
    pub fn new(class: ErrorClass, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            code,
            status: None,
            retry_after: None,
            told: Vec::new(),
            message: message.into(),
        }
    }
}

/// A request that this provider cannot be asked, though another may: nothing is sent.
fn unsupported(message: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorClass::CallerError, codes::UNSUPPORTED_PARAMETER, message)
}

/// What can be done about a provider's error (`providers.md` section 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Ask again soon; after that another provider.
    RetrySameKey,
    /// The key's limit: leave it alone until the hint has passed.
    CooldownKey,
    /// The provider or model is in trouble.
    FailoverProvider,
    /// The request itself is at fault.
    CallerError,
    /// Declined for its content.
    ContentRefused,
    /// The key is not accepted or cannot pay.
    AuthOrBilling,
}

impl ErrorClass {
    /// The class' name, as in `providers.md`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetrySameKey => "retry_same_key",
            Self::CooldownKey => "cooldown_key",
            Self::FailoverProvider => "failover_provider",
            Self::CallerError => "caller_error",
            Self::ContentRefused => "content_refused",
            Self::AuthOrBilling => "auth_or_billing",
        }
    }
}

/// Words for particular faults.
pub mod codes {
    /// The rate limit.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// Too many calls at the same time.
    pub const CONCURRENCY: &str = "concurrency_limited";
    /// Use grows too fast; the limit itself may not be reached.
    pub const SLOW_DOWN: &str = "slow_down";
    /// Shared capacity, not our limit.
    pub const OVERLOADED: &str = "overloaded";
    /// The provider broke (5xx).
    pub const SERVER_ERROR: &str = "server_error";
    /// No answer in time.
    pub const TIMED_OUT: &str = "timed_out";
    /// No connection, or it broke.
    pub const UNREACHABLE: &str = "unreachable";
    /// The answer cannot be read: HTML, half a JSON, nothing.
    pub const GARBLED: &str = "garbled";
    /// The answer began and broke off.
    pub const CUT: &str = "cut";
    /// The answer is larger than the cap.
    pub const TOO_LARGE: &str = "answer_too_large";
    /// The model's output did not validate at the provider (a tool call, forced JSON).
    pub const MODEL_OUTPUT_INVALID: &str = "model_output_invalid";
    /// The prompt is longer than the model's window.
    pub const CONTEXT_LENGTH: &str = "context_length";
    /// The request alone is larger than the key's whole limit.
    pub const LARGER_THAN_LIMIT: &str = "larger_than_limit";
    /// A parameter this model does not take.
    pub const UNSUPPORTED_PARAMETER: &str = "unsupported_parameter";
    /// More output asked for than the model gives.
    pub const MAX_TOKENS: &str = "max_tokens";
    /// The provider does not have the model, or not for this key.
    pub const MODEL_NOT_FOUND: &str = "model_not_found";
    /// The request body is too large.
    pub const REQUEST_TOO_LARGE: &str = "request_too_large";
    /// Another fault of the request.
    pub const INVALID_REQUEST: &str = "invalid_request";
    /// Declined for its content.
    pub const REFUSED: &str = "refused";
    /// The key is not accepted.
    pub const BAD_KEY: &str = "bad_key";
    /// The key may not use this.
    pub const FORBIDDEN: &str = "forbidden";
    /// The key may not use this model; others it may.
    pub const MODEL_FORBIDDEN: &str = "model_forbidden";
    /// No money or credit left, or a spend limit reached.
    pub const INSUFFICIENT_QUOTA: &str = "insufficient_quota";
    /// Not enough credit for this many output tokens.
    pub const INSUFFICIENT_CREDITS: &str = "insufficient_credits_for_max_tokens";
}
