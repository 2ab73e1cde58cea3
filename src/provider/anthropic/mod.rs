//! Anthropic's Messages.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::fault::Failure;
use super::settings::AccountSettings;
use super::wire::{Auth, Reply, Wire, heard};
use super::{Provider, ProviderError};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::{Dialect as Language, Prompt};

mod answer;
mod errors;
mod request;

/// An account at Anthropic, or at a server that speaks its Messages.
pub struct Anthropic {
    wire: Wire,
}

impl Anthropic {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        let version =
            (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
        let key = Auth::Header(HeaderName::from_static("x-api-key"));
        let wire = Wire::new(account, "v1", (key, HeaderMap::from_iter([version])), clock)?;
        Ok(Self { wire })
    }

    fn failed(&self, failure: Failure) -> ProviderError {
        let verdict = errors::judge(&failure, self.wire.clock().now());
        self.wire.failed(failure, verdict)
    }
}

#[async_trait]
impl Provider for Anthropic {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let body = request::body(model, prompt);
        match self.wire.post("/messages", &body, timeout).await? {
            Reply::Answered(answer, told) => {
                heard(answer::read(&answer, model), told, "the answer is no message")
            }
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    fn speaks(&self) -> Option<Language> {
        Some(Language::Anthropic)
    }

    async fn check(&self, timeout: Duration) -> Result<(), ProviderError> {
        match self.wire.get("/models?limit=1", timeout).await? {
            Reply::Answered(..) => Ok(()),
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }
}
