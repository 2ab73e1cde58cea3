//! The provider itself, wherever it is reached from: its limits, its latency, its faults, its
//! answers, and a count of everything it has seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::answer::{self, Answer};
use super::fault::{Directives, Fault};
use super::stats::Stats;
use super::{Settings, chance};
use crate::clock::SharedClock;
use crate::domain::bucket::{Level, Quota};
use crate::domain::completion::Prompt;
use crate::domain::limits::{Axis, Cost};
use crate::domain::units::Rate;

/// How long a call that hangs is held when nobody gives up on it.
pub const HANG: Duration = Duration::from_secs(600);

/// A model behind limits.
pub struct Model {
    settings: Settings,
    clock: SharedClock,
    number: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The buckets, in the order of [`Model::axes`].
    levels: [Level; 3],
    /// Places given out.
    places: u64,
    /// When the call at each place means to end, in µs.
    running: BTreeMap<u64, f64>,
    stats: Stats,
}

impl State {
    /// Counts a call that is let in, and names its place among those under way.
    fn enter(&mut self, now: i64, plan: &Plan, outcome: &Outcome) -> u64 {
        if let Outcome::Answer(_) = outcome {
            self.stats.answered += 1;
        }
        self.stats.input_tokens += plan.input_tokens;
        self.stats.output_tokens += plan.output_tokens;
        if let Some(fault) = plan.fault {
            self.stats.went_wrong(fault);
        }
        if let Some(status) = plan.fault.map_or(Some(200), Fault::status) {
            self.stats.answered_with(status);
        }
        self.stats.admitted(now);
        self.places += 1;
        let ends = micros(now) + plan.latency.as_secs_f64() * 1e6;
        self.running.insert(self.places, ends);
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        self.stats.max_concurrent = self.stats.max_concurrent.max(running);
        self.places
    }
}

/// One call, from its arrival to its end: while it is held, it counts as under way.
pub struct Call {
    outcome: Outcome,
    latency: Duration,
    gauges: Gauges,
    number: u64,
    place: Option<(Arc<Model>, u64)>,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is answered.
    Answer(Answer),
    /// It goes wrong.
    Fault(Fault),
    /// There is no room for it.
    Limited(Limited),
}

/// A call for which there is no room.
#[derive(Clone, Debug, PartialEq)]
pub struct Limited {
    /// What has run out; `None` stands for calls at the same time.
    pub axis: Option<Axis>,
    /// The limit.
    pub limit: u64,
    /// When there is room again, if nobody else takes it.
    pub wait: Duration,
}

impl Limited {
    /// What is told about it, in OpenAI's words.
    pub(super) fn message(&self, model: &str) -> String {
        let what = match self.axis {
            Some(Axis::Requests) => "requests",
            Some(Axis::InputTokens) => "input tokens",
            Some(Axis::OutputTokens) => "output tokens",
            Some(Axis::Tokens) => "tokens",
            None => "concurrent requests",
        };
        format!(
            "Rate limit reached for {model} in organization org-scripted on {what}: Limit {}. \
             Please try again in {}ms.",
            self.limit,
            self.wait.as_millis()
        )
    }
}

/// How full the limits are: for requests and for tokens, where they are limited.
pub(super) type Gauges = [Option<Gauge>; 2];

/// How full one limit is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gauge {
    /// The limit, in units of its own period.
    pub(super) limit: u64,
    /// How much could leave now.
    pub(super) remaining: u64,
    /// When all of it could leave again.
    pub(super) reset: Duration,
}

impl Call {
    /// What becomes of it.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// How long that takes.
    pub const fn latency(&self) -> Duration {
        self.latency
    }

    /// The call's number; the first is 1.
    pub const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn gauges(&self) -> &Gauges {
        &self.gauges
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some((model, place)) = self.place.take() {
            model.state().running.remove(&place);
        }
    }
}

impl Model {
    /// A model that has seen nothing yet.
    pub fn new(settings: Settings, clock: SharedClock) -> Self {
        Self { settings, clock, number: AtomicU64::new(0), state: Mutex::default() }
    }

    /// How it behaves.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it has seen up to now.
    pub fn stats(&self) -> Stats {
        self.state().stats.clone()
    }

    /// Calls under way.
    pub fn running(&self) -> usize {
        self.state().running.len()
    }

    /// Forgets what it has seen and empties its buckets. Calls under way stay.
    pub fn reset(&self) {
        let mut state = self.state();
        state.stats = Stats::default();
        state.levels = Default::default();
        self.number.store(0, Ordering::Relaxed);
    }

    /// Seconds since 1970.
    pub(super) fn seconds(&self) -> i64 {
        self.clock.now().timestamp()
    }

    /// Decides what becomes of a call that arrives now.
    pub fn call(self: &Arc<Self>, model: &str, prompt: &Prompt) -> Call {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let told = Directives::read(prompt, model);
        let fault = match (told.fault, &told.say) {
            (Some(fault), _) => Some(fault),
            (None, Some(_)) => None,
            (None, None) => self.due_fault(number),
        };
        let said = told.say.as_ref().or(self.settings.answer.as_ref());
        let outcome = match fault {
            None => Outcome::Answer(answer::proper(prompt, said)),
            Some(Fault::InvalidOutput) => Outcome::Answer(answer::unfitting(prompt)),
            Some(Fault::Text) => Outcome::Answer(answer::prose(prompt)),
            Some(other) => Outcome::Fault(other),
        };
        let output_tokens = match &outcome {
            Outcome::Answer(answer) => answer.usage.output_tokens,
            Outcome::Fault(_) | Outcome::Limited(_) => 0,
        };
        let latency = match outcome {
            Outcome::Fault(Fault::Hang) => HANG,
            _ => told.slow.unwrap_or_else(|| self.latency(number, output_tokens)).min(HANG),
        };
        let input_tokens = u64::from(prompt.estimated_input_tokens());
        let plan = Plan { number, fault, latency, input_tokens, output_tokens };
        self.admit(&plan, outcome)
    }

    fn due_fault(&self, number: u64) -> Option<Fault> {
        self.settings.faults.iter().find(|rule| rule.strikes(number)).map(|rule| rule.answer)
    }

    fn latency(&self, number: u64, tokens: u64) -> Duration {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let settings = &self.settings;
        let each = settings.latency_per_output_token.0.saturating_mul(tokens);
        let time = settings.latency.0.saturating_add(each).as_secs_f64();
        // A seed of its own, so that slow calls are not the ones that go wrong.
        let swing = chance::share(!number).mul_add(2.0, -1.0) * settings.jitter.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(time * (1.0 + swing)).unwrap_or(HANG)
    }

    fn admit(self: &Arc<Self>, plan: &Plan, outcome: Outcome) -> Call {
        let (latency, number) = (plan.latency, plan.number);
        let mut call = Call { outcome, latency, number, gauges: [None; 2], place: None };
        let mut guard = self.state();
        let state = &mut *guard;
        if plan.fault == Some(Fault::Refuse) {
            state.stats.went_wrong(Fault::Refuse);
            call.latency = Duration::ZERO;
            return call;
        }
        // The time is asked under the lock, so that arrivals stand in the order of their times.
        let now = self.clock.now().timestamp_micros();
        state.stats.arrived(now);
        let limited = if plan.fault == Some(Fault::RateLimited) {
            state.stats.went_wrong(Fault::RateLimited);
            Some(self.unfounded())
        } else {
            self.take(state, micros(now), plan)
        };
        call.gauges = self.gauges(state, micros(now));
        if let Some(limited) = limited {
            state.stats.rate_limited += 1;
            state.stats.answered_with(429);
            call.outcome = Outcome::Limited(limited);
            call.latency = Duration::ZERO;
        } else {
            let place = state.enter(now, plan, &call.outcome);
            call.place = Some((Arc::clone(self), place));
        }
        drop(guard);
        call
    }

    /// A 429 that no limit asked for.
    fn unfounded(&self) -> Limited {
        let limit = self.settings.requests.map_or(0, |rate| rate.amount);
        Limited { axis: Some(Axis::Requests), limit, wait: Duration::from_secs(1) }
    }

    /// Charges the call to every bucket, or to none; in that case it says what has run out.
    fn take(&self, state: &mut State, now: f64, plan: &Plan) -> Option<Limited> {
        let full = self.full(state, now);
        if full.is_some() {
            return full;
        }
        let cost = Cost::call(plan.input_tokens, plan.output_tokens);
        let mut longest: Option<(f64, Limited)> = None;
        let mut after = state.levels;
        for ((axis, rate), (level, cost)) in
            self.axes().zip(after.iter_mut().zip([cost.requests, cost.input, cost.output]))
        {
            let Some(rate) = rate else { continue };
            let quota = self.quota(rate);
            let drained = quota.drained(*level, now);
            let wait = quota.wait(drained, cost);
            *level = quota.charged(drained, cost);
            if wait > longest.as_ref().map_or(0.0, |(longest, _)| *longest) {
                let told = Limited { axis: Some(axis), limit: rate.amount, wait: told_wait(wait) };
                longest = Some((wait, told));
            }
        }
        if longest.is_none() {
            state.levels = after;
        }
        longest.map(|(_, limited)| limited)
    }

    /// Whether all places are taken.
    fn full(&self, state: &State, now: f64) -> Option<Limited> {
        let limit = self.settings.concurrency?;
        if state.running.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            return None;
        }
        let first = state.running.values().copied().fold(f64::INFINITY, f64::min);
        let wait = told_wait((first - now).max(0.0));
        Some(Limited { axis: None, limit: u64::from(limit), wait })
    }

    fn axes(&self) -> impl Iterator<Item = (Axis, Option<Rate>)> {
        let settings = &self.settings;
        [Axis::Requests, Axis::InputTokens, Axis::OutputTokens].into_iter().zip([
            settings.requests,
            settings.input_tokens,
            settings.output_tokens,
        ])
    }

    fn quota(&self, rate: Rate) -> Quota {
        let per_second = rate.per_second();
        let burst = (per_second * self.settings.burst.0.as_secs_f64()).max(1.0);
        Quota::even(per_second / 1e6, burst)
    }

    /// The buckets as `x-ratelimit-*` tells them; output tokens stand for tokens only where input
    /// tokens are not limited.
    fn gauges(&self, state: &State, now: f64) -> Gauges {
        let mut all = self.axes().zip(state.levels).map(|((_, rate), level)| {
            let rate = rate?;
            let quota = self.quota(rate);
            let drained = quota.drained(level, now);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let remaining = (quota.burst - drained.units).max(0.0) as u64;
            let reset = Duration::from_secs_f64(drained.units / quota.rate / 1e6);
            Some(Gauge { limit: rate.amount, remaining, reset })
        });
        let requests = all.next().flatten();
        [requests, all.flatten().next()]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        match self.state.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// What is decided about a call before the limits are asked.
struct Plan {
    number: u64,
    fault: Option<Fault>,
    latency: Duration,
    input_tokens: u64,
    output_tokens: u64,
}

#[expect(clippy::cast_precision_loss, reason = "exact up to the year 2255")]
const fn micros(at: i64) -> f64 {
    at as f64
}

/// A wait as it is told: in whole milliseconds and never too short, so that whoever comes back
/// then finds room.
fn told_wait(micros: f64) -> Duration {
    Duration::from_secs_f64(((micros + 1.0) / 1e3).ceil().min(1e12) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::completion::{Message, Role};
    use crate::domain::units::Span;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn prompt(bytes: usize) -> Prompt {
        let content = "a".repeat(bytes);
        let user =
            Message { role: Role::User, content, tool_calls: Vec::new(), tool_call_id: None };
        Prompt { messages: vec![user], max_output_tokens: 100, ..Prompt::default() }
    }

    fn model(settings: Settings) -> (Arc<Model>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_790_000_000, 0).unwrap()));
        (Arc::new(Model::new(settings, Arc::<ManualClock>::clone(&clock))), clock)
    }

    fn limited(call: &Call) -> Option<Duration> {
        match call.outcome() {
            Outcome::Limited(limited) => Some(limited.wait),
            Outcome::Answer(_) | Outcome::Fault(_) => None,
        }
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_limit(
            pauses in prop::collection::vec(0u64..200_000, 1..300),
            amount in 1u64..40,
        ) {
            let requests = Some(Rate { amount, per: Duration::from_secs(1) });
            let (model, clock) = model(Settings { requests, ..Settings::default() });
            for pause in pauses {
                clock.advance(Duration::from_micros(pause));
                model.call("m", &prompt(10));
            }
            let stats = model.stats();
            for millis in [1, 100, 1_000, 3_000, 10_000] {
                let window = Duration::from_millis(millis);
                let allowed = amount + amount * millis / 1_000;
                let seen = stats.most_admitted_within(window);
                prop_assert!(seen as u64 <= allowed, "{seen} in {millis} ms");
            }
            prop_assert_eq!(stats.calls, stats.answered + stats.rate_limited);
        }

        #[test]
        fn whoever_comes_back_when_told_finds_room(
            pauses in prop::collection::vec(0u64..100_000, 1..100),
            bytes in 1usize..4_000,
        ) {
            let settings = Settings {
                requests: Rate::parse("300/min"),
                input_tokens: Rate::parse("1000/min"),
                ..Settings::default()
            };
            let (model, clock) = model(settings);
            for pause in pauses {
                clock.advance(Duration::from_micros(pause));
                if let Some(wait) = limited(&model.call("m", &prompt(bytes))) {
                    clock.advance(wait);
                    prop_assert_eq!(limited(&model.call("m", &prompt(bytes))), None);
                }
            }
        }
    }

    #[test]
    fn one_call_larger_than_the_bucket_goes_when_it_is_empty() {
        let input_tokens = Rate::parse("60/min");
        let (model, clock) = model(Settings { input_tokens, ..Settings::default() });
        assert_eq!(limited(&model.call("m", &prompt(4_000))), None);
        assert!(limited(&model.call("m", &prompt(4))).is_some_and(|wait| wait.as_secs() > 900));
        clock.advance(Duration::from_secs(1_100));
        assert_eq!(limited(&model.call("m", &prompt(4_000))), None);
    }

    #[test]
    fn calls_at_the_same_time_are_limited_and_told_when_one_ends() {
        let latency = Span::millis(400);
        let settings =
            Settings { concurrency: Some(2), latency, jitter: 0.0, ..Settings::default() };
        let (model, _) = model(settings);
        let (first, second) = (model.call("m", &prompt(4)), model.call("m", &prompt(4)));
        assert_eq!((limited(&first), limited(&second)), (None, None));
        assert_eq!(limited(&model.call("m", &prompt(4))), Some(Duration::from_millis(401)));
        drop(first);
        assert_eq!(limited(&model.call("m", &prompt(4))), None);
        assert_eq!((model.stats().max_concurrent, model.stats().rate_limited), (2, 1));
        drop(second);
        assert_eq!(model.running(), 0);
    }

    #[test]
    fn everything_seen_is_counted() {
        let text = "faults = [{ every = 2, answer = \"html\" }, { every = 3, answer = \"hang\" }]";
        let (model, _) = model(toml::from_str(text).unwrap());
        let calls: Vec<Call> = (0..6).map(|_| model.call("m", &prompt(4))).collect();
        assert!(calls.iter().any(|call| call.latency() == HANG));
        let stats = model.stats();
        assert_eq!((stats.calls, stats.answered, stats.rate_limited), (6, 2, 0));
        assert_eq!(stats.by_status, BTreeMap::from([(200, 5)]));
        assert_eq!(stats.by_fault, BTreeMap::from([(Fault::Html, 3), (Fault::Hang, 1)]));
        assert_eq!((stats.arrivals.len(), stats.max_concurrent), (6, 6));
        model.reset();
        assert_eq!((model.stats(), model.running()), (Stats::default(), 6));
    }
}
