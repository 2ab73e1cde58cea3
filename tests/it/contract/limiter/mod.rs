//! What every limiter promises, by a clock that stands still until a test turns it.

mod gates;
mod shape;
mod turns;
mod urgent;

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use spillway::clock::ManualClock;
use spillway::domain::bucket::Quota;
use spillway::domain::limits::{Cost, Pool};
use spillway::keyspace::Keyspace;
use spillway::limiter::local::LocalLimiter;
use spillway::limiter::redis::RedisLimiter;
use spillway::limiter::{Ask, Obstacle, PoolLevel, SharedLimiter, Turn};

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
        assert_eq!(self.take(ask).await, now());
    }

    /// Settles as charged.
    async fn settle(&self, ask: &Ask) {
        self.limiter.settle(ask, None).await.unwrap();
    }

    async fn stands(&self, pool: &Arc<Pool>) -> PoolLevel {
        self.limiter.levels(std::slice::from_ref(pool)).await.unwrap().remove(0)
    }

    /// Units in the bucket for calls.
    async fn level(&self, pool: &Arc<Pool>) -> f64 {
        self.stands(pool).await.units[0].unwrap()
    }

    async fn running(&self, pool: &Arc<Pool>) -> u32 {
        self.stands(pool).await.running
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn now() -> Turn {
    Turn::Granted { wait: Duration::ZERO }
}

fn not_before(wait: Duration, by: Obstacle) -> Turn {
    Turn::NotBefore { wait, by }
}

/// A pool that limits calls.
fn calls(id: &str, per_second: f64, burst: f64) -> Arc<Pool> {
    let quota = Quota { rate: per_second / 1e6, burst };
    Arc::new(Pool { id: id.to_owned(), quotas: [Some(quota), None, None], concurrency: None })
}

/// A pool that limits nothing but how many run at once.
fn places(id: &str, places: u32) -> Arc<Pool> {
    Arc::new(Pool { id: id.to_owned(), quotas: [None; 3], concurrency: Some(places) })
}

/// Asks for one call, now or not at all.
fn ask(id: &str, pools: &[&Arc<Pool>]) -> Ask {
    Ask {
        id: id.to_owned(),
        pools: pools.iter().map(|pool| Arc::clone(pool)).collect(),
        gates: Vec::new(),
        cost: Cost([1.0, 0.0, 0.0]),
        horizon: Duration::ZERO,
        urgent: false,
        term: Duration::from_secs(30),
    }
}

/// The same for so many units on each axis.
fn costing(id: &str, pools: &[&Arc<Pool>], units: f64) -> Ask {
    Ask { cost: Cost([units; 3]), ..ask(id, pools) }
}

fn urgent(id: &str, pools: &[&Arc<Pool>]) -> Ask {
    Ask { urgent: true, ..ask(id, pools) }
}
