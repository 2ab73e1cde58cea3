//! A stream under way: its messages, within two deadlines and under two caps.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use tokio::time::Instant;

use super::body::{self, CAP, garbled, too_large};
use super::framing::{Frame, Framer, Kind};
use crate::domain::told::Told;
use crate::provider::stream::cut;
use crate::provider::{ErrorClass, ProviderError, Timeouts, codes};

/// The longest message, in bytes.
const LONGEST: usize = 1 << 20;

/// The longest stream, in bytes as they come: many times what the answer itself has, as every few
/// letters come in a message of their own.
const WHOLE: usize = 256 << 20;

/// How long what stands behind an answer's end is waited for, so that the connection can be used
/// again.
const LINGER: Duration = Duration::from_secs(1);

/// When an answer must have begun, and when it must be whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    timeouts: Timeouts,
    asked: Instant,
    has_begun: bool,
}

impl Deadlines {
    pub(super) fn from_now(timeouts: Timeouts) -> Self {
        Self { timeouts, asked: Instant::now(), has_begun: false }
    }

    /// What is done by the deadline that counts now.
    pub(super) async fn keep<T>(self, work: impl Future<Output = T>) -> Result<T, ProviderError> {
        let Timeouts { first, total } = self.timeouts;
        let (limit, what) = match self.has_begun {
            false if first < total => (first, "no piece of the answer"),
            false => (total, "no answer"),
            true => (total, "no end of the answer"),
        };
        let until = self.asked + limit;
        tokio::time::timeout_at(until, work).await.map_err(|_elapsed| {
            let message = format!("{what} within {limit:?}");
            ProviderError::new(ErrorClass::FailoverProvider, codes::TIMED_OUT, message)
        })
    }
}

/// What came with a good status where a stream was asked for.
pub(super) enum Begun {
    /// A stream.
    Stream(Box<Frames>),
    /// One document: the server does not stream, or an error.
    Document(Bytes),
}

/// The messages of a stream. Dropping them closes the connection.
pub(in crate::provider) struct Frames {
    /// `None` once the answer has ended.
    response: Option<Response>,
    framer: Framer,
    deadlines: Deadlines,
    told: Vec<Told>,
    read: usize,
    longest: usize,
}

impl Frames {
    /// Looks at how the answer begins. Not at what its headers call it: servers err in that.
    pub(super) async fn begin(
        mut response: Response,
        deadlines: Deadlines,
        told: Vec<Told>,
    ) -> Result<Begun, ProviderError> {
        let named = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let named = named.unwrap_or_default().to_ascii_lowercase();
        let mut begun = BytesMut::new();
        let kind = loop {
            if let Some(first) = body::trimmed(&begun).first() {
                break kind(*first, &named);
            }
            match response.chunk().await.map_err(|fault| body::broken(&fault))? {
                Some(chunk) if begun.len() + chunk.len() > CAP => {
                    return Err(too_large(response.status(), CAP));
                }
                Some(chunk) => begun.extend_from_slice(&chunk),
                None => break None,
            }
        };
        let Some(kind) = kind else {
            return Ok(Begun::Document(body::read(response, begun).await?.freeze()));
        };
        let mut framer = Framer::new(kind);
        framer.push(&begun);
        let read = begun.len();
        let (response, longest) = (Some(response), LONGEST);
        let stream = Self { response, framer, deadlines, told, read, longest };
        Ok(Begun::Stream(Box::new(stream)))
    }

    /// Lets a message be as long as the whole answer may be: images come whole in one.
    #[must_use]
    pub(in crate::provider) fn with_images(self) -> Self {
        Self { longest: CAP, ..self }
    }

    /// The answer has begun: from now on only its end is waited for.
    pub(in crate::provider) fn has_begun(&mut self) {
        self.deadlines.has_begun = true;
    }

    /// The answer has ended. What little is left is read aside: a connection with something left
    /// on it would be closed.
    pub(in crate::provider) fn has_ended(&mut self) {
        let Some(mut response) = self.response.take() else { return };
        let rest = async move {
            let mut left = LONGEST;
            while let Ok(Some(chunk)) = response.chunk().await
                && chunk.len() < left
            {
                left -= chunk.len();
            }
        };
        #[expect(clippy::disallowed_methods, reason = "nobody has to wait for it")]
        tokio::spawn(tokio::time::timeout(LINGER, rest));
    }

    /// What the headers tell of limits.
    pub(in crate::provider) fn told(&self) -> &[Told] {
        &self.told
    }

    /// The next message; `None` when the stream is over, in the way HTTP wants it to be.
    pub(in crate::provider) async fn next(&mut self) -> Result<Option<Frame>, ProviderError> {
        let deadlines = self.deadlines;
        let next = deadlines.keep(self.read_next()).await.flatten();
        next.map_err(|error| ProviderError { told: self.told.clone(), ..error })
    }

    async fn read_next(&mut self) -> Result<Option<Frame>, ProviderError> {
        loop {
            let next = self.framer.next();
            let length = next.as_ref().map_or(self.framer.waiting(), |frame| frame.raw.len());
            if length > self.longest {
                return Err(too_large(StatusCode::OK, self.longest));
            }
            if next.is_some() {
                return Ok(next);
            }
            let Some(response) = &mut self.response else { return Ok(None) };
            // What the connection died of is of no use to anyone.
            let Some(chunk) = response.chunk().await.map_err(|_broken| cut())? else {
                self.response = None;
                return Ok(self.framer.last());
            };
            self.read += chunk.len();
            if self.read > WHOLE {
                return Err(too_large(StatusCode::OK, WHOLE));
            }
            self.framer.push(&chunk);
        }
    }

    /// Something came, but nothing we can read.
    pub(in crate::provider) fn garbled(&self, message: &str) -> ProviderError {
        let garbled = garbled(StatusCode::OK, message);
        ProviderError { told: self.told.clone(), ..garbled }
    }
}

/// How a stream's messages stand apart, from its first byte; `None` for what is no stream.
fn kind(first: u8, named: &str) -> Option<Kind> {
    let lines = ["ndjson", "jsonl", "json-lines", "json-seq"];
    match first {
        b'{' if lines.iter().any(|name| named.contains(name)) => Some(Kind::Lines),
        b'{' | b'[' | b'<' => None,
        _ if named.contains("event-stream") => Some(Kind::Events),
        // A comment, or `data`, `event`, `id` or `retry`.
        b':' | b'd' | b'e' | b'i' | b'r' => Some(Kind::Events),
        _ => None,
    }
}
