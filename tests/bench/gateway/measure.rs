//! What is measured of calls, and the medians of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::call::calls as shots;
use crate::common::load::{Until, send};
use crate::common::redis::RedisServer;
use crate::common::times::{at, median};
use crate::server::{Kind, Server};

/// How many connections call.
pub(crate) const CONNECTIONS: [usize; 3] = [1, 32, 256];

const WARM_UP: Duration = Duration::from_secs(1);

/// One measurement, or the median of several.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Calls in a second.
    pub(crate) rate: f64,
    /// Half of the calls took no longer.
    pub(crate) p50: Duration,
    /// 99 of 100 calls took no longer.
    pub(crate) p99: Duration,
    /// The server's CPU time for one call.
    pub(crate) cpu: Duration,
    /// Redis' CPU time for one call.
    pub(crate) redis_cpu: Duration,
    /// The bytes of memory the server held at the end.
    pub(crate) memory: u64,
}

/// All measurements.
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
            rate: rates.get(rates.len() / 2).copied()?,
            p50: durations(|run| run.p50),
            p99: durations(|run| run.p99),
            cpu: durations(|run| run.cpu),
            redis_cpu: durations(|run| run.redis_cpu),
            memory: runs.iter().map(|run| run.memory).max()?,
        })
    }
}

/// Calls for the length of `window`, after a warm-up.
pub(crate) fn calls(
    server: &Server,
    redis: &RedisServer,
    connections: usize,
    window: Duration,
) -> Result<Run> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + window;
    let cpu = || -> Result<[Duration; 2]> { Ok([server.cpu()?, redis.cpu()?]) };
    let until = Until::Window { begin, end };
    let (mut times, used) = send(server.port(), shots(server, connections), until, || {
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let [server, redis] = cpu()?;
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        let [server_then, redis_then] = cpu()?;
        let used = [server_then.saturating_sub(server), redis_then.saturating_sub(redis)];
        Ok::<_, anyhow::Error>(used)
    })?;
    let [cpu, redis_cpu] = used?;
    let count = u32::try_from(times.len())?;
    ensure!(count > 0, "no call was answered within {window:?}");
    times.sort_unstable();
    Ok(Run {
        rate: f64::from(count) / window.as_secs_f64(),
        p50: at(&times, 50),
        p99: at(&times, 99),
        cpu: cpu / count,
        redis_cpu: redis_cpu / count,
        memory: server.resident()?,
    })
}
