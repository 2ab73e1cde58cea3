//! What this replica knows of prompt caches by itself: what it saw lately, what is warm where, and
//! who is warming it up now. A cached prompt is readable only once the answer to the call that
//! writes it has begun: until then those who begin alike would all pay in full.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// So many names are kept before those whose time has passed are cleared away; after that twice as
/// many as were left.
const CROWD: usize = 10_000;

/// So many are kept at the most. What is forgotten is only thought to be new.
const MOST: usize = 200_000;

/// How long it is remembered that something was seen at all.
const SEEN_FOR: Duration = Duration::from_secs(3_600);

/// What this replica knows of prompt caches.
#[derive(Default)]
pub(super) struct Warmth(Mutex<State>);

#[derive(Default)]
struct State {
    /// By prefix and place, until when it is cached there.
    warm: HashMap<(String, String), DateTime<Utc>>,
    /// By prefix and place, who writes it there at the moment.
    led: HashMap<(String, String), Leader>,
    /// By prefix, when it was asked for last, and by which job.
    seen: HashMap<String, (DateTime<Utc>, String)>,
    /// By account, the tokens sent and those of them read from a cache.
    tokens: HashMap<String, (u64, u64)>,
    /// How many of `warm` and of `seen` are kept before they are tidied next.
    room: (usize, usize),
}

/// Clears away what has passed, so seldom that it costs little for each that is added.
fn tidy<K, V>(of: &mut HashMap<K, V>, room: &mut usize, lasts: impl Fn(&V) -> bool) {
    if of.len() < (*room).max(CROWD) {
        return;
    }
    of.retain(|_, value| lasts(value));
    if of.len() > MOST {
        of.clear();
    }
    *room = of.len() * 2;
}

/// A call that writes something nobody has cached yet.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// Whose call.
    pub(super) job: String,
    /// Since when.
    pub(super) since: DateTime<Utc>,
    /// Whether its answer has begun: from then on it can be read.
    pub(super) begun: bool,
}

/// How lately something was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// So long ago.
    Ago(Duration),
    /// Never, or not for an hour.
    Never,
}

impl Warmth {
    /// It was cached at this place until then.
    pub(super) fn warmed(&self, keys: &[String], place: &str, now: DateTime<Utc>, time: Duration) {
        let mut state = self.lock();
        let State { warm, room, .. } = &mut *state;
        tidy(warm, &mut room.0, |until| *until > now);
        for key in keys {
            state.warm.insert((key.clone(), place.to_owned()), now + time);
        }
    }

    /// Whether it is cached there as far as we have seen ourselves.
    pub(super) fn is_warm(&self, key: &str, place: &str, now: DateTime<Utc>) -> bool {
        let until = self.lock().warm.get(&(key.to_owned(), place.to_owned())).copied();
        until.is_some_and(|until| until > now)
    }

    /// Who writes this there now.
    pub(super) fn leader(&self, key: &str, place: &str) -> Option<Leader> {
        self.lock().led.get(&(key.to_owned(), place.to_owned())).cloned()
    }

    /// How many calls with something new are under way to a place.
    pub(super) fn led_to(&self, place: &str) -> u64 {
        let state = self.lock();
        let mut jobs: Vec<&str> = state
            .led
            .iter()
            .filter(|((_, at), _)| at == place)
            .map(|(_, leader)| leader.job.as_str())
            .collect();
        jobs.sort_unstable();
        jobs.dedup();
        u64::try_from(jobs.len()).unwrap_or(u64::MAX)
    }

    /// From now on this call writes there what nobody else writes yet, until the lead is dropped.
    pub(super) fn lead(
        self: &Arc<Self>,
        keys: Vec<String>,
        place: &str,
        leader: &Leader,
    ) -> Arc<Lead> {
        let mut state = self.lock();
        let keys: Vec<_> = keys.into_iter().map(|key| (key, place.to_owned())).collect();
        for key in &keys {
            state.led.entry(key.clone()).or_insert_with(|| leader.clone());
        }
        drop(state);
        Arc::new(Lead { warmth: Arc::clone(self), keys, job: leader.job.clone() })
    }

    /// When this was asked for before, by another job; from now on it was by this one.
    pub(super) fn see(&self, key: &str, job: &str, now: DateTime<Utc>) -> Seen {
        let mut state = self.lock();
        let State { seen, room, .. } = &mut *state;
        tidy(seen, &mut room.1, |(at, _)| (now - *at).to_std().unwrap_or_default() < SEEN_FOR);
        let before = state.seen.get(key).filter(|(_, by)| by != job).map(|(at, _)| *at);
        if before.is_some() || !state.seen.contains_key(key) {
            state.seen.insert(key.to_owned(), (now, job.to_owned()));
        }
        let ago = before.map(|at| (now - at).to_std().unwrap_or_default());
        ago.filter(|ago| *ago < SEEN_FOR).map_or(Seen::Never, Seen::Ago)
    }

    /// Counts tokens sent and those read from a cache; the share of all since the start.
    pub(super) fn hit_ratio(&self, account: &str, input: u64, cached: u64) -> f64 {
        let mut state = self.lock();
        let (all, read) = state.tokens.entry(account.to_owned()).or_default();
        (*all, *read) = (all.saturating_add(input), read.saturating_add(cached));
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
        let share = *read as f64 / (*all).max(1) as f64;
        share
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call writes, until it is dropped.
pub(super) struct Lead {
    warmth: Arc<Warmth>,
    keys: Vec<(String, String)>,
    job: String,
}

impl Lead {
    /// Its answer has begun: others can read what it wrote.
    pub(super) fn begun(&self) {
        let mut state = self.warmth.lock();
        for key in &self.keys {
            if let Some(leader) = state.led.get_mut(key).filter(|led| led.job == self.job) {
                leader.begun = true;
            }
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut state = self.warmth.lock();
        for key in &self.keys {
            if state.led.get(key).is_some_and(|led| led.job == self.job) {
                state.led.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_first_leads_until_its_call_is_over() {
        let warmth = Arc::new(Warmth::default());
        let leader = |job: &str| Leader { job: job.to_owned(), since: at(0), begun: false };
        let key = || vec!["k".to_owned()];
        let first = warmth.lead(key(), "a/m", &leader("one"));
        let second = warmth.lead(key(), "a/m", &leader("two"));
        let leads = || warmth.leader("k", "a/m").map(|leader| (leader.job, leader.begun));
        drop(second);
        assert_eq!((leads(), warmth.led_to("a/m")), (Some(("one".to_owned(), false)), 1));
        first.begun();
        assert_eq!(leads(), Some(("one".to_owned(), true)));
        drop(first);
        assert_eq!((leads(), warmth.led_to("a/m")), (None, 0));
    }

    #[test]
    fn a_job_that_comes_back_has_not_seen_itself() {
        let warmth = Warmth::default();
        assert_eq!(warmth.see("k", "one", at(0)), Seen::Never);
        assert_eq!(warmth.see("k", "one", at(9)), Seen::Never);
        assert_eq!(warmth.see("k", "two", at(10)), Seen::Ago(Duration::from_secs(10)));
        assert_eq!(warmth.see("k", "three", at(4_000)), Seen::Never);
    }
}
