//! A built-in provider with real limits, real latency and faults on request: for the demo, for
//! tests and for load tests. It needs no network; [`server`] puts the same model on HTTP.
//!
//! What one call gets is decided, in this order, by a directive in its prompt, by the settings'
//! `faults`, and by the limits. Directives are words in the text:
//!
//! - `#scripted:429`, `#scripted:hang` or any other [`Fault`]: the call ends so;
//! - `#scripted:cut 200`: a stream ends after 200 bytes;
//! - `#scripted:say <text>`: the rest of the line is the answer;
//! - `#scripted:call look {"q": "x"}`: the answer asks for that tool, if the prompt offers it;
//! - `#scripted:slow 2s`: the call takes that long, or its first word with
//!   `#scripted:pace 20ms`, which is what each further token takes;
//! - each with `@model` behind its name (`#scripted:503@large`) only where that model is asked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stream::Pieces;
use super::{Provider, ProviderError, Timeouts};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::Prompt;
use crate::domain::units::{Growth, Rate, Span};

mod answer;
mod broken;
pub mod cache;
mod chance;
mod dialect;
mod directive;
mod exchange;
mod fault;
mod fit;
mod limits;
pub mod model;
mod refusal;
mod script;
pub mod server;
mod stats;
mod timeline;
mod within;

pub use answer::Answer;
pub use cache::CacheSettings;
pub use dialect::Dialect;
pub use fault::{Fault, FaultRule};
pub use model::Model;
pub use stats::Stats;

/// `scripted` in an account's settings: how this provider behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whose kind of chat completions it speaks over HTTP.
    pub dialect: Dialect,
    /// Calls it lets through: `600/min`. More are answered 429, whatever the account's `limits` say.
    pub requests: Option<Rate>,
    /// Tokens sent that it lets through: `50000/min`.
    pub input_tokens: Option<Rate>,
    /// Tokens received that it lets through: `10000/min`.
    pub output_tokens: Option<Rate>,
    /// Tokens sent and received together that it lets through: `6000/min`.
    pub tokens: Option<Rate>,
    /// Calls a day that it lets through. All of them may come at once; they come back evenly.
    #[schemars(range(min = 1))]
    pub requests_per_day: Option<u64>,
    /// Tokens a day, sent and received together, that it lets through, in the same way.
    #[schemars(range(min = 1))]
    pub tokens_per_day: Option<u64>,
    /// Calls at the same time that it lets through.
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// How much of the rates it lets through at once; never less than one call.
    pub burst: Span,
    /// Counts the rates in a sliding window of this length (`1m`) instead of `burst`: in none is
    /// more let through than the rate brings in that time (never less than one), and a larger
    /// call never.
    pub window: Option<Span>,
    /// How fast use may grow (`2x/10s`, `2x/10s from 5%`): on each rate, what is let through in
    /// the last 10 s is at most twice what was in the 10 s before, or twice 10 % of the rate. A
    /// single call that is larger goes alone.
    pub ramp: Option<Growth>,
    /// Whether a 429 tells when to come back and answers carry `x-ratelimit-*`.
    pub hints: bool,
    /// Whether answers carry `x-ratelimit-*`.
    pub headers: bool,
    /// How long an answer takes before its first token.
    pub latency: Span,
    /// How much longer each token of the answer takes.
    pub latency_per_output_token: Span,
    /// By which share the latency varies to both sides.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// Calls that go wrong. The first rule that strikes decides.
    pub faults: Vec<FaultRule>,
    /// When a 429 out of `faults` tells to come back.
    pub retry_after: Span,
    /// What it remembers of prompts. Nothing without this.
    pub cache: Option<CacheSettings>,
    /// The text of every answer. Default: derived from the prompt, and fitting the output schema.
    pub answer: Option<String>,
    /// The tokens an answer is billed for, whatever its text: between the two, other for each
    /// call and the same in every run, and never more than the request's own cap. `[20, 400]`
    pub output_tokens_per_answer: Option<[u32; 2]>,
    /// How many tokens it counts for each one of Spillway's own estimate of a prompt.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub input_token_factor: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dialect: Dialect::OpenAi,
            requests: None,
            input_tokens: None,
            output_tokens: None,
            tokens: None,
            requests_per_day: None,
            tokens_per_day: None,
            concurrency: None,
            burst: Span::secs(1),
            window: None,
            ramp: None,
            hints: true,
            headers: true,
            latency: Span::millis(50),
            latency_per_output_token: Span::millis(0),
            jitter: 0.1,
            faults: Vec::new(),
            retry_after: Span::secs(1),
            cache: None,
            answer: None,
            output_tokens_per_answer: None,
            input_token_factor: 1.0,
        }
    }
}

/// The scripted provider without a network in between.
#[derive(Clone)]
pub struct Scripted {
    model: Arc<Model>,
}

impl Scripted {
    /// A provider of its own.
    pub fn new(settings: Settings, clock: SharedClock) -> Self {
        Self { model: Arc::new(Model::new(settings, clock)) }
    }

    /// Another way into a model that exists: its limits are shared.
    pub const fn on(model: Arc<Model>) -> Self {
        Self { model }
    }

    /// The model, for what it has counted.
    pub const fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

#[async_trait]
impl Provider for Scripted {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        within::complete(self.model.call(model, prompt), model, timeout).await
    }

    async fn stream(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        within::stream(self.model.call(model, prompt), model, timeouts).await
    }

    async fn check(&self, _timeout: Duration) -> Result<(), ProviderError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::domain::prompt::Message;
    use crate::provider::{ErrorClass, codes};

    fn asking(text: &str) -> Prompt {
        let content = text.to_owned();
        let user = Message::user(content);
        Prompt { messages: vec![user], max_output_tokens: 100, ..Prompt::default() }
    }

    fn quick() -> Scripted {
        let settings = Settings { latency: Span::millis(0), ..Settings::default() };
        Scripted::new(settings, Arc::new(SystemClock))
    }

    #[test]
    fn settings_are_written_as_people_write_them() {
        let text = r#"
            requests = "600/min"
            concurrency = 4
            faults = [{ every = 10, answer = "503" }, { share = 0.1, answer = "half" }]
        "#;
        let read: Settings = toml::from_str(text).unwrap();
        assert_eq!(read.requests, Rate::parse("600/min"));
        assert_eq!(read.latency, Span::millis(50));
        assert_eq!(read.faults.len(), 2);
        assert!(toml::from_str::<Settings>("request = \"1/s\"").is_err());
        assert!(toml::from_str::<Settings>("faults = [{ answer = \"teapot\" }]").is_err());
    }

    #[tokio::test]
    async fn each_fault_has_the_class_of_its_wire_form() {
        let scripted = quick();
        for (word, class, code, status) in [
            ("429", ErrorClass::CooldownKey, codes::RATE_LIMITED, Some(429)),
            ("500", ErrorClass::RetrySameKey, codes::SERVER_ERROR, Some(500)),
            ("503", ErrorClass::RetrySameKey, codes::OVERLOADED, Some(503)),
            ("529", ErrorClass::FailoverProvider, codes::OVERLOADED, Some(529)),
            ("401", ErrorClass::AuthOrBilling, codes::BAD_KEY, Some(401)),
            ("html", ErrorClass::FailoverProvider, codes::GARBLED, Some(200)),
            ("half", ErrorClass::FailoverProvider, codes::GARBLED, Some(200)),
            ("empty", ErrorClass::FailoverProvider, codes::GARBLED, Some(200)),
            ("huge", ErrorClass::FailoverProvider, codes::TOO_LARGE, Some(200)),
            ("hang", ErrorClass::FailoverProvider, codes::TIMED_OUT, None),
            ("reset", ErrorClass::FailoverProvider, codes::UNREACHABLE, None),
            ("refuse", ErrorClass::FailoverProvider, codes::UNREACHABLE, None),
        ] {
            let prompt = asking(&format!("Tag this #scripted:{word}"));
            let timeout = Duration::from_millis(20);
            let error = scripted.complete("m", &prompt, timeout).await.unwrap_err();
            assert_eq!((error.class, error.code, error.status), (class, code, status), "{word}");
            assert_eq!(error.retry_after.is_some(), word == "429", "{word}");
        }
    }

    #[tokio::test]
    async fn an_answer_comes_with_what_it_used() {
        let scripted = quick();
        let prompt = asking("The invoice of March is wrong, please send a new one.");
        let timeout = Duration::from_secs(5);
        let completion = scripted.complete("m", &prompt, timeout).await.unwrap();
        let usage = completion.usage.unwrap();
        assert_eq!(usage.input_tokens, u64::from(prompt.estimated_input_tokens()));
        assert!(completion.text.contains("invoice") && usage.output_tokens > 0);
        let again = scripted.complete("m", &prompt, timeout).await.unwrap();
        assert_eq!(again.text, completion.text);
    }

    #[tokio::test]
    async fn a_prompt_says_what_is_answered_and_how_slowly() {
        let scripted = quick();
        let prompt = asking("#scripted:say {\"tags\": [\"a\"]}\nand more");
        let said = scripted.complete("m", &prompt, Duration::from_secs(5)).await.unwrap();
        assert_eq!(said.text, "{\"tags\": [\"a\"]}");
        let slow = asking("#scripted:slow 1h");
        let error = scripted.complete("m", &slow, Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(error.code, codes::TIMED_OUT);
    }
}
