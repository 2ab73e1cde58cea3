//! The memory replicas share, in Redis. Nothing in it is missed for long.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `bind:<key>` | sorted set | the places a key is bound to, by the time (ms since 1970) until which |
//! | `bound:<place>` | sorted set | the sessions bound to a place, by the time until which |
//!
//! Names of places appear as digests. Times are the replicas' own: a second more or less does not
//! matter. Every key expires with the last that is in it.

use std::time::Duration;

use async_trait::async_trait;
use redis::{FromRedisValue, Pipeline, Value, from_redis_value_ref};

use super::{Bindings, Bond, Bound, Known, MemoryError};
use crate::clock::SharedClock;
use crate::domain::id::digest16;
use crate::keyspace::Keyspace;

/// Remembers for all replicas.
pub struct RedisMemory {
    keyspace: Keyspace,
    clock: SharedClock,
}

impl RedisMemory {
    /// Remembers in this corner of Redis.
    pub const fn new(keyspace: Keyspace, clock: SharedClock) -> Self {
        Self { keyspace, clock }
    }

    fn key(&self, key: &str) -> String {
        self.keyspace.key(&format!("bind:{key}"))
    }

    fn sessions(&self, place: &str) -> String {
        self.keyspace.key(&format!("bound:{}", digest16(&[place])))
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_millis()
    }
}

#[async_trait]
impl Bindings for RedisMemory {
    async fn look(&self, keys: &[String], places: &[String]) -> Result<Known, MemoryError> {
        if keys.is_empty() && places.is_empty() {
            return Ok(Known::default());
        }
        let now = self.now();
        let mut asked = Pipeline::new();
        for key in keys {
            let set = self.key(key);
            asked.cmd("ZREVRANGEBYSCORE").arg(set).arg("+inf").arg(after(now)).arg("WITHSCORES");
        }
        for place in places {
            asked.cmd("ZCOUNT").arg(self.sessions(place)).arg(after(now)).arg("+inf");
        }
        let answers: Vec<Value> = self.keyspace.ask_all(&asked).await?;
        let (bound, sessions) = answers.split_at(keys.len().min(answers.len()));
        Ok(Known {
            bound: bound.iter().map(|set| read_bound(set, now)).collect::<Result<_, _>>()?,
            sessions: sessions.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    async fn bind(&self, bond: &Bond) -> Result<(), MemoryError> {
        let (now, time) = (self.now(), millis(bond.time));
        let until = now.saturating_add(time);
        let mut all = Pipeline::new();
        for key in &bond.keys {
            add(&mut all, &self.key(key), &bond.place, until, time);
        }
        let sessions = self.sessions(&bond.place);
        all.cmd("ZREMRANGEBYSCORE").arg(&sessions).arg("-inf").arg(now).ignore();
        add(&mut all, &sessions, &bond.session, until, time);
        Ok(self.keyspace.ask_all(&all).await?)
    }
}

/// Adds a member to a set for a while; neither of them for less than before.
fn add(to: &mut Pipeline, set: &str, member: &str, until: i64, time: i64) {
    to.cmd("ZADD").arg(set).arg("GT").arg(until).arg(member).ignore();
    for only in ["NX", "GT"] {
        to.cmd("PEXPIRE").arg(set).arg(time).arg(only).ignore();
    }
}

/// A score above this one.
fn after(score: i64) -> String {
    format!("({score}")
}

fn millis(time: Duration) -> i64 {
    // Redis takes no longer time.
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(1 << 50)
}

fn read<T: FromRedisValue>(value: &Value) -> Result<T, MemoryError> {
    from_redis_value_ref(value).map_err(|fault| MemoryError::Broken(fault.to_string()))
}

fn read_bound(set: &Value, now: i64) -> Result<Vec<Bound>, MemoryError> {
    let members: Vec<(String, i64)> = read(set)?;
    let bound = |(place, until): (String, i64)| Bound {
        place,
        left: Duration::from_millis(u64::try_from(until - now).unwrap_or_default()),
    };
    Ok(members.into_iter().map(bound).collect())
}
