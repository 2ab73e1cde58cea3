//! What Redis must be set to, and what its answers then promise.

use rstest::rstest;
use spillway::domain::job::Job;
use spillway::queue::settings::Settings;
use spillway::queue::{Durability, Queue};

use super::{asking, job, open, open_with, refusal};
use crate::support::redis::RedisServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_is_refused_unless_the_operator_allows_it() {
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let why = refusal(&server, &Settings::default()).await;
    assert!(why.contains("allkeys-lru") && why.contains("noeviction"), "{why}");
    let allowing = Settings { allow_eviction: true, ..Settings::default() };
    let store = open_with(server.keyspace().await, &allowing).await.unwrap();
    store.add(&job("a", "w")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_keeps_its_settings_to_itself_is_taken_at_its_info() {
    let hidden = ["--rename-command", "CONFIG", ""];
    let server = RedisServer::start(&hidden);
    assert_eq!(open(&server).await.queue.durability(), Durability::Appended);
    let server =
        RedisServer::start(&[&hidden[..], &["--maxmemory-policy", "volatile-ttl"]].concat());
    assert!(refusal(&server, &Settings::default()).await.contains("volatile-ttl"));
}

#[rstest]
#[case(&["--appendonly", "no"], Durability::Volatile)]
#[case(&["--appendfsync", "everysec"], Durability::Appended)]
#[case(&["--appendfsync", "always"], Durability::Fsynced)]
#[tokio::test(flavor = "multi_thread")]
async fn the_level_is_what_redis_does(#[case] options: &[&str], #[case] expected: Durability) {
    let server = RedisServer::start(options);
    let store = open(&server).await;
    assert_eq!(store.queue.durability(), expected);
    assert_eq!(store.add(&job("a", "w")).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_redis_can_never_reach_is_refused() {
    let server = RedisServer::start(&["--appendonly", "no"]);
    for level in [Durability::Appended, Durability::Fsynced] {
        let why = refusal(&server, &asking(level)).await;
        assert!(why.contains(level.as_str()) && why.contains("appendonly yes"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_syncs_each_second_is_waited_for_or_refused() {
    let keyspace = RedisServer::shared().keyspace().await;
    match open_with(keyspace, &asking(Durability::Fsynced)).await {
        // Redis 7.2 or newer.
        Ok(store) => {
            let jobs: Vec<Job> = (0..100).map(|_| job("a", "w")).collect();
            let levels = futures::future::join_all(jobs.iter().map(|job| store.add(job))).await;
            assert_eq!(levels, [Durability::Fsynced; 100]);
            assert_eq!(store.queue.durability(), Durability::Fsynced);
        }
        Err(refused) => assert!(refused.to_string().contains("appendfsync always"), "{refused}"),
    }
}
