//! Google's Gemini.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName};

use super::fault::Failure;
use super::settings::AccountSettings;
use super::stream::Pieces;
use super::wire::{Answer, Auth, Opened, Reply, Wire, heard};
use super::{ErrorClass, Provider, ProviderError, Timeouts, codes, flow, supports};
use crate::clock::SharedClock;
use crate::domain::completion::Completion;
use crate::domain::prompt::Prompt;

mod answer;
mod day;
mod errors;
mod request;
mod stream;
mod thinking;

/// An account at Google AI for Developers.
#[derive(Clone)]
pub struct Gemini {
    wire: Arc<Wire>,
}

impl Gemini {
    /// Gets ready to ask; nothing is sent yet.
    pub fn new(account: AccountSettings, clock: SharedClock) -> Result<Self, String> {
        // As a header: a key in the address ends up in logs.
        let key = Auth::Header(HeaderName::from_static("x-goog-api-key"));
        let wire = Wire::new(account, "v1beta", (key, HeaderMap::new()), clock)?;
        Ok(Self { wire: Arc::new(wire) })
    }

    fn failed(&self, failure: Failure, input_tokens: u32) -> ProviderError {
        let verdict = errors::judge(&failure, input_tokens, self.wire.clock().now());
        self.wire.failed(failure, verdict)
    }

    fn answered(
        &self,
        answer: Answer,
        model: &str,
        input_tokens: u32,
    ) -> Result<Completion, ProviderError> {
        let Answer { value, told, .. } = answer;
        if let Some(error) = answer::error(&value) {
            return Err(self.failed(self.wire.inside(error, told), input_tokens));
        }
        heard(answer::read(&value, model), told, "the answer has no candidates")
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
        let path = format!("/models/{}:generateContent", segment(model)?);
        let body = request::body(model, prompt)?;
        let input_tokens = prompt.estimated_input_tokens();
        match self.wire.post(&path, &body, &HeaderMap::new(), timeout).await? {
            Reply::Answered(answer) => self.answered(answer, model, input_tokens),
            Reply::Refused(failure) => Err(self.failed(*failure, input_tokens)),
        }
    }

    async fn stream(
        &self,
        model: &str,
        prompt: &Prompt,
        timeouts: Timeouts,
    ) -> Result<Pieces, ProviderError> {
        let path = format!("/models/{}:streamGenerateContent?alt=sse", segment(model)?);
        let body = request::body(model, prompt)?;
        let input_tokens = prompt.estimated_input_tokens();
        match self.wire.stream(&path, &body, &HeaderMap::new(), timeouts).await? {
            Opened::Stream(frames) => {
                let reader = stream::Generated::new(self.clone(), model, input_tokens);
                flow::begin(frames.with_images(), reader, false).await
            }
            Opened::Answered(answer) => {
                self.answered(answer, model, input_tokens).and_then(flow::at_once)
            }
            Opened::Refused(failure) => Err(self.failed(*failure, input_tokens)),
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

/// A model's name as one segment of a path: callers may name models, but not other paths.
fn segment(model: &str) -> Result<String, ProviderError> {
    let name = model.strip_prefix("models/").unwrap_or(model);
    if name.is_empty() || name.contains(['/', '\\', '?', '#', '%']) || name.contains("..") {
        let message = "there is no model of this name";
        return Err(ProviderError::new(ErrorClass::CallerError, codes::MODEL_NOT_FOUND, message));
    }
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _written = write!(segment, "%{byte:02X}");
        }
    }
    Ok(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_stays_one_segment() {
        for (model, expected) in [
            ("gemini-2.5-flash", Some("gemini-2.5-flash")),
            ("models/gemini-2.5-flash", Some("gemini-2.5-flash")),
            ("x:countTokens", Some("x%3AcountTokens")),
            ("../files/x", None),
            ("..", None),
            ("x?key=1", None),
            ("x#y", None),
            ("models/x/y", None),
            ("x%2fy", None),
            ("", None),
        ] {
            assert_eq!(segment(model).ok().as_deref(), expected, "{model}");
        }
    }
}
