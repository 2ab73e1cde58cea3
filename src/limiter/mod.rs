//! Whose turn is it? The whole of rate limiting as the engine sees it.
//!
//! A *turn* is permission to depart, taken from every bucket a call touches at once or from none.
//! A *gate* is a name that can be shut for a while: a pool a provider's 429 put on hold, a step
//! that keeps failing, an account whose key was refused. All replicas see both.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::limits::{Cost, Pool};

mod figures;
pub mod local;
pub mod redis;

/// Shapes departures.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Takes a turn from all pools, or from none. A pool's id is its gate's name too.
    async fn take(&self, ask: &Ask) -> Result<Turn, LimiterError>;

    /// Gives back a turn's place among the concurrent calls and settles the charge, both ways:
    /// what was used beyond the charge is added, what was not used is taken out. `None` settles
    /// the charge as it was made (the provider did not say what was used). Only the first
    /// settling of a turn counts.
    async fn settle(&self, ask: &Ask, used: Option<Cost>) -> Result<(), LimiterError>;

    /// Keeps a turn's place among the concurrent calls for another `ask.term`. A turn that was
    /// settled stays so.
    async fn renew(&self, ask: &Ask) -> Result<(), LimiterError>;

    /// Shuts a gate for a while, with a reason for people. A gate shut for longer stays so.
    async fn shut(&self, gate: &str, time: Duration, reason: &str) -> Result<(), LimiterError>;

    /// Opens a gate before its time.
    async fn open(&self, gate: &str) -> Result<(), LimiterError>;

    /// For each gate that is shut: its name, for how long still, and why.
    async fn shut_gates(&self, gates: &[String]) -> Result<Vec<ShutGate>, LimiterError>;

    /// The pools' levels now.
    async fn levels(&self, pools: &[Arc<Pool>]) -> Result<Vec<PoolLevel>, LimiterError>;
}

/// A limiter many hold.
pub type SharedLimiter = Arc<dyn Limiter>;

/// Why no turn could be asked for.
#[derive(Debug, thiserror::Error)]
pub enum LimiterError {
    /// The buckets' store cannot be reached.
    #[error("the limiter is not available: {0}")]
    Unavailable(String),
    /// It answers, but not as it should.
    #[error("the limiter is broken: {0}")]
    Broken(String),
}

/// What a turn is asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Names the turn; asking again under the same name after a grant charges again.
    pub id: String,
    /// Every pool the call is counted in.
    pub pools: Vec<Arc<Pool>>,
    /// Gates that must be open, beside the pools' own.
    pub gates: Vec<String>,
    /// What is charged to each pool.
    pub cost: Cost,
    /// The longest wait for which the turn is taken now and used then.
    pub horizon: Duration,
    /// Somebody waits: others keep back until this one had its turn.
    pub urgent: bool,
    /// How long a place among the concurrent calls is held without being renewed.
    pub term: Duration,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Taken: depart after this wait (zero, or within the horizon asked for).
    Granted {
        /// How long to wait first.
        wait: Duration,
    },
    /// Not taken: it makes no sense to ask again before this wait is over.
    NotBefore {
        /// How long to wait before asking again.
        wait: Duration,
        /// What stands in the way.
        by: Obstacle,
    },
}

/// What stands in the way of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A bucket of this pool is full.
    Bucket(String),
    /// This pool's concurrent calls are all taken.
    Concurrency(String),
    /// This gate is shut.
    Gate(String),
    /// Somebody urgent waits at this pool.
    Urgent(String),
}

/// A gate that is shut.
#[derive(Clone, Debug, PartialEq)]
pub struct ShutGate {
    /// Its name.
    pub gate: String,
    /// For how long still.
    pub left: Duration,
    /// Why.
    pub reason: String,
}

/// A pool's level.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolLevel {
    /// The pool.
    pub id: String,
    /// Units in each bucket, in the order of `Axis::ALL`; `None` where there is no bucket.
    pub units: [Option<f64>; 3],
    /// Calls under way.
    pub running: u32,
}

/// How long others keep back for an urgent call that was told to wait, beyond that wait. It
/// covers the way back to the limiter; an urgent caller that gave up costs them no more.
pub const URGENT_GRACE: Duration = Duration::from_millis(100);

/// How soon to ask again when all of a pool's concurrent calls are taken. None of them says when
/// it will end.
pub const CONCURRENCY_PAUSE: Duration = Duration::from_millis(50);
