//! What this replica has seen of tasks and steps: how long answers usually are, how often a
//! step refused in a row, how long it takes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::completion::Usage;
use crate::domain::task::Task;

/// How much of the latest observation goes into an average at least.
const WEIGHT: f64 = 0.05;

/// Limits told alike so many times in a row are believed.
const AGREE: u32 = 5;

/// A limit that is believed is told to the limiter again after so many more.
const AGAIN: u32 = 500;

/// Two figures that differ by less are the same.
const SAME: f64 = 0.01;

/// An average of what was seen lately.
struct Average {
    value: f64,
    count: u32,
}

impl Average {
    /// What is to be believed before anything was seen; it counts like one observation.
    const fn presumed(value: f64) -> Self {
        Self { value, count: 1 }
    }

    fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.value += (value - self.value) * WEIGHT.max(1.0 / f64::from(self.count));
    }

    /// The average in whole units.
    fn whole(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an average of token counts"
        )]
        let whole = self.value.ceil() as u64;
        whole
    }
}

/// A limit as the provider told it last.
#[derive(Default)]
struct LimitTold {
    factor: f64,
    /// So many times in a row.
    times: u32,
}

#[derive(Default)]
struct Seen {
    output_tokens: HashMap<String, Average>,
    least_output: HashMap<String, u64>,
    /// Reported by estimated input tokens, by step.
    input_ratio: HashMap<String, Average>,
    latency_s: HashMap<String, Average>,
    /// Refusals in a row that told no time to come back, by step.
    limited: HashMap<String, (u32, DateTime<Utc>)>,
    /// Tokens in and out of what departs, by route.
    usual: HashMap<String, (Average, Average)>,
    limits: HashMap<(String, &'static str), LimitTold>,
}

/// What this replica has seen.
#[derive(Default)]
pub(super) struct Learned(Mutex<Seen>);

/// A good answer, as far as it teaches.
pub(super) struct Lesson<'a> {
    pub(super) step: &'a str,
    pub(super) task: &'a str,
    /// The task's cap on output tokens.
    pub(super) cap: u32,
    pub(super) estimated_input: u64,
    pub(super) usage: Option<&'a Usage>,
    pub(super) took: Duration,
}

impl Learned {
    /// Output tokens a call of this task usually takes: its cap at first, soon what was seen.
    pub(super) fn output_tokens(&self, task: &Task) -> u64 {
        let cap = u64::from(task.max_output_tokens);
        self.lock().output_tokens.get(&task.name).map_or(cap, |usual| usual.whole().clamp(1, cap))
    }

    /// Output tokens a call of this task is sure to take: the fewest that one has taken.
    pub(super) fn least_output_tokens(&self, task: &str) -> u64 {
        self.lock().least_output.get(task).copied().unwrap_or_default()
    }

    /// Input tokens a step will count where so many are estimated: tokenizers differ.
    pub(super) fn input_tokens(&self, step: &str, estimated: u64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let tokens = estimated as f64;
        let ratio = self.lock().input_ratio.get(step).map_or(1.0, |ratio| ratio.value);
        Average::presumed(tokens * ratio).whole()
    }

    /// A step answered.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub(super) fn answered(&self, lesson: &Lesson<'_>) {
        let step = lesson.step;
        let mut seen = self.lock();
        seen.limited.remove(step);
        let seconds = lesson.took.as_secs_f64();
        average(&mut seen.latency_s, step, seconds).add(seconds);
        let Some(usage) = lesson.usage else { return };
        let tokens = usage.output_tokens as f64;
        let least = seen.least_output.entry(lesson.task.to_owned()).or_insert(u64::MAX);
        *least = (*least).min(usage.output_tokens);
        average(&mut seen.output_tokens, lesson.task, f64::from(lesson.cap)).add(tokens);
        if lesson.estimated_input > 0 && usage.input_tokens > 0 {
            let ratio = usage.input_tokens as f64 / lesson.estimated_input as f64;
            average(&mut seen.input_ratio, step, 1.0).add(ratio.clamp(0.1, 10.0));
        }
    }

    /// A job of this route departs.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub(super) fn departed(&self, route: &str, input_tokens: u64, output_tokens: u64) {
        let (input, output) = (input_tokens as f64, output_tokens as f64);
        let mut seen = self.lock();
        let first = || (Average::presumed(input), Average::presumed(output));
        let usual = seen.usual.entry(route.to_owned()).or_insert_with(first);
        usual.0.add(input);
        usual.1.add(output);
    }

    /// Tokens in and out of what departs lately on a route.
    pub(super) fn usual(&self, route: &str) -> Option<(u64, u64)> {
        let seen = self.lock();
        seen.usual.get(route).map(|(input, output)| (input.whole(), output.whole()))
    }

    /// A provider told that one of a pool's limits is this many times what is configured. Answers
    /// the correction once it was told so often that it is to be believed.
    pub(super) fn limit_told(&self, pool: &str, bucket: &'static str, factor: f64) -> Option<f64> {
        let factor = if (factor - 1.0).abs() <= SAME { 1.0 } else { factor };
        let mut seen = self.lock();
        let told = seen.limits.entry((pool.to_owned(), bucket)).or_default();
        if (told.factor - factor).abs() > SAME * factor {
            *told = LimitTold { factor, times: 0 };
        }
        told.times = told.times.saturating_add(1);
        // Said again now and then: the store may have lost it.
        (told.times % AGAIN == AGREE).then_some(told.factor)
    }

    /// A call to a step, begun at `started`, was refused for its rate without a word when to come
    /// back: how often in a row now. Calls under way together count once; `None` for those that
    /// add nothing.
    pub(super) fn limited(
        &self,
        step: &str,
        started: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<u32> {
        let mut seen = self.lock();
        bounded(&mut seen.limited, step);
        let (count, counted) = seen.limited.entry(step.to_owned()).or_default();
        if *count > 0 && started < *counted {
            return None;
        }
        (*count, *counted) = (count.saturating_add(1), now);
        Some(*count)
    }

    /// A step's usual latency in seconds, as far as seen: for estimates, which need a figure
    /// however long ago the step was asked.
    pub(super) fn latency(&self, step: &str) -> Option<f64> {
        self.lock().latency_s.get(step).map(|average| average.value)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// The average of this name; a new one presumes this value.
fn average<'a>(
    map: &'a mut HashMap<String, Average>,
    name: &str,
    presumed: f64,
) -> &'a mut Average {
    bounded(map, name);
    map.entry(name.to_owned()).or_insert_with(|| Average::presumed(presumed))
}

/// The most names kept of a kind: callers make up names of models.
const MOST: usize = 10_000;

/// Makes room for one more name.
fn bounded<T>(map: &mut HashMap<String, T>, name: &str) {
    if map.len() >= MOST && !map.contains_key(name) {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_fail_together_count_once() {
        let learned = Learned::default();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert_eq!(learned.limited("s", at(0), at(10)), Some(1));
        assert_eq!(learned.limited("s", at(1), at(11)), None, "begun before the first was counted");
        assert_eq!(learned.limited("s", at(12), at(13)), Some(2));
        learned.answered(&lesson(None));
        assert_eq!(learned.limited("s", at(5), at(14)), Some(1), "an answer ends the row");
    }

    fn lesson(usage: Option<&Usage>) -> Lesson<'_> {
        let took = Duration::from_secs(1);
        Lesson { step: "s", task: "t", cap: 1_000, estimated_input: 100, usage, took }
    }

    #[test]
    fn estimates_follow_what_was_reported() {
        let learned = Learned::default();
        assert_eq!(learned.input_tokens("s", 200), 200);
        let usage = Usage { input_tokens: 130, output_tokens: 50, ..Usage::default() };
        for _ in 0..60 {
            learned.answered(&lesson(Some(&usage)));
        }
        let input = learned.input_tokens("s", 200);
        assert!((255..=262).contains(&input), "{input}");
        let output = learned.lock().output_tokens["t"].whole();
        assert!((50..=60).contains(&output), "{output}");
    }

    #[test]
    fn a_high_cap_is_no_reason_to_refuse_small_answers() {
        let learned = Learned::default();
        let usage = Usage { input_tokens: 10, output_tokens: 200, ..Usage::default() };
        assert_eq!(learned.least_output_tokens("t"), 0);
        learned.answered(&Lesson { cap: 32_000, ..lesson(Some(&usage)) });
        assert_eq!(learned.least_output_tokens("t"), 200);
    }

    #[test]
    fn a_limit_is_believed_once_it_was_told_again_and_again() {
        let learned = Learned::default();
        let told = |factor| learned.limit_told("p", "r", factor);
        assert_eq!(
            (told(0.5), told(0.5), told(0.7), told(0.7), told(0.7)),
            (None, None, None, None, None)
        );
        assert_eq!((told(0.7), told(0.701), told(0.7)), (None, Some(0.7), None));
        let back: Vec<_> = (0..5).filter_map(|_| told(0.995)).collect();
        assert_eq!(back, [1.0]);
        let again = (0..2 * AGAIN).filter_map(|_| told(1.0)).count();
        assert_eq!(again, 2, "said again, in case the store lost it");
    }
}
