//! OpenAI's chat completions, and all that speak them.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderMap;

use super::fault::Failure;
use super::settings::{AccountSettings, Vendor};
use super::wire::{Auth, Reply, Wire, heard};
use super::{Provider, ProviderError};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::{Dialect as Language, Prompt};

mod answer;
mod errors;
mod openrouter;
mod request;

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
pub struct OpenAi {
    wire: Wire,
    dialect: Dialect,
}

impl OpenAi {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        let vendor = account.vendor;
        let dialect = Dialect::of(vendor)
            .ok_or_else(|| format!("`{}` does not speak chat completions", vendor.as_str()))?;
        let wire = Wire::new(account, "v1", (Auth::Bearer, HeaderMap::new()), clock)?;
        Ok(Self { wire, dialect })
    }

    fn failed(&self, failure: Failure) -> ProviderError {
        let verdict = errors::judge(self.dialect, &failure);
        self.wire.failed(failure, verdict)
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
        let body = request::body(self.dialect, model, prompt);
        let (answer, told) = match self.wire.post("/chat/completions", &body, timeout).await? {
            Reply::Answered(answer, told) => (answer, told),
            Reply::Refused(failure) => return Err(self.failed(*failure)),
        };
        if let Some(error) = answer::error(&answer) {
            return Err(self.failed(self.wire.inside(error, told)));
        }
        heard(answer::read(&answer, model), told, "the answer is no chat completion")
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
