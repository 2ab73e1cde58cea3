//! Chance: what pauses are scattered by, so that those who failed together do not come back together.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A source of chance. The same seed gives the same numbers.
pub(super) struct Chance(Mutex<StdRng>);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A number from 0 to 1, without 1.
    pub(super) fn share(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// What a job is dealt, to be drawn by.
    pub(super) fn lot(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
