//! What this replica has seen of tasks and steps: how long answers usually are, how often a step
//! failed in a row, how fast it is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

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
    failures: HashMap<String, u32>,
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

    /// A step failed; how often in a row now.
    pub(super) fn failed(&self, step: &str) -> u32 {
        let mut seen = self.lock();
        let count = seen.failures.entry(step.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count
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
