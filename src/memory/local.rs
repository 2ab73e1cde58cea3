//! The memory of one process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Bindings, Bond, Bound, Known, MemoryError};
use crate::clock::SharedClock;

/// Remembers for one process, until it ends.
pub struct LocalMemory {
    clock: SharedClock,
    state: Mutex<State>,
}

/// Until when a name counts.
type Until = HashMap<String, DateTime<Utc>>;

#[derive(Default)]
struct State {
    /// By key, the places it is bound to.
    bound: HashMap<String, Until>,
    /// By place, the sessions bound to it.
    sessions: HashMap<String, Until>,
    /// So many keys are kept before those whose time has passed are cleared away.
    crowd: usize,
}

impl LocalMemory {
    /// Nothing is remembered yet.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bindings for LocalMemory {
    async fn look(&self, keys: &[String], places: &[String]) -> Result<Known, MemoryError> {
        let now = self.clock.now();
        let state = self.state();
        let bound = keys.iter().map(|key| {
            let found = state.bound.get(key).into_iter().flatten();
            let mut bound: Vec<Bound> = found
                .filter(|(_, until)| **until > now)
                .map(|(place, until)| Bound { place: place.clone(), left: left(*until, now) })
                .collect();
            bound.sort_by(|a, b| (b.left, &b.place).cmp(&(a.left, &a.place)));
            bound
        });
        let sessions = places.iter().map(|place| {
            let found = state.sessions.get(place).into_iter().flatten();
            u64::try_from(found.filter(|(_, until)| **until > now).count()).unwrap_or(u64::MAX)
        });
        Ok(Known { bound: bound.collect(), sessions: sessions.collect() })
    }

    async fn bind(&self, bond: &Bond) -> Result<(), MemoryError> {
        let now = self.clock.now();
        let until = now + bond.time;
        let mut state = self.state();
        for key in &bond.keys {
            longer(state.bound.entry(key.clone()).or_default(), &bond.place, until);
        }
        longer(state.sessions.entry(bond.place.clone()).or_default(), &bond.session, until);
        state.clear(now);
        Ok(())
    }
}

impl State {
    /// Clears away what has run out, when much has come together.
    fn clear(&mut self, now: DateTime<Utc>) {
        if self.bound.len() <= self.crowd {
            return;
        }
        for of in [&mut self.bound, &mut self.sessions] {
            of.retain(|_, names| {
                names.retain(|_, until| *until > now);
                !names.is_empty()
            });
        }
        self.crowd = 2 * self.bound.len().max(512);
    }
}

fn longer(names: &mut Until, name: &str, until: DateTime<Utc>) {
    let known = names.entry(name.to_owned()).or_insert(until);
    *known = until.max(*known);
}

fn left(until: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (until - now).to_std().unwrap_or_default()
}
