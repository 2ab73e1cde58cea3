//! What every memory of speeds promises, by a clock that stands still until a test turns it.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use spillway::clock::{Clock, ManualClock};
use spillway::domain::speed::{Measure, Percentile, bucket_of, slice_at};
use spillway::memory::speeds::local::LocalSpeeds;
use spillway::memory::speeds::redis::RedisSpeeds;
use spillway::memory::speeds::{Mark, Seen, SharedSpeeds, Sums};

use super::limiter::{Kind, clock};
use crate::support::cluster::ClusterServers;
use crate::support::redis::RedisServer;

/// Two handles on one memory: on Redis, of two replicas.
struct Bench {
    one: SharedSpeeds,
    other: SharedSpeeds,
    clock: Arc<ManualClock>,
}

impl Bench {
    async fn new(kind: Kind) -> Self {
        let clock = clock();
        let (one, other): (SharedSpeeds, SharedSpeeds) = match kind {
            Kind::Local => {
                let speeds = Arc::new(LocalSpeeds::new(clock.clone()));
                (speeds.clone(), speeds)
            }
            Kind::Redis | Kind::Cluster => {
                let keyspace = match kind {
                    Kind::Cluster => ClusterServers::shared().keyspace().await,
                    _ => RedisServer::shared().keyspace().await,
                };
                let one = || Arc::new(RedisSpeeds::new(keyspace.clone(), clock.clone()));
                (one(), one())
            }
        };
        Self { one, other, clock }
    }

    /// So many calls of a step that took this long, seen now.
    fn seen(&self, step: &str, measure: Measure, value: f64, count: u64) -> Seen {
        let (slice, bucket) = (slice_at(self.clock.now()), bucket_of(value));
        Seen::from([(Mark { slice, step: step.to_owned(), measure, bucket }, count)])
    }
}

async fn exchange(speeds: &SharedSpeeds, seen: Seen) -> Sums {
    speeds.exchange(&seen).await.unwrap()
}

fn counts(sums: &Sums, step: &str) -> [u64; 3] {
    sums.get(step).map(|all| [0, 1, 2].map(|index| all[index].count())).unwrap_or_default()
}

#[rstest]
#[case::local(Kind::Local)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn what_replicas_see_adds_up(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    assert!(exchange(&bench.one, Seen::new()).await.is_empty());
    let slow = bench.seen("a/m 1", Measure::Latency, 2.0, 30);
    assert_eq!(counts(&exchange(&bench.one, slow).await, "a/m 1"), [0, 30, 0]);
    let fast = bench.seen("a/m 1", Measure::Latency, 0.5, 70);
    let sums = exchange(&bench.other, fast).await;
    assert_eq!(counts(&sums, "a/m 1"), [0, 100, 0]);
    let spread = sums["a/m 1"][1].spread().unwrap();
    let near = |which, expected: f64| (spread.at(which) / expected - 1.0).abs() < 0.05;
    assert!(near(Percentile::P50, 0.5) && near(Percentile::P90, 2.0), "{spread:?}");
    exchange(&bench.one, bench.seen("a/m 1", Measure::FirstToken, 0.1, 5)).await;
    exchange(&bench.one, bench.seen("b/m", Measure::Throughput, 80.0, 6)).await;
    let sums = exchange(&bench.other, Seen::new()).await;
    assert_eq!((counts(&sums, "a/m 1"), counts(&sums, "b/m")), ([5, 100, 0], [0, 0, 6]));
}

#[rstest]
#[case::local(Kind::Local)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn what_is_older_than_five_minutes_does_not_count(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    exchange(&bench.one, bench.seen("a/m", Measure::Latency, 1.0, 10)).await;
    bench.clock.advance(Duration::from_secs(200));
    exchange(&bench.one, bench.seen("a/m", Measure::Latency, 1.0, 7)).await;
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(counts(&exchange(&bench.other, Seen::new()).await, "a/m"), [0, 17, 0]);
    bench.clock.advance(Duration::from_secs(31));
    assert_eq!(counts(&exchange(&bench.other, Seen::new()).await, "a/m"), [0, 7, 0]);
    bench.clock.advance(Duration::from_secs(300));
    assert_eq!(counts(&exchange(&bench.other, Seen::new()).await, "a/m"), [0, 0, 0]);
}
