//! Redis paused, stopped, killed and restarted under load: nothing hangs, callers get 503 with
//! Retry-After, and accepted jobs all finish.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, settings, signal};

/// How long a request may take when Redis is away: its connect and response timeouts (1 s and
/// 2 s by default), with room for a busy machine.
const LONGEST: Duration = Duration::from_secs(6);

/// What a load saw.
#[derive(Default, Debug)]
struct Seen {
    accepted: Vec<String>,
    refused: usize,
    slowest: Duration,
}

/// Submits jobs one after another until told to stop.
async fn load(spillway: Arc<Spillway>, callback: String, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let body = json!({ "task": "tag", "input": "x", "callback_url": callback });
        let response = spillway.request(Method::POST, "/v1/jobs").json(&body).send().await.unwrap();
        seen.slowest = seen.slowest.max(started.elapsed());
        let status = response.status();
        let retry_after = response.headers().get("retry-after").cloned();
        let answer: serde_json::Value = response.json().await.unwrap();
        match status.as_u16() {
            202 => seen.accepted.push(answer["id"].as_str().unwrap().to_owned()),
            503 => {
                seen.refused += 1;
                let seconds: u64 = retry_after.unwrap().to_str().unwrap().parse().unwrap();
                assert!(seconds >= 1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            _ => panic!("{status}: {answer}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    seen
}

/// Runs a load, does something to Redis meanwhile, and checks that all that was accepted finishes.
async fn through(redis: RedisServer, what: &str, harm: impl AsyncFnOnce(&mut RedisServer)) {
    let mut redis = redis;
    let settings = settings(&format!("url = \"{}\"", redis.url()), SCRIPTED);
    let spillway = Arc::new(Spillway::start(&settings));
    let receiver = Receiver::start();
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..4)
        .map(|_| {
            let (spillway, stop) = (Arc::clone(&spillway), Arc::clone(&stop));
            tokio::task::spawn(load(spillway, receiver.url("/"), stop))
        })
        .collect();
    eventually("the load runs", || async { receiver.taken().len() > 50 }).await;
    harm(&mut redis).await;
    let before = receiver.taken().len();
    eventually("jobs are done again", || async { receiver.taken().len() > before + 50 }).await;
    stop.store(true, Ordering::Relaxed);
    let (mut accepted, mut refused, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    for seen in loads {
        let seen = seen.await.unwrap();
        accepted.extend(seen.accepted);
        refused += seen.refused;
        slowest = slowest.max(seen.slowest);
    }
    println!("{what}: {} accepted, {refused} x 503, slowest answer {slowest:?}", accepted.len());
    assert!(slowest < LONGEST, "an answer took {slowest:?}");
    assert!(refused > 0, "somebody was told to come again");
    eventually("every accepted job's callback", || async {
        let taken = receiver.taken();
        accepted.iter().all(|id| taken.contains_key(id))
    })
    .await;
    for id in accepted.iter().step_by(10) {
        assert_eq!(spillway.finished(id).await["status"], "succeeded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_paused_by_a_client() {
    through(RedisServer::start(&[]), "CLIENT PAUSE 10 s", async |redis| {
        let pause = redis::cmd("CLIENT").arg("PAUSE").arg(10_000).arg("ALL").to_owned();
        redis.keyspace().await.ask::<()>(&pause).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stopped_by_a_signal() {
    through(RedisServer::start(&[]), "SIGSTOP 10 s", async |redis| {
        signal(redis.pid(), "STOP");
        tokio::time::sleep(Duration::from_secs(10)).await;
        signal(redis.pid(), "CONT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_and_restarted() {
    through(RedisServer::start(&["--appendfsync", "always"]), "kill -9", async |redis| {
        redis.kill();
        tokio::time::sleep(Duration::from_secs(3)).await;
        redis.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_replica_has_is_not_promised_and_can_be_sent_again() {
    let redis = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let store = format!(
        "url = \"{}\"\ndurability = \"replicated\"\nresponse_timeout = \"1s\"",
        redis.url()
    );
    let spillway = Spillway::start(&settings(&store, SCRIPTED));
    let submit = || async {
        let request = spillway.request(Method::POST, "/v1/jobs").header("idempotency-key", "one");
        request.json(&json!({ "task": "tag", "input": "x" })).send().await.unwrap()
    };
    let refused = submit().await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "2");
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "unconfirmed");
    let detail = problem["detail"].as_str().unwrap();
    let id = detail.split("/v1/jobs/").nth(1).unwrap().split(' ').next().unwrap();
    assert!(detail.contains("Idempotency-Key"), "{detail}");
    assert_eq!(spillway.finished(id).await["status"], "succeeded", "it was stored all the same");

    let port = redis.url().rsplit(':').next().unwrap().to_owned();
    let _replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    eventually("the same job is confirmed", || async {
        let answer = submit().await;
        if answer.status() == 503 {
            return false;
        }
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.headers()["spillway-durability"], "replicated");
        answer.json::<serde_json::Value>().await.unwrap()["id"] == id
    })
    .await;
}
