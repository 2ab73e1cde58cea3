//! The provider itself, wherever it is reached from: its limits, its latency, its faults, its
//! answers, and a count of everything it has seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::answer::{self, Answer};
use super::cache::Cache;
use super::dialect::Dialect;
use super::directive::Directives;
use super::fault::Fault;
use super::limits::{Limits, Units, as_told};
use super::refusal::{Limited, Short};
use super::stats::Stats;
use super::{Settings, chance};
use crate::clock::SharedClock;
use crate::domain::limits::{Axis, Period};
use crate::domain::prompt::Prompt;

mod call;

use call::Plan;
pub use call::{Call, Outcome};

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
    cache: Option<Cache>,
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
        self.stats.input_tokens += plan.sent;
        self.stats.output_tokens += plan.units.output;
        if let Some(found) = &plan.found {
            self.stats.cached_input_tokens += found.read;
            self.stats.cache_write_tokens += found.written;
        }
        if let Some(fault) = plan.fault {
            self.stats.went_wrong(fault);
        }
        if let Some(status) = plan.fault.map_or(Some(200), |fault| plan.dialect.status(fault)) {
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

impl Model {
    /// A model that has seen nothing yet.
    pub fn new(settings: Settings, clock: SharedClock) -> Self {
        let state = State {
            limits: Limits::new(&settings),
            cache: settings.cache.clone().map(Cache::new),
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

    /// Forgets what it has seen, prompts too, and empties its buckets. Calls under way stay.
    pub fn reset(&self) {
        let mut state = self.state();
        state.stats = Stats::default();
        state.limits = Limits::new(&self.settings);
        state.cache = self.settings.cache.clone().map(Cache::new);
        self.number.store(0, Ordering::Relaxed);
    }

    /// Seconds since 1970.
    pub(super) fn seconds(&self) -> i64 {
        self.clock.now().timestamp()
    }

    /// Decides what becomes of a call that arrives now.
    pub fn call(self: &Arc<Self>, model: &str, prompt: &Prompt) -> Call {
        self.call_in(self.settings.dialect, model, prompt)
    }

    /// The same for one that came in this dialect.
    pub(super) fn call_in(
        self: &Arc<Self>,
        dialect: Dialect,
        model: &str,
        prompt: &Prompt,
    ) -> Call {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let told = Directives::read(prompt, model);
        let fault = match (told.fault, &told.say) {
            (Some(fault), _) => Some(fault),
            (None, Some(_)) => None,
            (None, None) => self.due_fault(number, model),
        };
        let sent = self.input_tokens(prompt);
        let mut answer = self.answer(number, prompt, &told, fault);
        answer.usage.input_tokens = sent;
        let output = answer.usage.output_tokens;
        let (first, latency) = self.times(number, output, &told, fault);
        let (outcome, partial) = match fault {
            Some(fault) if !matches!(fault, Fault::InvalidOutput | Fault::Text) => {
                (Outcome::Fault(fault), fault.is_midway().then_some(answer))
            }
            _ => (Outcome::Answer(answer), None),
        };
        let answered = matches!(outcome, Outcome::Answer(_));
        let units = Units { input: sent, output: if answered { output } else { 0 } };
        let plan = Plan { number, fault, dialect, first, latency, units, sent, found: None };
        let mut call = plan.call(outcome);
        (call.partial, call.cut_after) = (partial, told.cut_after);
        self.admit(plan, call, (model, prompt))
    }

    /// What the model says, or would say if nothing went wrong.
    fn answer(
        &self,
        number: u64,
        prompt: &Prompt,
        told: &Directives,
        fault: Option<Fault>,
    ) -> Answer {
        let calling = || answer::calling(prompt, &told.calls, number);
        let said = told.say.as_ref().or(self.settings.answer.as_ref());
        let mut answer = match fault {
            Some(Fault::InvalidOutput) => answer::unfitting(prompt),
            Some(Fault::Text) => answer::prose(prompt),
            _ => calling().unwrap_or_else(|| answer::proper(prompt, said)),
        };
        if let Some(billed) = self.billed_output(number, prompt) {
            answer.usage.output_tokens = billed;
        }
        answer
    }

    /// How long a call takes until its first word and to its end.
    fn times(
        &self,
        number: u64,
        tokens: u64,
        told: &Directives,
        fault: Option<Fault>,
    ) -> (Duration, Duration) {
        if fault == Some(Fault::Hang) {
            return (HANG, HANG);
        }
        let each = told.pace.unwrap_or(self.settings.latency_per_output_token.0);
        // A seed of its own, so that slow calls are not the ones that go wrong.
        let swing =
            chance::share(!number).mul_add(2.0, -1.0) * self.settings.jitter.clamp(0.0, 1.0);
        let varied = |time: Duration| {
            Duration::try_from_secs_f64(time.as_secs_f64() * (1.0 + swing)).unwrap_or(HANG)
        };
        if let (Some(slow), None) = (told.slow, told.pace) {
            return (slow.min(HANG), slow.min(HANG));
        }
        let first = told.slow.unwrap_or_else(|| varied(self.settings.latency.0)).min(HANG);
        let more = varied(each.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX)));
        (first, first.saturating_add(more).min(HANG))
    }

    /// As the provider counts them: its tokenizer need not be ours.
    pub(super) fn input_tokens(&self, prompt: &Prompt) -> u64 {
        self.counted(f64::from(prompt.estimated_input_tokens())).max(1)
    }

    /// Tokens of ours in its own count.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    fn counted(&self, tokens: f64) -> u64 {
        (tokens * self.settings.input_token_factor).round().clamp(0.0, 1e15) as u64
    }

    /// The output tokens a call is billed for, when they are not those of its text.
    fn billed_output(&self, number: u64, prompt: &Prompt) -> Option<u64> {
        let [one, other] = self.settings.output_tokens_per_answer?.map(u64::from);
        let (least, most) = (one.min(other), one.max(other));
        // A seed of its own, so that long answers are not the slow ones.
        let tokens = least + chance::scatter(chance::scatter(number)) % (most - least + 1);
        Some(tokens.min(u64::from(prompt.max_output_tokens)))
    }

    fn due_fault(&self, number: u64, model: &str) -> Option<Fault> {
        let struck = self.settings.faults.iter().find(|rule| rule.strikes(number, model));
        struck.map(|rule| rule.answer)
    }

    fn admit(
        self: &Arc<Self>,
        mut plan: Plan,
        mut call: Call,
        (model, prompt): (&str, &Prompt),
    ) -> Call {
        let mut guard = self.state();
        let state = &mut *guard;
        if plan.fault == Some(Fault::Refuse) {
            state.stats.went_wrong(Fault::Refuse);
            (call.first, call.latency) = (Duration::ZERO, Duration::ZERO);
            return call;
        }
        // The time is asked under the lock, so that arrivals stand in the order of their times.
        let now = self.clock.now().timestamp_micros();
        state.stats.arrived(now, model, prompt);
        self.look_up(state, (&mut plan, &mut call), (model, prompt), now);
        let unfounded = plan.fault.and_then(|fault| self.unfounded(fault));
        let limited = if unfounded.is_some() {
            state.stats.went_wrong(plan.fault.unwrap_or(Fault::RateLimited));
            unfounded
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
            (call.first, call.latency) = (Duration::ZERO, Duration::ZERO);
        } else {
            let place = state.enter(now, &plan, &call.outcome);
            call.place = Some((Arc::clone(self), place));
            call.found = plan.found;
        }
        drop(guard);
        call
    }

    /// What the prompt cache has of a call's prompt.
    fn look_up(
        &self,
        state: &State,
        (plan, call): (&mut Plan, &mut Call),
        (model, prompt): (&str, &Prompt),
        now: i64,
    ) {
        let Some(cache) = &state.cache else { return };
        let mut found = cache.look(model, prompt, now);
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let scaled = |tokens: u64| self.counted(tokens as f64);
        found.read = scaled(found.read).min(plan.sent);
        found.written = scaled(found.written).min(plan.sent - found.read);
        found.written_for_an_hour = scaled(found.written_for_an_hour).min(found.written);
        if !cache.is_counted() {
            plan.units.input = plan.sent - found.read;
        }
        if let Outcome::Answer(answer) = &mut call.outcome {
            answer.usage.cached_input_tokens = found.read;
            answer.usage.cache_write_tokens = found.written;
            answer.written_for_an_hour = found.written_for_an_hour;
        }
        plan.found = Some(found);
    }

    /// A 429 that no limit asked for.
    fn unfounded(&self, fault: Fault) -> Option<Limited> {
        let wait = match fault {
            Fault::RateLimited => Some(self.settings.retry_after.0),
            Fault::RateLimitedBare => None,
            _ => return None,
        };
        let told = self.settings.requests.map(as_told);
        let short = Short::Rate(Axis::Requests, told.map_or(Period::Minute, |(per, _)| per));
        let limit = told.map(|(_, limit)| limit).filter(|_| wait.is_some());
        Some(Limited { short, limit, wait })
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
mod tests;
