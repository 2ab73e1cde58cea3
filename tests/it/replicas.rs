//! Several replicas on one Redis: one rate, and nothing lost when one of them is killed.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::{Spillway, embedded, settings};

/// Submits so many jobs at once, in turn to each replica; their ids.
async fn burst(replicas: &[&Spillway], count: usize, callback: &str) -> Vec<String> {
    futures::stream::iter(0..count)
        .map(|number| {
            let body = json!({
                "task": "tag", "input": format!("text {number}"),
                "workflow": format!("w{}", number % 5), "callback_url": callback,
            });
            let replica = replicas[number % replicas.len()];
            async move { replica.submit(&body).await }
        })
        .buffer_unordered(64)
        .collect()
        .await
}

/// Accounts that call a provider over HTTP, limited as given.
fn provider(server: &ScriptedServer, limits: &str) -> String {
    format!(
        r#"
[accounts.main]
provider = "openai-compatible"
base_url = "{}"
api_key = "none"
{limits}
[routes.cheap]
steps = ["main/tiny-1"]
patience = "1h"
[routes.premium]
steps = ["main/tiny-1"]
"#,
        server.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_one_rate_and_use_it_up() {
    let redis = RedisServer::start(&[]);
    let server = ScriptedServer::start(&json!({
        "requests": "600/min", "burst": "1s", "latency": "20ms",
    }));
    let limits = "[[accounts.main.limits]]\nrequests = \"600/min\"\nburst = \"1s\"";
    let settings = settings(&format!("url = \"{}\"", redis.url()), &provider(&server, limits));
    let (one, two) = (Spillway::start(&settings), Spillway::start(&settings));
    let receiver = Receiver::start();
    let ids = burst(&[&one, &two], 1_000, &receiver.url("/")).await;
    assert_eq!(ids.len(), 1_000);
    let deadline = std::time::Instant::now() + Duration::from_secs(180);
    while receiver.taken().len() < 1_000 {
        assert!(std::time::Instant::now() < deadline, "{} of 1000", receiver.taken().len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stats = server.stats().await;
    let arrivals: Vec<i64> = serde_json::from_value(stats["arrivals"].clone()).unwrap();
    assert_eq!(stats["rate_limited"], 0, "no 429");
    assert_eq!(arrivals.len(), 1_000, "no call was wasted");
    // In every window of length t at most burst + rate * t (10 and 10 a second).
    for (from, start) in arrivals.iter().enumerate() {
        for (to, end) in arrivals.iter().enumerate().skip(from) {
            let seconds = (end - start) as f64 / 1e6;
            let allowed = 10.0 + 10.0 * seconds;
            assert!((to - from + 1) as f64 <= allowed + 1e-6, "window {from}..{to}");
        }
    }
    let seconds = (arrivals[999] - arrivals[0]) as f64 / 1e6;
    // What the limit allows in that time, against what was used.
    let used = 1_000.0 / (10.0 + 10.0 * seconds);
    println!("1000 jobs in {seconds:.2} s: {:.2} % of the limit used, 0 x 429", used * 100.0);
    assert!(used >= 0.97, "{used}");
}

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
