//! Streams cut wherever and however a connection can break: none passes for complete.

use std::time::Instant;

use futures::StreamExt as _;
use spillway::domain::completion::Completion;
use spillway::provider::SharedProvider;
use spillway::provider::settings::{Api, Vendor};
use spillway::provider::stream::whole;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::ollama::OLLAMA;
use super::responses::RESPONSES;
use super::streamed::{
    GOOD, LINES, PATIENT, chunk, end, natively, sending, sending_lines, serving, taken,
};
use super::{question, speaking};
use serde_json::json;

/// Streams cut in all.
const CUTS: u64 = 10_000;

/// A good stream of each format, by one who speaks it.
fn formats() -> Vec<((Vendor, Option<Api>), &'static str)> {
    let usual = GOOD.map(|(vendor, stream)| ((vendor, None), stream));
    let others = [
        ((Vendor::OpenAi, Some(Api::Responses)), RESPONSES),
        ((Vendor::Ollama, Some(Api::Native)), OLLAMA),
    ];
    usual.into_iter().chain(others).collect()
}

/// Whether a stream's messages are lines.
fn has_lines(stream: &str) -> bool {
    stream.starts_with('{')
}

/// Calls at the same time.
const AT_ONCE: usize = 32;

/// How the bytes of one answer come.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// How many of them.
    length: usize,
    /// What comes behind them.
    last: Last,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// All that HTTP wants.
    Proper,
    /// A connection that closes without the last chunk.
    NoTerminator,
    /// A connection that closes in the middle of a chunk.
    HalfChunk,
    /// A connection that closes before the promised length.
    TooShort,
    /// A connection that closes, of which HTTP/1.0 makes the end.
    Closed,
}

/// `SplitMix64`: the same for the same seed.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn below(state: &mut u64, limit: usize) -> usize {
    usize::try_from(random(state) % u64::try_from(limit).unwrap()).unwrap()
}

impl Way {
    fn of(seed: u64, stream: &str) -> Self {
        let mut state = seed;
        // A fourth of the cuts lie around the end, where it is decided.
        let length = match below(&mut state, 4) {
            0 => stream.len() - below(&mut state, 20),
            _ => below(&mut state, stream.len() + 1),
        };
        let ways =
            [Last::Proper, Last::NoTerminator, Last::HalfChunk, Last::TooShort, Last::Closed];
        Self { length, last: ways[below(&mut state, ways.len())], seed }
    }

    async fn send(self, connection: &mut TcpStream, stream: &str) -> std::io::Result<()> {
        let kind = if has_lines(stream) { LINES } else { "text/event-stream" };
        let kind = format!("content-type: {kind}\r\nconnection: close\r\n");
        let head = match self.last {
            Last::Closed => format!("HTTP/1.0 200 OK\r\n{kind}\r\n"),
            Last::TooShort => {
                format!("HTTP/1.1 200 OK\r\n{kind}content-length: {}\r\n\r\n", self.length + 17)
            }
            _ => format!("HTTP/1.1 200 OK\r\n{kind}transfer-encoding: chunked\r\n\r\n"),
        };
        connection.write_all(head.as_bytes()).await?;
        let (mut state, mut left) = (self.seed, &stream.as_bytes()[..self.length]);
        // One in four comes in many pieces.
        let largest = if below(&mut state, 4) == 0 { 700 } else { stream.len() };
        while !left.is_empty() {
            let (piece, rest) = left.split_at(match largest {
                700 => 1 + below(&mut state, left.len().min(largest)),
                _ => left.len(),
            });
            left = rest;
            if matches!(self.last, Last::Closed | Last::TooShort) {
                connection.write_all(piece).await?;
            } else {
                chunk(connection, piece).await?;
            }
        }
        match self.last {
            Last::Proper => connection.write_all(b"0\r\n\r\n").await,
            Last::HalfChunk => connection.write_all(b"40\r\ndata: {").await,
            Last::NoTerminator | Last::TooShort | Last::Closed => Ok(()),
        }
    }
}

async fn sent_well(stream: &'static str) -> String {
    if has_lines(stream) { sending_lines(stream).await } else { sending(stream).await }
}

async fn complete(spoken: (Vendor, Option<Api>), stream: &'static str) -> Completion {
    let pieces = speaking(spoken, &sent_well(stream).await);
    whole(pieces.stream("m", &question(), PATIENT).await.unwrap()).await.unwrap()
}

/// One answer cut in one way. Whether it passed for complete.
async fn is_complete(provider: &SharedProvider, way: Way, full: &Completion, end: usize) -> bool {
    let model = format!("seed-{}", way.seed);
    let completion = match provider.stream(&model, &question(), PATIENT).await {
        Ok(pieces) => whole(pieces).await,
        Err(error) => Err(error),
    };
    let Ok(completion) = completion else { return false };
    assert!(way.length >= end, "{way:?} is not complete before {end}: {completion:?}");
    assert_eq!(&completion, full, "{way:?}");
    true
}

#[tokio::test]
async fn no_stream_that_is_cut_passes_for_complete() {
    let begun = Instant::now();
    let each = CUTS / u64::try_from(formats().len()).unwrap();
    for (spoken, stream) in formats() {
        let full = complete(spoken, stream).await;
        let address = serving(move |mut connection, request: String| async move {
            let (_, seed) = request.split_once("seed-").unwrap();
            let digits: String = seed.chars().take_while(char::is_ascii_digit).collect();
            Way::of(digits.parse().unwrap(), stream).send(&mut connection, stream).await
        })
        .await;
        let (provider, full, end) = (&speaking(spoken, &address), &full, end(stream));
        let ways = (0..=each).map(|seed| Way::of(seed, stream));
        let outcomes: Vec<(Way, bool)> = futures::stream::iter(ways)
            .map(async |way| (way, is_complete(provider, way, full, end).await))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let cut = outcomes.iter().filter(|(way, _)| way.length < end).count();
        // What came in full and was closed properly must not be taken for cut.
        for (way, is_complete) in &outcomes {
            let is_whole = way.length >= end && matches!(way.last, Last::Proper | Last::Closed);
            assert!(*is_complete || !is_whole, "{spoken:?} {way:?}");
        }
        let complete = outcomes.iter().filter(|(_, is_complete)| *is_complete).count();
        println!(
            "{} {}: {} streams, {cut} cut before their end, none of them complete; {complete} complete",
            spoken.0.as_str(),
            spoken.1.map_or("", Api::as_str),
            outcomes.len()
        );
        assert!(complete > 20, "{complete}");
    }
    println!("in {:.1?}", begun.elapsed());
}

#[tokio::test]
async fn it_does_not_matter_in_which_chunks_a_stream_comes() {
    for (spoken, stream) in formats() {
        let prompt = natively(spoken.0, json!({ "stream_options": { "include_usage": true } }));
        let address = sent_well(stream).await;
        let pieces = speaking(spoken, &address).stream("m", &prompt, PATIENT).await.unwrap();
        let (expected, error) = taken(pieces).await;
        assert_eq!(error, None, "{spoken:?}");
        let address = serving(move |mut connection, request: String| async move {
            let (_, seed) = request.split_once("seed-").unwrap();
            let digits: String = seed.chars().take_while(char::is_ascii_digit).collect();
            let seed = digits.parse().unwrap();
            let way = Way { length: stream.len(), last: Last::Proper, seed };
            way.send(&mut connection, stream).await
        })
        .await;
        let provider = speaking(spoken, &address);
        for seed in 0..400 {
            let model = format!("seed-{seed}");
            let pieces = provider.stream(&model, &prompt, PATIENT).await.unwrap();
            assert_eq!(taken(pieces).await, (expected.clone(), None), "{spoken:?} {seed}");
        }
    }
}
