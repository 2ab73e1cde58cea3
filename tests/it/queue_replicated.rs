//! A push that is to be replicated: promised only when a replica has it.

use std::time::{Duration, Instant};

use spillway::domain::job::Job;
use spillway::queue::{Batch, Dedup, Durability, Pushed, Queue, QueueError};

use crate::queue_redis::{Store, asking, job, open_brief, open_with};
use crate::support::eventually;
use crate::support::redis::RedisServer;
use crate::support::spillway::signal;

/// Pushes a job, without being told that it came far enough.
async fn unconfirmed(store: &Store, batch: &Batch, stored: &Job) {
    match store.queue.push(batch.clone()).await {
        Err(QueueError::Unconfirmed { id, wanted: Durability::Replicated }) => {
            assert_eq!(id, stored.id.as_str());
        }
        other => panic!("{other:?}"),
    }
}

fn dedup(key: &str) -> Dedup {
    Dedup { key: key.to_owned(), fingerprint: "f".to_owned(), keep: Duration::from_secs(600) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_counts_as_replicated_only_when_a_replica_has_it() {
    let primary = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let store = open_brief(&primary, &asking(Durability::Replicated)).await;
    assert_eq!(store.queue.durability(), Durability::Replicated, "what a 202 promises");
    let alone = job("a", "w");
    let batch = Batch { jobs: vec![alone.clone()], group: None, dedup: Some(dedup("one")) };
    for again in [&batch, &batch] {
        unconfirmed(&store, again, &alone).await;
    }
    assert!(store.queue.find(&alone.id).await.unwrap().is_some(), "it is stored all the same");
    let recalled = store.queue.recall(&dedup("one")).await;
    assert!(matches!(recalled, Err(QueueError::Unconfirmed { .. })), "{recalled:?}");

    let port = primary.url().rsplit(':').next().unwrap().to_owned();
    let mut replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    let newer = Batch { jobs: vec![job("a", "w")], ..batch };
    let same = Pushed::Repeated { id: alone.id.to_string() };
    eventually("the replica takes part", || async {
        store.queue.push(newer.clone()).await.is_ok_and(|pushed| pushed == same)
    })
    .await;
    assert_eq!(store.queue.recall(&dedup("one")).await.unwrap(), Some(same));
    let many: Vec<Job> = (0..50).map(|_| job("a", "w")).collect();
    let levels = futures::future::join_all(many.iter().map(|job| store.add(job))).await;
    assert_eq!(levels, [Durability::Replicated; 50]);

    replica.kill();
    let last = job("a", "w");
    unconfirmed(&store, &Batch { jobs: vec![last.clone()], group: None, dedup: None }, &last).await;
    assert!(store.lifecycle.stop(Duration::from_secs(30)).await, "its tasks end by themselves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_master_that_loses_its_role_is_not_confirmed() {
    let primary = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let port = primary.port().to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    let wanted = asking(Durability::Replicated);
    let store = open_with(primary.keyspace().await, &wanted).await.unwrap();
    eventually("the replica takes part", || async { store.push(&job("a", "w")).await.is_ok() })
        .await;
    signal(replica.pid(), "STOP");
    let last = job("a", "w");
    let began = Instant::now();
    let demote = async {
        eventually("it is pushed", || async {
            store.queue.find(&last.id).await.unwrap().is_some()
        })
        .await;
        let () = store.command(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]).await;
    };
    let (told, ()) = tokio::join!(store.push(&last), demote);
    assert!(matches!(told, Err(QueueError::Unconfirmed { .. })), "{told:?}");
    // Sooner than the wait's end: the server itself says that it is no master any more.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let told = store.push(&job("a", "w")).await;
    assert!(matches!(told, Err(QueueError::Unavailable(_))), "{told:?}");
    let () = store.command(&["REPLICAOF", "NO", "ONE"]).await;
    signal(replica.pid(), "CONT");
    eventually("it is the master again", || async { store.push(&last).await.is_ok() }).await;
}
