//! `spillway simulate`: a burst through the service's own pump and limiter, in virtual time.

mod arrivals;
mod chart;
mod entry;
mod meter;
mod report;
mod run;
mod series;
mod table;
mod usage;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::NaiveDate;
use clap::Args;

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Faults, Loaded};
use crate::domain::units::Span;
use arrivals::{Arrival, Defaults};
use report::Report;
use run::Setup;
use world::Latency;

/// Faults told at once.
const MOST_FAULTS: usize = 50;

/// How long answers take when nobody says.
const LATENCY: Latency = Latency {
    base: Duration::from_secs(1),
    per_output_token: Duration::from_millis(10),
    jitter: 0.1,
};

/// What to simulate.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// A CSV file whose first line names its columns: `at` and `task`, and as you like `workflow`,
    /// `lane`, `input_tokens`, `output_tokens`, `deliver_by` (a time, or `+15m` after the arrival),
    /// `count`, `over`, `workflows`. `at` is 09:00, 09:00:30.250, seconds after midnight or
    /// 2026-11-20T09:00:00Z; all times are UTC.
    #[arg(long, value_name = "FILE")]
    arrivals: Option<PathBuf>,

    /// A described burst; can be given several times:
    /// `task=tag,jobs=5000,workflows=3,at=09:00,over=10s,lane=standard,input=400,output=100`. Only
    /// `task` and `at` are required; beside these `workflow=NAME` and `deliver_by=+15m`.
    #[arg(long, value_name = "NAME=VALUE,...")]
    burst: Vec<String>,

    /// The day on which times of day are, and whose prices count; default today (UTC).
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<NaiveDate>,

    /// Tokens of a prompt where the arrival does not say.
    #[arg(long, value_name = "TOKENS", default_value_t = 400)]
    input_tokens: u64,

    /// Tokens of an answer where the arrival does not say, as far as its task allows.
    #[arg(long, value_name = "TOKENS", default_value_t = 100)]
    output_tokens: u64,

    /// How long an answer takes to begin; default 1s, for `scripted` accounts as they say.
    #[arg(long, value_name = "TIME", value_parser = time)]
    latency: Option<Duration>,

    /// How much longer each token of the answer takes; default 10ms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    latency_per_output_token: Option<Duration>,

    /// By which share latencies vary to both sides, 0 to 1; default 0.1.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    jitter: Option<f64>,

    /// What chance begins with. The same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How long after the last arrival to give up.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "24h")]
    patience: Duration,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,

    /// Write a chart of arrivals, departures, backlog and bucket levels to this SVG file.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

impl Options {
    /// How long answers take, if any of it is said.
    fn latency(&self) -> Option<Latency> {
        let said = self.latency.is_some()
            || self.latency_per_output_token.is_some()
            || self.jitter.is_some();
        said.then(|| Latency {
            base: self.latency.unwrap_or(LATENCY.base),
            per_output_token: self.latency_per_output_token.unwrap_or(LATENCY.per_output_token),
            jitter: self.jitter.unwrap_or(LATENCY.jitter),
        })
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let span = Span::parse(text).ok_or("expected a duration such as 250ms, 2s or 15m")?;
    Ok(span.0)
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Runs the burst and tells what became of it.
pub(super) async fn run(
    file: Option<PathBuf>,
    options: Options,
    out: &mut (impl Write + Send),
) -> Result<()> {
    if options.arrivals.is_none() && options.burst.is_empty() {
        bail!(
            "nothing arrives: give --arrivals FILE or, for example, \
             --burst task=tag,jobs=5000,workflows=3,at=09:00,over=10s"
        );
    }
    let (loaded, arrivals) = read(file, &options)?;
    let setup = Setup {
        loaded,
        arrivals,
        latency: options.latency(),
        seed: options.seed,
        patience: options.patience,
    };
    // It never waits, so it must not hold up the runtime it is called from.
    let outcome = tokio::task::spawn_blocking(move || run::run(setup)).await??;
    let mut report = Report::of(&outcome);
    report.headline = table::headline(&report);
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", table::table(&report))?;
    }
    if let Some(path) = &options.chart {
        let drawn = chart::draw(&outcome, &report)?;
        std::fs::write(path, drawn)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        if !options.json {
            writeln!(out, "\nchart: {}", path.display())?;
        }
    }
    Ok(())
}

/// The settings and the arrivals; everything that is wrong with either is told at once.
fn read(file: Option<PathBuf>, options: &Options) -> Result<(Loaded, Vec<Arrival>), Faults> {
    let mut told = Faults::default();
    let date = options.date.unwrap_or_else(|| SystemClock.now().date_naive());
    let entries = arrivals::entries(&options.burst, options.arrivals.as_deref(), date, &mut told);
    let loaded = match config::load_rehearsal(file, &config::environment()) {
        Ok(loaded) => loaded,
        Err(mut faults) => {
            faults.0.extend(told.0);
            return Err(faults);
        }
    };
    let defaults =
        Defaults { input_tokens: options.input_tokens, output_tokens: options.output_tokens };
    let arrivals = arrivals::arrivals(&entries, &loaded.plan.tasks, defaults, &mut told);
    if told.is_empty() {
        return Ok((loaded, arrivals));
    }
    let more = told.0.len().saturating_sub(MOST_FAULTS);
    told.0.truncate(MOST_FAULTS);
    if more > 0 {
        entry::tell(&mut told, "arrivals", format!("{more} more faults like these"));
    }
    Err(told)
}
