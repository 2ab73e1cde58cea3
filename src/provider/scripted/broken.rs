//! Bodies that break for real.

use std::future;
use std::io;

use actix_web::body::SizedStream;
use actix_web::web::Bytes;
use futures::{Stream, StreamExt, stream};

use super::model::HANG;

/// A page such as a proxy in between would send.
pub(super) const PAGE: &str = "<!doctype html>\n<html><head><title>Welcome</title></head>\
    <body><h1>It works!</h1></body></html>\n";

const HUGE_PIECE: &[u8] = &[b'x'; 64 << 10];
const HUGE_PIECES: usize = 160;

/// A part of a body, or its end before its time.
pub(super) type Piece = Result<Bytes, io::Error>;

/// The connection closes here.
fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "as scripted")
}

/// The connection closes after what was sent before.
pub(super) fn end() -> impl Stream<Item = Piece> + 'static {
    stream::once(async {
        // One turn of the loop lets what was sent leave before the connection breaks.
        tokio::task::yield_now().await;
        Err(broken_off())
    })
}

/// Half of what its length announces, then the connection closes.
pub(super) fn half(whole: String) -> SizedStream<impl Stream<Item = Piece> + 'static> {
    SizedStream::new(as_u64(whole.len()), Box::pin(first_half(whole).chain(end())))
}

/// Half of what its length announces, then nothing for as long as anybody waits. What is held is
/// held until then.
pub(super) fn stalled(
    whole: String,
    held: impl Send + 'static,
) -> SizedStream<impl Stream<Item = Piece> + 'static> {
    let end = stream::once(async move {
        tokio::time::sleep(HANG).await;
        drop(held);
        Err(broken_off())
    });
    SizedStream::new(as_u64(whole.len()), Box::pin(first_half(whole).chain(end)))
}

fn first_half(whole: String) -> impl Stream<Item = Piece> + 'static {
    let size = whole.len();
    stream::once(future::ready(Ok(Bytes::from(whole).slice(..size / 2))))
}

/// Ten megabytes of one answer.
pub(super) fn huge() -> SizedStream<impl Stream<Item = Piece> + 'static> {
    const HEAD: &[u8] = br#"{"choices":[{"index":0,"message":{"role":"assistant","content":""#;
    const TAIL: &[u8] = br#""},"finish_reason":"stop"}]}"#;
    let size = HEAD.len() + HUGE_PIECE.len() * HUGE_PIECES + TAIL.len();
    let middle = std::iter::repeat_n(HUGE_PIECE, HUGE_PIECES);
    let pieces = std::iter::once(HEAD).chain(middle).chain(std::iter::once(TAIL));
    SizedStream::new(as_u64(size), stream::iter(pieces.map(|piece| Ok(Bytes::from_static(piece)))))
}

/// A body that breaks before the response's head has left: the connection closes without a byte.
pub(super) fn nothing() -> SizedStream<impl Stream<Item = Piece> + 'static> {
    SizedStream::new(1, stream::iter([Err(broken_off())]))
}

fn as_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
