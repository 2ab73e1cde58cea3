//! What is measured, and the medians of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::common::load::{Until, send};
use crate::common::redis::RedisServer;
use crate::common::times::{at, median};
use crate::load::{BODY_BYTES, jobs};
use crate::server::{Kind, Server};

/// How many connections post jobs.
pub(crate) const CONNECTIONS: [usize; 3] = [1, 32, 256];

/// The jobs whose memory is measured.
pub(crate) const QUEUED: u32 = 100_000;

/// The jobs posted before that: buffers and caches have grown by then.
const WARM_UP_JOBS: u32 = 2_000;

const WARM_UP: Duration = Duration::from_millis(500);

/// How long a server may calm down before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// One measurement of accepting, or the median of several.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Jobs in the whole measurement.
    pub(crate) jobs: usize,
    /// Jobs in a second.
    pub(crate) rate: f64,
    /// Half of the jobs took no longer.
    pub(crate) p50: Duration,
    /// 99 of 100 jobs took no longer.
    pub(crate) p99: Duration,
    /// The server's CPU time for one job.
    pub(crate) cpu: Duration,
    /// Redis' CPU time for one job.
    pub(crate) redis_cpu: Duration,
}

/// All measurements of accepting on one store.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<(usize, Kind), Vec<Run>>);

impl Figures {
    /// Adds a measurement.
    pub(crate) fn add(&mut self, kind: Kind, connections: usize, run: Run) {
        self.0.entry((connections, kind)).or_default().push(run);
    }

    /// The medians; `None` when nothing was measured.
    pub(crate) fn get(&self, kind: Kind, connections: usize) -> Option<Run> {
        let runs = self.0.get(&(connections, kind))?;
        let durations = |of: fn(&Run) -> Duration| median(runs.iter().map(of).collect());
        let mut rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
        rates.sort_by(f64::total_cmp);
        Some(Run {
            jobs: runs.iter().map(|run| run.jobs).sum(),
            rate: rates.get(rates.len() / 2).copied()?,
            p50: durations(|run| run.p50),
            p99: durations(|run| run.p99),
            cpu: durations(|run| run.cpu),
            redis_cpu: durations(|run| run.redis_cpu),
        })
    }
}

/// Posts jobs for the length of `window`, after a warm-up.
pub(crate) fn accept(
    server: &Server,
    redis: Option<&RedisServer>,
    connections: usize,
    window: Duration,
) -> Result<Run> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + window;
    let cpu = || -> Result<[Duration; 2]> {
        Ok([server.cpu()?, redis.map_or(Ok(Duration::ZERO), RedisServer::cpu)?])
    };
    let until = Until::Window { begin, end };
    let (mut times, used) = send(server.port(), jobs(connections)?, until, || {
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let [server, redis] = cpu()?;
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        let [server_then, redis_then] = cpu()?;
        Ok::<_, anyhow::Error>([
            server_then.saturating_sub(server),
            redis_then.saturating_sub(redis),
        ])
    })?;
    let [cpu, redis_cpu] = used?;
    let count = u32::try_from(times.len())?;
    ensure!(count > 0, "no job was answered within {window:?}");
    times.sort_unstable();
    Ok(Run {
        jobs: times.len(),
        rate: f64::from(count) / window.as_secs_f64(),
        p50: at(&times, 50),
        p99: at(&times, 99),
        cpu: cpu / count,
        redis_cpu: redis_cpu / count,
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
