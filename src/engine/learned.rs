//! What this replica has seen of tasks and steps: how long answers usually are, how often a step
//! failed in a row, how fast it is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::completion::Usage;
use crate::domain::task::Task;

/// How much of the latest observation goes into an average.
const WEIGHT: f64 = 0.1;

/// Observations after which an average is believed.
const ENOUGH: u32 = 10;

/// Room left above an average.
const HEADROOM: f64 = 1.5;

#[derive(Default)]
struct Average {
    value: f64,
    count: u32,
}

impl Average {
    fn add(&mut self, value: f64) {
        let weight = if self.count == 0 { 1.0 } else { WEIGHT };
        self.value += (value - self.value) * weight;
        self.count = self.count.saturating_add(1);
    }
}

#[derive(Default)]
struct Seen {
    output_tokens: HashMap<String, Average>,
    latency_s: HashMap<String, Average>,
    tokens_per_s: HashMap<String, Average>,
    failures: HashMap<String, (u32, DateTime<Utc>)>,
}

/// What this replica has seen.
#[derive(Default)]
pub(super) struct Learned(Mutex<Seen>);

impl Learned {
    /// Output tokens to charge a call of this task with: its cap until its usual length is known,
    /// then that with some room. The difference is settled afterwards.
    pub(super) fn output_tokens(&self, task: &Task) -> u64 {
        let cap = u64::from(task.max_output_tokens);
        match self.lock().output_tokens.get(&task.name) {
            Some(average) if average.count >= ENOUGH => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "an average of token counts"
                )]
                let usual = (average.value * HEADROOM).ceil() as u64;
                usual.clamp(1, cap)
            }
            _ => cap,
        }
    }

    /// A step answered.
    pub(super) fn answered(&self, step: &str, task: &str, usage: Option<&Usage>, took: Duration) {
        let mut seen = self.lock();
        seen.failures.remove(step);
        let seconds = took.as_secs_f64();
        seen.latency_s.entry(step.to_owned()).or_default().add(seconds);
        if let Some(usage) = usage {
            #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
            let tokens = usage.output_tokens as f64;
            seen.output_tokens.entry(task.to_owned()).or_default().add(tokens);
            if seconds > 0.0 {
                seen.tokens_per_s.entry(step.to_owned()).or_default().add(tokens / seconds);
            }
        }
    }

    /// A call to a step, begun at `started`, failed: how often it failed in a row now. Calls under
    /// way together tell of one trouble and count once; `None` for those that add nothing.
    pub(super) fn failed(
        &self,
        step: &str,
        started: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<u32> {
        let mut seen = self.lock();
        let (count, counted) = seen.failures.entry(step.to_owned()).or_default();
        if *count > 0 && started < *counted {
            return None;
        }
        (*count, *counted) = (count.saturating_add(1), now);
        Some(*count)
    }

    /// A step's usual latency in seconds and output tokens a second, as far as seen.
    pub(super) fn speed(&self, step: &str) -> (Option<f64>, Option<f64>) {
        let seen = self.lock();
        let value = |map: &HashMap<String, Average>| map.get(step).map(|average| average.value);
        (value(&seen.latency_s), value(&seen.tokens_per_s))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_fail_together_count_once() {
        let learned = Learned::default();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert_eq!(learned.failed("s", at(0), at(10)), Some(1));
        assert_eq!(learned.failed("s", at(1), at(11)), None, "begun before the first was counted");
        assert_eq!(learned.failed("s", at(12), at(13)), Some(2));
        learned.answered("s", "t", None, Duration::from_secs(1));
        assert_eq!(learned.failed("s", at(5), at(14)), Some(1), "an answer ends the row");
    }
}
