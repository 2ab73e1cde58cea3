//! What every memory promises, by a clock that stands still until a test turns it.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use spillway::clock::ManualClock;
use spillway::memory::local::LocalMemory;
use spillway::memory::redis::RedisMemory;
use spillway::memory::{Bond, Bound, SharedBindings};

use super::limiter::{Kind, clock};
use crate::support::cluster::ClusterServers;
use crate::support::redis::RedisServer;

/// Two handles on one memory: on Redis, of two replicas.
struct Bench {
    writer: SharedBindings,
    reader: SharedBindings,
    clock: Arc<ManualClock>,
}

impl Bench {
    async fn new(kind: Kind) -> Self {
        let clock = clock();
        let (writer, reader): (SharedBindings, SharedBindings) = match kind {
            Kind::Local => {
                let memory = Arc::new(LocalMemory::new(clock.clone()));
                (memory.clone(), memory)
            }
            Kind::Redis | Kind::Cluster => {
                let keyspace = match kind {
                    Kind::Cluster => ClusterServers::shared().keyspace().await,
                    _ => RedisServer::shared().keyspace().await,
                };
                let one = || Arc::new(RedisMemory::new(keyspace.clone(), clock.clone()));
                (one(), one())
            }
        };
        Self { writer, reader, clock }
    }

    async fn bind(&self, keys: &[&str], place: &str, seconds: u64) {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let session = keys[0].clone();
        let time = Duration::from_secs(seconds);
        self.writer.bind(&Bond { keys, session, place: place.to_owned(), time }).await.unwrap();
    }

    /// Where each key is bound, with the seconds left.
    async fn bound(&self, keys: &[&str]) -> Vec<Vec<(String, u64)>> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let known = self.reader.look(&keys, &[]).await.unwrap();
        let told = |bound: Bound| (bound.place, bound.left.as_secs());
        known.bound.into_iter().map(|all| all.into_iter().map(told).collect()).collect()
    }

    async fn sessions(&self, places: &[&str]) -> Vec<u64> {
        let places: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
        self.reader.look(&[], &places).await.unwrap().sessions
    }
}

fn at(place: &str, seconds: u64) -> (String, u64) {
    (place.to_owned(), seconds)
}

#[rstest]
#[case::local(Kind::Local)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn several_keys_are_read_at_once_in_their_order(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.bind(&["one", "two"], "a/m", 300).await;
    bench.bind(&["three"], "b/m", 60).await;
    let found = bench.bound(&["three", "none", "one", "two"]).await;
    assert_eq!(found, [vec![at("b/m", 60)], vec![], vec![at("a/m", 300)], vec![at("a/m", 300)]]);
    assert_eq!(bench.bound(&[]).await, Vec::<Vec<(String, u64)>>::new());
}

#[rstest]
#[case::local(Kind::Local)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn a_binding_runs_out_unless_it_is_renewed(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.bind(&["key", "old"], "a/m", 300).await;
    bench.clock.advance(Duration::from_secs(200));
    bench.bind(&["key"], "a/m", 300).await;
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(bench.bound(&["key", "old"]).await, [vec![at("a/m", 200)], vec![]]);
    bench.clock.advance(Duration::from_secs(200));
    assert_eq!(bench.bound(&["key"]).await, [vec![]]);
    assert_eq!(bench.sessions(&["a/m"]).await, [0]);
}

#[rstest]
#[case::local(Kind::Local)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn a_key_has_many_places_and_the_latest_comes_first(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.bind(&["key"], "a/m", 300).await;
    bench.clock.advance(Duration::from_secs(10));
    bench.bind(&["key"], "b/m", 300).await;
    assert_eq!(bench.bound(&["key"]).await, [[at("b/m", 300), at("a/m", 290)]]);
    bench.clock.advance(Duration::from_secs(10));
    bench.bind(&["key"], "a/m", 300).await;
    assert_eq!(bench.bound(&["key"]).await, [[at("a/m", 300), at("b/m", 290)]]);
}

#[rstest]
#[case::local(Kind::Local)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn what_lasts_longer_stays(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.bind(&["key"], "a/m", 3_600).await;
    bench.bind(&["key"], "a/m", 300).await;
    bench.bind(&["key"], "b/m", 300).await;
    bench.clock.advance(Duration::from_secs(600));
    assert_eq!(bench.bound(&["key"]).await, [[at("a/m", 3_000)]]);
}

#[rstest]
#[case::local(Kind::Local)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn sessions_are_counted_once_by_place(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    bench.bind(&["first", "and", "more"], "a/m", 300).await;
    bench.bind(&["first"], "a/m", 300).await;
    bench.bind(&["second"], "a/m", 100).await;
    bench.bind(&["second"], "b/m", 100).await;
    assert_eq!(bench.sessions(&["b/m", "c/m", "a/m"]).await, [1, 0, 2]);
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(bench.sessions(&["b/m", "a/m"]).await, [0, 1]);
}
