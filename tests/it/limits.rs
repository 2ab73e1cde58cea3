//! Limits as a caller and an operator see them.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::{Spillway, embedded, settings};

/// A service with one account of a provider over HTTP, limited as given.
pub(crate) fn limited(server: &ScriptedServer, limits: &str) -> (Spillway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let more = format!(
        r#"
[accounts.main]
provider = "openai-compatible"
base_url = "{}"
api_key = "none"
[[accounts.main.limits]]
{limits}
[routes.cheap]
steps = ["main/tiny-1"]
[routes.premium]
steps = ["main/tiny-1"]
"#,
        server.url()
    );
    (Spillway::start(&settings(&embedded(folder.path()), &more)), folder)
}

/// The one limit of `limited`, as `GET /v1/limits` tells it.
async fn limit(spillway: &Spillway) -> Value {
    let (status, limits) = spillway.get("/v1/limits").await;
    assert_eq!(status, 200, "{limits}");
    limits["data"][0].clone()
}

#[tokio::test]
async fn every_bucket_is_told() {
    let server = ScriptedServer::start(&json!({ "latency": "1ms" }));
    let limits = "requests = \"60/min\"\ntokens = \"6000/min\"\nrequests_per_day = 1000\n\
                  concurrency = 3\nramp = \"2x/10s\"";
    let (spillway, _folder) = limited(&server, limits);
    spillway.run(&json!({ "task": "tag", "input": "a text" })).await;
    let limit = limit(&spillway).await;
    let buckets = limit["buckets"].as_array().unwrap();
    let named: Vec<_> = buckets
        .iter()
        .map(|b| {
            (b["axis"].as_str().unwrap(), b["per"].as_str().unwrap(), b["limit"].as_f64().unwrap())
        })
        .collect();
    assert_eq!(
        named,
        [("requests", "minute", 60.0), ("tokens", "minute", 6000.0), ("requests", "day", 1000.0)]
    );
    assert!((buckets[2]["level"].as_f64().unwrap() - 1.0).abs() < 0.1, "{limit}");
    assert!(buckets[0]["ramp_open"].as_f64().unwrap() < 0.2, "{limit}");
    assert_eq!(buckets[2]["ramp_open"], Value::Null);
    assert_eq!((&limit["concurrency"], &limit["share"]), (&json!(3), &json!(1.0)));
}

#[tokio::test]
async fn a_job_larger_than_a_limit_is_refused_at_the_door() {
    let server = ScriptedServer::start(&json!({ "latency": "1ms" }));
    let (spillway, _folder) = limited(&server, "input_tokens = \"1000/min\"");
    let body = json!({ "task": "tag", "input": "word ".repeat(2_000) });
    let (status, problem) = spillway.post("/v1/jobs", &body).await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (422, &json!("larger_than_limit")),
        "{problem}"
    );
    assert!(problem["detail"].as_str().unwrap().contains("1000 in all"), "{problem}");
    let result = spillway.run(&json!({ "task": "tag", "input": "a text" })).await;
    assert_eq!(result["status"], "succeeded");
}

#[tokio::test]
async fn a_limit_told_again_and_again_is_used_instead_of_a_higher_one() {
    let server = ScriptedServer::start(&json!({ "requests": "6000/min", "latency": "1ms" }));
    let (spillway, _folder) = limited(&server, "requests = \"12000/min\"");
    let learned = async || limit(&spillway).await["buckets"][0]["learned"].as_f64().unwrap();
    for number in 0..4 {
        spillway.run(&json!({ "task": "tag", "input": format!("text {number}") })).await;
    }
    assert!((learned().await - 1.0).abs() < 1e-9);
    spillway.run(&json!({ "task": "tag", "input": "one more" })).await;
    eventually("the limit is corrected", || async { (learned().await - 0.5).abs() < 1e-9 }).await;
    let (_, metrics) = spillway.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("spillway_limit_learned_ratio{"), "{metrics}");
}

#[tokio::test]
async fn a_pinned_limit_stays() {
    let rule = json!([{ "every": 3, "answer": "429" }]);
    let server =
        ScriptedServer::start(&json!({ "requests": "6000/min", "latency": "1ms", "faults": rule }));
    let (spillway, _folder) = limited(&server, "requests = \"12000/min\"\nlearn = \"off\"");
    for number in 0..8 {
        spillway.run(&json!({ "task": "tag", "input": format!("text {number}") })).await;
    }
    let limit = limit(&spillway).await;
    assert_eq!((&limit["buckets"][0]["learned"], &limit["share"]), (&json!(1.0), &json!(1.0)));
}

#[tokio::test]
async fn a_refusal_cuts_the_share_of_the_rates() {
    let rule = json!([{ "every": 3, "answer": "429" }]);
    let server = ScriptedServer::start(&json!({ "latency": "1ms", "faults": rule }));
    let (spillway, _folder) = limited(&server, "requests = \"12000/min\"");
    for number in 0..3 {
        let result =
            spillway.run(&json!({ "task": "tag", "input": format!("text {number}") })).await;
        assert_eq!(result["status"], "succeeded");
    }
    let share = limit(&spillway).await["share"].as_f64().unwrap();
    assert!((0.85..1.0).contains(&share), "{share}");
}

#[tokio::test]
async fn a_deadline_that_no_step_can_meet_is_refused() {
    let server = ScriptedServer::start(&json!({ "latency": "1ms" }));
    let (spillway, _folder) = limited(&server, "input_tokens = \"600/min\"");
    // The bucket is in debt for about a minute afterwards.
    let long = json!({ "task": "tag", "input": "word ".repeat(300) });
    assert_eq!(spillway.run(&long).await["status"], "succeeded");
    let by = (chrono::Utc::now() + chrono::Duration::seconds(5)).to_rfc3339();
    let body = json!({ "task": "tag", "input": "a text", "deliver_by": by });
    let (status, problem) = spillway.post("/v1/jobs", &body).await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (422, &json!("deliver_by_unreachable")),
        "{problem}"
    );
    let by = (chrono::Utc::now() + chrono::Duration::seconds(600)).to_rfc3339();
    let (status, receipt) = spillway
        .post("/v1/jobs", &json!({ "task": "tag", "input": "a text", "deliver_by": by }))
        .await;
    assert_eq!(status, 202, "{receipt}");
    let start = receipt["estimated_start_at"].as_str().unwrap();
    let finish = receipt["estimated_finish_at"].as_str().unwrap();
    assert!(start < finish, "{receipt}");
}
