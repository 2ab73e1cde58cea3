//! What Spillway adds to a call of `/v1/chat/completions`, beside LiteLLM's proxy and Portkey's
//! gateway, all of them in front of the same nginx that answers at once.
//!
//! `cargo bench --bench gateway -- --help` tells how to run a part. Linux only: CPU and memory are
//! read from `/proc`.

mod call;
#[expect(dead_code, reason = "shares helpers with the other benchmarks")]
#[path = "../common/mod.rs"]
mod common;
mod install;
mod measure;
mod report;
mod server;
mod tokens;
mod upstream;

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use crate::common::figures::CONNECTIONS;
use crate::common::redis::{Fsync, RedisServer};
use crate::common::report::Report;
use crate::measure::Figures;
use crate::server::{Kind, Servers};
use crate::upstream::Nginx;

/// Measures what Spillway adds to a call.
#[derive(Parser)]
struct Arguments {
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

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Calls at 1, 32 and 256 connections.
    Calls,
    /// How late a streamed token is.
    Tokens,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
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
    folder: TempDir,
}

impl Bench {
    fn prepare(arguments: Arguments) -> Result<Self> {
        let spillway = arguments.spillway.canonicalize();
        let spillway = spillway.with_context(|| arguments.spillway.display().to_string())?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut failures = Vec::new();
        let litellm = install::litellm(&mut failures)?;
        let portkey = install::portkey(&mut failures)?;
        let servers = Servers { spillway, litellm, portkey, folder: folder.path().to_owned() };
        Ok(Self { arguments, servers, report: Report::new(stdout()), failures, folder })
    }

    /// Runs the parts asked for; tells what did not work. A missed aim is no failure.
    fn run(mut self) -> Result<Vec<String>> {
        let load = std::fs::read_to_string("/proc/loadavg")?;
        self.report.line(&format!(
            "Calls of /v1/chat/completions. {} cores, shared with nginx and the load generator; \
             medians of {} round(s) of {} s, servers in turn and each alone.\n\
             LiteLLM {}, one worker, its limits in Redis; Portkey {}, one Node process, without \
             limits.\nLoad average before the start: {}.",
            std::thread::available_parallelism()?,
            self.arguments.rounds,
            self.arguments.seconds,
            install::LITELLM,
            install::PORTKEY,
            load.split(' ').next().unwrap_or_default(),
        ))?;
        for part in Part::value_variants() {
            if !self.arguments.only.is_empty() && !self.arguments.only.contains(part) {
                continue;
            }
            let outcome = match part {
                Part::Calls => self.calls(),
                Part::Tokens => self.tokens(),
            };
            if let Err(failure) = outcome {
                self.failures.push(format!("{part:?}: {failure:#}"));
            }
        }
        self.report.aims()?;
        Ok(self.failures)
    }

    fn calls(&mut self) -> Result<()> {
        let mut redis = RedisServer::start(Fsync::Everysec, self.folder.path())?;
        let nginx = Nginx::start(self.folder.path())?;
        let window = Duration::from_secs(self.arguments.seconds.into());
        let mut figures = Figures::default();
        for round in 1..=self.arguments.rounds {
            writeln!(stderr(), "round {round} of {}", self.arguments.rounds)?;
            for kind in self.servers.kinds() {
                redis.flush()?;
                let started = self.servers.start(kind, nginx.port(), &redis);
                let server = match started {
                    Ok(server) => server,
                    Err(fault) => {
                        self.failures.push(format!("{}: {fault:#}", kind.name()));
                        continue;
                    }
                };
                for connections in CONNECTIONS {
                    writeln!(stderr(), "  {}, {connections}", kind.name())?;
                    if let Err(fault) = figures.measure(&server, &redis, connections, window) {
                        let what = format!("{} at {connections}: {fault:#}", kind.name());
                        self.failures.push(what);
                    }
                }
            }
        }
        self.report.calls(&figures)
    }

    fn tokens(&mut self) -> Result<()> {
        let redis = RedisServer::start(Fsync::Everysec, self.folder.path())?;
        let upstream = tokens::Upstream::start()?;
        let mut found = Vec::new();
        for kind in [Kind::Direct, Kind::Local, Kind::Redis, Kind::Litellm] {
            if !self.servers.kinds().contains(&kind) {
                continue;
            }
            let server = self.servers.start(kind, upstream.port(), &redis)?;
            match tokens::late(&server, &upstream) {
                Ok(times) => found.push((kind, times)),
                Err(fault) => self.failures.push(format!("tokens, {}: {fault:#}", kind.name())),
            }
        }
        self.report.tokens(&found)
    }
}
