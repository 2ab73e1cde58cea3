//! Whose turn is it? The whole of rate limiting as the engine sees it.
//!
//! A *turn* is permission to depart, taken from every bucket a call touches at once or from none.
//! A *gate* is a name that can be shut for a while: a pool a provider's 429 put on hold, a step
//! that keeps failing, an account whose key was refused. All replicas see both.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::job::Lane;
use crate::domain::limits::{Bucket, Cost, Pool};
use crate::domain::told::Told;

mod figures;
pub mod local;
pub mod redis;

/// Shapes departures.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Takes a turn from all pools, or from none. A pool's id is its gate's name too.
    async fn take(&self, ask: &Ask) -> Result<Turn, LimiterError>;

    /// Gives back a turn's place among the concurrent calls and settles the charge, both ways:
    /// what was used beyond the charge is added, what was not used is taken out. Also takes in
    /// what the provider said of its limits. Only the first settling of a turn counts, and none
    /// that comes more than a minute after its term.
    async fn settle(&self, ask: &Ask, end: &End) -> Result<(), LimiterError>;

    /// Shuts a gate for a while, with a reason for people. A gate shut for longer stays so.
    async fn shut(&self, gate: &str, time: Duration, reason: &str) -> Result<(), LimiterError>;

    /// Opens a gate before its time.
    async fn open(&self, gate: &str) -> Result<(), LimiterError>;

    /// For each gate that is shut: its name, for how long still, and why.
    async fn shut_gates(&self, gates: &[String]) -> Result<Vec<ShutGate>, LimiterError>;

    /// Corrects one of a pool's limits to this many times what is configured; 1 forgets an
    /// earlier correction.
    async fn learn(&self, pool: &Pool, bucket: &Bucket, factor: f64) -> Result<(), LimiterError>;

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
    /// How far ahead a turn may be taken at least, and used then. One departure of its own size
    /// is always allowed, up to [`FARTHEST`].
    pub horizon: Duration,
    /// Its lane: the others keep back while a more urgent one waits.
    pub lane: Lane,
    /// What part of a pool's departures each lane gets however urgent the others are.
    pub shares: [f64; 3],
    /// Whether one that is told to wait will come back for this very turn: only then do others
    /// keep back for it.
    pub comes_back: bool,
    /// How long a place among the concurrent calls is held by a turn that is not settled.
    pub term: Duration,
}

/// How a turn's call ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// What the call used; `None` settles the charge as it was made (the provider did not say).
    pub used: Option<Cost>,
    /// How long ago the turn was taken.
    pub since: Duration,
    /// How long ago the call departed.
    pub age: Duration,
    /// The provider refused the call for its rate, and told no long wait.
    pub refused: bool,
    /// What the provider said of its limits.
    pub told: Vec<Told>,
}

impl End {
    /// A call that used this much.
    pub fn used(cost: Cost) -> Self {
        Self { used: Some(cost), ..Self::default() }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Taken: depart after this wait.
    Granted {
        /// How long to wait first.
        wait: Duration,
        /// When another like it could be taken, if nobody else comes.
        next: Duration,
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
    /// Somebody more urgent, or owed a turn for long, waits at this pool.
    Ahead(String),
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
    /// Its buckets, in the order of the pool's.
    pub buckets: Vec<BucketLevel>,
    /// The share of the configured rates that refusals have left.
    pub share: f64,
    /// Calls under way.
    pub running: u32,
    /// Asks that wait, by lane.
    pub waiting: [u32; 3],
}

/// A bucket's level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketLevel {
    /// Units in it.
    pub units: f64,
    /// Units that leak out of it in a microsecond now.
    pub rate: f64,
    /// Units that may leave at once now.
    pub burst: f64,
    /// By how much the provider's own words have corrected its limit; 1 when not.
    pub learned: f64,
}

impl PoolLevel {
    /// How long its fullest bucket is over its burst.
    pub fn full_for(&self) -> Duration {
        let over = |level: &BucketLevel| (level.units - level.burst).max(0.0) / level.rate;
        let micros = self.buckets.iter().map(over).fold(0.0, f64::max);
        Duration::from_secs_f64((micros / 1e6).min(1e9))
    }
}

/// How far ahead a turn is taken at the most.
pub const FARTHEST: Duration = Duration::from_secs(1);

/// How long others keep back for an ask that was told to wait, beyond that wait. It covers the way
/// back to the limiter; one that gave up costs them no more.
pub const GRACE: Duration = Duration::from_millis(100);

/// The longest wait that others keep back for: whoever waits longer comes back before to ask again.
pub const LONGEST_MARK: Duration = Duration::from_secs(66);

/// How soon to ask again when all of a pool's concurrent calls are taken. None of them says when
/// it will end.
pub const CONCURRENCY_PAUSE: Duration = Duration::from_millis(50);

/// How much a lane can be owed, in time of its pool.
pub const MOST_OWED: Duration = Duration::from_secs(5);

/// How long a correction by the provider's words is remembered without being repeated.
pub const LEARNED_FOR: Duration = Duration::from_secs(7 * 86_400);

/// How long refusals are remembered: by then the share has grown back.
pub const REFUSED_FOR: Duration = Duration::from_secs(3_600);
