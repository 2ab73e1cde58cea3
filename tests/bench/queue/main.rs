//! What leasing and pushing cost the queue: with a thousand and with a million jobs queued, with ten
//! and with ten thousand workflows.
//!
//! `cargo bench --bench queue` takes about two minutes; `-- --help` tells how to run a part. Linux
//! only: CPU and memory are read from `/proc`.

#[expect(clippy::unwrap_used, reason = "shares a helper with the tests")]
#[path = "../../it/support/job.rs"]
mod job;
#[expect(dead_code, reason = "shares helpers with the other benchmarks")]
#[path = "../common/process.rs"]
mod process;
mod redis;
mod sample;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use spillway::clock::SystemClock;
use spillway::keyspace::{Keyspace, Timeouts};
use spillway::lifecycle::Lifecycle;
use spillway::queue::embedded::EmbeddedQueue;
use spillway::queue::redis::RedisQueue;
use spillway::queue::settings::Settings;
use spillway::queue::{Queue, SharedQueue};

use crate::redis::RedisServer;
use crate::sample::{Backlog, Times, median};

/// Measures what leasing and pushing cost the queue.
#[derive(Parser)]
struct Arguments {
    /// The stores to measure; all of them when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Store>,
    /// How many jobs the large backlog has.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..))]
    jobs: u32,
    /// How many jobs are leased and settled in each of two backlogs in turn.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(10..))]
    samples: u32,
    /// What Cargo adds to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A store to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Store {
    /// On a redis-server of its own that syncs its file every second.
    Redis,
    /// In a folder; the large backlog has a tenth of the jobs.
    Embedded,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        writeln!(stderr(), "this measures nothing unless run by `cargo bench`")?;
        return Ok(ExitCode::SUCCESS);
    }
    for store in Store::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(store) {
            Bench::prepare(*store, &arguments)?.run().await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The backlogs compared, each pair in turn so that what else the machine does is the same for both.
struct Bench {
    store: Store,
    server: Option<RedisServer>,
    folder: tempfile::TempDir,
    lifecycle: Lifecycle,
    jobs: u32,
    samples: u32,
    opened: u32,
}

impl Bench {
    fn prepare(store: Store, arguments: &Arguments) -> Result<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (server, jobs) = match store {
            Store::Redis => (Some(RedisServer::start(folder.path())?), arguments.jobs),
            Store::Embedded => (None, arguments.jobs / 10),
        };
        let lifecycle = Lifecycle::default();
        Ok(Self { store, server, folder, lifecycle, jobs, samples: arguments.samples, opened: 0 })
    }

    async fn run(mut self) -> Result<()> {
        let name = if self.store == Store::Redis { "Redis, everysec" } else { "Embedded" };
        writeln!(stdout(), "\n{name}: medians of {} samples, in µs", self.samples)?;
        writeln!(
            stdout(),
            "  queued  workflows      lease     settle       push   lease+settle   Redis' CPU"
        )?;
        let (small, large) = ((1_000, 10), (self.jobs, 10));
        self.compare([small, large], 1.5).await?;
        let wide = (self.jobs / 10).max(10_000);
        self.compare([(wide, 10), (wide, 10_000)], 1.3).await?;
        self.lifecycle.drain();
        self.lifecycle.drop_all().await;
        Ok(())
    }

    /// Measures two backlogs, and what the second costs compared to the first.
    async fn compare(&mut self, sizes: [(u32, u32); 2], aim: f64) -> Result<()> {
        let mut backlogs = Vec::new();
        for (jobs, workflows) in sizes {
            let queue = self.open().await?;
            let before = self.resident()?;
            let began = Instant::now();
            let backlog = Backlog::fill(queue, jobs, workflows).await?;
            let (took, used) = (began.elapsed(), self.resident()?.saturating_sub(before));
            if jobs == self.jobs {
                let memory = used / u64::from(jobs);
                writeln!(
                    stdout(),
                    "  {jobs} jobs pushed in {took:.1?}; {memory} bytes of Redis each"
                )?;
            }
            backlogs.push((backlog, Times::default(), Duration::ZERO));
        }
        // Some of each by turns, and the first ones not counted.
        for round in 0..=self.samples / CHUNK {
            for (backlog, times, cpu) in &mut backlogs {
                let before = self.cpu()?;
                let measured = backlog.measure(CHUNK).await?;
                if round > 0 {
                    times.add(measured);
                    *cpu += self.cpu()?.saturating_sub(before);
                }
            }
        }
        let mut costs = Vec::new();
        for ((jobs, workflows), (_, times, cpu)) in sizes.iter().zip(backlogs) {
            let cost = median(times.both());
            costs.push(cost.as_secs_f64());
            let [lease, settle, push] = [times.leases, times.settles, times.pushes].map(median);
            let cpu = cpu / (self.samples / CHUNK * CHUNK).max(1);
            writeln!(
                stdout(),
                "{jobs:>8}  {workflows:>9}  {:>9.0}  {:>9.0}  {:>9.0}  {:>13.0}  {:>11.0}",
                micros(lease),
                micros(settle),
                micros(push),
                micros(cost),
                micros(cpu),
            )?;
        }
        ensure!(costs.len() == 2, "two backlogs are compared");
        let ratio = costs.iter().rev().copied().reduce(|large, small| large / small);
        let ratio = ratio.unwrap_or_default();
        let met = if ratio <= aim { "met" } else { "MISSED" };
        writeln!(stdout(), "  ratio {ratio:.2}, aim at most {aim}: {met}")?;
        Ok(())
    }

    /// A queue of its own.
    async fn open(&mut self) -> Result<SharedQueue> {
        self.opened += 1;
        let name = format!("b{}", self.opened);
        let Some(server) = &self.server else {
            let clock = Arc::new(SystemClock);
            return Ok(Arc::new(EmbeddedQueue::open(&self.folder.path().join(name), clock)?));
        };
        let long = Duration::from_secs(60);
        let timeouts = Timeouts { connect: long, response: long };
        let keyspace = Keyspace::open(&server.url(), &name, timeouts).await?;
        let queue = RedisQueue::open(keyspace, &Settings::default(), &self.lifecycle).await?;
        queue.ping().await?;
        Ok(Arc::new(queue))
    }

    fn cpu(&self) -> Result<Duration> {
        self.server.as_ref().map_or(Ok(Duration::ZERO), RedisServer::cpu)
    }

    fn resident(&self) -> Result<u64> {
        self.server.as_ref().map_or(Ok(0), RedisServer::resident)
    }
}

/// How many jobs of a backlog are leased before it is the other's turn.
const CHUNK: u32 = 100;

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
