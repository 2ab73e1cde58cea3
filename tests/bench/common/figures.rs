//! What is measured of a server under load, and the medians of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::load::{Shots, Until, send};
use super::times::{at, median};

/// How many connections send requests.
pub(crate) const CONNECTIONS: [usize; 3] = [1, 32, 256];

/// How long a server is loaded.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// What is not counted.
    pub(crate) warm_up: Duration,
    /// What is counted.
    pub(crate) length: Duration,
}

/// CPU time so far.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// The server's.
    pub(crate) server: Duration,
    /// Redis'.
    pub(crate) redis: Duration,
}

/// One measurement, or the median of several.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Requests in the whole measurement.
    pub(crate) requests: usize,
    /// Requests in a second.
    pub(crate) rate: f64,
    /// Half of the requests took no longer.
    pub(crate) p50: Duration,
    /// 99 of 100 requests took no longer.
    pub(crate) p99: Duration,
    /// The server's CPU time for one request.
    pub(crate) cpu: Duration,
    /// Redis' CPU time for one request.
    pub(crate) redis_cpu: Duration,
}

/// All measurements, by connections and by what was measured.
pub(crate) struct Figures<K>(BTreeMap<(usize, K), Vec<Run>>);

impl<K> Default for Figures<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Figures<K> {
    /// Adds a measurement.
    pub(crate) fn add(&mut self, kind: K, connections: usize, run: Run) {
        self.0.entry((connections, kind)).or_default().push(run);
    }

    /// The medians; `None` when nothing was measured.
    pub(crate) fn get(&self, kind: K, connections: usize) -> Option<Run> {
        let runs = self.0.get(&(connections, kind))?;
        let durations = |of: fn(&Run) -> Duration| median(runs.iter().map(of).collect());
        let mut rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
        rates.sort_by(f64::total_cmp);
        Some(Run {
            requests: runs.iter().map(|run| run.requests).sum(),
            rate: rates.get(rates.len() / 2).copied()?,
            p50: durations(|run| run.p50),
            p99: durations(|run| run.p99),
            cpu: durations(|run| run.cpu),
            redis_cpu: durations(|run| run.redis_cpu),
        })
    }
}

/// Loads the server at `port` for the length of a window.
pub(crate) fn measure(
    port: u16,
    shots: Shots,
    window: Window,
    cpu: impl Fn() -> Result<Cpu>,
) -> Result<Run> {
    let begin = Instant::now() + window.warm_up;
    let end = begin + window.length;
    let (mut times, used) = send(port, shots, Until::Window { begin, end }, || {
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let before = cpu()?;
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        Ok::<_, anyhow::Error>((before, cpu()?))
    })?;
    let (before, after) = used?;
    let count = u32::try_from(times.len())?;
    ensure!(count > 0, "no request was answered within {:?}", window.length);
    times.sort_unstable();
    Ok(Run {
        requests: times.len(),
        rate: f64::from(count) / window.length.as_secs_f64(),
        p50: at(&times, 50),
        p99: at(&times, 99),
        cpu: after.server.saturating_sub(before.server) / count,
        redis_cpu: after.redis.saturating_sub(before.redis) / count,
    })
}
