//! How fast Spillway accepts jobs, beside a bare handler and beside BullMQ, and what it costs.
//!
//! `make bench-accept` runs everything in about six minutes; `cargo bench --bench accept -- --help` tells
//! how to run a part. Linux only: CPU and memory are read from `/proc`.

mod bare;
mod bullmq;
#[expect(dead_code, reason = "shares helpers with the other benchmarks")]
#[path = "../common/mod.rs"]
mod common;
mod load;
mod measure;
mod report;
mod server;

use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tempfile::TempDir;

use crate::common::figures::{CONNECTIONS, Figures};
use crate::common::redis::{Fsync, RedisServer};
use crate::common::report::Report;
use crate::server::{Kind, Servers};

/// Measures how Spillway accepts jobs.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// The parts to run; all of them when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// The Spillway to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_spillway"))]
    spillway: PathBuf,
    /// How often each server is measured; the medians are told.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: u8,
    /// How many seconds each measurement lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=60))]
    seconds: u8,
    /// What Cargo adds to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this executable is when it is not the benchmark.
#[derive(Subcommand)]
enum Role {
    /// The bare handler that Spillway is measured against.
    #[command(hide = true)]
    Bare {
        /// Where it listens.
        port: u16,
        /// Where its Redis listens.
        redis: u16,
    },
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Accepting on a Redis that syncs its file every second.
    RedisEverysec,
    /// Accepting on a Redis that syncs its file before it answers.
    RedisAlways,
    /// What 100,000 queued jobs take in Redis and in the server.
    Memory,
    /// From the start of the process to its being ready.
    Ready,
    /// Accepting into the embedded store.
    Embedded,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Role::Bare { port, redis }) = arguments.role {
        bare::serve(port, redis)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.bench {
        writeln!(stderr(), "this measures nothing unless run by `cargo bench`")?;
        return Ok(ExitCode::SUCCESS);
    }
    let failures = Bench::prepare(arguments)?.run()?;
    for failure in &failures {
        writeln!(stderr(), "did not work: {failure}")?;
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run of the benchmark.
struct Bench {
    arguments: Arguments,
    servers: Servers,
    report: Report,
    failures: Vec<String>,
    /// On the disk of the target folder: `/tmp` may be memory, where syncing costs nothing.
    folder: TempDir,
}

impl Bench {
    fn prepare(arguments: Arguments) -> Result<Self> {
        let spillway = arguments.spillway.canonicalize();
        let spillway = spillway.with_context(|| arguments.spillway.display().to_string())?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut failures = Vec::new();
        let needed = [Part::RedisEverysec, Part::RedisAlways, Part::Memory];
        let bullmq = if needed.iter().any(|part| wanted(&arguments, *part)) {
            bullmq::install(&mut failures)?
        } else {
            None
        };
        let servers = Servers::new(spillway, bullmq, folder.path());
        Ok(Self { arguments, servers, report: Report::new(stdout()), failures, folder })
    }

    /// Runs the parts asked for; tells what did not work. A missed aim is no failure.
    fn run(mut self) -> Result<Vec<String>> {
        self.introduce()?;
        for part in Part::value_variants() {
            if !wanted(&self.arguments, *part) {
                continue;
            }
            writeln!(stderr(), "{part:?}…")?;
            let outcome = match part {
                Part::RedisEverysec => self.accept(Fsync::Everysec),
                Part::RedisAlways => self.accept(Fsync::Always),
                Part::Memory => self.memory(),
                Part::Ready => self.ready(),
                Part::Embedded => self.embedded(),
            };
            if let Err(failure) = outcome {
                self.failures.push(format!("{part:?}: {failure:#}"));
            }
        }
        self.report.aims()?;
        Ok(self.failures)
    }

    fn introduce(&mut self) -> Result<()> {
        let cores = std::thread::available_parallelism()?;
        let (rounds, seconds) = (self.arguments.rounds, self.arguments.seconds);
        let redis = RedisServer::version()?;
        let node = self.servers.node().unwrap_or("none: BullMQ is left out").to_owned();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default();
        let sync = measure::disk_sync(self.folder.path())?;
        self.report.line(&format!(
            "Accepting jobs of {} bytes. {cores} cores, shared with the load generator; Redis \
             {redis}; Node {node}.\nMedians of {rounds} round(s) of {seconds} s, servers in turn and \
             each alone, in its default settings; BullMQ is one Node process.\nCPU is the server's \
             and Redis' together. One write of 4 KiB and its fdatasync take {sync:.1?} here.\n\
             Load average before the start: {load}.",
            load::BODY_BYTES,
        ))
    }

    /// Jobs accepted on Redis by each server in turn.
    fn accept(&mut self, fsync: Fsync) -> Result<()> {
        let mut redis = RedisServer::start(fsync, self.folder.path())?;
        let mut figures = Figures::default();
        let window = Duration::from_secs(self.arguments.seconds.into());
        for round in 1..=self.arguments.rounds {
            writeln!(stderr(), "  round {round} of {}", self.arguments.rounds)?;
            for connections in CONNECTIONS {
                for kind in self.servers.kinds() {
                    redis.flush()?;
                    let measured = self.servers.start(kind, &redis.url()).and_then(|server| {
                        measure::accept(&server, Some(&redis), connections, window)
                    });
                    match measured {
                        Ok(run) => figures.add(kind, connections, run),
                        Err(failure) => self.failures.push(format!(
                            "{} at {connections} connections: {failure:#}",
                            kind.name()
                        )),
                    }
                }
            }
        }
        self.report.accepted(fsync, &figures)
    }

    /// What queued jobs take, beside the other servers.
    fn memory(&mut self) -> Result<()> {
        let mut redis = RedisServer::start(Fsync::Everysec, self.folder.path())?;
        let mut found = Vec::new();
        for kind in self.servers.kinds() {
            redis.flush()?;
            let server = self.servers.start(kind, &redis.url())?;
            let memory = measure::memory(&server, &mut redis);
            found.push((kind, memory.with_context(|| kind.name())?));
        }
        self.report.memory(&found)
    }

    /// How soon Spillway is ready, on an empty store of each sort.
    fn ready(&mut self) -> Result<()> {
        let mut redis = RedisServer::start(Fsync::Everysec, self.folder.path())?;
        let (mut on_redis, mut embedded) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            redis.flush()?;
            on_redis.push(self.servers.start(Kind::Spillway, &redis.url())?.ready_after());
            let store = store(self.folder.path())?;
            embedded.push(self.servers.start(Kind::Spillway, &url(&store))?.ready_after());
        }
        self.report.ready(common::times::median(on_redis), common::times::median(embedded))
    }

    /// Jobs accepted into the embedded store.
    fn embedded(&mut self) -> Result<()> {
        let mut figures = Figures::default();
        let window = Duration::from_secs(self.arguments.seconds.into());
        for _ in 0..self.arguments.rounds {
            for connections in CONNECTIONS {
                let store = store(self.folder.path())?;
                let server = self.servers.start(Kind::Spillway, &url(&store))?;
                let run = measure::accept(&server, None, connections, window)?;
                ensure!(run.requests > 0, "no job was accepted at {connections} connections");
                figures.add(Kind::Spillway, connections, run);
            }
        }
        self.report.embedded(&figures)
    }
}

fn wanted(arguments: &Arguments, part: Part) -> bool {
    arguments.only.is_empty() || arguments.only.contains(&part)
}

/// An empty folder for an embedded store, removed with the value.
fn store(folder: &Path) -> Result<TempDir> {
    Ok(tempfile::tempdir_in(folder)?)
}

fn url(store: &TempDir) -> String {
    format!("embedded:{}", store.path().display())
}
