//! Leaky bucket arithmetic. `limiter/lua/bucket.lua` does the same sums in the same order on the
//! same doubles, and a property test holds the two together.

/// One bucket's setting: what leaks out of it and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Units a microsecond.
    pub rate: f64,
    /// Units that may leave at once.
    pub burst: f64,
}

/// A bucket's level at a moment, in units and microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    /// Units in the bucket.
    pub units: f64,
    /// When that was so.
    pub at: f64,
}

impl Quota {
    /// The level once what has leaked out by `now` is gone.
    #[must_use]
    pub fn drained(&self, level: Level, now: f64) -> Level {
        let passed = (now - level.at).max(0.0);
        Level { units: (level.units - passed * self.rate).max(0.0), at: now.max(level.at) }
    }

    /// Microseconds until `cost` fits on top of a drained level. A cost larger than the bucket
    /// fits once the bucket is empty: it then goes alone and the bucket drains longer.
    pub fn wait(&self, drained: Level, cost: f64) -> f64 {
        if cost <= 0.0 {
            return 0.0;
        }
        let room = self.burst - cost.min(self.burst);
        let over = drained.units - room;
        if over <= 0.0 { 0.0 } else { (over / self.rate).ceil() }
    }

    /// The level once `cost` is to leave after `wait`, which another bucket may have made longer
    /// than this one asks for. It then counts in full when it leaves: the bucket is filled up to
    /// what leaks out until then, or that leak would be used twice.
    #[must_use]
    pub fn reserved(&self, drained: Level, cost: f64, wait: f64) -> Level {
        if cost <= 0.0 {
            return drained;
        }
        Level { units: drained.units.max(self.rate * wait) + cost, at: drained.at }
    }

    /// Microseconds a full bucket needs to make room for `cost`.
    pub fn recovery(&self, cost: f64) -> f64 {
        cost.min(self.burst) / self.rate
    }

    /// When the bucket is empty if nothing is added.
    pub fn empty_at(&self, level: Level) -> f64 {
        level.at + level.units / self.rate
    }

    /// The level with `cost` added (or taken out, when negative).
    #[must_use]
    pub fn charged(&self, drained: Level, cost: f64) -> Level {
        Level { units: (drained.units + cost).max(0.0), at: drained.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any window of length t at most `burst + rate * t` leaves.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            steps in prop::collection::vec((0u32..400_000, 1u8..5), 1..200),
            burst in 5u8..20,
        ) {
            let quota = Quota { rate: 10.0 / 1e6, burst: f64::from(burst) };
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
            let quota = Quota { rate: 10.0 / 1e6, burst: f64::from(burst) };
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
        let quota = Quota { rate: 1e-6, burst: 10.0 };
        let empty = Level { units: 0.0, at: 0.0 };
        let waits = |level, cost, expected: f64| {
            let wait = quota.wait(level, cost);
            assert!((wait - expected).abs() < 1e-6, "{wait} is not {expected}");
        };
        waits(empty, 25.0, 0.0);
        waits(quota.charged(empty, 25.0), 1.0, 16_000_000.0);
        waits(Level { units: 0.5, at: 0.0 }, 25.0, 500_000.0);
    }
}
