//! The limiter of one process: the same answers as the one on Redis, from memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use self::stored::{Longest, Stored};
use super::figures::{distinct, duration, micros};
use super::{Ask, End, Limiter, LimiterError, Obstacle, PoolLevel, ShutGate, Turn};
use crate::clock::SharedClock;
use crate::domain::limits::{Bucket, Pool};

mod stored;

/// Limits one process.
pub struct LocalLimiter {
    clock: SharedClock,
    state: Mutex<State>,
}

impl LocalLimiter {
    /// Nothing charged, no gate shut.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// The state and the time. The time is asked under the lock, so that it never goes back.
    fn now(&self) -> (MutexGuard<'_, State>, f64) {
        let state = match self.state.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        #[expect(clippy::cast_precision_loss, reason = "microseconds stay below 2^53 until 2255")]
        let now = self.clock.now().timestamp_micros() as f64;
        (state, now)
    }
}

#[async_trait]
impl Limiter for LocalLimiter {
    async fn take(&self, ask: &Ask) -> Result<Turn, LimiterError> {
        let (mut state, now) = self.now();
        Ok(state.take(ask, now))
    }

    async fn settle(&self, ask: &Ask, end: &End) -> Result<(), LimiterError> {
        let (mut state, now) = self.now();
        for pool in distinct(&ask.pools) {
            if let Some(stored) = state.pools.get_mut(&pool.id) {
                stored.settle(pool, ask, end, now);
            }
        }
        Ok(())
    }

    async fn shut(&self, gate: &str, time: Duration, reason: &str) -> Result<(), LimiterError> {
        let (mut state, now) = self.now();
        let until = now + micros(time);
        if until > now && state.gates.get(gate).is_none_or(|known| known.until < until) {
            state.gates.insert(gate.to_owned(), Gate { until, reason: reason.to_owned() });
            state.clear(now);
        }
        Ok(())
    }

    async fn open(&self, gate: &str) -> Result<(), LimiterError> {
        self.now().0.gates.remove(gate);
        Ok(())
    }

    async fn shut_gates(&self, gates: &[String]) -> Result<Vec<ShutGate>, LimiterError> {
        let (state, now) = self.now();
        let shut = |name: &String| {
            let gate = state.gates.get(name).filter(|gate| gate.until > now)?;
            let left = duration(gate.until - now);
            Some(ShutGate { gate: name.clone(), left, reason: gate.reason.clone() })
        };
        Ok(gates.iter().filter_map(shut).collect())
    }

    async fn learn(&self, pool: &Pool, bucket: &Bucket, factor: f64) -> Result<(), LimiterError> {
        let (mut state, now) = self.now();
        state.pools.entry(pool.id.clone()).or_default().learn(bucket, factor, now);
        Ok(())
    }

    async fn levels(&self, pools: &[Arc<Pool>]) -> Result<Vec<PoolLevel>, LimiterError> {
        let (state, now) = self.now();
        let idle = Stored::default();
        let level = |pool: &Arc<Pool>| state.pools.get(&pool.id).unwrap_or(&idle).level(pool, now);
        Ok(pools.iter().map(level).collect())
    }
}

/// All pools and gates that matter.
#[derive(Default)]
struct State {
    pools: HashMap<String, Stored>,
    gates: HashMap<String, Gate>,
    /// So many of both are kept before those that matter no longer are cleared away.
    crowd: usize,
}

/// A shut gate.
struct Gate {
    until: f64,
    reason: String,
}

impl State {
    fn take(&mut self, ask: &Ask, now: f64) -> Turn {
        let pools = distinct(&ask.pools);
        let mut longest = Longest::default();
        for gate in pools.iter().map(|pool| &pool.id).chain(&ask.gates) {
            if let Some(gate_is) = self.gates.get(gate).filter(|gate| gate.until > now) {
                longest.longer(gate_is.until - now, Obstacle::Gate, gate);
            }
        }
        let gated = longest.by.is_some();
        let idle = Stored::default();
        let mut looked = Vec::with_capacity(pools.len());
        for pool in &pools {
            let stored = self.pools.get(&pool.id).unwrap_or(&idle);
            looked.push(stored.look(pool, ask, now, &mut longest));
        }
        if let Some(by) = longest.by {
            if ask.comes_back && !gated {
                for (pool, seen) in pools.iter().zip(&looked) {
                    // Others are kept back only from pools that could not recover in time from
                    // one more departure.
                    if longest.wait <= seen.reach {
                        let stored = self.pools.entry(pool.id.clone()).or_default();
                        stored.mark(ask, seen, now, longest.wait);
                    }
                }
                self.clear(now);
            }
            return Turn::NotBefore { wait: duration(longest.wait), by };
        }
        let mut next = 0.0f64;
        for (pool, seen) in pools.iter().zip(&looked) {
            let stored = self.pools.entry(pool.id.clone()).or_default();
            next = next.max(stored.charge(ask, seen, now, longest.departs));
        }
        self.clear(now);
        Turn::Granted { wait: duration(longest.departs), next: duration(next) }
    }

    /// Clears away what matters no longer, when much has come together.
    fn clear(&mut self, now: f64) {
        if self.pools.len() + self.gates.len() > self.crowd {
            self.pools.retain(|_, stored| stored.matters_until() > now);
            self.gates.retain(|_, gate| gate.until > now);
            self.crowd = 2 * (self.pools.len() + self.gates.len()).max(32);
        }
    }
}
