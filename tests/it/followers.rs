//! The master of our keys is found in a cluster and behind sentinels, and followed when it changes.

use std::time::Duration;

use rstest::rstest;
use spillway::keyspace::{Keyspace, KeyspaceError, Timeouts};
use spillway::lifecycle::Lifecycle;
use spillway::queue::Queue;
use spillway::queue::redis::RedisQueue;
use spillway::queue::settings::Settings;

use crate::support::cluster::ClusterServers;
use crate::support::eventually;
use crate::support::redis::{RedisServer, unique_prefix};
use crate::support::sentinel::SentinelServers;
use crate::support::spillway::signal;

const BRIEF: Timeouts =
    Timeouts { connect: Duration::from_millis(500), response: Duration::from_secs(1) };

async fn open(url: &str) -> Keyspace {
    Keyspace::open(url, &unique_prefix(), BRIEF).await.unwrap()
}

async fn fault(url: &str) -> KeyspaceError {
    match Keyspace::open(url, "sw", BRIEF).await {
        Ok(_) => panic!("{url} opened"),
        Err(fault) => fault,
    }
}

fn set(keyspace: &Keyspace, value: u32) -> redis::Cmd {
    redis::cmd("SET").arg(keyspace.key("x")).arg(value).to_owned()
}

fn get(keyspace: &Keyspace) -> redis::Cmd {
    redis::cmd("GET").arg(keyspace.key("x")).to_owned()
}

/// Writes, lets the master change, and writes again on shared connections and on ones of their own.
async fn follows(url: &str, change: impl FnOnce()) {
    let keyspace = open(url).await;
    let lifecycle = Lifecycle::default();
    let queue = RedisQueue::open(keyspace.clone(), &Settings::default(), &lifecycle).await.unwrap();
    let mut hints = queue.hints(&spillway::domain::job::Line::Deliver);
    let mut moves = keyspace.moves();
    let mut wait = redis::pipe();
    wait.cmd("SET").arg(keyspace.key("y")).arg(1).ignore();
    wait.cmd("WAIT").arg(1).arg(1_000);
    let () = keyspace.ask(&set(&keyspace, 1)).await.unwrap();
    let told: (u32,) = keyspace.ask_alone(&wait, Duration::from_secs(2)).await.unwrap();
    assert!(told.0 >= 1, "a replica has it");
    hints.mark_unchanged();
    change();
    eventually("the new master is written to", || async {
        match keyspace.ask::<()>(&set(&keyspace, 2)).await {
            Ok(()) => true,
            Err(KeyspaceError::Unreachable(_)) => false,
            Err(other) => panic!("{other}"),
        }
    })
    .await;
    assert!(moves.has_changed().unwrap());
    moves.mark_unchanged();
    // On every connection, and no move more.
    for _ in 0..8 {
        assert_eq!(keyspace.ask::<u32>(&get(&keyspace)).await.unwrap(), 2);
    }
    let alone = keyspace.ask_alone::<redis::Value>(&wait, Duration::from_secs(2)).await;
    alone.expect("a connection of one's own leads to the new master, too");
    assert!(!moves.has_changed().unwrap());
    let heard = tokio::time::timeout(Duration::from_secs(30), hints.changed()).await;
    heard.expect("hints are listened to again").unwrap();
    assert_eq!(queue.depths().await.unwrap().open, 0, "scripts are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_and_a_replaced_master_of_a_cluster_are_followed() {
    let mut cluster = ClusterServers::start(1);
    let url = cluster.url();
    follows(&url, || cluster.hand_over()).await;
    follows(&url, || {
        let dead = cluster.kill_master();
        cluster.bring_back(dead);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_behind_sentinels_is_followed() {
    let mut servers = SentinelServers::start();
    let unknown = fault(&servers.wrong_url()).await;
    assert!(matches!(&unknown, KeyspaceError::Refused(why) if why.contains("`nobody`")));
    let url = servers.url();
    follows(&url, || servers.kill_master()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_master_is_replaced_and_not_gone_back_to() {
    let mut servers = SentinelServers::start();
    let url = servers.url();
    let mut paused = 0;
    follows(&url, || paused = servers.pause_master()).await;
    let keyspace = open(&url).await;
    let moves = keyspace.moves();
    signal(paused, "CONT");
    // It takes itself for the master until the sentinels tell it otherwise.
    for _ in 0..20 {
        keyspace.look_again();
        let () = keyspace.ask(&set(&keyspace, 3)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!moves.has_changed().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_live_seed_is_enough() {
    let cluster = ClusterServers::shared();
    let dead = format!("redis+cluster://127.0.0.1:1,127.0.0.1:{}", cluster.other().port());
    let keyspace = open(&dead).await;
    let () = keyspace.ask(&set(&keyspace, 7)).await.unwrap();
    assert_eq!(keyspace.ask::<u32>(&get(&keyspace)).await.unwrap(), 7);
}

#[rstest]
#[case::not_a_cluster("redis+cluster", "", "cluster support disabled")]
#[case::not_a_sentinel("redis+sentinel", "/main", "SENTINEL")]
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_what_the_url_says_is_told(
    #[case] scheme: &str,
    #[case] name: &str,
    #[case] expected: &str,
) {
    let port = RedisServer::shared().port();
    let told = fault(&format!("{scheme}://127.0.0.1:{port}{name}")).await;
    let KeyspaceError::Refused(why) = &told else { panic!("{told}") };
    assert!(why.contains(expected) && why.contains(&port.to_string()), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_ours_is_told_with_the_url_to_use() {
    let node = ClusterServers::shared().other();
    let told = fault(&node.url()).await;
    let KeyspaceError::Refused(why) = &told else { panic!("{told}") };
    assert!(why.contains("redis+cluster://"), "{why}");
}
