//! Whether a step may be asked: shut after repeated failures, tried with one call once its time is
//! over, and given more as they succeed.
//!
//! The gate that is shut is the limiter's, for all replicas. How a step comes back is each
//! replica's own: it begins with one call and lets one more through at the same time with each that
//! succeeds, until so many have that the step counts as well again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::telemetry::metrics;

/// Failures in a row that are forgiven.
const FORGIVEN: u32 = 2;

/// A window of calls.
const WINDOW: TimeDelta = TimeDelta::seconds(30);

/// So many calls in the last windows are enough to go by the share that failed.
const ENOUGH: u32 = 20;

/// So many calls at the same time, and the step is well again.
const WELL: u32 = 16;

/// Steps that are remembered; live calls name them.
const MOST: usize = 2_000;

/// How a step stands on this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Calls go through.
    Closed,
    /// Nothing has gone through since it was shut.
    Open,
    /// So many calls go through at the same time.
    Recovering(u32),
}

impl Standing {
    /// The standing's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Recovering(_) => "recovering",
        }
    }

    /// How many calls at the same time try it, while it recovers.
    pub const fn at_once(self) -> Option<u32> {
        match self {
            Self::Recovering(places) => Some(places),
            Self::Closed | Self::Open => None,
        }
    }

    const fn figure(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::Recovering(_) => 0.5,
            Self::Open => 1.0,
        }
    }
}

/// Calls and how many of them failed.
#[derive(Clone, Copy, Default)]
struct Counted {
    calls: u32,
    failed: u32,
}

struct Circuit {
    standing: Standing,
    /// Calls in recovery that are under way.
    running: u32,
    /// Failures in a row, and when the last of them was counted.
    in_row: u32,
    counted: DateTime<Utc>,
    /// How often it was shut since it was well.
    shut: u32,
    /// The window that is filling, since when, and the one before.
    window: Counted,
    since: DateTime<Utc>,
    before: Counted,
}

impl Circuit {
    fn new(now: DateTime<Utc>) -> Self {
        let (window, before) = (Counted::default(), Counted::default());
        let (standing, counted) = (Standing::Closed, DateTime::UNIX_EPOCH);
        Self { standing, running: 0, in_row: 0, counted, shut: 0, window, since: now, before }
    }

    fn count(&mut self, failed: bool, now: DateTime<Utc>) {
        let age = now - self.since;
        if age >= WINDOW {
            self.before = if age < WINDOW * 2 { self.window } else { Counted::default() };
            (self.window, self.since) = (Counted::default(), now);
        }
        self.window.calls += 1;
        self.window.failed += u32::from(failed);
    }

    /// Half of all calls failed lately, and there were enough of them.
    fn fails_often(&self) -> bool {
        let calls = self.window.calls + self.before.calls;
        calls >= ENOUGH && (self.window.failed + self.before.failed) * 2 >= calls
    }

    fn open(&mut self) -> u32 {
        (self.standing, self.in_row) = (Standing::Open, 0);
        (self.window, self.before) = (Counted::default(), Counted::default());
        self.shut = self.shut.saturating_add(1);
        self.shut
    }
}

/// Whether a call may go to a step.
pub(super) enum Admission {
    /// It may.
    Free,
    /// It may, as one of a few.
    Probe(Probe),
    /// Not while others try it.
    Full,
}

/// A place among the calls that try a step.
pub(super) struct Probe {
    circuits: Arc<Circuits>,
    step: String,
}

impl Probe {
    /// The limiter lets it through: the step's time is over.
    pub(super) fn departs(&self) {
        self.circuits.with(&self.step, |circuit| {
            if circuit.standing == Standing::Open {
                circuit.standing = Standing::Recovering(1);
            }
        });
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.circuits
            .with(&self.step, |circuit| circuit.running = circuit.running.saturating_sub(1));
    }
}

/// How all steps stand on this replica.
#[derive(Default)]
pub(super) struct Circuits(Mutex<HashMap<String, Circuit>>);

impl Circuits {
    /// Asks for a place at a step.
    pub(super) fn admit(self: &Arc<Self>, step: &str) -> Admission {
        let mut all = self.lock();
        let Some(circuit) = all.get_mut(step) else { return Admission::Free };
        let places = match circuit.standing {
            Standing::Closed => return Admission::Free,
            Standing::Open => 1,
            Standing::Recovering(places) => places,
        };
        if circuit.running >= places {
            return Admission::Full;
        }
        circuit.running += 1;
        Admission::Probe(Probe { circuits: Arc::clone(self), step: step.to_owned() })
    }

    /// The step's gate was found shut, by whomever.
    pub(super) fn found_shut(&self, step: &str, now: DateTime<Utc>) {
        self.with_new(step, now, |circuit| circuit.standing = Standing::Open);
    }

    /// The step answered.
    pub(super) fn succeeded(&self, step: &str, now: DateTime<Utc>) {
        self.with_new(step, now, |circuit| match circuit.standing {
            Standing::Closed => {
                circuit.in_row = 0;
                circuit.count(false, now);
            }
            // A call that was under way when it was shut says nothing.
            Standing::Open => {}
            Standing::Recovering(places) if places + 1 >= WELL => {
                let running = circuit.running;
                *circuit = Circuit { running, ..Circuit::new(now) };
            }
            Standing::Recovering(places) => circuit.standing = Standing::Recovering(places + 1),
        });
    }

    /// A call to a step, begun at `started`, failed. Answers how often the step was shut since it
    /// was well, this time included, when it must be shut now. Calls under way together tell of
    /// one trouble: in a row they count once.
    pub(super) fn failed(
        &self,
        step: &str,
        started: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<u32> {
        self.with_new(step, now, |circuit| {
            let together = circuit.counted > started;
            match circuit.standing {
                Standing::Open | Standing::Recovering(_) if together => None,
                Standing::Open | Standing::Recovering(_) => {
                    circuit.counted = now;
                    Some(circuit.open())
                }
                Standing::Closed => {
                    circuit.count(true, now);
                    if !together || circuit.in_row == 0 {
                        circuit.in_row += 1;
                        circuit.counted = now;
                    }
                    let often = circuit.in_row > FORGIVEN || circuit.fails_often();
                    often.then(|| circuit.open())
                }
            }
        })
    }

    /// How a step stands.
    pub(super) fn standing(&self, step: &str) -> Standing {
        self.lock().get(step).map_or(Standing::Closed, |circuit| circuit.standing)
    }

    fn with(&self, step: &str, change: impl FnOnce(&mut Circuit)) {
        if let Some(circuit) = self.lock().get_mut(step) {
            told(step, circuit, change);
        }
    }

    fn with_new<T>(
        &self,
        step: &str,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Circuit) -> T,
    ) -> T {
        let mut all = self.lock();
        if all.len() >= MOST {
            all.retain(|_, circuit| circuit.standing != Standing::Closed || circuit.running > 0);
        }
        if let Some(circuit) = all.get_mut(step) {
            return told(step, circuit, change);
        }
        told(step, all.entry(step.to_owned()).or_insert_with(|| Circuit::new(now)), change)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Circuit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes a circuit and tells of it.
fn told<T>(step: &str, circuit: &mut Circuit, change: impl FnOnce(&mut Circuit) -> T) -> T {
    let before = circuit.standing;
    let answer = change(circuit);
    let now = circuit.standing;
    if before.as_str() != now.as_str() {
        metrics::circuit(step, now.figure());
        tracing::info!(step, from = before.as_str(), to = now.as_str(), "circuit");
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    /// Tries a step whose gate is open: the probe, when there is a place.
    fn probe(circuits: &Arc<Circuits>) -> Option<Probe> {
        match circuits.admit("s") {
            Admission::Probe(probe) => {
                probe.departs();
                Some(probe)
            }
            Admission::Free | Admission::Full => None,
        }
    }

    fn is_free(circuits: &Arc<Circuits>) -> bool {
        matches!(circuits.admit("s"), Admission::Free)
    }

    #[test]
    fn repeated_failures_shut_a_step_and_those_under_way_count_once() {
        let circuits = Arc::new(Circuits::default());
        assert_eq!(circuits.failed("s", at(0), at(10)), None);
        assert_eq!(circuits.failed("s", at(1), at(11)), None, "under way with the first");
        assert_eq!(circuits.failed("s", at(12), at(13)), None);
        assert!(is_free(&circuits));
        assert_eq!(circuits.failed("s", at(14), at(15)), Some(1));
        assert_eq!(circuits.standing("s"), Standing::Open);
        assert_eq!(circuits.failed("s", at(14), at(16)), None, "under way when it was shut");
    }

    #[test]
    fn an_answer_ends_the_row_but_failing_every_other_time_shuts_too() {
        let circuits = Arc::new(Circuits::default());
        let mut shut = None;
        for second in 0..60 {
            circuits.succeeded("s", at(second));
            shut = circuits.failed("s", at(second), at(second));
            if shut.is_some() {
                assert_eq!(second, 9, "ten of twenty");
                break;
            }
        }
        assert_eq!(shut, Some(1));
    }

    #[test]
    fn one_call_goes_first_and_more_follow_as_they_succeed() {
        let circuits = Arc::new(Circuits::default());
        circuits.found_shut("s", at(0));
        let first = probe(&circuits).unwrap();
        assert!(probe(&circuits).is_none(), "one at a time");
        circuits.succeeded("s", at(1));
        drop(first);
        let two = [probe(&circuits).unwrap(), probe(&circuits).unwrap()];
        assert!(probe(&circuits).is_none());
        for probe in two {
            circuits.succeeded("s", at(2));
            drop(probe);
        }
        let four: Vec<_> = std::iter::from_fn(|| probe(&circuits)).collect();
        assert_eq!((four.len(), circuits.standing("s")), (4, Standing::Recovering(4)));
        for _ in 0..12 {
            circuits.succeeded("s", at(3));
        }
        assert!(is_free(&circuits));
        assert_eq!(circuits.standing("s"), Standing::Closed);
        drop(four);
        assert!(is_free(&circuits));
    }

    #[test]
    fn failing_in_recovery_shuts_for_longer() {
        let circuits = Arc::new(Circuits::default());
        circuits.found_shut("s", at(0));
        for (round, second) in (1..=3).zip([10, 20, 30]) {
            let probe = probe(&circuits).unwrap();
            assert_eq!(circuits.failed("s", at(second), at(second + 1)), Some(round));
            drop(probe);
            assert_eq!(circuits.standing("s"), Standing::Open);
        }
        let probe = probe(&circuits).unwrap();
        circuits.succeeded("s", at(40));
        drop(probe);
        assert_eq!(circuits.failed("s", at(41), at(42)), Some(4), "one answer is not yet well");
    }

    #[test]
    fn a_place_that_the_limiter_refuses_is_given_back() {
        let circuits = Arc::new(Circuits::default());
        circuits.found_shut("s", at(0));
        drop(circuits.admit("s"));
        assert_eq!(circuits.standing("s"), Standing::Open);
        assert!(probe(&circuits).is_some());
    }
}
