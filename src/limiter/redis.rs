//! The limiter replicas share: Lua scripts on Redis, by the server's clock, one round trip each.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `l:<pool>` | hash | for each bucket its units `u`, their time `a`, the open share `f` of a ramp and its time in use `w`, the correction `k` of its limit and its lowest levels `m` and `n` since `e1` and `e2`, `b` when it began, each with the bucket's key behind; the share refusals have left: `sl` low, `sm` mark, `sa` time, `ss` span; what the lanes are owed: `d0` to `d2` |
//! | `c:<pool>` | sorted set | turns not settled, by the time until which each holds its place |
//! | `u:<pool>` | sorted set | asks that wait (class, lane and name), by the time until which others keep back |
//! | `h:<gate>` | string | until when the gate is shut, a space, and why |
//!
//! Names of pools and gates appear as digests. Times are microseconds of the server's clock,
//! doubles are written so that they read back the same. Every key expires once it cannot matter:
//! levels when the buckets are empty and nothing learned is in force, turns a while after their term, marks and gates when their
//! time has passed.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{FromRedisValue, ScriptInvocation, cmd};
use async_trait::async_trait;

use super::figures::{
    LATE, charges, corrections, distinct, duration, micros, minds_refusals, told_left,
};
use super::{
    Ask, BucketLevel, CONCURRENCY_PAUSE, End, FARTHEST, GRACE, LEARNED_FOR, LONGEST_MARK, Limiter,
    LimiterError, MOST_OWED, Obstacle, PoolLevel, REFUSED_FOR, ShutGate, Turn,
};
use crate::clock::SharedClock;
use crate::domain::id::digest16;
use crate::domain::limits::{Bucket, Pool};
use crate::keyspace::{Keyspace, KeyspaceError, Script, script};

/// The scripts' sources.
pub mod scripts {
    macro_rules! source {
        ($first:literal, $file:literal) => {
            concat!($first, "\n", include_str!("lua/bucket.lua"), include_str!($file))
        };
    }

    /// Takes a turn. Grows the store, so it is refused when that is full.
    pub const TAKE: &str = source!("#!lua", "lua/take.lua");
    /// Ends a turn. Frees more than it takes.
    pub const SETTLE: &str = source!("#!lua flags=allow-oom", "lua/settle.lua");
    /// Shuts a gate. A full store is no reason to go on asking a provider that said no.
    pub const SHUT: &str = source!("#!lua flags=allow-oom", "lua/shut.lua");
    /// Reads gates.
    pub const GATES: &str = source!("#!lua flags=no-writes", "lua/gates.lua");
    /// Remembers a correction. Small and rare.
    pub const LEARN: &str = source!("#!lua flags=allow-oom", "lua/learn.lua");
    /// Reads levels.
    pub const LEVELS: &str = source!("#!lua flags=no-writes", "lua/levels.lua");
}

/// Limits all replicas together.
pub struct RedisLimiter {
    keyspace: Keyspace,
    clock: Option<SharedClock>,
    take: Script,
    settle: Script,
    shut: Script,
    gates: Script,
    levels: Script,
    learn: Script,
}

impl RedisLimiter {
    /// Counts in this keyspace by the server's clock.
    pub fn new(keyspace: Keyspace) -> Self {
        Self {
            keyspace,
            clock: None,
            take: script(scripts::TAKE),
            settle: script(scripts::SETTLE),
            shut: script(scripts::SHUT),
            gates: script(scripts::GATES),
            levels: script(scripts::LEVELS),
            learn: script(scripts::LEARN),
        }
    }

    /// Counts by this clock instead of the server's, for tests. Keys still expire by the
    /// server's: a clock that lags behind it finds them gone.
    #[must_use]
    pub fn by_clock(self, clock: SharedClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// The keys of these kinds for what has this name.
    fn keys<const N: usize>(&self, kinds: [char; N], name: &str) -> [String; N] {
        let digest = digest16(&[name]);
        kinds.map(|kind| self.keyspace.key(&format!("{kind}:{digest}")))
    }

    async fn run<T: FromRedisValue>(
        &self,
        invocation: &mut ScriptInvocation<'_>,
    ) -> Result<T, LimiterError> {
        if let Some(clock) = &self.clock {
            invocation.arg(clock.now().timestamp_micros());
        }
        Ok(self.keyspace.run(invocation).await?)
    }
}

#[async_trait]
impl Limiter for RedisLimiter {
    async fn take(&self, ask: &Ask) -> Result<Turn, LimiterError> {
        let pools = distinct(&ask.pools);
        let mut call = self.take.prepare_invoke();
        for pool in &pools {
            call.key(&self.keys(['l', 'c', 'u'], &pool.id)[..]);
        }
        let gates: Vec<&String> = pools.iter().map(|pool| &pool.id).chain(&ask.gates).collect();
        for gate in &gates {
            call.key(&self.keys(['h'], gate)[..]);
        }
        call.arg(pools.len()).arg(&ask.id).arg(micros(ask.horizon)).arg(ask.lane.index());
        call.arg(micros(ask.term)).arg(&ask.shares[..]);
        for constant in [CONCURRENCY_PAUSE, GRACE, LATE, FARTHEST, MOST_OWED, LONGEST_MARK] {
            call.arg(micros(constant));
        }
        call.arg(u8::from(ask.comes_back));
        for pool in &pools {
            call.arg(pool.buckets.len());
            or_nothing(&mut call, pool.concurrency.map(f64::from));
            for (bucket, cost) in pool.buckets.iter().zip(charges(pool, &ask.cost)) {
                setting(&mut call, bucket);
                call.arg(cost);
            }
        }
        let (granted, wait, obstacle, which, next): (u8, f64, u8, usize, f64) =
            self.run(&mut call).await?;
        let wait = duration(wait);
        if granted == 1 {
            return Ok(Turn::Granted { wait, next: duration(next) });
        }
        let pool = || named(pools.iter().map(|pool| &pool.id), which);
        let by = match obstacle {
            1 => Obstacle::Bucket(pool()?),
            2 => Obstacle::Concurrency(pool()?),
            3 => Obstacle::Gate(named(gates.iter().copied(), which)?),
            4 => Obstacle::Ahead(pool()?),
            other => return Err(LimiterError::Broken(format!("take answers obstacle {other}"))),
        };
        Ok(Turn::NotBefore { wait, by })
    }

    async fn settle(&self, ask: &Ask, end: &End) -> Result<(), LimiterError> {
        let pools = distinct(&ask.pools);
        let mut call = self.settle.prepare_invoke();
        call.arg(&ask.id).arg(micros(end.since)).arg(micros(end.age));
        call.arg(micros(REFUSED_FOR)).arg(micros(LATE));
        for pool in &pools {
            call.key(&self.keys(['l', 'c'], &pool.id)[..]);
            call.arg(pool.buckets.len()).arg(u8::from(end.refused && minds_refusals(pool)));
            let more = corrections(pool, &ask.cost, end.used.as_ref());
            let left = told_left(pool, &end.told);
            for ((bucket, more), left) in pool.buckets.iter().zip(more).zip(left) {
                setting(&mut call, bucket);
                call.arg(more);
                or_nothing(&mut call, left);
            }
        }
        if pools.is_empty() { Ok(()) } else { self.run(&mut call).await }
    }

    async fn shut(&self, gate: &str, time: Duration, reason: &str) -> Result<(), LimiterError> {
        let mut call = self.shut.prepare_invoke();
        self.run(call.key(&self.keys(['h'], gate)[..]).arg(micros(time)).arg(reason)).await
    }

    async fn open(&self, gate: &str) -> Result<(), LimiterError> {
        Ok(self.keyspace.ask(cmd("DEL").arg(&self.keys(['h'], gate)[..])).await?)
    }

    async fn shut_gates(&self, gates: &[String]) -> Result<Vec<ShutGate>, LimiterError> {
        if gates.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.gates.prepare_invoke();
        for gate in gates {
            call.key(&self.keys(['h'], gate)[..]);
        }
        let answer: Vec<Option<(f64, String)>> = self.run(&mut call).await?;
        let shut = gates.iter().zip(answer).filter_map(|(gate, answer)| {
            let (left, reason) = answer?;
            Some(ShutGate { gate: gate.clone(), left: duration(left), reason })
        });
        Ok(shut.collect())
    }

    async fn learn(&self, pool: &Pool, bucket: &Bucket, factor: f64) -> Result<(), LimiterError> {
        let mut call = self.learn.prepare_invoke();
        call.key(&self.keys(['l'], &pool.id)[..]);
        self.run(call.arg(bucket.key()).arg(factor).arg(micros(LEARNED_FOR))).await
    }

    async fn levels(&self, pools: &[Arc<Pool>]) -> Result<Vec<PoolLevel>, LimiterError> {
        if pools.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.levels.prepare_invoke();
        for pool in pools {
            call.key(&self.keys(['l', 'c', 'u'], &pool.id)[..]);
            call.arg(pool.buckets.len());
            for bucket in &pool.buckets {
                setting(&mut call, bucket);
            }
        }
        let answer: Vec<LevelReply> = self.run(&mut call).await?;
        let levels = pools.iter().zip(answer).map(|(pool, (share, running, waiting, buckets))| {
            let level = |(units, rate, burst, learned)| BucketLevel { units, rate, burst, learned };
            let buckets = buckets.into_iter().map(level).collect();
            PoolLevel { id: pool.id.clone(), buckets, share, running, waiting }
        });
        Ok(levels.collect())
    }
}

/// A pool's share, calls under way, asks that wait, and its buckets, as a script tells them.
type LevelReply = (f64, u32, [u32; 3], Vec<(f64, f64, f64, f64)>);

impl From<KeyspaceError> for LimiterError {
    fn from(error: KeyspaceError) -> Self {
        match error {
            KeyspaceError::Unreachable(_) | KeyspaceError::OutOfMemory => {
                Self::Unavailable(error.to_string())
            }
            KeyspaceError::Refused(_) => Self::Broken(error.to_string()),
        }
    }
}

/// A figure as an argument, or an empty one.
fn or_nothing(call: &mut ScriptInvocation<'_>, figure: Option<f64>) {
    match figure {
        Some(figure) => call.arg(figure),
        None => call.arg(""),
    };
}

/// A bucket's setting, as `bucket_at` in `bucket.lua` reads it.
fn setting(call: &mut ScriptInvocation<'_>, bucket: &Bucket) {
    let quota = &bucket.quota;
    call.arg(bucket.key()).arg(quota.rate).arg(quota.burst);
    or_nothing(call, quota.ramp.map(|ramp| ramp.growth));
    or_nothing(call, quota.ramp.map(|ramp| ramp.floor));
    or_nothing(call, quota.ramp.map(|ramp| ramp.period));
    or_nothing(call, quota.resets.map(|resets| resets.period));
    or_nothing(call, quota.resets.map(|resets| resets.offset));
}

/// The name a script means by its number; Lua counts from one.
fn named<'a>(
    mut names: impl Iterator<Item = &'a String>,
    which: usize,
) -> Result<String, LimiterError> {
    let name = which.checked_sub(1).and_then(|index| names.nth(index));
    name.cloned().ok_or_else(|| LimiterError::Broken(format!("take means number {which}")))
}
