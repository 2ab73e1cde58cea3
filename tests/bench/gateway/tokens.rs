//! How late a streamed token is: the provider writes into each when it left, and the caller looks
//! at the same clock when it comes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::call::request;
use crate::common::times::at;
use crate::server::Server;

/// Tokens of a stream.
const TOKENS: usize = 200;

/// From one token to the next.
const PAUSE: Duration = Duration::from_millis(5);

/// Streams that are measured, one after the other.
const STREAMS: usize = 5;

/// A provider that streams the time.
pub(crate) struct Upstream {
    port: u16,
    zero: Instant,
}

/// How late tokens were: half of them, 99 of 100, and the latest.
pub(crate) struct Late {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) most: Duration,
}

impl Upstream {
    /// Starts it on threads of this process, so that both ends look at one clock.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (port, zero) = (listener.local_addr()?.port(), Instant::now());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever hangs up is not our business.
                std::thread::spawn(move || serve(stream, zero).ok());
            }
        });
        Ok(Self { port, zero })
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

fn serve(mut stream: TcpStream, zero: Instant) -> Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let asked = read_request(&mut stream)?;
        if String::from_utf8_lossy(&asked).contains(r#""stream":true"#) {
            return answer(&mut stream, zero);
        }
        let body = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
}

fn read_request(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let (mut asked, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "hung up");
        asked.extend_from_slice(piece.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&asked).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
        let chunked = head.contains("transfer-encoding: chunked");
        if (chunked && body.ends_with("0\r\n\r\n")) || (!chunked && body.len() >= length) {
            return Ok(asked);
        }
    }
}

fn answer(stream: &mut TcpStream, zero: Instant) -> Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    )?;
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    stream.write_all(chunk("{\"role\":\"assistant\",\"content\":\"\"}", "null").as_bytes())?;
    for _ in 0..TOKENS {
        std::thread::sleep(PAUSE);
        let now = zero.elapsed().as_nanos();
        let delta = format!("{{\"content\":\"@{now}@\"}}");
        stream.write_all(chunk(&delta, "null").as_bytes())?;
    }
    stream.write_all(chunk("{}", "\"stop\"").as_bytes())?;
    let usage = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
                 \"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":200,\
                 \"total_tokens\":201}}\n\ndata: [DONE]\n\n";
    Ok(stream.write_all(usage.as_bytes())?)
}

/// How late the tokens of some streams are through a server.
pub(crate) fn late(server: &Server, upstream: &Upstream) -> Result<Late> {
    let mut times = Vec::new();
    for stream in 0..=STREAMS {
        let seen = one(server, upstream.zero)?;
        ensure!(seen.len() == TOKENS, "{} of {TOKENS} tokens came", seen.len());
        // The first stream warms the server up.
        if stream > 0 {
            times.extend(seen);
        }
    }
    times.sort_unstable();
    let most = times.last().copied().context("no token")?;
    Ok(Late { p50: at(&times, 50), p99: at(&times, 99), most })
}

fn one(server: &Server, zero: Instant) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port()))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&request(server, true))?;
    let (mut text, mut piece, mut times) = (String::new(), [0; 16_384], Vec::new());
    while !text.contains("[DONE]") {
        let read = stream.read(&mut piece)?;
        let now = zero.elapsed();
        ensure!(read > 0, "the stream ended early: {text}");
        text.push_str(&String::from_utf8_lossy(piece.get(..read).unwrap_or_default()));
        // What stands between two signs is when the token left.
        while let Some((_, rest)) = text.split_once('@') {
            let Some((left, rest)) = rest.split_once('@') else { break };
            let left = Duration::from_nanos(left.parse()?);
            times.push(now.saturating_sub(left));
            text = rest.to_owned();
        }
    }
    Ok(times)
}
