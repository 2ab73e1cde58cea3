//! What is measured of accepting.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::common::figures::{Cpu, Run, Window, measure};
use crate::common::load::{Until, send};
use crate::common::redis::RedisServer;
use crate::common::times::median;
use crate::load::{BODY_BYTES, jobs};
use crate::server::Server;

/// The jobs whose memory is measured.
pub(crate) const QUEUED: u32 = 100_000;

/// The jobs posted before that: buffers and caches have grown by then.
const WARM_UP_JOBS: u32 = 2_000;

const WARM_UP: Duration = Duration::from_millis(500);

/// How long a server may calm down before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// Posts jobs for so long, after a warm-up.
pub(crate) fn accept(
    server: &Server,
    redis: Option<&RedisServer>,
    connections: usize,
    length: Duration,
) -> Result<Run> {
    let window = Window { warm_up: WARM_UP, length };
    measure(server.port(), jobs(connections)?, window, || {
        let redis = redis.map_or(Ok(Duration::ZERO), RedisServer::cpu)?;
        Ok(Cpu { server: server.cpu()?, redis })
    })
}

/// What queued jobs take.
pub(crate) struct Memory {
    /// Bytes the server holds when it has just become ready.
    pub(crate) idle: u64,
    /// Bytes it holds once it has been used.
    pub(crate) warm: u64,
    /// Bytes it holds with [`QUEUED`] jobs more.
    pub(crate) queued: u64,
    /// Bytes of Redis for each of these jobs, without the job's body.
    pub(crate) beyond_body: f64,
}

/// Queues jobs and reads the memory of the server and of Redis.
pub(crate) fn memory(server: &Server, redis: &mut RedisServer) -> Result<Memory> {
    let mut read = || -> Result<(u64, u64)> {
        std::thread::sleep(REST);
        Ok((server.resident()?, redis.used_memory()?))
    };
    let post = |count: u32| {
        let until = Until::Count(AtomicUsize::new(usize::try_from(count)?));
        send(server.port(), jobs(32)?, until, || ())
    };
    let (idle, _) = read()?;
    post(WARM_UP_JOBS)?;
    let (warm, before) = read()?;
    post(QUEUED)?;
    let (queued, after) = read()?;
    let grown = u32::try_from(after.saturating_sub(before))?;
    let beyond_body = f64::from(grown) / f64::from(QUEUED) - f64::from(u32::try_from(BODY_BYTES)?);
    Ok(Memory { idle, warm, queued, beyond_body })
}

/// How long the disk takes to keep 4 KiB: the floor under an accept that is synced by itself.
pub(crate) fn disk_sync(folder: &Path) -> Result<Duration> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let before = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(median(times))
}
