//! What senders must not get by accident or ill will: paid jobs of garbage, lists lost, time burnt.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, send, text, with};
use crate::limits::limited;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::{KEY, Spillway};

const HOOKS: &str = r##"
[tasks.said]
route = "cheap"
output_schema = false
template = "#scripted:say {{ text }}"
[tasks.sum]
route = "cheap"
output_schema = false
template = "#scripted:say x"
input_schema = { type = "array", items = { type = "number" } }
[hooks.open]
task = "shown"
caller = "default"
auth = { scheme = "open" }
[hooks.said]
task = "said"
caller = "default"
auth = { scheme = "open" }
[hooks.sum]
task = "sum"
caller = "default"
auth = { scheme = "open" }
"##;

#[tokio::test]
async fn names_that_lead_on_and_on_take_no_longer_than_others() {
    let (spillway, _folder) = with(HOOKS);
    let long = format!(r#"{{"text":"a","zz{}":1}}"#, ".a".repeat(500_000));
    let names: Vec<String> =
        (0..1_000).map(|at| format!(r#""{}{at}":1"#, "zz[a]__a.".repeat(100))).collect();
    let many = format!(r#"{{"text":"a",{}}}"#, names.join(","));
    let began = Instant::now();
    for body in [long, many] {
        let taken = send(&spillway, "/v1/hooks/open", &[], body.clone()).await;
        assert_eq!(text(&spillway, &taken.id()).await, "a||||");
        let key = format!("Bearer {KEY}");
        let job = body.replacen('{', r#"{"task":"shown","input":{"text":"a"},"#, 1);
        let headers = [("authorization", key.as_str())];
        let taken = ask(&spillway, Method::POST, "/v1/jobs", &headers, job.into_bytes()).await;
        assert_eq!(taken.status, 202, "{}", taken.body);
    }
    // About half a second; minutes when every part looked at all the rest of its name.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

/// The same key, and yet another event: each gets its own receipt, and both can be asked for.
#[tokio::test]
async fn an_event_and_a_list_under_one_key_are_two() {
    let (spillway, _folder) = with(HOOKS);
    let key = [("Idempotency-Key", "k1")];
    let mut seen = Vec::new();
    for body in [r#"{"text":"a"}"#, r#"[{"text":"a"},{"text":"b"}]"#] {
        for _ in 0..2 {
            let taken = send(&spillway, "/v1/hooks/open", &key, body).await;
            let (status, found) = spillway.get(&taken.headers["location"]).await;
            assert_eq!(status, 200, "{found}");
            assert_eq!(
                (&found["id"], &found["object"]),
                (&taken.body["id"], &taken.body["object"])
            );
            seen.push((taken.id(), taken.body["object"].clone()));
        }
    }
    assert_eq!((&seen[0], &seen[2]), (&seen[1], &seen[3]));
    assert_eq!((&seen[0].1, &seen[2].1), (&json!("job"), &json!("group")));
}

#[tokio::test]
async fn a_list_of_anything_is_a_job_each_or_refused() {
    let (spillway, _folder) = with(HOOKS);
    for body in ["[]", "null"] {
        let none = send(&spillway, "/v1/hooks/said", &[("Idempotency-Key", "k")], body).await;
        assert_eq!((none.status, none.body["status"].as_str()), (200, Some("ignored")));
        assert!(none.body["detail"].as_str().unwrap().contains("no event"), "{}", none.body);
    }
    let list = send(&spillway, "/v1/hooks/said", &[], r#"[1,"two",{"text":"three"}]"#).await;
    assert_eq!(list.body["object"], "group", "{}", list.body);
    let mut texts = Vec::new();
    for job in jobs(&spillway).await {
        texts.push(text(&spillway, job["id"].as_str().unwrap()).await);
    }
    texts.sort();
    assert_eq!(texts, ["1", "three", "two"]);
    for (hook, body, place) in [
        ("open", "[1]", "Job 0"),
        ("open", r#"[{"text":"a"},"b"]"#, "Job 1"),
        ("said", r#"["a",["b"]]"#, "Job 1"),
        ("said", r#"["a",null]"#, "Job 1"),
    ] {
        let refused = send(&spillway, &format!("/v1/hooks/{hook}"), &[], body).await;
        assert_eq!(refused.status, 422, "{body}: {}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains(place), "{}", refused.body);
    }
    // A task that works on lists gets the list.
    let sum = send(&spillway, "/v1/hooks/sum", &[], "[1,2]").await;
    assert_eq!(sum.body["object"], "job", "{}", sum.body);
    let refused = send(&spillway, "/v1/hooks/sum", &[], r#"[1,{"n":2}]"#).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &json!("#/input/1")));
}

async fn jobs(spillway: &Spillway) -> Vec<Value> {
    spillway.get("/v1/jobs").await.1["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_deadline_of_the_hooks_own_that_cannot_be_met_now_may_be_met_later() {
    let server = ScriptedServer::start(&json!({ "latency": "1ms" }));
    let hook = "[hooks.soon]\ntask = \"tag\"\ncaller = \"default\"\nauth = { scheme = \"open\" }\n";
    let settings = format!("input_tokens = \"600/min\"\n{hook}deliver_within = \"5s\"");
    let (spillway, _folder) = limited(&server, &settings);
    // The bucket is in debt for about a minute afterwards.
    let long = json!({ "task": "tag", "input": "word ".repeat(300) });
    assert_eq!(spillway.run(&long).await["status"], "succeeded");
    for body in [r#"{"text":"a"}"#, r#"[{"text":"a"},{"text":"b"}]"#] {
        let refused = send(&spillway, "/v1/hooks/soon", &[], body).await;
        let code = refused.body["code"].as_str();
        assert_eq!(
            (refused.status, code),
            (503, Some("deliver_within_unreachable")),
            "{}",
            refused.body
        );
        assert!(refused.headers["retry-after"].parse::<u64>().unwrap() >= 10);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("[hooks.soon]") && detail.contains("later"), "{detail}");
    }
    assert_eq!(jobs(&spillway).await.len(), 1);
}
