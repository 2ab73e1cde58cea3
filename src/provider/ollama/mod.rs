//! Ollama's own chat, for accounts that ask for it.
//!
//! It says what its copy of OpenAI's cannot: what the model thought, whether to think, and that a
//! prompt is longer than the window, which is otherwise cut in silence.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::fault::Failure;
use super::openai::{Dialect, errors};
use super::settings::AccountSettings;
use super::stream::Pieces;
use super::wire::{Answer, Auth, Opened, Reply, Wire, heard};
use super::{Provider, ProviderError, Timeouts, flow, supports};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::Prompt;
use crate::domain::told::Told;

mod answer;
mod request;
mod stream;

/// Where answers are asked for.
const PATH: &str = "/chat";

/// A local Ollama, or any other.
#[derive(Clone)]
pub struct Ollama {
    wire: Arc<Wire>,
    vendor: &'static str,
}

impl Ollama {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        let vendor = account.vendor.as_str();
        // People copy addresses with the path of either API.
        let base_url = account.base_url.map(|url| {
            let url = url.trim_end_matches('/');
            let bare = url.strip_suffix("/v1").or_else(|| url.strip_suffix("/api"));
            bare.unwrap_or(url).to_owned()
        });
        let account = AccountSettings { base_url, ..account };
        let wire = Wire::new(account, "api", (Auth::Bearer, HeaderMap::new()), clock)?;
        Ok(Self { wire: Arc::new(wire), vendor })
    }

    fn failed(&self, failure: Failure) -> ProviderError {
        let verdict = errors::judge(Dialect::Plain, &failure);
        self.wire.failed(failure, verdict)
    }

    /// An error in place of an answer. It comes without a status: what could be told before the
    /// answer began would have had one.
    fn broke(&self, error: &Value, told: Vec<Told>) -> ProviderError {
        self.failed(Failure { status: 500, ..self.wire.inside(error, told) })
    }

    fn answered(&self, answer: Answer, model: &str) -> Result<Completion, ProviderError> {
        let Answer { value, told, .. } = answer;
        match value.get("error") {
            Some(error) => Err(self.broke(error, told)),
            None => heard(answer::read(&value, model), told, "the answer is no chat of Ollama's"),
        }
    }
}

#[async_trait]
impl Provider for Ollama {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let body = request::body(model, prompt, false)?;
        match self.wire.post(PATH, &body, &HeaderMap::new(), timeout).await? {
            Reply::Answered(answer) => self.answered(answer, model),
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    async fn stream(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        let body = request::body(model, prompt, true)?;
        match self.wire.stream(PATH, &body, &HeaderMap::new(), timeouts).await? {
            Opened::Stream(frames) => {
                let reader = stream::Chat::new(self.clone(), model);
                flow::begin(*frames, reader, false).await
            }
            Opened::Answered(answer) => self.answered(answer, model).and_then(flow::at_once),
            Opened::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    fn lacks(&self, model: &str, prompt: &Prompt) -> Option<&'static str> {
        supports::lacks(self.vendor, model, prompt).or_else(|| request::lacks(prompt))
    }

    async fn check(&self, timeout: Duration) -> Result<(), ProviderError> {
        match self.wire.get("/tags", timeout).await? {
            Reply::Answered(..) => Ok(()),
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }
}
