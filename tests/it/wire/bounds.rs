//! The bounds of a stream: its deadlines, its size, and the end of who asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;
use spillway::domain::completion::Completion;
use spillway::provider::settings::Vendor;
use spillway::provider::stream::whole;
use spillway::provider::{ErrorClass, ProviderError, Timeouts, codes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::streamed::{HEAD, OPENAI, PATIENT, chunk, request, sending, serving, taken};
use super::{LONG, provider, question};

const SOON: Duration = Duration::from_millis(300);

const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";

const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// A server that sends the first piece once, then the other without end.
async fn dripping(first: &'static str, then: &'static str, pause: Duration) -> String {
    serving(move |mut stream, _request| async move {
        stream.write_all(HEAD.as_bytes()).await?;
        chunk(&mut stream, first.as_bytes()).await?;
        loop {
            tokio::time::sleep(pause).await;
            chunk(&mut stream, then.as_bytes()).await?;
        }
    })
    .await
}

/// How a stream ends that begins well.
async fn ending(address: &str, timeouts: Timeouts) -> ProviderError {
    let provider = provider(Vendor::OpenAi, address);
    let pieces = provider.stream("m", &question(), timeouts).await.unwrap();
    taken(pieces).await.1.unwrap()
}

fn assert_failover(error: &ProviderError, code: &str) {
    assert_eq!((error.class, error.code), (ErrorClass::FailoverProvider, code), "{error:?}");
}

#[tokio::test]
async fn the_first_piece_has_a_deadline_of_its_own() {
    let silent =
        serving(|mut stream, _request| async move { stream.read_u8().await.map(drop) }).await;
    let pings = dripping(ROLE, ": PROCESSING\n\n", Duration::from_millis(10)).await;
    let blank = dripping("\n", " \n", Duration::from_millis(10)).await;
    let begun = Instant::now();
    for address in [silent, pings, blank] {
        let provider = provider(Vendor::OpenAi, &address);
        let timeouts = Timeouts { first: SOON, total: LONG };
        let error = provider.stream("m", &question(), timeouts).await.err().unwrap();
        assert_failover(&error, codes::TIMED_OUT);
        assert_eq!(error.message, "no piece of the answer within 300ms");
    }
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stream_that_has_begun_has_until_the_end_of_the_call() {
    let pings = dripping(TEXT, ROLE, Duration::from_millis(10)).await;
    let begun = Instant::now();
    let total = SOON * 2;
    let error = ending(&pings, Timeouts { first: SOON, total }).await;
    assert_failover(&error, codes::TIMED_OUT);
    assert_eq!(error.message, "no end of the answer within 600ms");
    assert!(begun.elapsed() >= total && begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stream_without_end_is_cut_off() {
    // Filled up with what says nothing: the bytes count all the same.
    let padded: &'static str = format!("{TEXT}: {}\n\n", "x".repeat(0x1_0000)).leak();
    let error = ending(&dripping(TEXT, padded, Duration::ZERO).await, PATIENT).await;
    assert_failover(&error, codes::TOO_LARGE);
    assert!(error.message.contains("268435456"), "{error}");

    let endless: &'static str = "x".repeat(0x1_0000).leak();
    let server = dripping("data: {\"x\": \"", endless, Duration::ZERO).await;
    let anthropic = provider(Vendor::Anthropic, &server);
    let error = anthropic.stream("m", &question(), PATIENT).await.err().unwrap();
    assert_failover(&error, codes::TOO_LARGE);
    assert!(error.message.contains("1048576"), "{error}");
}

#[tokio::test]
async fn an_image_may_be_as_large_as_an_answer() {
    let data = "QUJD".repeat(0x8_0000);
    let url = format!("data:image/png;base64,{data}");
    let chunk = json!({ "choices": [{ "index": 0, "finish_reason": "stop", "delta": {
        "content": "See", "images": [{ "type": "image_url", "image_url": { "url": url } }],
    } }] });
    let candidate = json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": [
        { "text": "See" }, { "inlineData": { "mimeType": "image/png", "data": data } },
    ] } }] });
    for (vendor, body) in [
        (Vendor::OpenRouter, format!("data: {chunk}\n\ndata: [DONE]\n\n")),
        (Vendor::Gemini, format!("data: {candidate}\n\n")),
    ] {
        let provider = provider(vendor, &sending(body).await);
        let pieces = provider.stream("m", &question(), PATIENT).await.unwrap();
        let Completion { text, images, .. } = whole(pieces).await.unwrap();
        assert_eq!((text.as_str(), images.len()), ("See", 1), "{vendor:?}");
        assert_eq!(images[0].media_type.as_deref(), Some("image/png"));
        assert_eq!(images[0].data.as_ref().map(String::len), Some(data.len()), "{vendor:?}");
    }
}

/// Sends `first` and tells once the other side has gone.
async fn watching(first: &'static str) -> (String, mpsc::Receiver<()>) {
    let (gone, seen) = mpsc::channel(1);
    let address = serving(move |mut stream: TcpStream, _request| {
        let gone = gone.clone();
        async move {
            stream.write_all(HEAD.as_bytes()).await?;
            chunk(&mut stream, first.as_bytes()).await?;
            // Nothing more is sent: it ends when the other side closes.
            let _left = stream.read(&mut [0]).await;
            gone.send(()).await.map_err(std::io::Error::other)
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn a_stream_that_is_dropped_closes_its_connection() {
    let (address, mut gone) = watching(TEXT).await;
    let provider_of_text = provider(Vendor::OpenAi, &address);
    let mut pieces = provider_of_text.stream("m", &question(), PATIENT).await.unwrap();
    assert!(pieces.next().await.unwrap().is_ok());
    assert!(gone.try_recv().is_err());
    drop(pieces);
    tokio::time::timeout(LONG, gone.recv()).await.unwrap().unwrap();

    // Also while its first piece is still waited for.
    let (address, mut gone) = watching(ROLE).await;
    let provider_of_role = provider(Vendor::OpenAi, &address);
    let asked = question();
    let waiting = provider_of_role.stream("m", &asked, PATIENT);
    assert!(tokio::time::timeout(SOON, waiting).await.is_err());
    tokio::time::timeout(LONG, gone.recv()).await.unwrap().unwrap();

    // And one that has run out of time.
    let (address, mut gone) = watching(TEXT).await;
    let error = ending(&address, Timeouts { first: SOON, total: SOON }).await;
    assert_failover(&error, codes::TIMED_OUT);
    tokio::time::timeout(LONG, gone.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_has_ended_leaves_its_connection_to_the_next() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let address = serving(move |mut stream: TcpStream, first: String| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut asked = first;
            while !asked.is_empty() {
                let whole = format!("{HEAD}{:x}\r\n{OPENAI}\r\n0\r\n\r\n", OPENAI.len());
                stream.write_all(whole.as_bytes()).await?;
                asked = request(&mut stream).await;
            }
            Ok(())
        }
    })
    .await;
    let provider = provider(Vendor::OpenAi, &address);
    for _ in 0..50 {
        let pieces = provider.stream("m", &question(), PATIENT).await.unwrap();
        assert!(whole(pieces).await.is_ok());
    }
    // Not all: a call may leave before the end of the one before it is read.
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections < 25, "{connections} connections for 50 calls");
}
