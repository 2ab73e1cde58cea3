//! Server-sent events: a stream of pieces written in a dialect, kept alive while nothing comes.

use std::time::Duration;

use actix_web::http::StatusCode;
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use serde_json::Value;

use super::problems::status_of;
use crate::provider::ProviderError;
use crate::provider::stream::{Event, Piece};

/// After so long without a word a sign of life is sent: many a proxy ends what is silent for 30 s.
const SILENCE: Duration = Duration::from_secs(10);

/// Writes a stream in a dialect.
pub(super) trait Writer: Send + 'static {
    /// A piece of the answer; its end completes the stream.
    fn piece(&mut self, piece: Piece) -> Bytes;

    /// The stream broke: what says so. Nothing follows.
    fn failed(&mut self, status: StatusCode, code: &str, message: &str) -> Bytes;

    /// A sign of life.
    fn idle(&self) -> Bytes;
}

/// An event without a name.
pub(super) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// An event with a name.
pub(super) fn named(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

/// What is sent: every piece at once, and at the end either the dialect's end or its error. A
/// stream that stops without an end was cut, whatever the provider says.
pub(super) fn written(
    pieces: impl Stream<Item = Result<Piece, ProviderError>> + Send + 'static,
    writer: impl Writer,
) -> BoxStream<'static, Result<Bytes, std::convert::Infallible>> {
    let state = Some((pieces.boxed(), writer));
    let told = stream::unfold(state, |state| async move {
        let (mut pieces, mut writer) = state?;
        let Ok(next) = tokio::time::timeout(SILENCE, pieces.next()).await else {
            let sign = writer.idle();
            return Some((sign, Some((pieces, writer))));
        };
        match next {
            Some(Ok(piece)) => {
                let ends = piece.events.iter().any(|event| matches!(event, Event::End(_)));
                let bytes = writer.piece(piece);
                Some((bytes, (!ends).then_some((pieces, writer))))
            }
            Some(Err(error)) => {
                let message = format!("The answer broke off: {}", error.message);
                Some((writer.failed(status_of(&error), error.code, &message), None))
            }
            None => {
                let message = "The answer broke off before its end.";
                Some((writer.failed(StatusCode::BAD_GATEWAY, "cut", message), None))
            }
        }
    });
    told.filter(|bytes| std::future::ready(!bytes.is_empty())).map(Ok).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::completion::Completion;
    use crate::provider::stream::{at_once, cut};

    /// Writes what it is told to in single letters.
    struct Letters;

    impl Writer for Letters {
        fn piece(&mut self, piece: Piece) -> Bytes {
            format!("{};", piece.events.len()).into()
        }

        fn failed(&mut self, status: StatusCode, code: &str, _message: &str) -> Bytes {
            format!("!{} {code}", status.as_u16()).into()
        }

        fn idle(&self) -> Bytes {
            Bytes::from_static(b".")
        }
    }

    async fn said(
        pieces: impl Stream<Item = Result<Piece, ProviderError>> + Send + 'static,
    ) -> String {
        let parts: Vec<_> = written(pieces, Letters).map(Result::unwrap).collect().await;
        String::from_utf8(parts.concat()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_in_its_end_or_in_an_error() {
        let text = || Ok(Piece { events: vec![Event::Text("a".to_owned())], native: None });
        let answer = Completion { text: "a".to_owned(), ..Completion::default() };
        assert_eq!(said(at_once(answer)).await, "2;");
        assert_eq!(said(stream::iter([text(), text()])).await, "1;1;!502 cut");
        assert_eq!(said(stream::iter([text(), Err(cut()), text()])).await, "1;!502 cut");
        let slow =
            stream::once(async { tokio::time::sleep(SILENCE * 5 / 2).await }).map(move |()| text());
        assert_eq!(said(slow).await, "..1;!502 cut");
    }
}
