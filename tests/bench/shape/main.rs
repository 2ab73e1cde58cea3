//! What Spillway's shaping achieves against a provider that enforces its limits: every axis, limits
//! that are set too high and shared, fairness, interactive calls, ramps, the cost of a turn.
//!
//! `make bench-shape` runs everything in about half an hour; `make bench-shape ARGS=--help` tells how
//! to run a part. All parts are real: redis-server, replicas of `spillway serve`, `spillway scripted`
//! over HTTP, callbacks. Linux only.

mod arrivals;
mod axes;
#[expect(dead_code, reason = "shares helpers with the other benchmarks")]
#[path = "../common/mod.rs"]
mod common;
mod fair;
mod interactive;
#[expect(clippy::unwrap_used, reason = "shares a helper with the tests")]
#[path = "../../it/support/job.rs"]
mod job;
mod learn;
mod other;
mod provider;
mod ramp;
mod receiver;
mod replica;
mod report;
mod simulate;
mod stage;
mod turns;
mod work;

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use crate::common::redis::RedisServer;
use crate::report::Report;
use crate::stage::Stage;
use crate::work::Axis;

/// Measures how Spillway shapes.
#[derive(Parser)]
struct Arguments {
    /// The parts to run; all of them when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// How many jobs wait in each part.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    jobs: u32,
    /// Calls a second that the limits let through; each part has its own when left out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rate: Option<u32>,
    /// The limits that bind in `axes` and `learn`; each in turn when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    bind: Vec<Axis>,
    /// How the provider counts in `axes`; both when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    counting: Vec<provider::Counting>,
    /// What the provider tells in `learn`; both when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    telling: Vec<learn::Telling>,
    /// Seconds of `learn` that do not count.
    #[arg(long, default_value_t = 60)]
    learning: u32,
    /// Replicas that share the Redis.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    replicas: u8,
    /// How many tokens the provider counts where Spillway guesses one.
    #[arg(long)]
    input_token_factor: Option<f64>,
    /// The Spillway to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_spillway"))]
    spillway: PathBuf,
    /// Also writes all figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// What Cargo adds to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Varied jobs against limits on every axis, each binding in turn.
    Axes,
    /// Limits configured 30 % too high, and another client that takes a third.
    Learn,
    /// A small workflow beside a large one, and many equal ones.
    Fair,
    /// Interactive calls while background jobs wait.
    Interactive,
    /// A provider that refuses steep growth.
    Ramp,
    /// What a turn costs on Redis.
    Turns,
    /// The simulation beside the runs of `axes`.
    Simulate,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        writeln!(stderr(), "this measures nothing unless run by `cargo bench`")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    // This thread starts the children and outlives them: the kernel ends them with it.
    let passed = runtime.block_on(async { Bench::prepare(arguments)?.run().await })?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run of the benchmark.
struct Bench {
    arguments: Arguments,
    spillway: PathBuf,
    report: Report,
    measured: Vec<simulate::Measured>,
    /// On the disk of the target folder: `/tmp` may be memory, where syncing costs nothing.
    folder: TempDir,
}

impl Bench {
    fn prepare(arguments: Arguments) -> Result<Self> {
        // Whoever installs it first has done it for the process.
        drop(rustls::crypto::ring::default_provider().install_default());
        let spillway = arguments.spillway.canonicalize();
        let spillway = spillway.with_context(|| arguments.spillway.display().to_string())?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        Ok(Self {
            arguments,
            spillway,
            report: Report::new(stdout()),
            measured: Vec::new(),
            folder,
        })
    }

    /// Runs the parts asked for; whether all worked and met their aims.
    async fn run(mut self) -> Result<bool> {
        self.introduce()?;
        for part in Part::value_variants() {
            if !self.arguments.only.is_empty() && !self.arguments.only.contains(part) {
                continue;
            }
            let outcome = match part {
                Part::Axes => axes::run(&mut self).await,
                Part::Learn => learn::run(&mut self).await,
                Part::Fair => fair::run(&mut self).await,
                Part::Interactive => interactive::run(&mut self).await,
                Part::Ramp => ramp::run(&mut self).await,
                Part::Turns => turns::run(&mut self).await,
                Part::Simulate => simulate::run(&mut self).await,
            };
            if let Err(failure) = outcome {
                self.report.failed(part.name(), &format!("{failure:#}"))?;
            }
        }
        self.report.conclude(self.arguments.json.as_deref())
    }

    fn introduce(&mut self) -> Result<()> {
        let cores = std::thread::available_parallelism()?.get();
        let redis = RedisServer::version()?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default();
        self.report.machine(cores, &redis, load)?;
        self.report.line(&format!(
            "{} replicas of Spillway, one Redis {redis}, the provider and the callbacks' receiver \
             share {cores} cores.\nArrivals are by the provider's own clock. Load average before \
             the start: {load}.",
            self.arguments.replicas
        ))
    }

    /// Starts servers of their own for a run.
    fn stage(&self, provider: &serde_json::Value, limits: &str) -> Result<Stage> {
        let replicas = self.arguments.replicas.into();
        Stage::start(&self.spillway, self.folder.path(), provider, limits, replicas)
    }

    fn rate(&self, usual: u32) -> f64 {
        self.arguments.rate.unwrap_or(usual).into()
    }

    /// What is asked for, or all there is.
    fn chosen<T: ValueEnum + Clone>(asked: &[T]) -> Vec<T> {
        if asked.is_empty() { T::value_variants().to_vec() } else { asked.to_vec() }
    }
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Axes => "axes",
            Self::Learn => "learn",
            Self::Fair => "fair",
            Self::Interactive => "interactive",
            Self::Ramp => "ramp",
            Self::Turns => "turns",
            Self::Simulate => "simulate",
        }
    }
}

/// Says on the standard error what is under way.
fn progress(text: &str) -> Result<()> {
    Ok(writeln!(stderr(), "{text}")?)
}

/// How long a run that takes this long by the arithmetic may take before it is given up.
fn patience(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.mul_add(3.0, 60.0))
}
