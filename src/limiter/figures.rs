//! Figures as both limiters count them: microseconds, and no cost beyond reason.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::limits::{Bucket, Cost, Learn, Pool};
use crate::domain::told::Told;

/// How long after its term a turn that was not settled can still be. It holds no place then.
pub(super) const LATE: Duration = Duration::from_secs(60);

/// The most one call counts on an axis. What exceeds it is a provider's mistake and must not
/// keep a bucket full for years.
const MOST: f64 = 1e9;

/// What rounding may add to a time, in microseconds: it is no reason to wait.
pub(super) const ROUNDING: f64 = 1e-3;

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
    Duration::from_micros(((micros - ROUNDING).ceil() as u64).min(LONGEST))
}

/// What a call takes from each of a pool's buckets.
pub(super) fn charges(pool: &Pool, cost: &Cost) -> Vec<f64> {
    let sensible = |units: f64| if units.is_nan() { 0.0 } else { units.clamp(0.0, MOST) };
    pool.buckets.iter().map(|bucket| sensible(pool.units(bucket, cost))).collect()
}

/// What settling adds to each of a pool's buckets beyond what was charged.
pub(super) fn corrections(pool: &Pool, charged: &Cost, used: Option<&Cost>) -> Vec<f64> {
    let charged_units = charges(pool, charged);
    let used_units = charges(pool, used.unwrap_or(charged));
    used_units.iter().zip(charged_units).map(|(used, charged)| used - charged).collect()
}

/// What the provider says is left in each of a pool's buckets, where it says so.
pub(super) fn told_left(pool: &Pool, told: &[Told]) -> Vec<Option<f64>> {
    let left = |bucket: &Bucket| {
        let here = |told: &&Told| told.axis == bucket.axis && told.per == bucket.per;
        told.iter().find(here)?.remaining.filter(|left| *left >= 0.0)
    };
    match pool.learn {
        Learn::Off => vec![None; pool.buckets.len()],
        Learn::Down | Learn::Both => pool.buckets.iter().map(left).collect(),
    }
}

/// Whether refusals may lower this pool's rates.
pub(super) fn minds_refusals(pool: &Pool) -> bool {
    pool.learn != Learn::Off
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
    use crate::domain::limits::LimitSettings;
    use crate::domain::units::Rate;

    #[test]
    fn a_senseless_cost_counts_as_nothing_or_as_the_most() {
        let limits = LimitSettings {
            requests: Rate::parse("1/s"),
            input_tokens: Rate::parse("1/s"),
            output_tokens: Rate::parse("1/s"),
            ..LimitSettings::default()
        };
        let pool = limits.pool("acme");
        let cost =
            Cost { requests: f64::NAN, input: -5.0, output: f64::INFINITY, ..Cost::default() };
        let bits = |units: Vec<f64>| units.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(charges(&pool, &cost)), bits(vec![0.0, 0.0, MOST]));
        let corrected = corrections(&pool, &Cost::call(1, 1), Some(&cost));
        assert_eq!(bits(corrected), bits(vec![-1.0, -1.0, MOST - 1.0]));
        assert_eq!(bits(corrections(&pool, &cost, None)), bits(vec![0.0; 3]));
    }

    #[test]
    fn a_time_without_end_is_still_a_time() {
        assert_eq!(duration(micros(Duration::MAX)), Duration::from_micros(LONGEST));
        assert_eq!(duration(f64::INFINITY), Duration::from_micros(LONGEST));
        assert_eq!(duration(0.2), Duration::from_micros(1));
    }
}
