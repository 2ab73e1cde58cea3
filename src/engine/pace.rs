//! How fast steps are: what this replica sees, exchanged with the others in the background.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::Engine;
use crate::domain::speed::{Measure, Pace, bucket_of, slice_at};
use crate::memory::speeds::{Mark, Seen, Sums};
use crate::telemetry::metrics;

/// How often replicas exchange what they saw.
const EXCHANGE: Duration = Duration::from_secs(1);

/// Figures kept while they cannot be exchanged.
const MOST: usize = 20_000;

/// What was seen of steps lately, by all replicas.
#[derive(Default)]
pub(super) struct Paces {
    /// Seen here and not yet told to the others.
    seen: Mutex<Seen>,
    known: ArcSwap<HashMap<String, Pace>>,
}

impl Paces {
    /// A call took this long, or gave so many tokens a second.
    pub(super) fn note(&self, step: &str, (measure, value): (Measure, f64), now: DateTime<Utc>) {
        let mark =
            Mark { slice: slice_at(now), step: step.to_owned(), measure, bucket: bucket_of(value) };
        let mut seen = self.seen();
        if seen.len() < MOST {
            *seen.entry(mark).or_default() += 1;
        }
    }

    /// How fast a step is.
    pub(super) fn of(&self, step: &str) -> Pace {
        self.known.load().get(step).copied().unwrap_or_default()
    }

    fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen())
    }

    /// Could not be told: it is told with what comes next.
    fn put_back(&self, unsaid: Seen) {
        let mut seen = self.seen();
        for (mark, count) in unsaid {
            if seen.len() < MOST {
                *seen.entry(mark).or_default() += count;
            }
        }
    }

    fn learn(&self, sums: &Sums) {
        let pace = |seen: &[_; 3]| {
            let mut pace = Pace::default();
            for (measure, histogram) in Measure::ALL.into_iter().zip(seen) {
                *pace.of(measure) = crate::domain::speed::Histogram::spread(histogram);
            }
            pace
        };
        let known = sums.iter().map(|(step, seen)| (step.clone(), pace(seen))).collect();
        self.known.store(Arc::new(known));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts exchanging.
pub(super) fn start(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    engine.lifecycle.clone().spawn(async move {
        loop {
            engine.exchange().await;
            if !engine.lifecycle.sleep(EXCHANGE).await {
                // What was seen last is worth something to the others.
                return engine.exchange().await;
            }
        }
    });
}

impl Engine {
    async fn exchange(&self) {
        let seen = self.paces.take();
        match self.speeds.exchange(&seen).await {
            Ok(sums) => self.paces.learn(&sums),
            Err(fault) => {
                metrics::store_error("speeds");
                tracing::warn!(%fault, "what steps' speeds are could not be exchanged");
                self.paces.put_back(seen);
            }
        }
    }

    /// How fast a step is, as all replicas have seen it in the last five minutes.
    pub fn pace(&self, step: &str) -> Pace {
        self.paces.of(step)
    }
}
