//! Keys kept in a Redis that does not answer: nobody waits for long, and who is known stays so.

use std::time::{Duration, Instant};

use chrono::Utc;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use spillway::keys::redis::RedisKeyStore;
use spillway::keys::{KeyStore, secret};
use spillway::keyspace::{Keyspace, Timeouts};

use crate::support::eventually;
use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, answer, settings, signal};

/// The store's own timeouts (1 s to connect, 2 s to answer), with room for a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// What each of a dozen requests at once is told, and the longest that one of them took.
async fn burst(spillway: &Spillway, key: &str) -> (Vec<u16>, Duration) {
    let ask = async || {
        let started = Instant::now();
        let (status, _) = answer(spillway.request_as(key, Method::GET, "/v1/me")).await;
        (status.as_u16(), started.elapsed())
    };
    let told = join_all((0..12).map(|_| ask())).await;
    let longest = told.iter().map(|(_, time)| *time).max().unwrap();
    (told.into_iter().map(|(status, _)| status).collect(), longest)
}

async fn keys_of(redis: &RedisServer) -> RedisKeyStore {
    let timeouts = Timeouts { connect: LONGEST, response: LONGEST };
    RedisKeyStore::new(Keyspace::open(&redis.url(), "spillway", timeouts).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_key_store_delays_nobody_for_long_and_refuses_no_known_caller() {
    let redis = RedisServer::start(&[]);
    let store = format!("url = \"{}\"\nprefix = \"spillway\"", redis.url());
    let spillway = Spillway::start(&settings(&store, SCRIPTED));
    let keys = keys_of(&redis).await;
    let (key, record) = secret::generate("kept", Utc::now(), &mut rand::rng());
    let id = record.id.clone();
    keys.add(record).await.unwrap();
    eventually("the key is known", || async { burst(&spillway, &key).await.0 == [200; 12] }).await;

    signal(redis.pid(), "STOP");
    eventually("the keys are no longer fresh", || async {
        burst(&spillway, "sw_unknown_0").await.0 == [503; 12]
    })
    .await;
    for _ in 0..3 {
        let (told, longest) = burst(&spillway, &key).await;
        assert_eq!(told, [200; 12], "a known caller");
        assert!(longest < LONGEST, "a known caller waited {longest:?}");
        let (told, longest) = burst(&spillway, "sw_unknown_0").await;
        assert_eq!(told, [503; 12], "nobody can tell now");
        assert!(longest < LONGEST, "an unknown caller waited {longest:?}");
    }

    signal(redis.pid(), "CONT");
    eventually("unknown keys are told so", || async {
        burst(&spillway, "sw_unknown_0").await.0 == [401; 12]
    })
    .await;
    assert!(keys_of(&redis).await.revoke(&id).await.unwrap());
    let revoked = Instant::now();
    eventually("the revoked key is refused", || async {
        burst(&spillway, &key).await.0 == [401; 12]
    })
    .await;
    assert!(revoked.elapsed() < LONGEST, "it was accepted for {:?}", revoked.elapsed());
    let (status, _) = spillway.post("/v1/jobs", &json!({ "task": "tag", "input": "x" })).await;
    assert_eq!(status, 202);
}
