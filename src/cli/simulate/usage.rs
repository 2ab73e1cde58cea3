//! How much of each limit was used while jobs waited for it.

use super::meter::{self, CONCURRENCY, Gauge};
use super::run::{Outcome, Seen};
use super::world::Call;

/// Jobs that wait less long are no backlog.
const AT_ONCE: f64 = 0.1;

/// With less backlog than this in all, nothing can be said of a limit.
const LEAST: f64 = 1.0;

/// One limit and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Used {
    /// The pool's name; `None` for this replica's own limit.
    pub(super) pool: Option<String>,
    pub(super) axis: &'static str,
    pub(super) limit: String,
    /// Seconds in which jobs waited that could have used it.
    pub(super) backlog_s: f64,
    /// The used part of what it allowed in that time; `None` when that was too short.
    pub(super) share: Option<f64>,
    /// Calls answered 429 for it.
    pub(super) rate_limited: usize,
}

/// All limits, in the order of the pools.
pub(super) fn used(outcome: &Outcome) -> Vec<Used> {
    let mut found = Vec::new();
    for (place, pool) in outcome.pools.iter().enumerate() {
        let concerned =
            |job: &Seen| outcome.routes.get(&job.route).is_some_and(|pools| pools.contains(&place));
        let calls: Vec<&Call> =
            outcome.calls.iter().filter(|call| call.pools.contains(&pool.id)).collect();
        let backlog = backlog(outcome, &calls, concerned);
        let mut gauges = meter::buckets(pool);
        gauges.extend(pool.concurrency.map(Gauge::concurrency));
        for gauge in gauges {
            let refused = outcome.calls.iter().filter_map(|call| call.refused.as_ref());
            let refused = refused.filter(|(id, axis)| *id == pool.id && *axis == gauge.axis);
            found.push(Used {
                pool: Some(pool.id.clone()),
                axis: gauge.axis,
                limit: gauge.limit.clone(),
                backlog_s: length(&backlog),
                share: share(&gauge, &backlog, (outcome, &calls)),
                rate_limited: refused.count(),
            });
        }
    }
    let calls: Vec<&Call> = outcome.calls.iter().filter(|call| call.refused.is_none()).collect();
    let backlog = backlog(outcome, &calls, |_| true);
    let own = Gauge::concurrency(u32::try_from(outcome.concurrency).unwrap_or(u32::MAX));
    found.push(Used {
        pool: None,
        axis: CONCURRENCY,
        limit: own.limit.clone(),
        backlog_s: length(&backlog),
        share: share(&own, &backlog, (outcome, &calls)),
        rate_limited: 0,
    });
    found
}

/// When jobs waited between the first and the last of these calls.
fn backlog(
    outcome: &Outcome,
    calls: &[&Call],
    concerned: impl Fn(&Seen) -> bool,
) -> Vec<(f64, f64)> {
    let moments = || calls.iter().map(|call| outcome.since(call.at));
    let (first, last) = (moments().fold(f64::INFINITY, f64::min), moments().fold(0.0, f64::max));
    let mut waits: Vec<(f64, f64)> = outcome
        .jobs
        .iter()
        .filter(|job| concerned(job))
        .map(Seen::waited)
        .map(|(from, to)| (from.max(first), to.min(last)))
        .filter(|(from, to)| to - from > AT_ONCE)
        .collect();
    waits.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut joined: Vec<(f64, f64)> = Vec::new();
    for (from, to) in waits {
        match joined.last_mut() {
            Some((_, until)) if from <= *until => *until = until.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// How long they are together.
fn length(spans: &[(f64, f64)]) -> f64 {
    spans.iter().fold(0.0, |sum, (from, to)| sum + (to - from))
}

/// What of a limit these calls used while there was a backlog.
fn share(
    gauge: &Gauge,
    backlog: &[(f64, f64)],
    (outcome, calls): (&Outcome, &[&Call]),
) -> Option<f64> {
    let time = length(backlog);
    if time < LEAST {
        return None;
    }
    let within = |call: &&&Call| {
        let at = outcome.since(call.at);
        let next = backlog.partition_point(|(from, _)| *from <= at);
        let begun = next.checked_sub(1).and_then(|place| backlog.get(place));
        begun.is_some_and(|(_, until)| at <= *until)
    };
    if gauge.axis == CONCURRENCY {
        let busy: f64 = calls.iter().map(|call| overlap(outcome, call, backlog)).sum();
        return Some(busy / (gauge.rate * time));
    }
    let used: f64 =
        calls.iter().filter(within).map(|call| gauge.units(call.input, call.output)).sum();
    #[expect(clippy::cast_precision_loss, reason = "a count of backlogs")]
    let bursts = gauge.burst * backlog.len() as f64;
    Some(used / (gauge.rate * time + bursts))
}

/// How long a call was under way while there was a backlog.
fn overlap(outcome: &Outcome, call: &Call, backlog: &[(f64, f64)]) -> f64 {
    let (at, ended) = (outcome.since(call.at), outcome.since(call.ended));
    let skipped = backlog.partition_point(|(_, to)| *to <= at);
    let rest = backlog.iter().skip(skipped).take_while(|(from, _)| *from < ended);
    rest.map(|(from, to)| (to.min(ended) - from.max(at)).max(0.0)).sum()
}
