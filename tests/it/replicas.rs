//! Several replicas on one Redis: one rate, and nothing lost when one of them is killed.

use std::collections::HashMap;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::burst::{burst, provider};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::{Spillway, embedded, settings};

/// Every job has exactly one terminal result, every callback arrived, repeats carry the same id.
async fn nothing_is_lost(spillway: &Spillway, receiver: &Receiver, ids: &[String]) {
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while receiver.taken().len() < ids.len() {
        assert!(
            std::time::Instant::now() < deadline,
            "{} of {} callbacks",
            receiver.taken().len(),
            ids.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut results: HashMap<String, Value> = HashMap::new();
    let mut repeats = 0;
    for received in receiver.all() {
        let data = received.body["data"].clone();
        assert_eq!(received.id, data["id"].as_str().unwrap(), "webhook-id is the job's");
        match results.get(&received.id) {
            Some(before) => {
                repeats += 1;
                assert_eq!(before, &data, "a repeat tells the same result");
            }
            None => {
                results.insert(received.id, data);
            }
        }
    }
    for id in ids {
        let told = results.get(id).unwrap_or_else(|| panic!("no callback for {id}"));
        assert_eq!(&spillway.finished(id).await, told, "one terminal result");
        assert_eq!(told["status"], "succeeded", "{told:#}");
    }
    assert_eq!(results.len(), ids.len());
    println!("{} jobs, one result each, {repeats} repeated callbacks", ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_of_two_replicas_three_times_loses_nothing() {
    let redis = RedisServer::start(&[]);
    let server = ScriptedServer::start(&json!({ "latency": "100ms" }));
    let limits = "[[accounts.main.limits]]\nconcurrency = 20\n[engine]\nlease = \"2s\"";
    let settings = settings(&format!("url = \"{}\"", redis.url()), &provider(&server, limits));
    let survivor = Spillway::start(&settings);
    let receiver = Receiver::start();
    let mut ids = Vec::new();
    for round in 0..3 {
        let mut victim = Spillway::start(&settings);
        ids.extend(burst(&[&survivor, &victim], 170, &receiver.url("/")).await);
        let before = receiver.taken().len();
        eventually("jobs are under way", || async { receiver.taken().len() > before + 20 }).await;
        victim.kill();
        println!("round {round}: killed with {} of {} done", receiver.taken().len(), ids.len());
    }
    nothing_is_lost(&survivor, &receiver, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_and_restarting_on_the_embedded_store_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start(&json!({ "latency": "100ms" }));
    let limits = "[[accounts.main.limits]]\nconcurrency = 20\n[engine]\nlease = \"2s\"";
    let settings = settings(&embedded(folder.path()), &provider(&server, limits));
    let receiver = Receiver::start();
    let mut spillway = Spillway::start(&settings);
    let ids = burst(&[&spillway], 500, &receiver.url("/")).await;
    for _ in 0..3 {
        let before = receiver.taken().len();
        eventually("jobs are under way", || async { receiver.taken().len() > before + 50 }).await;
        spillway.kill();
        spillway = Spillway::start(&settings);
    }
    nothing_is_lost(&spillway, &receiver, &ids).await;
}

#[rstest]
#[case::terminate("TERM")]
#[case::interrupt("INT")]
#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_service_finishes_what_it_holds(#[case] signal: &str) {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start(&json!({ "latency": "300ms" }));
    let settings = settings(&embedded(folder.path()), &provider(&server, ""));
    let receiver = Receiver::start();
    let mut spillway = Spillway::start(&settings);
    let ids = burst(&[&spillway], 20, &receiver.url("/")).await;
    eventually("jobs are under way", || async { server.stats().await["calls"] == 20 }).await;
    spillway.signal(signal);
    assert!(spillway.ended());
    let again = Spillway::start(&settings);
    nothing_is_lost(&again, &receiver, &ids).await;
    assert_eq!(server.stats().await["calls"], 20, "no call was made twice");
}
