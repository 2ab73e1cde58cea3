//! The provider itself, wherever it is reached from: its limits, its latency, its faults, its
//! answers, and a count of everything it has seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::answer::{self, Answer};
use super::fault::{Directives, Fault};
use super::limits::{Limits, Units, as_told};
use super::refusal::{Limited, Short};
use super::stats::Stats;
use super::{Settings, chance};
use crate::clock::SharedClock;
use crate::domain::limits::Axis;
use crate::domain::prompt::Prompt;
use crate::domain::told::{Period, Told};

/// How long a call that hangs is held when nobody gives up on it.
pub const HANG: Duration = Duration::from_secs(600);

/// A model behind limits.
pub struct Model {
    settings: Settings,
    clock: SharedClock,
    number: AtomicU64,
    state: Mutex<State>,
}

struct State {
    limits: Limits,
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
        self.stats.input_tokens += plan.units.input;
        self.stats.output_tokens += plan.units.output;
        if let Some(fault) = plan.fault {
            self.stats.went_wrong(fault);
        }
        if let Some(status) = plan.fault.map_or(Some(200), Fault::status) {
            self.stats.answered_with(status);
        }
        self.stats.admitted(now, plan.units);
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
    told: Vec<Told>,
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

    /// What the limits' headers tell.
    pub(super) fn told(&self) -> &[Told] {
        &self.told
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
        let state = State {
            limits: Limits::new(&settings),
            places: 0,
            running: BTreeMap::new(),
            stats: Stats::default(),
        };
        Self { settings, clock, number: AtomicU64::new(0), state: Mutex::new(state) }
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
        state.limits = Limits::new(&self.settings);
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
        let mut outcome = match fault {
            None => Outcome::Answer(answer::proper(prompt, said)),
            Some(Fault::InvalidOutput) => Outcome::Answer(answer::unfitting(prompt)),
            Some(Fault::Text) => Outcome::Answer(answer::prose(prompt)),
            Some(other) => Outcome::Fault(other),
        };
        let mut units = Units { input: self.input_tokens(prompt), output: 0 };
        if let Outcome::Answer(answer) = &mut outcome {
            let usage = &mut answer.usage;
            let billed = self.billed_output(number, prompt);
            usage.output_tokens = billed.unwrap_or(usage.output_tokens);
            usage.input_tokens = units.input;
            units.output = usage.output_tokens;
        }
        let latency = match outcome {
            Outcome::Fault(Fault::Hang) => HANG,
            _ => told.slow.unwrap_or_else(|| self.latency(number, units.output)).min(HANG),
        };
        let plan = Plan { number, fault, latency, units };
        self.admit(&plan, outcome)
    }

    /// As the provider counts them: its tokenizer need not be ours.
    fn input_tokens(&self, prompt: &Prompt) -> u64 {
        let counted = f64::from(prompt.estimated_input_tokens()) * self.settings.input_token_factor;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let counted = counted.round().clamp(1.0, 1e15) as u64;
        counted
    }

    /// The output tokens a call is billed for, when they are not those of its text.
    fn billed_output(&self, number: u64, prompt: &Prompt) -> Option<u64> {
        let [one, other] = self.settings.output_tokens_per_answer?.map(u64::from);
        let (least, most) = (one.min(other), one.max(other));
        // A seed of its own, so that long answers are not the slow ones.
        let tokens = least + chance::scatter(chance::scatter(number)) % (most - least + 1);
        Some(tokens.min(u64::from(prompt.max_output_tokens)))
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
        let mut call = Call { outcome, latency, number, told: Vec::new(), place: None };
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
            self.full(state, micros(now)).or_else(|| state.limits.take(plan.units, now))
        };
        if self.settings.hints && self.settings.headers {
            call.told = state.limits.told(now);
        }
        if let Some(mut limited) = limited {
            if !self.settings.hints {
                (limited.limit, limited.wait) = (None, None);
            }
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
        let told = self.settings.requests.map(as_told);
        let short = Short::Rate(Axis::Requests, told.map_or(Period::Minute, |(per, _)| per));
        let limit = told.map(|(_, limit)| limit);
        Limited { short, limit, wait: Some(Duration::from_secs(1)) }
    }

    /// Whether all places are taken.
    fn full(&self, state: &State, now: f64) -> Option<Limited> {
        let limit = self.settings.concurrency?;
        if state.running.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            return None;
        }
        let first = state.running.values().copied().fold(f64::INFINITY, f64::min);
        let wait = told_wait((first - now).max(0.0));
        Some(Limited { short: Short::Places, limit: Some(u64::from(limit)), wait: Some(wait) })
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
    units: Units,
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
    use crate::domain::prompt::Message;
    use crate::domain::units::{Rate, Span};
    use chrono::DateTime;
    use proptest::prelude::*;

    fn prompt(bytes: usize) -> Prompt {
        let content = "a".repeat(bytes);
        let user = Message::user(content);
        Prompt { messages: vec![user], max_output_tokens: 100, ..Prompt::default() }
    }

    fn model(settings: Settings) -> (Arc<Model>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_790_000_000, 0).unwrap()));
        (Arc::new(Model::new(settings, Arc::<ManualClock>::clone(&clock))), clock)
    }

    fn limited(call: &Call) -> Option<Duration> {
        match call.outcome() {
            Outcome::Limited(limited) => limited.wait,
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
