//! An answer's bytes, read to their end and no further than the cap.

use std::error::Error as _;
use std::fmt::Write as _;

use bytes::BytesMut;
use reqwest::{Response, StatusCode};

use crate::provider::{ErrorClass, ProviderError, codes};

/// The longest answer read, in bytes.
pub(super) const CAP: usize = 8 << 20;

/// Reads the rest of an answer that begins with `begun`.
pub(super) async fn read(
    mut response: Response,
    mut begun: BytesMut,
) -> Result<BytesMut, ProviderError> {
    while let Some(chunk) = response.chunk().await.map_err(|fault| broken(&fault))? {
        if begun.len() + chunk.len() > CAP {
            return Err(too_large(response.status(), CAP));
        }
        begun.extend_from_slice(&chunk);
    }
    Ok(begun)
}

/// The answer is longer than this many bytes.
pub(super) fn too_large(status: StatusCode, cap: usize) -> ProviderError {
    let message = format!("the answer is longer than {cap} bytes");
    with_status(status, codes::TOO_LARGE, &message)
}

/// The answer is there but says nothing we can read.
pub(super) fn garbled(status: StatusCode, message: &str) -> ProviderError {
    with_status(status, codes::GARBLED, message)
}

fn with_status(status: StatusCode, code: &'static str, message: &str) -> ProviderError {
    ProviderError {
        status: Some(status.as_u16()),
        ..ProviderError::new(ErrorClass::FailoverProvider, code, message)
    }
}

/// There was no connection, or it broke.
pub(super) fn broken(fault: &reqwest::Error) -> ProviderError {
    let code = if fault.is_timeout() && !fault.is_connect() {
        codes::TIMED_OUT
    } else {
        codes::UNREACHABLE
    };
    ProviderError::new(ErrorClass::FailoverProvider, code, causes(fault))
}

/// What went wrong, down to its cause, without the address, which is none of the callers' business.
pub(super) fn causes(fault: &reqwest::Error) -> String {
    let text = fault.to_string();
    let url = fault.url().map(|url| format!(" for url ({url})")).unwrap_or_default();
    let mut text = if url.is_empty() { text } else { text.replace(&url, "") };
    let mut cause = fault.source();
    while let Some(under) = cause {
        // Writing to a `String` cannot fail.
        let _written = write!(text, ": {under}");
        cause = under.source();
    }
    text
}

/// A body may begin with a byte order mark, and OpenRouter's with the blank lines it sends to
/// keep the connection open.
pub(super) fn trimmed(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii_start();
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii()
}
