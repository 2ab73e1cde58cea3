//! Limits as a simulated provider enforces them and as the report tells them: the one file here
//! that knows what a pool is made of.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::bucket::Level;
use crate::domain::limits::{Axis, Bucket, Cost, LimitSettings, Period, Pool};
use crate::domain::units::Span;
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
    /// The limit as people write it.
    pub(super) limit: String,
    /// How it counts; `None` for concurrency.
    counted: Option<(Arc<Pool>, Bucket)>,
}

impl Gauge {
    /// Calls at the same time.
    pub(super) fn concurrency(most: u32) -> Self {
        let (rate, limit) = (f64::from(most), format!("{most} at once"));
        Self { axis: CONCURRENCY, rate, burst: 0.0, limit, counted: None }
    }

    /// What a call of so many tokens counts.
    pub(super) fn units(&self, input: u64, output: u64) -> f64 {
        let counted = self.counted.as_ref();
        counted.map_or(1.0, |(pool, bucket)| pool.units(bucket, &Cost::call(input, output)))
    }
}

/// Units a second, as configured.
fn rate(bucket: &Bucket) -> f64 {
    bucket.limit / bucket.per.length().as_secs_f64()
}

/// What a bucket counts, by the name of its setting.
const fn axis(bucket: &Bucket) -> &'static str {
    match (bucket.per, bucket.axis) {
        (Period::Day, Axis::Requests) => "requests_per_day",
        (Period::Day, Axis::InputTokens) => "input_tokens_per_day",
        (Period::Day, Axis::OutputTokens) => "output_tokens_per_day",
        (Period::Day, Axis::Tokens) => "tokens_per_day",
        (Period::Minute, axis) => axis.as_str(),
    }
}

/// The limits of a pool that have a bucket.
pub(super) fn buckets(pool: &Arc<Pool>) -> Vec<Gauge> {
    let gauge = |bucket: &Bucket| {
        let (limit, rate) = ((bucket.limit * 100.0).round() / 100.0, rate(bucket));
        let per = match bucket.per {
            Period::Minute => "min",
            Period::Day => "day",
        };
        Gauge {
            axis: axis(bucket),
            rate,
            burst: bucket.quota.burst,
            limit: format!("{limit}/{per}"),
            counted: Some((Arc::clone(pool), *bucket)),
        }
    };
    pool.buckets.iter().map(gauge).collect()
}

/// How full each of [`buckets`] is: 1 is full.
pub(super) fn levels(level: &PoolLevel) -> Vec<f64> {
    level.buckets.iter().map(|bucket| bucket.units / bucket.burst).collect()
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

impl Meter {
    /// Nothing counted. The provider lets its whole burst and rate through, of which Spillway uses
    /// a part, and does not mind how fast use grows.
    pub(super) fn new(limits: &LimitSettings, org: &str) -> Self {
        let whole = LimitSettings { burst: Span(limits.burst.0 * 2), ramp: None, ..limits.clone() };
        let mut pool = whole.pool(org);
        for bucket in &mut pool.buckets {
            bucket.quota.rate = rate(bucket) / 1e6;
        }
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
            let quota = bucket.quota;
            let wait = quota.wait(quota.drained(*level, now), self.pool.units(bucket, &cost));
            if wait > longest.map_or(0.0, |(longest, _)| longest) {
                // In whole milliseconds, and never too short.
                let told = Duration::from_secs_f64((wait / 1e3).ceil().min(1e12) / 1e3);
                longest = Some((wait, Refusal { axis: axis(bucket), wait: told }));
            }
        }
        longest.map(|(_, refusal)| refusal)
    }

    /// Counts a call that was let through.
    pub(super) fn enter(&mut self, now: f64, (input, output): (u64, u64)) {
        self.running += 1;
        let cost = Cost::call(input, output);
        for (bucket, level) in self.pool.buckets.iter().zip(&mut self.levels) {
            let quota = bucket.quota;
            *level = quota.charged(quota.drained(*level, now), self.pool.units(bucket, &cost));
        }
    }

    /// A call has ended.
    pub(super) const fn leave(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}
