//! The time. Everything above asks this and nothing else, so that tests can turn it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
}

/// A clock many hold.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that stands still until it is advanced.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows this time.
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(AtomicI64::new(time.timestamp_micros()))
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

/// The time of the tokio runtime it is asked in, told as if it had begun at a given moment. Where
/// that runtime's clock is paused this is virtual time: it passes while everything sleeps, at once.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    base: DateTime<Utc>,
    begun: tokio::time::Instant,
}

impl VirtualClock {
    /// A clock that shows this time now.
    pub fn starting_at(base: DateTime<Utc>) -> Self {
        Self { base, begun: tokio::time::Instant::now() }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        let passed = chrono::Duration::from_std(self.begun.elapsed()).unwrap_or_default();
        self.base + passed
    }
}
