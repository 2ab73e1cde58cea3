//! Google's Gemini.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName};

use super::fault::Failure;
use super::settings::AccountSettings;
use super::wire::{Auth, Reply, Wire, heard};
use super::{Provider, ProviderError, supports};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::Prompt;

mod answer;
mod errors;
mod request;

/// An account at Google AI for Developers.
pub struct Gemini {
    wire: Wire,
}

impl Gemini {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        // As a header: a key in the address ends up in logs.
        let key = Auth::Header(HeaderName::from_static("x-goog-api-key"));
        Ok(Self { wire: Wire::new(account, "v1beta", (key, HeaderMap::new()), clock)? })
    }

    fn failed(&self, failure: Failure, input_tokens: u32) -> ProviderError {
        let verdict = errors::judge(&failure, input_tokens, self.wire.clock().now());
        self.wire.failed(failure, verdict)
    }
}

#[async_trait]
impl Provider for Gemini {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let path = format!("/models/{model}:generateContent");
        let body = request::body(model, prompt);
        match self.wire.post(&path, &body, timeout).await? {
            Reply::Answered(answer, told) => {
                heard(answer::read(&answer, model), told, "the answer has no candidates")
            }
            Reply::Refused(failure) => Err(self.failed(*failure, prompt.estimated_input_tokens())),
        }
    }

    fn lacks(&self, model: &str, prompt: &Prompt) -> Option<&'static str> {
        supports::lacks("gemini", model, prompt).or_else(|| request::lacks(model, prompt))
    }

    async fn check(&self, timeout: Duration) -> Result<(), ProviderError> {
        match self.wire.get("/models?pageSize=1", timeout).await? {
            Reply::Answered(..) => Ok(()),
            Reply::Refused(failure) => Err(self.failed(*failure, 0)),
        }
    }
}
