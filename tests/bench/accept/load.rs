//! The load: keep-alive connections, each of which posts the next job when the last is answered.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The API key that Spillway asks for; the others do not look at it.
pub(crate) const KEY: &str = "sw_bench_0123456789abcdef0123456789abcdef";

/// The size of every job's body.
pub(crate) const BODY_BYTES: usize = 1024;

/// The workflows the jobs come from.
const WORKFLOWS: usize = 16;

/// Which jobs are posted, and which of them count.
pub(crate) enum Until {
    /// Jobs are posted until `end`; those answered from `begin` on count.
    Window {
        /// When the warm-up ends.
        begin: Instant,
        /// When no more are posted.
        end: Instant,
    },
    /// So many more are posted, and all count.
    Count(AtomicUsize),
}

impl Until {
    fn goes_on(&self) -> bool {
        match self {
            Self::Window { end, .. } => Instant::now() < *end,
            Self::Count(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok(),
        }
    }

    fn counts(&self, answered: Instant) -> bool {
        match self {
            Self::Window { begin, end } => (*begin..*end).contains(&answered),
            Self::Count(_) => true,
        }
    }

    /// When a server that does not answer is given up.
    fn deadline(&self) -> Instant {
        match self {
            Self::Window { end, .. } => *end + Duration::from_secs(10),
            Self::Count(_) => Instant::now() + Duration::from_secs(120),
        }
    }
}

/// Posts jobs to the server at `port`, does `meanwhile` on this thread, and gives the time each
/// counted job took. Any answer but 202 is an error.
pub(crate) fn post<T>(
    port: u16,
    connections: usize,
    until: Until,
    meanwhile: impl FnOnce() -> T,
) -> Result<(Vec<Duration>, T)> {
    // Half of the cores, so that the server under load has the other half.
    let threads = (std::thread::available_parallelism()?.get() / 2).clamp(1, connections);
    let until = Arc::new(until);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let share = (thread..connections).step_by(threads);
                let until = Arc::clone(&until);
                scope.spawn(move || drive(port, share, &until))
            })
            .collect();
        let seen = meanwhile();
        let mut times = Vec::new();
        for thread in running {
            times.extend(thread.join().map_err(|_panic| anyhow!("a load thread panicked"))??);
        }
        Ok((times, seen))
    })
}

/// One thread's share of the connections.
fn drive(
    port: u16,
    share: impl Iterator<Item = usize>,
    until: &Arc<Until>,
) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let requests: Vec<Vec<u8>> = share.map(request).collect::<Result<_>>()?;
    let work = async {
        let mut clients = JoinSet::new();
        for request in requests {
            clients.spawn(client(port, request, Arc::clone(until)));
        }
        let mut times = Vec::new();
        while let Some(ended) = clients.join_next().await {
            times.extend(ended??);
        }
        Ok(times)
    };
    runtime.block_on(async {
        let deadline = until.deadline();
        tokio::time::timeout_at(deadline.into(), work).await.context("the answers stopped")?
    })
}

async fn client(port: u16, request: Vec<u8>, until: Arc<Until>) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut answer) = (Vec::new(), Vec::new());
    while until.goes_on() {
        let posted = Instant::now();
        send(&stream, &request).await?;
        receive(&stream, &mut answer).await?;
        let answered = Instant::now();
        if until.counts(answered) {
            times.push(answered - posted);
        }
    }
    Ok(times)
}

async fn send(stream: &TcpStream, mut rest: &[u8]) -> Result<()> {
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(())
}

async fn receive(stream: &TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    let mut piece = [0; 4096];
    answer.clear();
    loop {
        stream.readable().await?;
        match stream.try_read(&mut piece) {
            Ok(0) => return Err(anyhow!("the server closed the connection")),
            Ok(read) => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => continue,
            Err(fault) => return Err(fault.into()),
        }
        if whole_length(answer)?.is_some_and(|length| answer.len() >= length) {
            let taken = answer.starts_with(b"HTTP/1.1 202 ");
            ensure!(taken, "not a 202: {}", String::from_utf8_lossy(answer));
            return Ok(());
        }
    }
}

const LENGTH: &[u8] = b"content-length:";

/// How long an answer is with its body; `None` before its head has come.
fn whole_length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(None);
    };
    let lines = answer.get(..head).unwrap_or_default().split(|byte| *byte == b'\n');
    for line in lines {
        let (name, value) = line.split_at_checked(LENGTH.len()).unwrap_or_default();
        if name.eq_ignore_ascii_case(LENGTH) {
            let length: usize = std::str::from_utf8(value)?.trim().parse()?;
            return Ok(Some(head + 4 + length));
        }
    }
    Err(anyhow!("an answer without content-length"))
}

/// The request that this connection repeats.
fn request(connection: usize) -> Result<Vec<u8>> {
    let body = body(connection % WORKFLOWS)?;
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.into_bytes(), body].concat())
}

/// A job of exactly [`BODY_BYTES`].
fn body(workflow: usize) -> Result<Vec<u8>> {
    let job = |input: &str| {
        serde_json::to_vec(&json!({
            "task": "tag",
            "input": input,
            // Nobody listens there.
            "callback_url": "http://127.0.0.1:9009/webhook-waiting/4711",
            "workflow": format!("lead-intake-{workflow:02}"),
            "metadata": { "row": 17 },
        }))
    };
    let sentence = "The invoice was charged twice and the customer asks for her money back. ";
    let room = BODY_BYTES - job("")?.len();
    let text: String = sentence.chars().cycle().take(room).collect();
    let body = job(&text)?;
    ensure!(body.len() == BODY_BYTES, "a body of {} bytes", body.len());
    Ok(body)
}
