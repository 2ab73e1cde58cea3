//! How fast steps are, as all replicas have seen it in the last five minutes.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryError;
use crate::domain::speed::{Histogram, Measure};

pub mod local;
pub mod redis;

/// Adds up what replicas see of steps.
#[async_trait]
pub trait Speeds: Send + Sync + 'static {
    /// Adds what this replica has seen since it asked last, and answers what all of them have in
    /// the slices that still count, by step; in one round trip.
    async fn exchange(&self, seen: &Seen) -> Result<Sums, MemoryError>;
}

/// Sums many hold.
pub type SharedSpeeds = Arc<dyn Speeds>;

/// How often something was seen.
pub type Seen = HashMap<Mark, u64>;

/// What was seen of each step, in the order of [`Measure::ALL`].
pub type Sums = HashMap<String, [Histogram; 3]>;

/// One figure of one call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The slice of time.
    pub slice: i64,
    /// The step.
    pub step: String,
    /// What was measured.
    pub measure: Measure,
    /// The bucket of the histogram.
    pub bucket: u8,
}

/// Adds to sums.
fn add(sums: &mut Sums, step: &str, (measure, bucket, count): (Measure, u8, u64)) {
    let [first_token, latency, throughput] = sums.entry(step.to_owned()).or_default();
    let histogram = match measure {
        Measure::FirstToken => first_token,
        Measure::Latency => latency,
        Measure::Throughput => throughput,
    };
    histogram.add(bucket, count);
}
