//! The limiter of one process: the same answers as the one on Redis, from memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::figures::{LATE, charge, correction, distinct, duration, micros};
use super::{
    Ask, CONCURRENCY_PAUSE, Limiter, LimiterError, Obstacle, PoolLevel, ShutGate, Turn,
    URGENT_GRACE,
};
use crate::clock::SharedClock;
use crate::domain::bucket::Level;
use crate::domain::limits::{Cost, Pool};

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

    async fn settle(&self, ask: &Ask, used: Option<Cost>) -> Result<(), LimiterError> {
        let (mut state, now) = self.now();
        let correction = correction(ask.cost, used);
        for pool in distinct(&ask.pools) {
            if let Some(stored) = state.pools.get_mut(&pool.id) {
                stored.settle(pool, &ask.id, correction, now);
            }
        }
        Ok(())
    }

    async fn renew(&self, ask: &Ask) -> Result<(), LimiterError> {
        let (mut state, now) = self.now();
        for pool in distinct(&ask.pools) {
            if let Some(stored) = state.pools.get_mut(&pool.id) {
                stored.renew(&ask.id, now + micros(ask.term));
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

    async fn levels(&self, pools: &[Arc<Pool>]) -> Result<Vec<PoolLevel>, LimiterError> {
        let (state, now) = self.now();
        let idle = Stored::default();
        let level = |pool: &Arc<Pool>| {
            let stored = state.pools.get(&pool.id).unwrap_or(&idle);
            let mut units = [None; 3];
            for ((units, quota), level) in units.iter_mut().zip(pool.quotas).zip(stored.levels) {
                *units = quota.map(|quota| quota.drained(level, now).units);
            }
            PoolLevel { id: pool.id.clone(), units, running: stored.running(now) }
        };
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

/// What is known of a pool.
#[derive(Default)]
struct Stored {
    levels: [Level; 3],
    /// Turns not settled, and until when each holds its place.
    turns: HashMap<String, f64>,
    /// Urgent asks that wait, and until when others keep back for each.
    marks: HashMap<String, f64>,
    /// From when on all of this is as if it had never been.
    idle_at: f64,
}

impl State {
    fn take(&mut self, ask: &Ask, now: f64) -> Turn {
        let pools = distinct(&ask.pools);
        let cost = charge(ask.cost);
        let mut longest = Longest::default();
        for gate in pools.iter().map(|pool| &pool.id).chain(&ask.gates) {
            if let Some(gate_is) = self.gates.get(gate).filter(|gate| gate.until > now) {
                longest.hold(gate_is.until - now, Obstacle::Gate, gate);
            }
        }
        let gated = longest.held;
        let idle = Stored::default();
        let mut reaches = Vec::with_capacity(pools.len());
        for pool in &pools {
            let stored = self.pools.get(&pool.id).unwrap_or(&idle);
            reaches.push(stored.look(pool, ask, now, &mut longest));
        }
        match longest.by {
            Some(by) if longest.held || longest.wait > micros(ask.horizon) => {
                if ask.urgent && !gated {
                    self.mark(&pools, &reaches, &ask.id, (now, longest.wait));
                }
                Turn::NotBefore { wait: duration(longest.wait), by }
            }
            _ => {
                for pool in pools {
                    let stored = self.pools.entry(pool.id.clone()).or_default();
                    stored.charge(pool, cost, now, longest.wait);
                    stored.enter(ask, now, longest.wait);
                }
                self.clear(now);
                Turn::Granted { wait: duration(longest.wait) }
            }
        }
    }

    /// Keeps others back from the pools that could not recover in time from one more departure.
    fn mark(&mut self, pools: &[&Pool], reaches: &[f64], id: &str, (now, wait): (f64, f64)) {
        let until = now + wait + micros(URGENT_GRACE);
        for (pool, reach) in pools.iter().zip(reaches) {
            if wait <= *reach {
                let stored = self.pools.entry(pool.id.clone()).or_default();
                stored.marks.retain(|_, until| *until > now);
                stored.marks.insert(id.to_owned(), until);
                stored.keep(until);
            }
        }
        self.clear(now);
    }

    /// Clears away what matters no longer, when much has come together.
    fn clear(&mut self, now: f64) {
        if self.pools.len() + self.gates.len() > self.crowd {
            self.pools.retain(|_, stored| stored.idle_at > now);
            self.gates.retain(|_, gate| gate.until > now);
            self.crowd = 2 * (self.pools.len() + self.gates.len()).max(32);
        }
    }
}

impl Stored {
    /// Finds what stands in the way at this pool. Answers the longest wait from which the pool
    /// could not recover in time if another departed now.
    fn look(&self, pool: &Pool, ask: &Ask, now: f64, longest: &mut Longest) -> f64 {
        let pause = micros(CONCURRENCY_PAUSE);
        let mut reach = pause;
        for ((quota, level), cost) in pool.quotas.iter().zip(self.levels).zip(charge(ask.cost)) {
            if let Some(quota) = quota.filter(|_| cost > 0.0) {
                let wait = quota.wait(quota.drained(level, now), cost);
                longest.longer(wait, Obstacle::Bucket, &pool.id);
                reach = reach.max(wait).max(quota.recovery(cost));
            }
        }
        if pool.concurrency.is_some_and(|places| self.running_beside(&ask.id, now) >= places) {
            longest.hold(pause, Obstacle::Concurrency, &pool.id);
        }
        let marked = self.marks.values().copied().fold(now, f64::max);
        if !ask.urgent && marked > now {
            longest.hold(marked - now, Obstacle::Urgent, &pool.id);
        }
        reach
    }

    fn charge(&mut self, pool: &Pool, cost: [f64; 3], now: f64, wait: f64) {
        for ((quota, cost), level) in pool.quotas.iter().zip(cost).zip(&mut self.levels) {
            if let Some(quota) = quota.filter(|_| cost > 0.0) {
                *level = quota.reserved(quota.drained(*level, now), cost, wait);
                self.idle_at = self.idle_at.max(quota.empty_at(*level));
            }
        }
    }

    fn enter(&mut self, ask: &Ask, now: f64, wait: f64) {
        let late = micros(LATE);
        let until = now + wait + micros(ask.term);
        self.turns.retain(|_, until| *until + late >= now);
        self.turns.insert(ask.id.clone(), until);
        if ask.urgent {
            self.marks.remove(&ask.id);
        }
        self.keep(until + late);
    }

    fn settle(&mut self, pool: &Pool, id: &str, correction: [f64; 3], now: f64) {
        // Only the first settling finds the turn.
        if self.turns.remove(id).is_none() {
            return;
        }
        for ((quota, more), level) in pool.quotas.iter().zip(correction).zip(&mut self.levels) {
            if let Some(quota) = quota.filter(|_| more != 0.0) {
                *level = quota.charged(quota.drained(*level, now), more);
                self.idle_at = self.idle_at.max(quota.empty_at(*level));
            }
        }
    }

    fn renew(&mut self, id: &str, until: f64) {
        if let Some(held) = self.turns.get_mut(id) {
            *held = held.max(until);
            self.keep(until + micros(LATE));
        }
    }

    fn running(&self, now: f64) -> u32 {
        let running = self.turns.values().filter(|until| **until > now).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }

    fn running_beside(&self, id: &str, now: f64) -> u32 {
        let own = self.turns.get(id).is_some_and(|until| *until > now);
        self.running(now) - u32::from(own)
    }

    fn keep(&mut self, until: f64) {
        self.idle_at = self.idle_at.max(until);
    }
}

/// The longest wait found so far and its obstacle.
#[derive(Default)]
struct Longest {
    wait: f64,
    by: Option<Obstacle>,
    /// Whether something stands in the way that waiting within the horizon does not remove.
    held: bool,
}

impl Longest {
    fn longer(&mut self, wait: f64, by: fn(String) -> Obstacle, name: &str) {
        if wait > self.wait {
            self.wait = wait;
            self.by = Some(by(name.to_owned()));
        }
    }

    fn hold(&mut self, wait: f64, by: fn(String) -> Obstacle, name: &str) {
        self.held = true;
        self.longer(wait, by, name);
    }
}
