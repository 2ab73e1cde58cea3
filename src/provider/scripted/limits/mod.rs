//! The limits as the provider enforces them: buckets, sliding windows and growth. On purpose it
//! shares no arithmetic with the limiter, whose work it checks.

use std::collections::VecDeque;
use std::time::Duration;

use super::Settings;
use super::refusal::{Limited, Short};
use crate::domain::limits::{Axis, Period};
use crate::domain::told::Told;
use crate::domain::units::{Growth, Rate};

/// What one call takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    /// Tokens sent.
    pub(super) input: u64,
    /// Tokens received.
    pub(super) output: u64,
}

impl Units {
    const fn of(self, axis: Axis) -> u64 {
        match axis {
            Axis::Requests => 1,
            Axis::InputTokens => self.input,
            Axis::OutputTokens => self.output,
            Axis::Tokens => self.input.saturating_add(self.output),
        }
    }
}

/// Every limit there is, with what counts against it. Times are µs since 1970.
pub(super) struct Limits {
    gates: Vec<Gate>,
}

struct Gate {
    axis: Axis,
    /// The limit as it is told: so many in this period.
    limit: u64,
    per: Period,
    kind: Kind,
}

enum Kind {
    Bucket(Bucket),
    Window(Window),
    Ramp(Ramp),
}

impl Limits {
    /// Nothing has come yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let rates = [
            (Axis::Requests, settings.requests),
            (Axis::InputTokens, settings.input_tokens),
            (Axis::OutputTokens, settings.output_tokens),
            (Axis::Tokens, settings.tokens),
        ];
        let days =
            [(Axis::Requests, settings.requests_per_day), (Axis::Tokens, settings.tokens_per_day)];
        let mut gates = Vec::new();
        for (axis, rate) in rates {
            let Some(rate) = rate else { continue };
            let (per, limit) = as_told(rate);
            let kind = match settings.window {
                Some(window) => Kind::Window(Window::new(rate, window.0)),
                None => Kind::Bucket(Bucket::new(rate, settings.burst.0)),
            };
            gates.push(Gate { axis, limit, per, kind });
            if let Some(growth) = settings.ramp {
                gates.push(Gate { axis, limit, per, kind: Kind::Ramp(Ramp::new(rate, growth)) });
            }
        }
        for (axis, amount) in days {
            let Some(amount) = amount else { continue };
            let per = Period::Day;
            let kind = Kind::Bucket(Bucket::new(Rate { amount, per: per.length() }, per.length()));
            gates.push(Gate { axis, limit: amount, per, kind });
        }
        Self { gates }
    }

    /// Charges a call to every limit, or to none; in that case it says what has run out.
    pub(super) fn take(&mut self, units: Units, now: i64) -> Option<Limited> {
        for gate in &mut self.gates {
            gate.forget(now);
        }
        let refused = self.refused(units, now);
        if refused.is_none() {
            for gate in &mut self.gates {
                gate.charge(units.of(gate.axis), now);
            }
        }
        refused
    }

    fn refused(&self, units: Units, now: i64) -> Option<Limited> {
        let never = self.gates.iter().find(|gate| !gate.can_ever_hold(units.of(gate.axis)));
        if let Some(gate) = never {
            let short = Short::TooLarge(gate.axis, gate.per, units.of(gate.axis));
            return Some(Limited { short, limit: Some(gate.limit), wait: None });
        }
        let asked = |gate: &Gate| gate.earliest(units.of(gate.axis), now);
        let worst = self.gates.iter().max_by_key(|gate| asked(gate))?;
        if asked(worst) <= now {
            return None;
        }
        let short = match worst.kind {
            Kind::Ramp(_) => Short::Growth(worst.axis),
            Kind::Bucket(_) | Kind::Window(_) => Short::Rate(worst.axis, worst.per),
        };
        let wait = Duration::from_micros((self.room_at(units, now) - now).unsigned_abs());
        Some(Limited { short, limit: Some(worst.limit), wait: Some(wait) })
    }

    /// When all limits have room at once, in whole milliseconds from now, so that whoever comes
    /// back then finds it. Growth can shut again while another limit is waited for.
    fn room_at(&self, units: Units, now: i64) -> i64 {
        let mut at = now;
        loop {
            let times = self.gates.iter().map(|gate| gate.earliest(units.of(gate.axis), at));
            let latest = times.max().unwrap_or(at);
            if latest <= at {
                return at;
            }
            let millis = u64::try_from(latest - now).unwrap_or_default().div_ceil(1_000);
            at = now.saturating_add_unsigned(millis.saturating_mul(1_000));
        }
    }

    /// How full the limits are, in the words of what a provider tells.
    pub(super) fn told(&self, now: i64) -> Vec<Told> {
        let told = |gate: &Gate| {
            let (remaining, full_at) = gate.left(now)?;
            let reset = Duration::from_micros(u64::try_from(full_at - now).unwrap_or_default());
            Some(Told {
                axis: gate.axis,
                per: gate.per,
                limit: Some(float(gate.limit)),
                remaining: Some(remaining),
                reset: Some(reset),
            })
        };
        self.gates.iter().filter_map(told).collect()
    }
}

/// A rate in the period that it is told by.
pub(super) fn as_told(rate: Rate) -> (Period, u64) {
    let per = if rate.per < Period::Day.length() { Period::Minute } else { Period::Day };
    (per, units_in(rate, per.length()))
}

/// Whole units that a rate allows in a time.
fn units_in(rate: Rate, time: Duration) -> u64 {
    let units = u128::from(rate.amount).saturating_mul(time.as_micros());
    u64::try_from(units / rate.per.as_micros().max(1)).unwrap_or(u64::MAX)
}

impl Gate {
    /// Whether so much can be let in at all.
    const fn can_ever_hold(&self, units: u64) -> bool {
        match &self.kind {
            Kind::Window(window) => units <= window.most,
            // Such a call goes alone.
            Kind::Bucket(_) | Kind::Ramp(_) => true,
        }
    }

    /// The first moment from `at` on that has room for so much, if nobody else comes.
    fn earliest(&self, units: u64, at: i64) -> i64 {
        match &self.kind {
            _ if units == 0 => at,
            Kind::Bucket(bucket) => bucket.earliest(float(units), at),
            Kind::Window(window) => window.earliest(units, at),
            Kind::Ramp(ramp) => ramp.earliest(units, at),
        }
    }

    fn charge(&mut self, units: u64, now: i64) {
        match &mut self.kind {
            _ if units == 0 => {}
            Kind::Bucket(bucket) => bucket.charge(float(units), now),
            Kind::Window(window) => window.charge(units, now),
            Kind::Ramp(ramp) => ramp.charge(units, now),
        }
    }

    /// Drops what no longer counts.
    fn forget(&mut self, now: i64) {
        match &mut self.kind {
            Kind::Bucket(_) => {}
            Kind::Window(window) => window.forget(now),
            Kind::Ramp(ramp) => ramp.forget(now),
        }
    }

    /// What could be let in now, and when all of it could again.
    fn left(&self, now: i64) -> Option<(f64, i64)> {
        match &self.kind {
            Kind::Bucket(bucket) => {
                let level = bucket.level_at(now);
                let empty = now.saturating_add(whole_micros(level / bucket.rate));
                Some(((bucket.size - level).max(0.0).floor(), empty))
            }
            Kind::Window(window) => {
                let full = window.log.back().map_or(now, |(at, _)| at + window.length + 1);
                Some((float(window.most - window.sum), full))
            }
            Kind::Ramp(_) => None,
        }
    }
}

/// What is let in flows out evenly; no more than its size is in it at once.
struct Bucket {
    /// Units a µs.
    rate: f64,
    size: f64,
    level: f64,
    at: i64,
}

impl Bucket {
    /// Holds what the rate brings in this time.
    fn new(rate: Rate, holds: Duration) -> Self {
        let rate = rate.per_second() / 1e6;
        let size = (rate * holds.as_secs_f64() * 1e6).max(1.0);
        Self { rate, size, level: 0.0, at: 0 }
    }

    fn level_at(&self, at: i64) -> f64 {
        let passed = float(u64::try_from(at - self.at).unwrap_or_default());
        (self.level - passed * self.rate).max(0.0)
    }

    /// More than fits goes alone, when the bucket is empty.
    fn earliest(&self, units: f64, at: i64) -> i64 {
        let over = self.level_at(at) - (self.size - units.min(self.size));
        // So that rounding does not send anybody away twice.
        if over <= self.size * 1e-9 { at } else { at + whole_micros(over / self.rate).max(1) }
    }

    fn charge(&mut self, units: f64, now: i64) {
        self.level = self.level_at(now) + units;
        self.at = now;
    }
}

/// In no stretch of this length, its ends included, is more let in than this.
struct Window {
    length: i64,
    most: u64,
    /// When how much was let in, as long as it counts.
    log: VecDeque<(i64, u64)>,
    sum: u64,
}

impl Window {
    fn new(rate: Rate, length: Duration) -> Self {
        let most = units_in(rate, length).max(1);
        Self { length: micros(length), most, log: VecDeque::new(), sum: 0 }
    }

    fn earliest(&self, units: u64, at: i64) -> i64 {
        let (mut at, mut held) = (at, self.sum);
        for (then, counted) in &self.log {
            let leaves = then + self.length + 1;
            if leaves > at {
                if held.saturating_add(units) <= self.most {
                    return at;
                }
                at = leaves;
            }
            held -= counted;
        }
        at
    }

    fn charge(&mut self, units: u64, now: i64) {
        self.log.push_back((now, units));
        self.sum += units;
    }

    fn forget(&mut self, now: i64) {
        while let Some((_, units)) = pop_older(&mut self.log, now - self.length) {
            self.sum -= units;
        }
    }
}

/// What is let in within `per` is no more than so many times what was let in the `per` before,
/// or than so many times the floor.
struct Ramp {
    factor: f64,
    per: i64,
    floor: f64,
    recent: VecDeque<(i64, u64)>,
    before: VecDeque<(i64, u64)>,
    recent_sum: u64,
    before_sum: u64,
}

impl Ramp {
    fn new(rate: Rate, growth: Growth) -> Self {
        Self {
            factor: growth.factor,
            per: micros(growth.per),
            floor: growth.from * rate.per_second() * growth.per.as_secs_f64(),
            recent: VecDeque::new(),
            before: VecDeque::new(),
            recent_sum: 0,
            before_sum: 0,
        }
    }

    /// A call that is more than the floor allows goes alone.
    fn earliest(&self, units: u64, at: i64) -> i64 {
        let (mut at, mut recent, mut before) = (at, self.recent_sum, self.before_sum);
        let mut leaving = self.recent.iter().peekable();
        let mut going = self.before.iter().chain(&self.recent).peekable();
        loop {
            while let Some((_, units)) = leaving.next_if(|(then, _)| then + self.per < at) {
                recent -= units;
                before += units;
            }
            while let Some((_, units)) = going.next_if(|(then, _)| then + 2 * self.per < at) {
                before -= units;
            }
            let most = self.factor * float(before).max(self.floor);
            let fits = float(recent.saturating_add(units)) <= most + 1e-6;
            match leaving.peek() {
                Some((then, _)) if !fits => at = then + self.per + 1,
                _ => return at,
            }
        }
    }

    fn charge(&mut self, units: u64, now: i64) {
        self.recent.push_back((now, units));
        self.recent_sum += units;
    }

    fn forget(&mut self, now: i64) {
        while let Some((at, units)) = pop_older(&mut self.recent, now - self.per) {
            self.recent_sum -= units;
            self.before_sum += units;
            self.before.push_back((at, units));
        }
        while let Some((_, units)) = pop_older(&mut self.before, now - 2 * self.per) {
            self.before_sum -= units;
        }
    }
}

/// Takes out the first entry, if it is from before this time.
fn pop_older(log: &mut VecDeque<(i64, u64)>, time: i64) -> Option<(i64, u64)> {
    log.front().filter(|(at, _)| *at < time)?;
    log.pop_front()
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[expect(clippy::cast_possible_truncation, reason = "a time beyond all clocks is as good")]
fn whole_micros(micros: f64) -> i64 {
    micros.ceil().min(1e17) as i64
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
const fn float(units: u64) -> f64 {
    units as f64
}

#[cfg(test)]
mod tests;
