//! Redis paused, killed and away, and what replicas hear of each other.

use std::time::{Duration, Instant};

use spillway::domain::job::{Job, Stage};
use spillway::keyspace::{Keyspace, KeyspaceError};
use spillway::queue::settings::Settings;
use spillway::queue::{Queue, QueueError};

use super::{BRIEF, job, open, open_brief, open_with};
use crate::support::eventually;
use crate::support::redis::RedisServer;
use crate::support::spillway::signal;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_redis_is_not_waited_for_and_taken_back_at_once() {
    let server = RedisServer::start(&[]);
    let store = open_brief(&server, &Settings::default()).await;
    store.add(&job("a", "w")).await;
    signal(server.pid(), "STOP");
    let began = Instant::now();
    let jobs: Vec<Job> = (0..8).map(|_| job("a", "w")).collect();
    for answer in futures::future::join_all(jobs.iter().map(|job| store.push(job))).await {
        assert!(matches!(answer, Err(QueueError::Unavailable(_))), "{answer:?}");
    }
    assert!(matches!(store.queue.ping().await, Err(QueueError::Unavailable(_))));
    let took = began.elapsed();
    assert!(took < 4 * (BRIEF.connect + BRIEF.response), "two calls took {took:?}");
    signal(server.pid(), "CONT");
    eventually("it is taken back", || async { store.queue.ping().await.is_ok() }).await;
    // What was asked meanwhile may have happened: asking again does no harm.
    for job in &jobs {
        eventually("the job is stored", || async { store.push(job).await.is_ok() }).await;
    }
    assert_eq!(store.queue.depths().await.unwrap().open, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_taken_back_with_what_it_has_on_disk() {
    let mut server = RedisServer::start(&["--appendfsync", "always"]);
    let store = open_brief(&server, &Settings::default()).await;
    let kept = job("a", "w");
    store.add(&kept).await;
    let mut hints = store.queue.hints(&kept.line());
    server.kill();
    let began = Instant::now();
    for answer in futures::future::join_all((0..32).map(|_| store.queue.ping())).await {
        assert!(matches!(answer, Err(QueueError::Unavailable(_))), "{answer:?}");
    }
    assert!(began.elapsed() < 2 * (BRIEF.connect + BRIEF.response));
    hints.mark_unchanged();
    server.restart();
    // On every connection at once, whatever it met while Redis was gone.
    for answer in futures::future::join_all((0..32).map(|_| store.queue.ping())).await {
        answer.unwrap();
    }
    let found = store.queue.find(&kept.id).await.unwrap().unwrap();
    assert_eq!(found.stage, Stage::Queued);
    let listened = tokio::time::timeout(Duration::from_secs(60), hints.changed()).await;
    assert!(listened.is_ok(), "it listens again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_down_is_told_at_once() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let began = Instant::now();
    let refused = Keyspace::open(&server.url(), "sw", BRIEF).await;
    let Err(KeyspaceError::Unreachable(why)) = refused.map(|_| ()) else { panic!("it opened") };
    assert!(why.contains("refused"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_fills_at_one_replica_is_hinted_at_the_others() {
    let one = open(RedisServer::shared()).await;
    let two = open_with(one.keyspace.clone(), &Settings::default()).await.unwrap();
    let mut hints = two.queue.hints(&job("a", "w").line());
    let deadline = Instant::now() + Duration::from_secs(60);
    // The first hint may be that the subscription has begun.
    for _ in 0..2 {
        hints.mark_unchanged();
        while !hints.has_changed().unwrap() {
            assert!(Instant::now() < deadline, "no hint came");
            one.add(&job("a", "w")).await;
            one.work_off().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
