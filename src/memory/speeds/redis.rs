//! What all replicas have seen, in Redis.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `speed:<slice>` | hash | counts, each under measure (`f`, `l`, `t`), bucket, a space and the step |
//!
//! A slice is half a minute of the replicas' clocks; its key expires once it does not count.

use std::collections::BTreeSet;

use async_trait::async_trait;
use redis::Pipeline;

use super::{Seen, Speeds, Sums, add};
use crate::clock::SharedClock;
use crate::domain::speed::{Measure, SLICE, SLICES, slice_at};
use crate::keyspace::Keyspace;
use crate::memory::MemoryError;

/// Adds up for all replicas.
pub struct RedisSpeeds {
    keyspace: Keyspace,
    clock: SharedClock,
}

impl RedisSpeeds {
    /// Adds up in this corner of Redis.
    pub const fn new(keyspace: Keyspace, clock: SharedClock) -> Self {
        Self { keyspace, clock }
    }

    fn key(&self, slice: i64) -> String {
        self.keyspace.key(&format!("speed:{slice}"))
    }
}

/// How long a slice is kept: as long as it counts, and twice itself for clocks that differ.
fn kept() -> i64 {
    i64::try_from(SLICE.as_secs()).unwrap_or(30) * (SLICES + 2)
}

#[async_trait]
impl Speeds for RedisSpeeds {
    async fn exchange(&self, seen: &Seen) -> Result<Sums, MemoryError> {
        let now = slice_at(self.clock.now());
        let mut all = Pipeline::new();
        for (mark, count) in seen {
            let field = format!("{}{} {}", mark.measure.as_str(), mark.bucket, mark.step);
            all.hincr(self.key(mark.slice), field, *count).ignore();
        }
        let touched: BTreeSet<i64> = seen.keys().map(|mark| mark.slice).collect();
        for slice in touched {
            all.expire(self.key(slice), kept()).ignore();
        }
        for slice in now - SLICES + 1..=now {
            all.hgetall(self.key(slice));
        }
        let slices: Vec<Vec<(String, u64)>> = self.keyspace.ask_all(&all).await?;
        let mut sums = Sums::new();
        for (field, count) in slices.into_iter().flatten() {
            // What cannot be read was written by another version.
            if let Some((measure, bucket, step)) = read(&field) {
                add(&mut sums, step, (measure, bucket, count));
            }
        }
        Ok(sums)
    }
}

fn read(field: &str) -> Option<(Measure, u8, &str)> {
    let (what, step) = field.split_once(' ')?;
    let (measure, bucket) = what.split_at_checked(1)?;
    Some((Measure::parse(measure)?, bucket.parse().ok()?, step))
}
