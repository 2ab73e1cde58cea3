//! What one process has seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Mark, Seen, Speeds, Sums, add};
use crate::clock::SharedClock;
use crate::domain::speed::{SLICES, slice_at};
use crate::memory::MemoryError;

/// Adds up for one process, until it ends.
pub struct LocalSpeeds {
    clock: SharedClock,
    seen: Mutex<BTreeMap<Mark, u64>>,
}

impl LocalSpeeds {
    /// Nothing is seen yet.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, seen: Mutex::default() }
    }
}

#[async_trait]
impl Speeds for LocalSpeeds {
    async fn exchange(&self, seen: &Seen) -> Result<Sums, MemoryError> {
        let now = slice_at(self.clock.now());
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (mark, count) in seen {
            *all.entry(mark.clone()).or_default() += count;
        }
        all.retain(|mark, _| mark.slice > now - SLICES);
        let mut sums = Sums::new();
        for (mark, count) in all.iter() {
            add(&mut sums, &mark.step, (mark.measure, mark.bucket, *count));
        }
        Ok(sums)
    }
}
