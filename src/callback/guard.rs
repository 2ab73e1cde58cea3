//! To be written.
#![allow(missing_docs, clippy::all, clippy::pedantic)]
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct Refusal;
pub struct Guard; impl Guard { pub async fn admit_resolved(&self, _u: &str) -> Result<url::Url, Refusal> { Err(Refusal) } }
