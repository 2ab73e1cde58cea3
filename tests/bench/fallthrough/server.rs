//! A bare HTTP server that notes when it was asked, a thread for each connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// 429, come back at once.
    Limited,
    /// An answer.
    Well,
}

/// When the last 429 was written, and when the request after it was read.
#[derive(Clone, Default)]
pub(crate) struct Times(Arc<Mutex<(Option<Instant>, Option<Instant>)>>);

impl Times {
    /// Begins anew.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (None, None);
    }

    /// The time between the two.
    pub(crate) fn between(&self) -> Option<Duration> {
        let (refused, asked) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked?.checked_duration_since(refused?)
    }

    fn note(&self, role: Role) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match role {
            Role::Limited => times.0 = Some(Instant::now()),
            Role::Well => times.1 = Some(Instant::now()),
        }
    }
}

/// A server that runs until the benchmark ends.
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    /// Starts one on a free port.
    pub(crate) fn start(role: Role, times: &Times) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, times) = (listener.local_addr()?, times.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let times = times.clone();
                std::thread::spawn(move || serve(role, stream, &times));
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers until the other side hangs up.
fn serve(role: Role, stream: TcpStream, times: &Times) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let Some((name, value)) = line.split_once(':') else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        times.note(role);
        writer.write_all(answer(role).as_bytes()).ok()?;
    }
}

fn answer(role: Role) -> String {
    let (head, body) = match role {
        Role::Limited => (
            "429 Too Many Requests\r\nretry-after: 0",
            r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#,
        ),
        Role::Well => (
            "200 OK",
            r#"{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#,
        ),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
