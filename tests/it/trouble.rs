//! One job's trouble is not another's: waiting, deadlines, failures, cancellations and stops stay
//! with whom they concern.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, answer, embedded, settings, signal};

/// Two accounts on one route: `a` takes one slow call at a time, `b` is well.
const CROWDED: &str = r#"
[accounts.a]
provider = "scripted"
scripted = { latency = "20s" }
[[accounts.a.limits]]
concurrency = 1
[accounts.b]
provider = "scripted"
scripted = { latency = "1ms" }
[routes.cheap]
steps = ["a/m", "b/m"]
[routes.premium]
steps = ["b/m"]
"#;

async fn running(spillway: &Spillway, id: &str) {
    eventually("the job runs", || async {
        spillway.get(&format!("/v1/jobs/{id}")).await.1["status"] == "running"
    })
    .await;
}

#[tokio::test]
async fn a_job_that_waits_for_a_step_of_its_own_does_not_block_its_line() {
    let (spillway, _folder) = start(Store::Embedded, CROWDED);
    let only = |name: &str| json!({ "task": "tag", "input": "x", "provider": { "only": [name] } });
    running(&spillway, &spillway.submit(&only("a")).await).await;
    spillway.submit(&only("a")).await;
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(spillway.run(&only("b")).await["status"], "succeeded");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_jobs_own_deadline_does_not_count_against_the_step() {
    let more = r#"
[accounts.a]
provider = "scripted"
scripted = { latency = "1ms" }
[routes.cheap]
steps = ["a/m"]
[routes.premium]
steps = ["a/m"]
"#;
    let (spillway, _folder) = start(Store::Embedded, more);
    let soon = chrono::Utc::now() + chrono::Duration::milliseconds(1_500);
    let hurried: Vec<String> = futures::stream::iter(0..8)
        .then(|_| {
            let body = json!({
                "task": "tag", "input": "#scripted:slow 30s", "deliver_by": soon.to_rfc3339(),
            });
            let spillway = &spillway;
            async move { spillway.submit(&body).await }
        })
        .collect()
        .await;
    for id in &hurried {
        assert_eq!(spillway.finished(id).await["status"], "expired");
    }
    let (_, limits) = spillway.get("/v1/limits").await;
    assert_eq!(limits["shut"], json!([]), "{limits:#}");
    assert_eq!(spillway.run(&json!({ "task": "tag", "input": "x" })).await["status"], "succeeded");
}

#[tokio::test]
async fn failures_of_calls_under_way_together_count_once() {
    let more = r#"
[accounts.a]
provider = "scripted"
scripted = { latency = "500ms" }
[routes.cheap]
steps = ["a/m"]
[routes.premium]
steps = ["a/m"]
[engine]
max_attempts = 1
"#;
    let (spillway, _folder) = start(Store::Embedded, more);
    let body = json!({ "task": "tag", "input": "#scripted:503" });
    let ids: Vec<String> = futures::stream::iter(0..30)
        .map(|_| spillway.submit(&body))
        .buffer_unordered(30)
        .collect()
        .await;
    for id in &ids {
        assert_eq!(spillway.finished(id).await["status"], "failed");
    }
    let started = Instant::now();
    let well = spillway.run(&json!({ "task": "tag", "input": "x" })).await;
    assert_eq!(well["status"], "succeeded");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_step_that_is_too_dear_is_passed_over_and_not_a_failure() {
    let more = r#"
[accounts.a]
provider = "scripted"
[[accounts.a.limits]]
requests = "30/min"
[accounts.b]
provider = "scripted"
[routes.cheap]
steps = ["a/low", "b/high"]
patience = "0s"
[routes.premium]
steps = ["b/high"]
[[prices]]
provider = "scripted"
model = "low"
input = 0.1
output = 0.1
[[prices]]
provider = "scripted"
model = "high"
input = 1000.0
output = 1000.0
"#;
    let (spillway, _folder) = start(Store::Embedded, more);
    let body = json!({ "task": "tag", "input": "x", "max_cost_usd": 0.01 });
    for _ in 0..2 {
        let result = spillway.run(&body).await;
        assert_eq!((&result["status"], &result["model"]), (&json!("succeeded"), &json!("low")));
    }
    let group = json!({ "task": "plan", "jobs": [{ "input": "x" }], "max_cost_usd": 0.01 });
    let (status, problem) = spillway.post("/v1/groups", &group).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("over_budget")));
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn cancelling_many_running_jobs_stops_their_calls_and_tells_every_callback_at_once(
    #[case] store: Store,
) {
    let slow = SCRIPTED.replace("5ms", "120s");
    let (spillway, _folder) = start(store, &slow);
    let receiver = Receiver::start();
    let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/") });
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(spillway.submit(&body).await);
    }
    running(&spillway, ids.last().unwrap()).await;
    let started = Instant::now();
    futures::stream::iter(&ids)
        .map(|id| spillway.request(Method::DELETE, &format!("/v1/jobs/{id}")))
        .map(|request| async { assert_eq!(answer(request).await.0, 200) })
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;
    receiver.until_taken(60).await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(receiver.all().len(), 60, "each once");
}

#[tokio::test]
async fn a_stop_that_cannot_wait_gives_jobs_back_and_none_is_counted_lost() {
    let folder = tempfile::tempdir().unwrap();
    let text = settings(&embedded(folder.path()), SCRIPTED)
        .replace("[server]", "[server]\ndrain_timeout = \"100ms\"");
    let slow = text.replace("5ms", "120s");
    let mut id = None;
    for _ in 0..4 {
        let mut spillway = Spillway::start(&slow);
        let id = match &id {
            None => id.insert(spillway.submit(&json!({ "task": "tag", "input": "x" })).await),
            Some(id) => id,
        };
        running(&spillway, id).await;
        spillway.signal("TERM");
        assert!(spillway.ended());
    }
    let spillway = Spillway::start(&text);
    let result = spillway.finished(&id.unwrap()).await;
    assert_eq!(result["status"], "succeeded", "{result:#}");
}

#[tokio::test]
async fn a_repetition_is_recognised_although_the_request_would_not_pass_any_more() {
    let (spillway, _folder) = start(Store::Redis, SCRIPTED);
    let soon = chrono::Utc::now() + chrono::Duration::milliseconds(700);
    let body = json!({ "task": "tag", "input": "x", "deliver_by": soon.to_rfc3339() });
    let send = |body: Value| {
        let request = spillway.request(Method::POST, "/v1/jobs").header("idempotency-key", "k");
        answer(request.json(&body))
    };
    let (_, first) = send(body.clone()).await;
    spillway.finished(first["id"].as_str().unwrap()).await;
    eventually("the deadline has passed", || async { chrono::Utc::now() > soon }).await;
    let (status, again) = send(body).await;
    assert_eq!((status.as_u16(), &again["id"]), (202, &first["id"]));
    let other = json!({ "task": "tag", "input": "y", "deliver_by": soon.to_rfc3339() });
    assert_eq!(send(other).await.1["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn background_calls_leave_room_for_one_that_somebody_waits_for() {
    let more = r#"
[accounts.a]
provider = "scripted"
scripted = { latency = "1ms" }
[routes.cheap]
steps = ["a/m"]
[routes.premium]
steps = ["a/m"]
[engine]
concurrency = 4
"#;
    let (spillway, _folder) = start(Store::Embedded, more);
    for _ in 0..8 {
        let body = json!({ "task": "tag", "input": "#scripted:slow 30s", "lane": "batch" });
        spillway.submit(&body).await;
    }
    let started = Instant::now();
    let body = json!({ "task": "tag", "input": "x", "lane": "interactive" });
    assert_eq!(spillway.run(&body).await["status"], "succeeded");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_while_a_submit_waits_does_not_look_like_a_refusal() {
    let redis = RedisServer::start(&[]);
    let slow = SCRIPTED.replace("5ms", "120s");
    let spillway = Spillway::start(&settings(&format!("url = \"{}\"", redis.url()), &slow));
    let request = spillway
        .request(Method::POST, "/v1/jobs")
        .header("prefer", "wait=30")
        .json(&json!({ "task": "tag", "input": "x" }));
    let waiting = tokio::task::spawn(answer(request));
    eventually("the job is stored", || async {
        spillway.get("/v1/jobs").await.1["data"].as_array().is_some_and(|jobs| jobs.len() == 1)
    })
    .await;
    signal(redis.pid(), "STOP");
    let (status, receipt) = waiting.await.unwrap();
    signal(redis.pid(), "CONT");
    assert_eq!(status, 202, "{receipt}");
}
