//! Limits as a simulated provider enforces them and as the report tells them: the one file here
//! that knows what a pool is made of.

use std::time::Duration;

use crate::domain::bucket::{Level, Quota};
use crate::domain::limits::{Axis, Bucket, Cost, LimitSettings, Pool};
use crate::domain::told::Period;
use crate::limiter::PoolLevel;

/// Calls at the same time, as an axis.
pub(super) const CONCURRENCY: &str = "concurrency";

/// How soon a provider says to come back when all of its concurrent calls are taken.
const CROWDED: Duration = Duration::from_secs(1);

/// One limit of a pool.
#[derive(Clone, Debug)]
pub(super) struct Gauge {
    /// What it counts.
    pub(super) axis: &'static str,
    /// Units a second; for concurrency, calls.
    pub(super) rate: f64,
    /// Units that may leave at once.
    pub(super) burst: f64,
    /// What it counts, for a bucket.
    pub(super) counts: Option<Axis>,
}

impl Gauge {
    /// What a call of so many tokens counts.
    pub(super) fn units(&self, input: u64, output: u64) -> f64 {
        let cost = Cost::call(input, output);
        match self.counts {
            Some(Axis::Requests) => cost.requests,
            Some(Axis::InputTokens) => cost.input,
            Some(Axis::OutputTokens) => cost.output,
            Some(Axis::Tokens) => cost.input + cost.output,
            None => 0.0,
        }
    }

    /// The limit as people write it.
    pub(super) fn limit(&self) -> String {
        if self.counts.is_none() {
            return format!("{} at once", self.rate);
        }
        match self.rate * 60.0 {
            minute if minute >= 1.0 => format!("{}/min", (minute * 100.0).round() / 100.0),
            minute => format!("{}/day", (minute * 1_440.0).round()),
        }
    }
}

/// A bucket's name in the report.
const fn name(bucket: &Bucket) -> &'static str {
    match (bucket.per, bucket.axis) {
        (Period::Minute, axis) => axis.as_str(),
        (Period::Day, Axis::Requests) => "requests_per_day",
        (Period::Day, Axis::InputTokens) => "input_tokens_per_day",
        (Period::Day, Axis::OutputTokens) => "output_tokens_per_day",
        (Period::Day, Axis::Tokens) => "tokens_per_day",
    }
}

/// The limits of a pool that have a bucket.
pub(super) fn buckets(pool: &Pool) -> Vec<Gauge> {
    let gauge = |bucket: &Bucket| Gauge {
        axis: name(bucket),
        rate: bucket.limit / bucket.per.length().as_secs_f64(),
        burst: bucket.quota.burst,
        counts: Some(bucket.axis),
    };
    pool.buckets.iter().map(gauge).collect()
}

/// How full each of [`buckets`] is: 1 is full.
pub(super) fn levels(pool: &Pool, level: &PoolLevel) -> Vec<f64> {
    let buckets = pool.buckets.iter().zip(&level.buckets);
    buckets.map(|(bucket, level)| level.units / bucket.quota.burst).collect()
}

/// Why a provider refuses a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// What has run out.
    pub(super) axis: &'static str,
    /// When to come back.
    pub(super) wait: Duration,
}

/// A provider's own count of one org's calls to one family of models.
pub(super) struct Meter {
    limits: LimitSettings,
    pool: Pool,
    levels: Vec<Level>,
    running: u32,
}

/// The provider's own bucket: it lets through its whole rate and its whole burst, of which
/// Spillway uses less.
fn whole(bucket: &Bucket) -> Quota {
    match bucket.per {
        Period::Minute => {
            let rate = bucket.limit / Period::Minute.length().as_secs_f64() / 1e6;
            Quota::even(rate, bucket.quota.burst * 2.0)
        }
        Period::Day => bucket.quota,
    }
}

impl Meter {
    /// Nothing counted.
    pub(super) fn new(limits: &LimitSettings, org: &str) -> Self {
        let pool = limits.pool(org);
        let levels = vec![Level::default(); pool.buckets.len()];
        Self { limits: limits.clone(), pool, levels, running: 0 }
    }

    /// The pool's name.
    pub(super) fn id(&self) -> &str {
        &self.pool.id
    }

    /// Whether calls to this model are counted here.
    pub(super) fn counts(&self, model: &str) -> bool {
        self.limits.counts(model)
    }

    /// Whether a call of so many tokens that comes now (in microseconds) is refused.
    pub(super) fn look(&self, now: f64, (input, output): (u64, u64)) -> Option<Refusal> {
        if self.pool.concurrency.is_some_and(|most| self.running >= most) {
            return Some(Refusal { axis: CONCURRENCY, wait: CROWDED });
        }
        let cost = Cost::call(input, output);
        let mut longest: Option<(f64, Refusal)> = None;
        for (bucket, level) in self.pool.buckets.iter().zip(&self.levels) {
            let quota = whole(bucket);
            let wait = quota.wait(quota.drained(*level, now), self.pool.units(bucket, &cost));
            if wait > longest.map_or(0.0, |(longest, _)| longest) {
                // In whole milliseconds, and never too short.
                let told = Duration::from_secs_f64((wait / 1e3).ceil().min(1e12) / 1e3);
                longest = Some((wait, Refusal { axis: name(bucket), wait: told }));
            }
        }
        longest.map(|(_, refusal)| refusal)
    }

    /// Counts a call that was let through.
    pub(super) fn enter(&mut self, now: f64, (input, output): (u64, u64)) {
        self.running += 1;
        let cost = Cost::call(input, output);
        for (bucket, level) in self.pool.buckets.iter().zip(&mut self.levels) {
            let quota = whole(bucket);
            *level = quota.charged(quota.drained(*level, now), self.pool.units(bucket, &cost));
        }
    }

    /// A call has ended.
    pub(super) const fn leave(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}
