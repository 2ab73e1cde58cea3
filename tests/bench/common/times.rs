//! Times in a row.

use std::time::Duration;

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    at(&times, 50)
}

/// The time below which so many in a hundred of these sorted times lie.
pub(crate) fn at(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(sorted.len() * percent / 100).or(sorted.get(last)).copied().unwrap_or_default()
}
