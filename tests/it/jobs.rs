//! The product through HTTP: submit, wait, list, cancel, replay, groups.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::receiver::Receiver;
use crate::support::redis::{RedisServer, unique_prefix};
use crate::support::schema::check_result;
use crate::support::spillway::{SCRIPTED, Spillway, answer, embedded, settings};

/// Which store a test runs on.
#[derive(Clone, Copy)]
pub(crate) enum Store {
    Embedded,
    Redis,
}

impl Store {
    /// Its settings, with the folder an embedded one lives in.
    pub(crate) fn settings(self, folder: &Path) -> String {
        match self {
            Self::Embedded => embedded(folder),
            Self::Redis => {
                let url = RedisServer::shared().url();
                format!("url = \"{url}\"\nprefix = \"{}\"", unique_prefix())
            }
        }
    }
}

/// A service on this store, with the folder an embedded one lives in.
pub(crate) fn start(store: Store, more: &str) -> (Spillway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Spillway::start(&settings(&store.settings(folder.path()), more)), folder)
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_job_is_accepted_run_and_posted_to_its_callback(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let receiver = Receiver::start();
    let body = json!({
        "task": "tag", "input": "I was charged twice and need help today.",
        "callback_url": receiver.url("/hook?token=a%2Fb&x=%C3%BC"),
        "workflow": "lead-intake", "session": "conversation-42",
        "metadata": { "row": 17, "ü": "日本\u{1f600}" },
    });
    let text = serde_json::to_string(&body).unwrap();
    let response = spillway
        .request(Method::POST, "/v1/jobs")
        .header("content-type", "application/json")
        .body(text)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    let durability = response.headers()["spillway-durability"].to_str().unwrap().to_owned();
    assert_eq!(durability, if matches!(store, Store::Redis) { "appended" } else { "fsynced" });
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let receipt: Value = response.json().await.unwrap();
    let id = receipt["id"].as_str().unwrap();
    assert_eq!(location, format!("/v1/jobs/{id}"));
    assert_eq!(receipt["status"], "queued");
    assert_eq!(receipt["warnings"], json!([]));
    assert_eq!(receipt["status_url"], format!("{}{location}", spillway.base()));

    receiver.until_taken(1).await;
    let received = receiver.all().remove(0);
    assert_eq!(received.target, "/hook?token=a%2Fb&x=%C3%BC");
    assert_eq!(received.body["type"], "job.succeeded");
    assert_eq!(received.headers["spillway-attempt"], "1");
    assert_eq!(received.id, id);
    let result = spillway.finished(id).await;
    assert_eq!(result, received.body["data"]);
    assert_eq!(result["ok"], true);
    assert_eq!(result["provider"], "scripted");
    assert_eq!(result["model"], "tiny-1");
    assert_eq!(result["route"], "cheap");
    assert_eq!(result["fell_back"], false);
    assert!(result["data"]["tags"].is_array(), "{result}");
    assert_eq!(result["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(result["metadata"], body["metadata"]);
    assert_eq!(result["cost_usd"], Value::Null, "the price of tiny-1 is not known");
    crate::support::eventually("the delivery is logged", || async {
        let (_, log) = spillway.get(&format!("/v1/jobs/{id}/deliveries")).await;
        log["stage"] == "done" && log["attempts"][0]["status"] == 200
    })
    .await;
}

#[tokio::test]
async fn a_waiting_submit_answers_with_the_result_and_a_premium_task_takes_the_premium_route() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let request = spillway
        .request(Method::POST, "/v1/jobs")
        .header("prefer", "wait=20")
        .json(&json!({ "task": "plan", "input": { "goal": "Move the office" } }));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["preference-applied"], "wait=20");
    let result: Value = response.json().await.unwrap();
    check_result(&result);
    assert_eq!((&result["route"], &result["model"]), (&json!("premium"), &json!("grand-1")));
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn what_a_caller_attaches_comes_back_byte_for_byte(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let metadata = r#"{"n":1e400,"big":123456789012345678901234567890,"d":0.10,"a":1,"a":2,"u":"\u00e4 ä \ud83d\ude00"}"#;
    let body = format!(r#"{{"task":"tag","input":"ünïcödé 日本","metadata":{metadata}}}"#);
    let request = spillway.request(Method::POST, "/v1/jobs").body(body);
    let (status, receipt) = answer(request).await;
    assert_eq!(status, 202, "{receipt}");
    let id = receipt["id"].as_str().unwrap();
    let text = spillway
        .request(Method::GET, &format!("/v1/jobs/{id}?wait=20"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.contains(metadata), "{text}");
    assert!(text.contains("succeeded"), "{text}");
}

#[tokio::test]
async fn a_wait_that_is_too_short_answers_202_and_polling_gets_the_result() {
    let slow = SCRIPTED.replace("5ms", "600ms");
    let (spillway, _folder) = start(Store::Embedded, &slow);
    let (status, receipt) = answer(
        spillway
            .request(Method::POST, "/v1/jobs")
            .header("prefer", "wait=0")
            .json(&json!({ "task": "tag", "input": "x" })),
    )
    .await;
    assert_eq!(status, 202, "{receipt}");
    let id = receipt["id"].as_str().unwrap();
    let (_, open) = spillway.get(&format!("/v1/jobs/{id}")).await;
    check_result(&open);
    assert!(["queued", "running"].contains(&open["status"].as_str().unwrap()), "{open}");
    assert_eq!(spillway.finished(id).await["status"], "succeeded");
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_repeated_request_is_recognised_and_another_under_its_key_refused(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let send = |key: &'static str, body: Value| {
        let request = spillway.request(Method::POST, "/v1/jobs").header("idempotency-key", key);
        request.json(&body).send()
    };
    let body = json!({ "task": "tag", "input": "x" });
    let first = send("\"row-17\"", body.clone()).await.unwrap();
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let first: Value = first.json().await.unwrap();
    let again = send("row-17", body.clone()).await.unwrap();
    assert_eq!(again.status(), 202);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let again: Value = again.json().await.unwrap();
    assert_eq!(again["id"], first["id"]);
    let other = answer(
        spillway
            .request(Method::POST, "/v1/jobs")
            .header("idempotency-key", "row-17")
            .json(&json!({ "task": "tag", "input": "y" })),
    )
    .await;
    assert_eq!((other.0.as_u16(), &other.1["code"]), (422, &json!("idempotency_key_reused")));
    // A group under a job's key is another request, and a job under a group's.
    let group = json!({ "jobs": [body] });
    for [(first, one), (second, other)] in [
        [("/v1/jobs", &body), ("/v1/groups", &group)],
        [("/v1/groups", &group), ("/v1/jobs", &body)],
    ] {
        let key = format!("row-18 {first}");
        let send = |path, body| {
            let request = spillway.request(Method::POST, path).header("idempotency-key", &key);
            answer(request.json(body))
        };
        assert_eq!(send(first, one).await.0, 202);
        let (status, problem) = send(second, other).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("idempotency_key_reused")));
    }
    let another_caller = spillway
        .request_as("sw_otherkey_0123456789abcdefghijABCDEFGHIJ", Method::POST, "/v1/jobs")
        .header("idempotency-key", "row-17")
        .json(&body);
    let (status, mine) = answer(another_caller).await;
    assert_eq!(status, 202);
    assert_ne!(mine["id"], first["id"]);
    let long = "k".repeat(256);
    for key in ["", "\"\"", long.as_str()] {
        let request =
            spillway.request(Method::POST, "/v1/jobs").header("idempotency-key", key).json(&body);
        let (status, problem) = answer(request).await;
        assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("bad_idempotency_key")));
    }
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn jobs_are_listed_by_filter_and_page_and_a_caller_sees_only_its_own(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let mut ids = Vec::new();
    for number in 0..7 {
        let workflow = if number % 2 == 0 { "even" } else { "odd" };
        let body =
            json!({ "task": "tag", "input": format!("text {number}"), "workflow": workflow });
        let result = spillway.run(&body).await;
        ids.push(result["id"].as_str().unwrap().to_owned());
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (status, page) = spillway.get(&format!("/v1/jobs?limit=3&after={after}")).await;
        assert_eq!(status, 200, "{page}");
        let jobs = page["data"].as_array().unwrap();
        seen.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!(seen, ids, "all of them, the newest first");
    let (_, odd) = spillway.get("/v1/jobs?workflow=odd&status=succeeded&task=tag").await;
    assert_eq!(odd["data"].as_array().unwrap().len(), 3);
    let (status, problem) = spillway.get("/v1/jobs?status=finished").await;
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("bad_query")));
    let other = "sw_otherkey_0123456789abcdefghijABCDEFGHIJ";
    let (_, theirs) = answer(spillway.request_as(other, Method::GET, "/v1/jobs")).await;
    assert_eq!(theirs["data"], json!([]));
    for (method, path) in [
        (Method::GET, format!("/v1/jobs/{}", ids[0])),
        (Method::DELETE, format!("/v1/jobs/{}", ids[0])),
        (Method::POST, format!("/v1/jobs/{}/replay", ids[0])),
        (Method::GET, format!("/v1/jobs/{}/deliveries", ids[0])),
        (Method::GET, "/v1/jobs/nonsense".to_owned()),
    ] {
        let (status, problem) = answer(spillway.request_as(other, method, &path)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")), "{path}");
    }
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_job_can_be_cancelled_while_it_waits_and_while_it_runs(#[case] store: Store) {
    let slow = r#"
[accounts.slow]
provider = "scripted"
scripted = { latency = "30s" }
[[accounts.slow.limits]]
concurrency = 1
[routes.cheap]
steps = ["slow/m"]
[routes.premium]
steps = ["slow/m"]
"#;
    let (spillway, _folder) = start(store, slow);
    let receiver = Receiver::start();
    let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/") });
    let running = spillway.submit(&body).await;
    crate::support::eventually("the first job runs", || async {
        spillway.get(&format!("/v1/jobs/{running}")).await.1["status"] == "running"
    })
    .await;
    let waiting = spillway.submit(&body).await;
    for id in [&waiting, &running] {
        let (status, job) =
            answer(spillway.request(Method::DELETE, &format!("/v1/jobs/{id}"))).await;
        assert_eq!(status, 200, "{job}");
        assert_eq!(
            (&job["status"], &job["error"]["code"]),
            (&json!("cancelled"), &json!("cancelled"))
        );
    }
    receiver.until_taken(2).await;
    assert!(receiver.all().iter().all(|received| received.body["type"] == "job.cancelled"));
    let (status, _) =
        answer(spillway.request(Method::DELETE, &format!("/v1/jobs/{running}"))).await;
    assert_eq!(status, 200, "cancelling twice is no fault");
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_group_comes_back_together_and_in_order(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let receiver = Receiver::start();
    let jobs: Vec<Value> =
        (0..100).map(|n| json!({ "input": format!("text {n}"), "metadata": n })).collect();
    let body = json!({
        "task": "summarize", "workflow": "rows", "jobs": jobs,
        "callback_url": receiver.url("/group"), "metadata": { "sheet": 1 },
    });
    let (status, receipt) = spillway.post("/v1/groups", &body).await;
    assert_eq!(status, 202, "{receipt}");
    receiver.until_taken(1).await;
    let received = receiver.all().remove(0);
    assert_eq!(received.body["type"], "group.finished");
    let group = &received.body["data"];
    assert_eq!((&group["id"], &group["ok"]), (&receipt["id"], &json!(true)));
    assert_eq!(group["counts"]["succeeded"], 100);
    let rows: Vec<_> = group["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["metadata"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, (0..100).collect::<Vec<_>>());
    group["results"].as_array().unwrap().iter().for_each(check_result);
    let path = format!("/v1/groups/{}", receipt["id"].as_str().unwrap());
    assert_eq!(&spillway.get(&path).await.1, group);
    let (status, _) = spillway.post(&format!("{path}/replay"), &Value::Null).await;
    assert_eq!(status, 202);
    crate::support::eventually("the group is posted again", || async { receiver.all().len() == 2 })
        .await;
    let ids: BTreeSet<_> = receiver.all().into_iter().map(|received| received.id).collect();
    assert_eq!(ids.len(), 1, "the same delivery, the same webhook-id");
}

#[tokio::test]
async fn one_bad_job_refuses_the_whole_group() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let body = json!({ "task": "tag", "jobs": [{ "input": "fine" }, { "input": { "txt": "x" } }] });
    let (status, problem) = spillway.post("/v1/groups", &body).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("Job 1 of the group"), "{problem}");
    assert!(problem["errors"][0]["pointer"].as_str().unwrap().starts_with("#/jobs/1"), "{problem}");
    assert_eq!(spillway.get("/v1/jobs").await.1["data"], json!([]), "nothing half-made");
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn an_ended_job_can_be_posted_and_run_again(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let receiver = Receiver::start();
    let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/") });
    let id = spillway.submit(&body).await;
    receiver.until_taken(1).await;
    crate::support::eventually("it is done", || async {
        spillway.get(&format!("/v1/jobs/{id}/deliveries")).await.1["stage"] == "done"
    })
    .await;
    let (status, _) = spillway.post(&format!("/v1/jobs/{id}/replay"), &Value::Null).await;
    assert_eq!(status, 202);
    crate::support::eventually("it is posted again", || async { receiver.all().len() == 2 }).await;
    assert_eq!(receiver.taken().len(), 1, "the same webhook-id");
    crate::support::eventually("it is done", || async {
        spillway.get(&format!("/v1/jobs/{id}/deliveries")).await.1["stage"] == "done"
    })
    .await;
    let (status, _) = spillway.post(&format!("/v1/jobs/{id}/replay?what=run"), &Value::Null).await;
    assert_eq!(status, 202);
    receiver.until_taken(2).await;
}

#[tokio::test]
async fn who_am_i_what_is_there_and_how_is_it() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let (status, me) = spillway.get("/v1/me").await;
    assert_eq!((status.as_u16(), &me["caller"]), (200, &json!("default")));
    let (_, tasks) = spillway.get("/v1/tasks").await;
    let names: Vec<_> =
        tasks["data"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["chat", "classify", "code", "extract", "plan", "recover", "summarize", "tag"]
    );
    let (_, routes) = spillway.get("/v1/routes").await;
    assert_eq!(routes["data"][0]["steps"][0]["model"], "tiny-1");
    assert_eq!(spillway.get("/v1/limits").await.0, 200);
    spillway.run(&json!({ "task": "tag", "input": "x" })).await;
    let client = crate::support::http_client();
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        let response = client.get(format!("{}{path}", spillway.base())).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path} needs no key");
        let text = response.text().await.unwrap();
        assert!(path != "/metrics" || text.contains("spillway_jobs_ended_total"), "{text}");
    }
}
