//! Figures as both limiters count them: microseconds, and no cost beyond reason.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::limits::{Cost, Pool};

/// How long after its term a turn that was not settled can still be. It holds no place then.
pub(super) const LATE: Duration = Duration::from_secs(60);

/// The most one call counts on an axis. What exceeds it is a provider's mistake and must not
/// keep a bucket full for years.
const MOST: f64 = 1e9;

/// The longest time counted: some thirty years. Added to any date it is still exact.
const LONGEST: u64 = 1_000_000_000_000_000;

/// A time in whole microseconds.
#[expect(clippy::cast_precision_loss, reason = "LONGEST is below 2^53")]
pub(super) fn micros(time: Duration) -> f64 {
    u64::try_from(time.as_micros()).unwrap_or(LONGEST).min(LONGEST) as f64
}

/// The time that so many microseconds are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted"
)]
pub(super) fn duration(micros: f64) -> Duration {
    Duration::from_micros((micros.ceil() as u64).min(LONGEST))
}

/// What is charged on each axis.
pub(super) fn charge(cost: Cost) -> [f64; 3] {
    cost.0.map(|units| if units.is_nan() { 0.0 } else { units.clamp(0.0, MOST) })
}

/// What settling adds on each axis to what was charged.
pub(super) fn correction(charged: Cost, used: Option<Cost>) -> [f64; 3] {
    let mut more = charge(used.unwrap_or(charged));
    for (more, charged) in more.iter_mut().zip(charge(charged)) {
        *more -= charged;
    }
    more
}

/// The pools without repetition: none is charged twice for one turn.
pub(super) fn distinct(pools: &[Arc<Pool>]) -> Vec<&Pool> {
    let mut found: Vec<&Pool> = Vec::with_capacity(pools.len());
    for pool in pools {
        if found.iter().all(|known| known.id != pool.id) {
            found.push(pool);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senseless_cost_counts_as_nothing_or_as_the_most() {
        let cost = Cost([f64::NAN, -5.0, f64::INFINITY]);
        let bits = |units: [f64; 3]| units.map(f64::to_bits);
        assert_eq!(bits(charge(cost)), bits([0.0, 0.0, MOST]));
        let corrected = correction(Cost([1.0; 3]), Some(cost));
        assert_eq!(bits(corrected), bits([-1.0, -1.0, MOST - 1.0]));
        assert_eq!(bits(correction(cost, None)), bits([0.0; 3]));
    }

    #[test]
    fn a_time_without_end_is_still_a_time() {
        assert_eq!(duration(micros(Duration::MAX)), Duration::from_micros(LONGEST));
        assert_eq!(duration(f64::INFINITY), Duration::from_micros(LONGEST));
        assert_eq!(duration(0.2), Duration::from_micros(1));
    }
}
