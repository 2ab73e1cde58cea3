//! `spillway demo`: a burst of jobs through a real service over real HTTP, their results at a
//! receiver, the same burst sent straight at the provider for comparison, and a screen that shows
//! it.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressDrawTarget;

use crate::callback::sign;
use crate::clock::{Clock, SystemClock};
use crate::keys::secret;
use crate::telemetry::{self, LogFormat};

pub mod burst;
pub mod direct;
pub mod receiver;
pub mod screen;
mod stage;
pub mod summary;

use burst::{Burst, Entrance};
use receiver::Receiver;
use screen::Screen;
use stage::Stage;
use summary::Summary;

/// How the demo ends.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Leave the service running at the end, with the curl to try next.
    #[arg(long)]
    keep: bool,

    /// Where the service listens with --keep.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
}

/// Connections the burst comes over.
const CONNECTIONS: usize = 50;

/// The longest the burst may take to drain.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays the demo.
pub(super) async fn run(options: Options, out: &mut (impl Write + Send)) -> Result<()> {
    // The comparison ends connections abruptly, which the server's own log would complain of.
    telemetry::start_logging(LogFormat::Text, "error,actix_http=off,spillway=error");
    let folder = Folder::new()?;
    let secret = sign::generate(&mut rand::rng());
    let (key, _) = secret::generate("demo", SystemClock.now(), &mut rand::rng());
    let stage = Stage::set(&secret)?;
    let listen = if options.keep { options.listen.as_str() } else { "127.0.0.1:0" };
    let service = stage.spillway(listen, &folder.0, &key, &secret).await?;
    let address = service.addresses.first().context("the service has no address")?;
    let entrance = Entrance {
        base_url: format!("http://{address}"),
        key,
        callback_url: format!("http://{}/results", stage.callback),
    };
    writeln!(
        out,
        "Spillway listens on {}; three models limit and fail as real ones do.",
        entrance.base_url
    )?;
    let (sent, drained_in) = play(&entrance, &stage.receiver, out).await?;
    let seen = stage.seen();
    stage.reset();
    writeln!(out, "Now the same burst straight at the same models, as a workflow tool would …")?;
    let straight = match stage.targets() {
        Some(targets) => Some(
            direct::run(&client()?, &targets, &burst::jobs(), direct::Retries::default()).await,
        ),
        None => None,
    };
    stage.reset();
    let tally = stage.receiver.tally();
    writeln!(out, "\n{}", Summary::of(&sent, drained_in, &tally, seen, straight).table())?;
    if options.keep {
        keep(&entrance, out).await?;
    }
    service.stop().await;
    stage.strike().await;
    if tally.results.len() < sent.jobs || sent.count() < sent.jobs {
        bail!("{} of {} jobs came back", tally.results.len(), sent.jobs);
    }
    Ok(())
}

/// Sends the burst and watches its results come in; how it was taken and how long it drained.
async fn play(
    entrance: &Entrance,
    receiver: &Arc<Receiver>,
    out: &mut (impl Write + Send),
) -> Result<(Burst, Duration)> {
    let started = Instant::now();
    let totals = burst::totals();
    let sent = burst::submit(&client()?, entrance, &burst::jobs(), CONNECTIONS).await;
    let mut results = receiver.results();
    let mut screen = if std::io::stderr().is_terminal() {
        Screen::bars(&totals, ProgressDrawTarget::stderr())
    } else {
        Screen::lines(&totals, out)
    };
    screen.say(&format!(
        "{} webhooks in {}: {} accepted, {} answered 429. Their results, as they arrive:",
        sent.jobs,
        seconds(sent.elapsed),
        sent.count(),
        sent.rate_limited
    ))?;
    let watching = async {
        loop {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for result in receiver.tally().results {
                *counts.entry(result.workflow).or_default() += 1;
            }
            for (workflow, count) in counts {
                screen.show(&workflow, count)?;
            }
            if screen.is_complete() || results.changed().await.is_err() {
                return anyhow::Ok(());
            }
        }
    };
    let watched = tokio::time::timeout(PATIENCE, watching).await;
    screen.close();
    match watched {
        Ok(done) => done?,
        Err(_) => bail!("the burst did not drain within {}", seconds(PATIENCE)),
    }
    Ok((sent, started.elapsed()))
}

/// Leaves the service running until it is interrupted.
async fn keep(entrance: &Entrance, out: &mut (impl Write + Send)) -> Result<()> {
    let Entrance { base_url, key, .. } = entrance;
    writeln!(
        out,
        "\nThe service goes on. Try:\n\n  curl -sS {base_url}/v1/jobs -H 'Authorization: Bearer {key}' \\\n    \
         -H 'Content-Type: application/json' -H 'Prefer: wait=20' \\\n    \
         -d '{{\"task\": \"tag\", \"input\": \"I was charged twice and need help today.\"}}'\n\n\
         Ctrl-C ends it."
    )?;
    out.flush()?;
    Ok(tokio::signal::ctrl_c().await?)
}

/// A folder that is gone when the demo is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let name = format!("spillway-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(fault) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%fault, path = %self.0.display(), "the demo's folder stays");
        }
    }
}

/// The client the demo plays the automations with. The process' TLS provider must be installed.
pub fn client() -> reqwest::Result<reqwest::Client> {
    #[expect(clippy::disallowed_methods, reason = "here we are the caller, not the service")]
    let builder = reqwest::Client::builder();
    builder
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(120))
        .build()
}

/// A time for people: `420 ms`, `61.2 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
