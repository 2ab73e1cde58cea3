//! Arithmetic over what a provider saw: windows, rates, fairness.

/// Units that arrived at a moment, in µs.
pub(crate) type Arrivals = [(i64, f64)];

/// The smallest burst that covers every window of arrivals: in each window of length `t` there are
/// at most that many units and `per_second * t`.
pub(crate) fn covering_burst(arrivals: &Arrivals, per_second: f64) -> f64 {
    let start = arrivals.first().map_or(0, |first| first.0);
    let (mut sum, mut least, mut most) = (0.0_f64, f64::INFINITY, 0.0_f64);
    for (at, units) in arrivals {
        let leaked = per_second * seconds(at - start);
        least = least.min(sum - leaked);
        sum += units;
        most = most.max(sum - leaked - least);
    }
    most
}

/// The most units in any window of this length.
pub(crate) fn most_within(arrivals: &Arrivals, window: i64) -> f64 {
    let (mut oldest, mut sum, mut most) = (arrivals.iter().peekable(), 0.0_f64, 0.0_f64);
    for (at, units) in arrivals {
        sum += units;
        while let Some((_, gone)) = oldest.next_if(|(start, _)| at - start >= window) {
            sum -= gone;
        }
        most = most.max(sum);
    }
    most
}

/// All units.
pub(crate) fn total(arrivals: &Arrivals) -> f64 {
    arrivals.iter().map(|(_, units)| units).sum()
}

/// Seconds from the first arrival to the last.
pub(crate) fn span(arrivals: &Arrivals) -> f64 {
    let ends = arrivals.first().zip(arrivals.last());
    ends.map_or(0.0, |(first, last)| seconds(last.0 - first.0))
}

/// Seconds after the first arrival at which a window of this length (µs) has first seen this many
/// units a second.
pub(crate) fn reached(arrivals: &Arrivals, window: i64, per_second: f64) -> Option<f64> {
    let start = arrivals.first()?.0;
    let wanted = per_second * seconds(window);
    let (mut oldest, mut sum) = (arrivals.iter().peekable(), 0.0_f64);
    for (at, units) in arrivals {
        sum += units;
        while let Some((_, gone)) = oldest.next_if(|(start, _)| at - start >= window) {
            sum -= gone;
        }
        // What begins with a burst has not reached anything yet.
        if sum >= wanted && at - start >= window {
            return Some(seconds(at - start));
        }
    }
    None
}

/// Jain's index: 1 when all got the same, 1/n when one got all.
pub(crate) fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) =
        shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, x.mul_add(*x, squares)));
    if squares > 0.0 { sum * sum / (count(shares.len()) * squares) } else { 0.0 }
}

/// The value below or at which so many in a hundred lie.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

/// µs as seconds.
#[expect(clippy::cast_precision_loss, reason = "a run takes less than 2^53 µs")]
pub(crate) fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// A count as a figure to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) const fn count(number: usize) -> f64 {
    number as f64
}
