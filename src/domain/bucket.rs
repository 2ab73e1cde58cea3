//! Leaky bucket arithmetic. `limiter/lua/bucket.lua` does the same sums in the same order on the
//! same doubles, and a property test holds the two together.

use super::units::Growth;

/// One bucket's setting: what leaks out of it and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Units a microsecond.
    pub rate: f64,
    /// Units that may leave at once.
    pub burst: f64,
    /// How fast use may grow from idle.
    pub ramp: Option<Ramp>,
    /// Nothing leaks; instead the bucket is emptied at fixed times.
    pub resets: Option<Resets>,
}

/// How fast use may grow from idle: a share of the rate is open, which grows while the bucket is
/// in use, once it has been so for a period, and shrinks while it is empty. Without that wait,
/// growth after a pause would look twice as steep to a provider that compares periods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// Natural logarithm of the growth in a microsecond of use.
    pub growth: f64,
    /// The share that is always open.
    pub floor: f64,
    /// How long the bucket is in use before the share grows, in microseconds.
    pub period: f64,
}

/// When a bucket is emptied, in microseconds since 1970: whenever `offset` and a whole number of
/// `period`s have passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resets {
    /// From one time to the next.
    pub period: f64,
    /// The first one.
    pub offset: f64,
}

/// A bucket's level at a moment, in units and microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    /// Units in the bucket.
    pub units: f64,
    /// When that was so.
    pub at: f64,
    /// The share of the rate that a ramp has opened.
    pub open: f64,
    /// How long the bucket has been in use, up to the ramp's period.
    pub warm: f64,
    /// When it was charged last after it had been empty.
    pub began: f64,
    /// The lowest level before a charge since each of two moments, or since it began; the older
    /// moment first.
    pub low: [f64; 2],
}

/// How much more than others may somebody have in a bucket who is waited for.
pub const URGENT_ROOM: f64 = 1.25;

/// Higher than any level.
pub const UNKNOWN_LOW: f64 = 1e300;

/// What rounding may add to a wait, in microseconds: it must not make a whole one of it.
const ROUNDING: f64 = 1e-3;

/// How many times faster the open share shrinks in an idle bucket than it grows in a busy one.
/// Use below six sevenths of what is open thus opens nothing more.
const IDLE_SHRINKS: f64 = 6.0;

/// How much of the growth a provider allows is used: its windows and our moments differ.
const GROWTH_USED: f64 = 0.75;

impl From<Growth> for Ramp {
    fn from(growth: Growth) -> Self {
        let micros = growth.per.as_secs_f64() * 1e6;
        let growth_used = growth.factor.ln() * GROWTH_USED / micros;
        Self { growth: growth_used, floor: growth.from, period: micros }
    }
}

impl Ramp {
    /// How long the longest use takes to be forgotten in an idle bucket.
    fn closes_in(&self) -> f64 {
        (-self.floor.ln() / self.growth).max(self.period) / IDLE_SHRINKS
    }

    /// The open share, and how long the bucket has been in use, after so much time in use and then idle.
    fn opened(&self, open: f64, warm: f64, busy: f64, idle: f64) -> (f64, f64) {
        let grows = (busy - (self.period - warm)).max(0.0);
        let opened = open * ((grows - IDLE_SHRINKS * idle) * self.growth).exp();
        let warm = ((warm + busy).min(self.period) - IDLE_SHRINKS * idle).max(0.0);
        (opened.max(self.floor).min(1.0), warm)
    }
}

impl Resets {
    /// The number of the period a moment lies in.
    fn period_of(&self, now: f64) -> f64 {
        ((now - self.offset) / self.period).floor()
    }

    /// When the bucket is emptied next.
    fn next(&self, now: f64) -> f64 {
        self.offset + (self.period_of(now) + 1.0) * self.period
    }
}

impl Quota {
    /// A bucket that leaks evenly, without a ramp.
    pub const fn even(rate: f64, burst: f64) -> Self {
        Self { rate, burst, ramp: None, resets: None }
    }

    /// The same bucket with a share of its rate and burst.
    #[must_use]
    pub fn scaled(&self, share: f64) -> Self {
        Self { rate: self.rate * share, burst: self.burst * share, ..*self }
    }

    /// The same bucket as somebody sees it who is waited for: a little of what is kept back of the
    /// provider's burst is for them, so that they need not wait for what others have taken ahead.
    #[must_use]
    pub fn roomier(&self) -> Self {
        if self.resets.is_some() {
            *self
        } else {
            Self { burst: self.burst * URGENT_ROOM, ..*self }
        }
    }

    /// What of it is open at this level.
    #[must_use]
    pub fn opened(&self, level: Level) -> Self {
        if self.ramp.is_some() { self.scaled(level.open) } else { *self }
    }

    /// The level once what has leaked out by `now` is gone.
    #[must_use]
    pub fn drained(&self, level: Level, now: f64) -> Level {
        let at = now.max(level.at);
        if let Some(resets) = self.resets {
            let same = resets.period_of(at) <= resets.period_of(level.at);
            let units = if same { level.units } else { 0.0 };
            return Level { units, at, open: 1.0, warm: 0.0, ..level };
        }
        let passed = (now - level.at).max(0.0);
        let Some(ramp) = self.ramp else {
            let units = (level.units - passed * self.rate).max(0.0);
            return Level { units, at, open: 1.0, warm: 0.0, ..level };
        };
        let open = level.open.max(ramp.floor).min(1.0);
        let rate = self.rate * open;
        let busy = passed.min(level.units / rate);
        let units = (level.units - passed * rate).max(0.0);
        let (open, warm) = ramp.opened(open, level.warm.min(ramp.period), busy, passed - busy);
        Level { units, at, open, warm, ..level }
    }

    /// Microseconds until `cost` fits on top of a drained level. A cost larger than the bucket
    /// fits once the bucket is empty: it then goes alone and the bucket drains longer.
    pub fn wait(&self, drained: Level, cost: f64) -> f64 {
        if cost <= 0.0 {
            return 0.0;
        }
        let quota = self.opened(drained);
        let room = quota.burst - cost.min(quota.burst);
        let over = drained.units - room;
        if over <= 0.0 {
            0.0
        } else if let Some(resets) = self.resets {
            (resets.next(drained.at) - drained.at).ceil()
        } else {
            (over / quota.rate - ROUNDING).ceil().max(0.0)
        }
    }

    /// The level once `cost` is to leave after `wait`, which another bucket may have made longer
    /// than this one asks for. It then counts in full when it leaves: the bucket is filled up to
    /// what leaks out until then, or that leak would be used twice.
    #[must_use]
    pub fn reserved(&self, drained: Level, cost: f64, wait: f64) -> Level {
        if cost <= 0.0 {
            return drained;
        }
        let leak = if self.resets.is_some() { 0.0 } else { self.opened(drained).rate * wait };
        let begins = drained.units <= 0.0;
        let began = if begins { drained.at } else { drained.began };
        let lowest = |low: f64| if begins { UNKNOWN_LOW } else { low.min(drained.units) };
        let low = drained.low.map(lowest);
        Level { units: drained.units.max(leak) + cost, began, low, ..drained }
    }

    /// Microseconds a full bucket needs to make room for `cost`; nothing for one that does not
    /// leak.
    pub fn recovery(&self, drained: Level, cost: f64) -> f64 {
        if self.resets.is_some() {
            return 0.0;
        }
        let quota = self.opened(drained);
        cost.min(quota.burst) / quota.rate
    }

    /// When the bucket is as if it had never been used, if nothing is added: empty, and its ramp
    /// closed.
    pub fn forgotten_at(&self, level: Level) -> f64 {
        if let Some(resets) = self.resets {
            resets.next(level.at)
        } else {
            let closes = self.ramp.map_or(0.0, |ramp| ramp.closes_in());
            level.at + level.units / self.opened(level).rate + closes
        }
    }

    /// The level with `cost` added (or taken out, when negative).
    #[must_use]
    pub fn charged(&self, drained: Level, cost: f64) -> Level {
        Level { units: (drained.units + cost).max(0.0), ..drained }
    }

    /// The level without what a call was charged too much. No more is taken out than has been in
    /// the bucket all the time since, `low`: the rest of it has leaked, and the bucket would have
    /// been empty meanwhile. It is no room for others.
    #[must_use]
    pub fn refunded(&self, drained: Level, excess: f64, low: f64) -> Level {
        let back = excess.min(low).min(drained.units);
        let low = drained.low.map(|low| (low - back).max(0.0));
        Level { units: (drained.units - back).max(0.0), low, ..drained }
    }

    /// The level when no more than `left` may leave at once: a provider has told so.
    #[must_use]
    pub fn left(&self, drained: Level, left: f64) -> Level {
        let quota = self.opened(drained);
        Level { units: drained.units.max(quota.burst - left), ..drained }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Growth;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// In any window of length t at most `burst + rate * t` leaves.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            steps in prop::collection::vec((0u32..400_000, 1u8..5), 1..200),
            burst in 5u8..20,
        ) {
            let quota = Quota::even(10.0 / 1e6, f64::from(burst));
            let (mut level, mut now, mut left) = (Level::default(), 0.0, Vec::new());
            for (pause, cost) in steps {
                now += f64::from(pause);
                let cost = f64::from(cost);
                let drained = quota.drained(level, now);
                let wait = quota.wait(drained, cost);
                level = quota.charged(drained, cost);
                left.push((now + wait, cost));
                now += wait;
            }
            for from in 0..left.len() {
                let mut sum = 0.0;
                for (at, cost) in &left[from..] {
                    sum += cost;
                    let allowed = quota.burst + quota.rate * (at - left[from].0);
                    prop_assert!(sum <= allowed + 1e-6, "{sum} > {allowed}");
                }
            }
        }
    }

    proptest! {
        /// The same when another bucket makes some wait longer, so that later asks overtake.
        #[test]
        fn no_window_holds_more_when_others_make_it_wait(
            steps in prop::collection::vec((0u32..400_000, 0u8..5, 0u32..900_000), 1..120),
            burst in 5u8..20,
        ) {
            let quota = Quota::even(10.0 / 1e6, f64::from(burst));
            let (mut level, mut now, mut left) = (Level::default(), 0.0, Vec::new());
            for (pause, cost, longer) in steps {
                now += f64::from(pause);
                let cost = f64::from(cost);
                let drained = quota.drained(level, now);
                let wait = quota.wait(drained, cost).max(f64::from(longer));
                level = quota.reserved(drained, cost, wait);
                left.push((now + wait, cost));
            }
            left.sort_by(|a, b| a.0.total_cmp(&b.0));
            for from in 0..left.len() {
                let mut sum = 0.0;
                for (at, cost) in &left[from..] {
                    sum += cost;
                    let allowed = quota.burst + quota.rate * (at - left[from].0);
                    prop_assert!(sum <= allowed + 1e-6, "{sum} > {allowed}");
                }
            }
        }
    }

    #[test]
    fn a_cost_larger_than_the_bucket_goes_alone_and_is_paid_for_afterwards() {
        let quota = Quota::even(1e-6, 10.0);
        let empty = Level::default();
        let waits = |level, cost, expected: f64| {
            let wait = quota.wait(level, cost);
            assert!((wait - expected).abs() < 1e-6, "{wait} is not {expected}");
        };
        waits(empty, 25.0, 0.0);
        waits(quota.charged(empty, 25.0), 1.0, 16_000_000.0);
        waits(Level { units: 0.5, ..Level::default() }, 25.0, 500_000.0);
    }

    proptest! {
        /// A provider that counts what came in the last ten seconds, and refuses more than twice
        /// what came in the ten before or was always allowed, never has to.
        #[test]
        fn no_window_grows_faster_than_the_ramp(
            idles in prop::collection::vec((0u32..40, 1u32..60), 1..6),
        ) {
            let quota = Quota { ramp: Some(ramp(0.1)), ..Quota::even(100.0 / 1e6, 50.0) };
            let (mut level, mut now, mut left) = (Level::default(), 1e12, Vec::<f64>::new());
            for (idle, busy) in idles {
                now += f64::from(idle) * 1e6;
                let until = now + f64::from(busy) * 1e6;
                while now < until {
                    level = quota.drained(level, now);
                    let wait = quota.wait(level, 1.0);
                    if wait > 0.0 {
                        now += wait;
                    } else {
                        level = quota.reserved(level, 1.0, 0.0);
                        left.push(now);
                    }
                }
            }
            let (mut middle, mut last) = (0, 0);
            for (index, at) in left.iter().enumerate() {
                middle += left[middle..].iter().take_while(|t| **t <= at - 10e6).count();
                last += left[last..].iter().take_while(|t| **t <= at - 20e6).count();
                let (recent, before) = (index + 1 - middle, middle - last);
                // Always allowed: a tenth of 100 a second, for ten seconds.
                prop_assert!(recent <= 2 * before.max(100), "{recent} after {before}");
            }
        }
    }

    fn ramp(floor: f64) -> Ramp {
        Growth { factor: 2.0, per: Duration::from_secs(10), from: floor }.into()
    }

    #[test]
    fn a_ramp_opens_in_use_and_closes_when_idle() {
        let quota = Quota { ramp: Some(ramp(0.1)), ..Quota::even(1e-5, 5.0) };
        let idle = quota.drained(Level::default(), 1e15);
        assert!((idle.open - 0.1).abs() < 1e-9);
        let busy = quota.drained(Level { units: 1e3, ..idle }, 1e15 + 60e6);
        assert!(busy.open > 0.9, "{busy:?}");
        let left = quota.drained(Level { units: 0.0, ..busy }, 1e15 + 70e6);
        assert!(left.open < 0.12, "{left:?}");
    }

    #[test]
    fn a_bucket_with_resets_is_emptied_then_and_does_not_leak() {
        let resets = Some(Resets { period: 86_400e6, offset: 8.0 * 3_600e6 });
        let quota = Quota { resets, ..Quota::even(10.0 / 86_400e6, 10.0) };
        let noon = 12.0 * 3_600e6;
        let full = quota.reserved(quota.drained(Level::default(), noon), 10.0, 0.0);
        let later = quota.drained(full, noon + 19.0 * 3_600e6);
        assert!((later.units - 10.0).abs() < 1e-9);
        assert!((quota.wait(later, 1.0) - 3_600e6).abs() < 1.0);
        let next = quota.drained(full, noon + 20.0 * 3_600e6);
        assert!(next.units.abs() < 1e-9 && quota.wait(next, 1.0).abs() < 1e-9);
    }
}
