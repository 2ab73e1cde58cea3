//! OpenAI's chat completions, and all that speak them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use super::fault::Failure;
use super::settings::{AccountSettings, Vendor};
use super::stream::Pieces;
use super::wire::{Answer, Auth, Opened, Reply, Wire, heard};
use super::{Provider, ProviderError, Timeouts, flow, supports};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::{Dialect as Language, Prompt};

mod answer;
pub(super) mod effort;
pub(super) mod errors;
mod messages;
mod openrouter;
mod request;
mod responses;
mod stream;

pub use responses::Responses;

/// Where completions are asked for.
const PATH: &str = "/chat/completions";

/// Who speaks: the differences between those who speak one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI itself.
    OpenAi,
    /// Groq.
    Groq,
    /// Cerebras.
    Cerebras,
    /// OpenRouter.
    OpenRouter,
    /// Ollama and others that run models themselves or that we know nothing more about.
    Plain,
}

impl Dialect {
    /// The dialect of a vendor; `None` for those who speak another language.
    pub const fn of(vendor: Vendor) -> Option<Self> {
        match vendor {
            Vendor::OpenAi => Some(Self::OpenAi),
            Vendor::Groq => Some(Self::Groq),
            Vendor::Cerebras => Some(Self::Cerebras),
            Vendor::OpenRouter => Some(Self::OpenRouter),
            Vendor::Ollama | Vendor::OpenAiCompatible => Some(Self::Plain),
            Vendor::Anthropic | Vendor::Gemini | Vendor::Scripted => None,
        }
    }
}

/// An account at OpenAI or at anyone who speaks its chat completions.
#[derive(Clone)]
pub struct OpenAi {
    wire: Arc<Wire>,
    dialect: Dialect,
    vendor: Vendor,
}

impl OpenAi {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        let vendor = account.vendor;
        let dialect = Dialect::of(vendor)
            .ok_or_else(|| format!("`{}` does not speak chat completions", vendor.as_str()))?;
        let wire = Wire::new(account, "v1", (Auth::Bearer, HeaderMap::new()), clock)?;
        Ok(Self { wire: Arc::new(wire), dialect, vendor })
    }

    async fn ask(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let asked = request::asked(self.dialect, model, prompt, false)?;
        match self.wire.post(PATH, &asked.body, &asked.headers, timeout).await? {
            Reply::Answered(answer) => {
                let native = asked.is_native.then(|| answer.raw.clone());
                let completion = self.answered(answer, model)?;
                Ok(Completion { native, ..completion })
            }
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    async fn open(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        let asked = request::asked(self.dialect, model, prompt, true)?;
        match self.wire.stream(PATH, &asked.body, &asked.headers, timeouts).await? {
            Opened::Stream(frames) => {
                let reader = stream::Chat::new(self.clone(), model, asked.hides_usage);
                flow::begin(frames.with_images(), reader, asked.is_native).await
            }
            Opened::Answered(answer) => self.answered(answer, model).and_then(flow::at_once),
            Opened::Refused(failure) => Err(self.failed(*failure)),
        }
    }

    fn failed(&self, failure: Failure) -> ProviderError {
        let verdict = errors::judge(self.dialect, &failure);
        self.wire.failed(failure, verdict)
    }

    fn answered(&self, answer: Answer, model: &str) -> Result<Completion, ProviderError> {
        let Answer { value, told, .. } = answer;
        if let Some(error) = answer::error(&value) {
            return Err(self.failed(self.wire.inside(&error, told)));
        }
        heard(answer::read(&value, model), told, "the answer is no chat completion")
    }
}

#[async_trait]
impl Provider for OpenAi {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let begun = Instant::now();
        let error = match self.ask(model, prompt, timeout).await {
            Err(error) => error,
            answer => return answer,
        };
        let Some(shorter) = openrouter::affordable(&error, prompt) else { return Err(error) };
        self.ask(model, &shorter, timeout.saturating_sub(begun.elapsed())).await
    }

    async fn stream(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        let begun = Instant::now();
        let error = match self.open(model, prompt, timeouts).await {
            Err(error) => error,
            pieces => return pieces,
        };
        let Some(shorter) = openrouter::affordable(&error, prompt) else { return Err(error) };
        let left = |time: Duration| time.saturating_sub(begun.elapsed());
        let left = Timeouts { first: left(timeouts.first), total: left(timeouts.total) };
        self.open(model, &shorter, left).await
    }

    fn lacks(&self, model: &str, prompt: &Prompt) -> Option<&'static str> {
        supports::lacks(self.vendor.as_str(), model, prompt)
            .or_else(|| request::lacks(self.dialect, model, prompt))
    }

    fn speaks(&self) -> Option<Language> {
        Some(Language::OpenAi)
    }

    async fn check(&self, timeout: Duration) -> Result<(), ProviderError> {
        // OpenRouter lists its models to anyone.
        let path = if self.dialect == Dialect::OpenRouter { "/key" } else { "/models" };
        match self.wire.get(path, timeout).await? {
            Reply::Answered(..) => Ok(()),
            // Not every server has a list; that says nothing against the key.
            Reply::Refused(failure)
                if self.dialect == Dialect::Plain && matches!(failure.status, 404 | 405) =>
            {
                Ok(())
            }
            Reply::Refused(failure) => Err(self.failed(*failure)),
        }
    }
}
