//! What a run comes to, in figures.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::run::{Outcome, Seen};
use super::usage::{Used, used};
use crate::domain::job::Lane;
use crate::domain::result::Status;

/// From this share of a limit on it is said to bind.
const BINDS: f64 = 0.8;

/// Jobs without a workflow are told under this name.
const UNNAMED: &str = "(no workflow)";

/// A run in figures.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The rest in a sentence.
    pub(super) headline: String,
    pub(super) jobs: usize,
    pub(super) first_arrival: DateTime<Utc>,
    pub(super) last_arrival: DateTime<Utc>,
    /// When the last job ended; `null` when some have not.
    pub(super) drained_at: Option<DateTime<Utc>>,
    /// From the first arrival to then.
    pub(super) drained_in_s: Option<f64>,
    /// How many ended how.
    pub(super) answered: usize,
    pub(super) not_answered: usize,
    pub(super) still_open: usize,
    /// Why jobs have no answer, and how many.
    pub(super) reasons: BTreeMap<String, usize>,
    pub(super) calls: usize,
    pub(super) rate_limited: usize,
    pub(super) cost_usd: f64,
    /// Answered jobs whose price is not known.
    pub(super) without_price: usize,
    pub(super) binding: Option<Binding>,
    pub(super) lanes: Vec<Part>,
    pub(super) workflows: Vec<Part>,
    pub(super) limits: Vec<Limit>,
}

/// The limit that is used most while jobs wait.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Binding {
    pub(super) org: Option<String>,
    pub(super) models: Option<String>,
    pub(super) axis: &'static str,
    pub(super) used: f64,
}

/// A lane's or workflow's jobs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) jobs: usize,
    pub(super) answered: usize,
    /// From the arrival to the first call, in seconds; `null` when no call was made.
    pub(super) wait_p50_s: Option<f64>,
    pub(super) wait_p99_s: Option<f64>,
    pub(super) wait_max_s: Option<f64>,
    pub(super) finished_at: Option<DateTime<Utc>>,
}

/// A limit and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Limit {
    /// Whose; `null` is this replica's own `engine.concurrency`.
    pub(super) org: Option<String>,
    pub(super) models: Option<String>,
    pub(super) axis: &'static str,
    /// How much it allows.
    pub(super) allowed: String,
    /// Seconds in which jobs waited that could have used it.
    pub(super) backlog_s: f64,
    /// What was used of what it allowed in that time; `null` when that was under a second.
    pub(super) used: Option<f64>,
    pub(super) rate_limited: usize,
}

impl Report {
    /// Adds up what was seen; its headline is `table`'s matter.
    pub(super) fn of(outcome: &Outcome) -> Self {
        let jobs = &outcome.jobs;
        let with = |status| jobs.iter().filter(|job| job.status == status).count();
        let (answered, open) = (with(Some(Status::Succeeded)), with(None));
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for reason in jobs.iter().filter_map(|job| job.reason.clone()) {
            *reasons.entry(reason).or_default() += 1;
        }
        let end = outcome.end();
        let last = jobs.last().map_or(0.0, |job| job.arrived);
        let is_answered = |job: &&Seen| job.status == Some(Status::Succeeded);
        let unpriced = jobs.iter().filter(is_answered).filter(|job| job.cost_usd.is_none());
        let limits: Vec<Limit> = used(outcome).into_iter().map(Limit::from).collect();
        Self {
            headline: String::new(),
            jobs: jobs.len(),
            first_arrival: outcome.first,
            last_arrival: outcome.moment(last),
            drained_at: (open == 0).then(|| outcome.moment(end)),
            drained_in_s: (open == 0).then_some(end),
            answered,
            not_answered: jobs.len() - answered - open,
            still_open: open,
            reasons,
            calls: outcome.calls.len(),
            rate_limited: outcome.calls.iter().filter(|call| call.refused.is_some()).count(),
            // The sum of no numbers would be -0.
            cost_usd: jobs.iter().filter_map(|job| job.cost_usd).fold(0.0, |sum, cost| sum + cost),
            without_price: unpriced.count(),
            binding: binding(&limits),
            lanes: lanes(outcome),
            workflows: workflows(outcome),
            limits,
        }
    }
}

impl From<Used> for Limit {
    fn from(used: Used) -> Self {
        let (org, models) = used.pool.as_deref().and_then(|pool| pool.split_once('/')).unzip();
        Self {
            org: org.map(str::to_owned),
            models: models.map(str::to_owned),
            axis: used.axis,
            allowed: used.limit,
            backlog_s: used.backlog_s,
            used: used.share,
            rate_limited: used.rate_limited,
        }
    }
}

/// The limit most of which was used, when that was nearly all.
fn binding(limits: &[Limit]) -> Option<Binding> {
    let shares = limits.iter().filter_map(|limit| Some((limit, limit.used?)));
    let (limit, used) = shares.filter(|(_, used)| *used >= BINDS).max_by(|a, b| {
        // Of equals the first.
        a.1.total_cmp(&b.1).then(std::cmp::Ordering::Greater)
    })?;
    let (org, models) = (limit.org.clone(), limit.models.clone());
    Some(Binding { org, models, axis: limit.axis, used })
}

fn lanes(outcome: &Outcome) -> Vec<Part> {
    let part = |lane: Lane| {
        let jobs: Vec<&Seen> = outcome.jobs.iter().filter(|job| job.lane == lane).collect();
        (!jobs.is_empty()).then(|| part(outcome, lane.as_str().to_owned(), &jobs))
    };
    Lane::ALL.into_iter().filter_map(part).collect()
}

fn workflows(outcome: &Outcome) -> Vec<Part> {
    let mut found: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    for job in &outcome.jobs {
        found.entry(job.workflow.as_deref().unwrap_or(UNNAMED)).or_default().push(job);
    }
    found.into_iter().map(|(name, jobs)| part(outcome, name.to_owned(), &jobs)).collect()
}

fn part(outcome: &Outcome, name: String, jobs: &[&Seen]) -> Part {
    let departed = |job: &&Seen| Some((job.departed? - job.arrived).max(0.0));
    let mut waits: Vec<f64> = jobs.iter().filter_map(departed).collect();
    waits.sort_by(f64::total_cmp);
    let open = jobs.iter().any(|job| job.status.is_none());
    let finished = jobs.iter().filter_map(|job| job.ended).fold(0.0, f64::max);
    Part {
        name,
        jobs: jobs.len(),
        answered: jobs.iter().filter(|job| job.status == Some(Status::Succeeded)).count(),
        wait_p50_s: quantile(&waits, 50),
        wait_p99_s: quantile(&waits, 99),
        wait_max_s: waits.last().copied(),
        finished_at: (!open).then(|| outcome.moment(finished)),
    }
}

/// The smallest of sorted values that so many percent do not exceed.
fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied()
}

/// The wait that 99 of 100 of these jobs do not exceed, over all parts given: the longest of theirs.
pub(super) fn longest_p99(parts: &[Part]) -> Option<f64> {
    parts.iter().filter_map(|part| part.wait_p99_s).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 50), Some(50.0));
        assert_eq!(quantile(&values, 99), Some(99.0));
        assert_eq!(quantile(&[3.0], 99), Some(3.0));
        assert_eq!(quantile(&[], 99), None);
    }
}
