//! The tables of accepting, and the aims of it.

use std::time::Duration;

use anyhow::Result;

use crate::common::figures::{CONNECTIONS, Figures};
use crate::common::redis::Fsync;
use crate::common::report::{Report, megabytes, milliseconds};
use crate::measure::{Memory, QUEUED};
use crate::server::Kind;

impl Report {
    /// The table of accepting on Redis, and its aims.
    pub(crate) fn accepted(&mut self, fsync: Fsync, figures: &Figures<Kind>) -> Result<()> {
        let fsync = fsync.as_str();
        self.line(&format!("\nRedis, appendfsync {fsync}"))?;
        self.table(figures, &[Kind::Spillway, Kind::Bare, Kind::Bullmq])?;
        for connections in CONNECTIONS {
            self.accept_aims(fsync, figures, connections);
        }
        Ok(())
    }

    /// The table of accepting into the embedded store.
    pub(crate) fn embedded(&mut self, figures: &Figures<Kind>) -> Result<()> {
        self.line("\nEmbedded store, every 202 on disk")?;
        self.table(figures, &[Kind::Spillway])
    }

    fn table(&mut self, figures: &Figures<Kind>, kinds: &[Kind]) -> Result<()> {
        self.line(
            "connections  server         jobs/s    p50 ms    p99 ms  CPU µs/job  in Redis  Spillway is",
        )?;
        for connections in CONNECTIONS {
            let own = figures.get(Kind::Spillway, connections).map(|run| run.rate);
            for &kind in kinds {
                let Some(run) = figures.get(kind, connections) else { continue };
                let times = own.filter(|_| kind != Kind::Spillway);
                let times = times.map_or_else(String::new, |own| format!("{:.2}×", own / run.rate));
                let (name, rate) = (kind.name(), run.rate);
                let (p50, p99) = (milliseconds(run.p50), milliseconds(run.p99));
                let cpu = 1e3 * milliseconds(run.cpu + run.redis_cpu);
                let redis = 1e3 * milliseconds(run.redis_cpu);
                let line = format!(
                    "{connections:>11}  {name:<9}  {rate:>10.0}  {p50:>8.2}  {p99:>8.2}  {cpu:>10.0}  \
                     {redis:>8.0}  {times:>11}"
                );
                self.line(line.trim_end())?;
            }
        }
        Ok(())
    }

    fn accept_aims(&mut self, fsync: &str, figures: &Figures<Kind>, connections: usize) {
        let get = |kind| figures.get(kind, connections);
        let (own, bare, bullmq) = (get(Kind::Spillway), get(Kind::Bare), get(Kind::Bullmq));
        let mut aim = |what: &str, found: Option<f64>, met: fn(f64) -> bool| {
            let at = format!("{fsync}, connections {connections:>3}: {what}");
            self.aim(&at, found.map(|ratio| (format!("{ratio:.2}"), met(ratio))));
        };
        if connections == 1 {
            let p50 = ratio(own, bullmq, |run| run.p50.as_secs_f64());
            aim("p50 at most 0.5 of BullMQ's", p50, |found| found <= 0.5);
        } else {
            let rate = ratio(own, bullmq, |run| run.rate);
            aim("jobs/s at least 1.5 times BullMQ's", rate, |found| found >= 1.5);
            let rate = ratio(own, bare, |run| run.rate);
            aim("jobs/s at least 0.4 of the bare handler's", rate, |found| found >= 0.4);
        }
        let p99 = ratio(own, bullmq, |run| run.p99.as_secs_f64());
        aim("p99 never above BullMQ's", p99, |found| found <= 1.0);
    }

    /// What queued jobs take, and the aims of it.
    pub(crate) fn memory(&mut self, found: &[(Kind, Memory)]) -> Result<()> {
        self.line(&format!("\nMemory with {QUEUED} jobs queued on Redis"))?;
        self.line(
            "server     idle MB  used MB  with jobs MB  bytes of Redis a job beyond its body",
        )?;
        for (kind, memory) in found {
            let [idle, warm, queued] = [memory.idle, memory.warm, memory.queued].map(megabytes);
            let (name, bytes) = (kind.name(), memory.beyond_body);
            self.line(&format!(
                "{name:<9}  {idle:>7.1}  {warm:>7.1}  {queued:>12.1}  {bytes:>36.0}"
            ))?;
        }
        for (_, memory) in found.iter().filter(|(kind, _)| *kind == Kind::Spillway) {
            let bytes = memory.beyond_body;
            let met = (format!("{bytes:.0}"), bytes < 700.0);
            self.aim("Redis under 700 bytes a job beyond its body", Some(met));
            let idle = megabytes(memory.idle);
            self.aim("idle under 30 MB", Some((format!("{idle:.1} MB"), idle < 30.0)));
            // Twenty bytes a job would show; an allocator's odd page does not.
            let grown = megabytes(memory.queued) - megabytes(memory.warm);
            let met = (format!("{grown:+.1} MB"), grown < 2.0);
            self.aim(&format!("no growth (under 2 MB) with {QUEUED} queued on Redis"), Some(met));
        }
        Ok(())
    }

    /// How soon it is ready, and the aim of it.
    pub(crate) fn ready(&mut self, on_redis: Duration, embedded: Duration) -> Result<()> {
        let stores = [("Redis", on_redis), ("the embedded store", embedded)];
        self.line("\nFrom the start of the process to its being ready")?;
        for (store, after) in stores {
            let after = milliseconds(after);
            self.line(&format!("{after:>8.0} ms on {store}"))?;
            let met = (format!("{after:.0} ms"), after < 200.0);
            self.aim(&format!("ready under 200 ms on {store}"), Some(met));
        }
        Ok(())
    }
}

/// One's figure as a share of the other's.
fn ratio<R>(one: Option<R>, other: Option<R>, of: impl Fn(R) -> f64) -> Option<f64> {
    Some(of(one?) / of(other?))
}
