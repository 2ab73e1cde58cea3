//! OpenAI's Responses: the second way to ask OpenAI, and servers that copy it.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderMap;

use super::{OpenAi, request as chat};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::Prompt;
use crate::provider::settings::AccountSettings;
use crate::provider::stream::Pieces;
use crate::provider::wire::{Answer, Opened, Reply, heard};
use crate::provider::{Provider, ProviderError, Timeouts, flow, supports};

mod answer;
mod request;
mod stream;

/// Where responses are asked for.
const PATH: &str = "/responses";

/// An account that is asked for responses. A caller's own request for a chat completion is none
/// of these, so it speaks no caller's language.
pub struct Responses(OpenAi);

impl Responses {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        OpenAi::new(account, clock).map(Self)
    }

    fn answered(&self, answer: Answer, model: &str) -> Result<Completion, ProviderError> {
        let Answer { value, told, .. } = answer;
        if let Some(error) = answer::error(&value) {
            return Err(self.0.failed(self.0.wire.inside(&error, told)));
        }
        heard(answer::read(&value, model), told, "the answer is no response that has ended")
    }
}

#[async_trait]
impl Provider for Responses {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let body = request::body(self.0.dialect, model, prompt, false)?;
        match self.0.wire.post(PATH, &body, &HeaderMap::new(), timeout).await? {
            Reply::Answered(answer) => self.answered(answer, model),
            Reply::Refused(failure) => Err(self.0.failed(*failure)),
        }
    }

    async fn stream(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        let body = request::body(self.0.dialect, model, prompt, true)?;
        match self.0.wire.stream(PATH, &body, &HeaderMap::new(), timeouts).await? {
            Opened::Stream(frames) => {
                // The whole answer is said once more in the last message.
                let reader = stream::Response::new(self.0.clone(), model);
                flow::begin(frames.with_images(), reader, false).await
            }
            Opened::Answered(answer) => self.answered(answer, model).and_then(flow::at_once),
            Opened::Refused(failure) => Err(self.0.failed(*failure)),
        }
    }

    fn lacks(&self, model: &str, prompt: &Prompt) -> Option<&'static str> {
        supports::lacks(self.0.vendor.as_str(), model, prompt)
            .or_else(|| chat::lacks(self.0.dialect, model, prompt))
    }

    async fn check(&self, timeout: Duration) -> Result<(), ProviderError> {
        self.0.check(timeout).await
    }
}
