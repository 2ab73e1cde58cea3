//! Limits as a simulated provider enforces them and as the report tells them: the one file here
//! that knows what a pool is made of.

use std::time::Duration;

use crate::domain::bucket::Level;
use crate::domain::limits::{Axis, Cost, LimitSettings, Pool};
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
}

impl Gauge {
    /// What a call of so many tokens counts.
    pub(super) fn units(&self, input: u64, output: u64) -> f64 {
        let counted = |axis: &Axis| axis.as_str() == self.axis;
        let costs = Axis::ALL.into_iter().zip(Cost::call(input, output).0);
        costs.filter(|(axis, _)| counted(axis)).map(|(_, units)| units).sum()
    }

    /// The limit as people write it.
    pub(super) fn limit(&self) -> String {
        if self.axis == CONCURRENCY {
            return format!("{} at once", self.rate);
        }
        match self.rate * 60.0 {
            minute if minute >= 1.0 => format!("{}/min", (minute * 100.0).round() / 100.0),
            minute => format!("{}/day", (minute * 1_440.0).round()),
        }
    }
}

/// The limits of a pool that have a bucket.
pub(super) fn buckets(pool: &Pool) -> Vec<Gauge> {
    let quotas = Axis::ALL.into_iter().zip(pool.quotas);
    let gauge = |(axis, quota): (Axis, Option<crate::domain::bucket::Quota>)| {
        quota.map(|quota| Gauge { axis: axis.as_str(), rate: quota.rate * 1e6, burst: quota.burst })
    };
    quotas.filter_map(gauge).collect()
}

/// How full each of [`buckets`] is: 1 is full.
pub(super) fn levels(pool: &Pool, level: &PoolLevel) -> Vec<f64> {
    let units = pool.quotas.iter().zip(level.units);
    units.filter_map(|(quota, units)| Some(units? / quota.as_ref()?.burst)).collect()
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
    levels: [Level; 3],
    running: u32,
}

impl Meter {
    /// Nothing counted. The provider lets its whole burst through; Spillway uses half of it.
    pub(super) fn new(limits: &LimitSettings, org: &str) -> Self {
        let whole = LimitSettings { burst: Span(limits.burst.0 * 2), ..limits.clone() };
        let pool = whole.pool(org);
        Self { limits: limits.clone(), pool, levels: [Level::default(); 3], running: 0 }
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
        let mut longest: Option<(f64, Refusal)> = None;
        let buckets = self.pool.quotas.iter().zip(self.levels).zip(Axis::ALL);
        for (((quota, level), axis), cost) in buckets.zip(Cost::call(input, output).0) {
            let Some(quota) = quota else { continue };
            let wait = quota.wait(quota.drained(level, now), cost);
            if wait > longest.map_or(0.0, |(longest, _)| longest) {
                // In whole milliseconds, and never too short.
                let told = Duration::from_secs_f64((wait / 1e3).ceil().min(1e12) / 1e3);
                longest = Some((wait, Refusal { axis: axis.as_str(), wait: told }));
            }
        }
        longest.map(|(_, refusal)| refusal)
    }

    /// Counts a call that was let through.
    pub(super) fn enter(&mut self, now: f64, (input, output): (u64, u64)) {
        self.running += 1;
        let buckets = self.pool.quotas.iter().zip(&mut self.levels);
        for ((quota, level), cost) in buckets.zip(Cost::call(input, output).0) {
            if let Some(quota) = quota {
                *level = quota.charged(quota.drained(*level, now), cost);
            }
        }
    }

    /// A call has ended.
    pub(super) const fn leave(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}
