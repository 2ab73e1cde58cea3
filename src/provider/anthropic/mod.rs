//! Anthropic's Messages.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::fault::Failure;
use super::json::count;
use super::settings::AccountSettings;
use super::stream::Pieces;
use super::wire::{Answer, Auth, Opened, Reply, Wire, heard};
use super::{Provider, ProviderError, Timeouts, flow, supports};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::{Dialect as Language, Prompt};

mod answer;
mod cache;
mod errors;
mod marks;
mod request;
mod stream;
mod thinking;

/// Where messages are asked for.
const PATH: &str = "/messages";

/// An account at Anthropic, or at a server that speaks its Messages.
#[derive(Clone)]
pub struct Anthropic {
    wire: Arc<Wire>,
}

impl Anthropic {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        let version =
            (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
        let key = Auth::Header(HeaderName::from_static("x-api-key"));
        let wire = Wire::new(account, "v1", (key, HeaderMap::from_iter([version])), clock)?;
        Ok(Self { wire: Arc::new(wire) })
    }

    fn failed(&self, failure: Failure) -> ProviderError {
        let verdict = errors::judge(&failure, self.wire.clock().now());
        self.wire.failed(failure, verdict)
    }

    fn answered(&self, answer: Answer, model: &str) -> Result<Completion, ProviderError> {
        let Answer { value, told, .. } = answer;
        if let Some(error) = answer::error(&value) {
            return Err(self.failed(self.wire.inside(error, told)));
        }
        heard(answer::read(&value, model), told, "the answer is no message")
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
        let (asked, headers, is_native) = request::asked(model, prompt, false)?;
        match self.wire.post(PATH, &asked, &headers, timeout).await? {
            Reply::Answered(answer) => {
                let native = is_native.then(|| answer.raw.clone());
                let completion = self.answered(answer, model)?;
                Ok(Completion { native, ..completion })
            }
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    async fn stream(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        let (asked, headers, is_native) = request::asked(model, prompt, true)?;
        match self.wire.stream(PATH, &asked, &headers, timeouts).await? {
            Opened::Stream(frames) => {
                let reader = stream::Message::new(self.clone(), model);
                flow::begin(*frames, reader, is_native).await
            }
            Opened::Answered(answer) => self.answered(answer, model).and_then(flow::at_once),
            Opened::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    fn lacks(&self, model: &str, prompt: &Prompt) -> Option<&'static str> {
        supports::lacks("anthropic", model, prompt).or_else(|| request::lacks(model, prompt))
    }

    fn speaks(&self) -> Option<Language> {
        Some(Language::Anthropic)
    }

    async fn count_tokens(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Option<u64>, ProviderError> {
        let (asked, headers) = request::counted(model, prompt)?;
        match self.wire.post("/messages/count_tokens", &asked, &headers, timeout).await? {
            Reply::Answered(answer) => Ok(count(&answer.value, "/input_tokens")),
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    async fn check(&self, timeout: Duration) -> Result<(), ProviderError> {
        match self.wire.get("/models?limit=1", timeout).await? {
            Reply::Answered(..) => Ok(()),
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }
}
