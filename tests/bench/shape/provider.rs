//! One `spillway scripted`, and what it has seen.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::arrivals::{Arrivals, covering_burst, most_within};
use crate::common::process::Process;
use crate::work::{Axis, Limits, OUTPUT};

/// How a provider counts what a minute's limit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Counting {
    /// As it leaks, with one second's burst.
    Burst,
    /// In every window of a minute.
    Minute,
}

impl Counting {
    /// Its name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Burst => "1 s burst",
            Self::Minute => "any minute",
        }
    }

    /// How near these arrivals came to the limit: above one they were over it. All windows are
    /// looked at.
    pub(crate) fn fullest(self, arrivals: &Arrivals, per_second: f64) -> f64 {
        match self {
            Self::Burst => covering_burst(arrivals, per_second) / per_second,
            Self::Minute => most_within(arrivals, 60_000_000) / (per_second * 60.0),
        }
    }
}

/// Settings of a provider that enforces these limits and answers at different lengths.
pub(crate) fn settings(limits: Limits, counting: Counting, factor: Option<f64>) -> Value {
    let mut settings: Map<String, Value> =
        limits.settings().into_iter().map(|(name, rate)| (name.to_owned(), rate.into())).collect();
    let (name, value) = match counting {
        Counting::Burst => ("burst", "1s"),
        Counting::Minute => ("window", "1m"),
    };
    settings.insert(name.to_owned(), value.into());
    settings.insert("latency".to_owned(), "150ms".into());
    settings.insert("jitter".to_owned(), 0.3.into());
    settings.insert("output_tokens_per_answer".to_owned(), json!(OUTPUT));
    if let Some(factor) = factor {
        settings.insert("input_token_factor".to_owned(), factor.into());
    }
    Value::Object(settings)
}

/// A provider on loopback that enforces its limits.
pub(crate) struct Provider {
    _process: Process,
    base: String,
}

impl Provider {
    /// Starts one with these settings.
    pub(crate) fn start(spillway: &Path, settings: &Value, log: &Path) -> Result<Self> {
        let settings = settings.to_string();
        let arguments = ["scripted", "--listen", "127.0.0.1:0", "--settings", &settings];
        let mut process = Process::start(spillway, arguments, log)?;
        let base = process.wait_for_line("The scripted provider listens on ");
        Ok(Self { _process: process, base: base.context("spillway scripted")? })
    }

    /// Where it listens.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What it has seen.
    pub(crate) async fn stats(&self, client: &reqwest::Client) -> Result<Stats> {
        let answer = client.get(format!("{}/stats", self.base)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

/// What a provider has seen, by its own clock.
#[derive(Debug, Deserialize)]
pub(crate) struct Stats {
    /// Calls that reached it.
    pub(crate) calls: u64,
    /// Calls it answered 429.
    pub(crate) rate_limited: u64,
    /// Tokens sent, of the calls let through.
    pub(crate) input_tokens: u64,
    /// Tokens received.
    pub(crate) output_tokens: u64,
    /// When the latest call came, in µs.
    pub(crate) last_at: Option<i64>,
    /// The calls let through: when each came, its tokens sent, its tokens received.
    admitted_units: Vec<(i64, u32, u32)>,
}

impl Stats {
    /// Calls let through.
    pub(crate) fn admitted(&self) -> usize {
        self.admitted_units.len()
    }

    /// What was let through on an axis.
    pub(crate) fn arrivals(&self, axis: Axis) -> Vec<(i64, f64)> {
        let units = |(at, input, output): &(i64, u32, u32)| match axis {
            Axis::Requests => (*at, 1.0),
            Axis::InputTokens => (*at, f64::from(*input)),
            Axis::OutputTokens => (*at, f64::from(*output)),
        };
        self.admitted_units.iter().map(units).collect()
    }

    /// All that was let through on an axis.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn units(&self, axis: Axis) -> f64 {
        match axis {
            Axis::Requests => crate::arrivals::count(self.admitted()),
            Axis::InputTokens => self.input_tokens as f64,
            Axis::OutputTokens => self.output_tokens as f64,
        }
    }
}
