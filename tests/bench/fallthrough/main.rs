//! How long after one provider's 429 the next provider has the request: with limits in the process
//! and with limits in Redis.
//!
//! `cargo bench --bench fallthrough` takes half a minute. Two bare HTTP servers on loopback note the
//! times: the first just before it writes its 429, the second once it has read the request. The
//! exit code tells whether the aim is met.

#[expect(dead_code, reason = "shares helpers with the other benchmarks")]
#[path = "../common/mod.rs"]
mod common;
mod server;

use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};

use crate::common::process::Process;
use crate::common::redis::{Fsync, RedisServer};
use crate::server::{Role, Server, Times};

/// The 99th percentile aimed at.
const AIM: Duration = Duration::from_millis(5);

/// Models asked in turn: each 429 holds its model for a quarter of a second.
const MODELS: usize = 60;

/// How long a model is left alone after its 429, for the hold to be over.
const PAUSE: Duration = Duration::from_millis(300);

/// The API key of the benchmark's jobs.
const KEY: &str = "sw_bench_0123456789abcdef0123456789abcdef";

/// Measures how long falling through takes.
#[derive(Parser)]
struct Arguments {
    /// Calls to measure with each store.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..))]
    calls: u32,
    /// The program measured.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_spillway"))]
    spillway: std::path::PathBuf,
    /// What Cargo adds to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        return Ok(ExitCode::SUCCESS);
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let redis = RedisServer::start(Fsync::Everysec, folder.path())?;
    let embedded = format!("embedded:{}", folder.path().join("data").display());
    let mut out = stdout();
    writeln!(out, "From a 429 to the next provider's request, {} calls each:", arguments.calls)?;
    let mut met = true;
    for (name, store) in [("limits in the process", embedded), ("limits in Redis", redis.url())] {
        let mut waits = measure(&arguments, &store, folder.path()).await?;
        waits.sort();
        let at = |part: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an index into a short list"
            )]
            let index = (waits.len() as f64 * part) as usize;
            waits.get(index.min(waits.len() - 1)).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let (p50, p99, most) = (at(0.5), at(0.99), at(1.0));
        writeln!(out, "{name:22} p50 {p50:.2} ms   p99 {p99:.2} ms   most {most:.2} ms")?;
        met &= p99 < AIM.as_secs_f64() * 1e3;
    }
    writeln!(out, "Aim: p99 under {AIM:?}: {}", if met { "met" } else { "missed" })?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The times between a 429 and the request that follows it elsewhere.
async fn measure(arguments: &Arguments, store: &str, folder: &Path) -> Result<Vec<Duration>> {
    let times = Times::default();
    let limited = Server::start(Role::Limited, &times)?;
    let well = Server::start(Role::Well, &times)?;
    let file = folder.join("spillway.toml");
    std::fs::write(&file, settings(store, &limited, &well)?)?;
    let serve = ["serve".as_ref(), "--config".as_ref(), file.as_os_str()];
    let mut process = Process::start(&arguments.spillway, serve, &folder.join("log"))?;
    let base = process.wait_for_line("Spillway listens on ").context("spillway serve")?;
    let client = client()?;
    let mut asked = [None::<Instant>; MODELS];
    let mut waits = Vec::new();
    for call in 0.. {
        let model = call % MODELS;
        let slot = asked.get_mut(model).context("no such model")?;
        if let Some(last) = slot.replace(Instant::now()) {
            tokio::time::sleep(PAUSE.saturating_sub(last.elapsed())).await;
            *slot = Some(Instant::now());
        }
        times.forget();
        let body = json!({ "task": format!("t{model}"), "input": "hello", "lane": "interactive" });
        let request = client.post(format!("{base}/v1/jobs")).bearer_auth(KEY);
        let answer = request.header("prefer", "wait=10").json(&body).send().await?;
        let result: Value = answer.json().await?;
        let ended = result.get("status").and_then(Value::as_str);
        ensure!(ended == Some("succeeded"), "a job failed: {result}");
        // The first round makes connections; what was still held went to the second at once.
        if call >= MODELS
            && let Some(wait) = times.between()
        {
            waits.push(wait);
            if waits.len() >= usize::try_from(arguments.calls)? {
                break;
            }
        }
        ensure!(call < 20 * MODELS + 2 * usize::try_from(arguments.calls)?, "too few fell through");
    }
    Ok(waits)
}

/// A client that asks no proxy.
fn client() -> Result<reqwest::Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    #[expect(clippy::disallowed_methods, reason = "a benchmark's client talks to its own servers")]
    let builder = reqwest::Client::builder();
    Ok(builder.no_proxy().timeout(Duration::from_secs(30)).build()?)
}

/// A route over both for each model, each model with limits of its own at both.
fn settings(store: &str, limited: &Server, well: &Server) -> Result<String> {
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"{store}\"\n\
         [auth]\nkeys = [\"{KEY}\"]\n[log]\nlevel = \"error\"\n"
    );
    for (name, server) in [("limited", limited), ("well", well)] {
        let base = server.base();
        write!(
            text,
            "[accounts.{name}]\nprovider = \"openai-compatible\"\nbase_url = \"{base}\"\n\
             api_key = \"none\"\n"
        )?;
        for model in 0..MODELS {
            write!(
                text,
                "[[accounts.{name}.limits]]\nmodels = [\"m{model}\"]\nrequests = \"60000/min\"\n\
                 tokens = \"60000000/min\"\nlearn = \"off\"\n"
            )?;
        }
    }
    for model in 0..MODELS {
        write!(
            text,
            "[routes.r{model}]\nsteps = [\"limited/m{model}\", \"well/m{model}\"]\npatience = \"0s\"\n\
             [tasks.t{model}]\nroute = \"r{model}\"\nsystem = \"Answer.\"\nmax_output_tokens = 10\n"
        )?;
    }
    Ok(text)
}
