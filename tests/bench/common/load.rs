//! The load: keep-alive connections, each of which sends its request again when the last is answered.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What is sent: a request for each connection, and how a good answer begins.
pub(crate) struct Shots {
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) answer: &'static str,
}

/// Which requests are sent, and which of them count.
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

/// Loads the server at `port`, does `meanwhile` on this thread, and gives the time each counted
/// request took. Any answer but the expected is an error.
pub(crate) fn send<T>(
    port: u16,
    shots: Shots,
    until: Until,
    meanwhile: impl FnOnce() -> T,
) -> Result<(Vec<Duration>, T)> {
    let connections = shots.requests.len();
    // Half of the cores, so that the server under load has the other half.
    let threads = (std::thread::available_parallelism()?.get() / 2).clamp(1, connections.max(1));
    let (shots, until) = (Arc::new(shots), Arc::new(until));
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let share = (thread..connections).step_by(threads);
                let (shots, until) = (Arc::clone(&shots), Arc::clone(&until));
                scope.spawn(move || drive(port, share, &shots, &until))
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
    shots: &Arc<Shots>,
    until: &Arc<Until>,
) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async {
        let mut clients = JoinSet::new();
        for connection in share {
            clients.spawn(client(port, connection, Arc::clone(shots), Arc::clone(until)));
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

async fn client(
    port: u16,
    connection: usize,
    shots: Arc<Shots>,
    until: Arc<Until>,
) -> Result<Vec<Duration>> {
    let request = shots.requests.get(connection).context("no request for this connection")?;
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut answer) = (Vec::new(), Vec::new());
    while until.goes_on() {
        let posted = Instant::now();
        write(&stream, request).await?;
        receive(&stream, &mut answer, shots.answer).await?;
        let answered = Instant::now();
        if until.counts(answered) {
            times.push(answered - posted);
        }
    }
    Ok(times)
}

async fn write(stream: &TcpStream, mut rest: &[u8]) -> Result<()> {
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(())
}

async fn receive(stream: &TcpStream, answer: &mut Vec<u8>, good: &str) -> Result<()> {
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
            let taken = answer.starts_with(good.as_bytes());
            ensure!(taken, "not {good}: {}", String::from_utf8_lossy(answer));
            return Ok(());
        }
    }
}

const LENGTH: &[u8] = b"content-length:";

/// How long an answer is with its body; `None` while that is not known.
fn whole_length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(None);
    };
    let lines = answer.get(..head).unwrap_or_default().split(|byte| *byte == b'\n');
    let mut chunked = false;
    for line in lines {
        let (name, value) = line.split_at_checked(LENGTH.len()).unwrap_or_default();
        if name.eq_ignore_ascii_case(LENGTH) {
            let length: usize = std::str::from_utf8(value)?.trim().parse()?;
            return Ok(Some(head + 4 + length));
        }
        chunked |= line.to_ascii_lowercase().starts_with(b"transfer-encoding: chunked");
    }
    ensure!(chunked, "an answer without content-length");
    Ok(answer.ends_with(b"\r\n0\r\n\r\n").then_some(answer.len()))
}
