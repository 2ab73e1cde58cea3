//! What every limiter promises, by a clock that stands still until a test turns it.

mod gates;
mod lanes;
mod learning;
mod limits;
mod settling;
mod shape;
mod turns;
mod urgent;

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use proptest::test_runner::Config;
use spillway::clock::ManualClock;
use spillway::domain::bucket::Quota;
use spillway::domain::job::Lane;
use spillway::domain::limits::{Axis, Bucket, Cost, Learn, Period, Pool};
use spillway::keyspace::Keyspace;
use spillway::limiter::local::LocalLimiter;
use spillway::limiter::redis::RedisLimiter;
use spillway::limiter::{Ask, End, Obstacle, PoolLevel, SharedLimiter, Turn};

use crate::support::cluster::ClusterServers;
use crate::support::redis::RedisServer;

/// The implementations.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// In this process.
    Local,
    /// On a Redis.
    Redis,
    /// On a Redis Cluster.
    Cluster,
}

/// A limiter and the clock it goes by.
pub(crate) struct Bench {
    pub(crate) limiter: SharedLimiter,
    pub(crate) clock: Arc<ManualClock>,
    keyspace: Option<Keyspace>,
}

/// How a property is tried on this limiter: memory is quick, a Redis is not.
fn tried(kind: Kind) -> Config {
    let cases = match kind {
        Kind::Local => 300,
        Kind::Redis | Kind::Cluster => 32,
    };
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// A clock that shows the year 2100, so that no key expires by the server's clock.
pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(DateTime::from_timestamp(4_102_444_800, 0).unwrap()))
}

impl Bench {
    pub(crate) async fn new(kind: Kind) -> Self {
        let clock = clock();
        match kind {
            Kind::Local => {
                let limiter = Arc::new(LocalLimiter::new(clock.clone()));
                Self { limiter, clock, keyspace: None }
            }
            Kind::Redis | Kind::Cluster => {
                let keyspace = match kind {
                    Kind::Cluster => ClusterServers::shared().keyspace().await,
                    _ => RedisServer::shared().keyspace().await,
                };
                let limiter = RedisLimiter::new(keyspace.clone()).by_clock(clock.clone());
                Self { limiter: Arc::new(limiter), clock, keyspace: Some(keyspace) }
            }
        }
    }

    /// The same limits as another replica sees them.
    fn replica(&self) -> SharedLimiter {
        match &self.keyspace {
            None => self.limiter.clone(),
            Some(keyspace) => {
                Arc::new(RedisLimiter::new(keyspace.clone()).by_clock(self.clock.clone()))
            }
        }
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    async fn take(&self, ask: &Ask) -> Turn {
        self.limiter.take(ask).await.unwrap()
    }

    /// Takes a turn that there is at once.
    async fn granted(&self, ask: &Ask) {
        assert_eq!(self.wait(ask).await, Some(Duration::ZERO), "{ask:?}");
    }

    /// Takes a turn; answers how long it waits, or nothing when it is not taken.
    async fn wait(&self, ask: &Ask) -> Option<Duration> {
        departs(&self.take(ask).await)
    }

    /// Settles as charged.
    async fn settle(&self, ask: &Ask) {
        self.limiter.settle(ask, &End::default()).await.unwrap();
    }

    async fn stands(&self, pool: &Arc<Pool>) -> PoolLevel {
        self.limiter.levels(std::slice::from_ref(pool)).await.unwrap().remove(0)
    }

    /// Units in the bucket for calls.
    async fn level(&self, pool: &Arc<Pool>) -> f64 {
        self.stands(pool).await.buckets[0].units
    }

    async fn running(&self, pool: &Arc<Pool>) -> u32 {
        self.stands(pool).await.running
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// When a turn departs, if it was taken.
fn departs(turn: &Turn) -> Option<Duration> {
    match turn {
        Turn::Granted { wait, .. } => Some(*wait),
        Turn::NotBefore { .. } => None,
    }
}

fn not_before(wait: Duration, by: Obstacle) -> Turn {
    Turn::NotBefore { wait, by }
}

/// A pool that limits calls.
fn calls(id: &str, per_second: f64, burst: f64) -> Arc<Pool> {
    pool(id, vec![minute(Axis::Requests, per_second, burst)], None)
}

/// A pool that limits nothing but how many run at once.
fn places(id: &str, places: u32) -> Arc<Pool> {
    pool(id, Vec::new(), Some(places))
}

fn pool(id: &str, buckets: Vec<Bucket>, concurrency: Option<u32>) -> Arc<Pool> {
    let (id, learn) = (id.to_owned(), Learn::Down);
    Arc::new(Pool { id, buckets, concurrency, counts_cached_input: true, learn })
}

/// A bucket of so many units a second.
fn minute(axis: Axis, per_second: f64, burst: f64) -> Bucket {
    let quota = Quota::even(per_second / 1e6, burst);
    Bucket { axis, per: Period::Minute, limit: per_second * 60.0, most: per_second * 60.0, quota }
}

/// Asks for one call, no farther ahead than one departure. It does not come back.
fn ask(id: &str, pools: &[&Arc<Pool>]) -> Ask {
    Ask {
        id: id.to_owned(),
        pools: pools.iter().map(|pool| Arc::clone(pool)).collect(),
        gates: Vec::new(),
        cost: Cost { requests: 1.0, ..Cost::default() },
        horizon: Duration::ZERO,
        lane: Lane::Standard,
        shares: [0.0; 3],
        comes_back: false,
        term: Duration::from_secs(30),
    }
}

/// So many units on each axis.
fn units(units: f64) -> Cost {
    Cost { requests: units, input: units, cached: 0.0, output: units }
}

/// The same for so many units on each axis.
fn costing(id: &str, pools: &[&Arc<Pool>], amount: f64) -> Ask {
    Ask { cost: units(amount), ..ask(id, pools) }
}

fn urgent(id: &str, pools: &[&Arc<Pool>]) -> Ask {
    Ask { lane: Lane::Interactive, comes_back: true, ..ask(id, pools) }
}
