//! What the provider has seen.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::limits::Units;
use crate::domain::prompt::Prompt;

/// The arrivals that are remembered: the first million.
const MOST_ARRIVALS: usize = 1_000_000;

/// Everything the provider has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Calls that reached it.
    pub calls: u64,
    /// Calls it answered properly.
    pub answered: u64,
    /// Calls it answered 429.
    pub rate_limited: u64,
    /// Calls by the HTTP status they were answered with.
    pub by_status: BTreeMap<u16, u64>,
    /// Calls that went wrong, by how.
    pub by_fault: BTreeMap<Fault, u64>,
    /// Calls that reached it, by model.
    #[serde(default)]
    pub by_model: BTreeMap<String, u64>,
    /// Images sent.
    #[serde(default)]
    pub images: u64,
    /// Tokens sent, of the calls let through.
    pub input_tokens: u64,
    /// Those of them that were read from the prompt cache.
    #[serde(default)]
    pub cached_input_tokens: u64,
    /// Those of them that were written to it.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// The most calls at the same time.
    pub max_concurrent: u32,
    /// When the first call came, in µs since 1970.
    pub first_at: Option<i64>,
    /// When the latest call came.
    pub last_at: Option<i64>,
    /// When each call came, in order; of very many the first million.
    pub arrivals: Vec<i64>,
    /// When each call came that the limits let through.
    pub admitted: Vec<i64>,
    /// What each of these took: when it came, its tokens sent, its tokens received.
    pub admitted_units: Vec<(i64, u64, u64)>,
}

impl Stats {
    /// The most arrivals in any window of this length.
    pub fn most_within(&self, window: Duration) -> usize {
        most_within(&self.arrivals, window)
    }

    /// The most admitted calls in any window of this length.
    pub fn most_admitted_within(&self, window: Duration) -> usize {
        most_within(&self.admitted, window)
    }

    /// A call came.
    pub(super) fn arrived(&mut self, now: i64, model: &str, prompt: &Prompt) {
        self.calls += 1;
        *self.by_model.entry(model.to_owned()).or_default() += 1;
        let images = prompt.messages.iter().map(|message| message.content.images().count());
        self.images += u64::try_from(images.sum::<usize>()).unwrap_or_default();
        self.first_at.get_or_insert(now);
        self.last_at = Some(now);
        remember(&mut self.arrivals, now);
    }

    /// A call was let through.
    pub(super) fn admitted(&mut self, now: i64, units: Units) {
        remember(&mut self.admitted, now);
        remember(&mut self.admitted_units, (now, units.input, units.output));
    }

    /// A call was answered with this status.
    pub(super) fn answered_with(&mut self, status: u16) {
        *self.by_status.entry(status).or_default() += 1;
    }

    /// A call went wrong.
    pub(super) fn went_wrong(&mut self, fault: Fault) {
        *self.by_fault.entry(fault).or_default() += 1;
    }
}

fn remember<T>(times: &mut Vec<T>, now: T) {
    if times.len() < MOST_ARRIVALS {
        times.push(now);
    }
}

fn most_within(times: &[i64], window: Duration) -> usize {
    let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let (mut first, mut most) = (0, 0);
    for (index, at) in sorted.iter().enumerate() {
        while sorted.get(first).is_some_and(|start| at - start > window) {
            first += 1;
        }
        most = most.max(index + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_window_is_found() {
        let times = [0, 10, 11, 12, 30, 31];
        let most = |micros| most_within(&times, Duration::from_micros(micros));
        assert_eq!((most(0), most(2), most(20), most(1_000)), (1, 3, 4, 6));
    }
}
