//! Callbacks: retried, signed, given up, replayed.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::spillway::{SCRIPTED, Spillway, answer, embedded, settings};

#[tokio::test]
async fn a_receiver_that_is_not_ready_yet_is_asked_again_soon_under_the_same_id() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::answering(|before, _| match before {
        0 => (409, "{\"message\":\"The execution \\\"1\\\" is running already.\"}".to_owned()),
        1 => (503, String::new()),
        _ => (200, "{\"message\":\"Workflow was started\"}".to_owned()),
    });
    let body =
        json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/w?signature=s") });
    let id = spillway.submit(&body).await;
    receiver.until_taken(1).await;
    let all = receiver.all();
    assert_eq!(all.iter().map(|r| r.answered).collect::<Vec<_>>(), [409, 503, 200]);
    assert!(all.iter().all(|received| received.id == id));
    let attempts: Vec<_> = all.iter().map(|r| r.headers["spillway-attempt"].clone()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    eventually("three attempts are logged", || async {
        let (_, log) = spillway.get(&format!("/v1/jobs/{id}/deliveries")).await;
        log["attempts"].as_array().unwrap().len() == 3 && log["stage"] == "done"
    })
    .await;
}

#[tokio::test]
async fn a_finished_execution_ends_the_delivery_and_a_gone_receiver_is_given_up() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::answering(|_, target| match target {
        "/finished" => (409, "The execution \"1\" has finished already.".to_owned()),
        _ => (410, String::new()),
    });
    for (path, stage) in [("/finished", "done"), ("/gone", "dead")] {
        let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url(path) });
        let id = spillway.submit(&body).await;
        eventually(stage, || async {
            spillway.get(&format!("/v1/jobs/{id}/deliveries")).await.1["stage"] == stage
        })
        .await;
    }
    assert_eq!(receiver.all().len(), 2, "neither is asked again");
}

#[tokio::test]
async fn a_callback_that_is_down_is_given_up_at_the_end_and_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("{SCRIPTED}\n");
    let settings = settings(&embedded(folder.path()), &more)
        .replace("[callbacks]", "[callbacks]\nschedule = [\"10ms\", \"10ms\"]");
    let spillway = Spillway::start(&settings);
    let receiver =
        Receiver::answering(|before, _| (if before < 3 { 500 } else { 204 }, String::new()));
    let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/") });
    let id = spillway.submit(&body).await;
    let path = format!("/v1/jobs/{id}/deliveries");
    eventually("it is dead", || async { spillway.get(&path).await.1["stage"] == "dead" }).await;
    assert_eq!(receiver.all().len(), 3);
    assert_eq!(spillway.finished(&id).await["status"], "succeeded", "the result is kept");
    let (status, _) = spillway.post(&format!("/v1/jobs/{id}/replay"), &Value::Null).await;
    assert_eq!(status, 202);
    receiver.until_taken(1).await;
    assert!(receiver.all().iter().all(|received| received.id == id), "the same webhook-id");
}

#[tokio::test]
async fn a_callback_can_be_bare_late_and_carry_a_header() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::answering(|_, _| (409, String::new()));
    let started = std::time::Instant::now();
    let body = json!({
        "task": "tag", "input": "x", "callback_url": receiver.url("/"),
        "callback": {
            "headers": { "Authorization": "Bearer n8n" }, "body": "bare", "min_delay": "300ms",
            "success_statuses": [409],
        },
    });
    let id = spillway.submit(&body).await;
    eventually("it is delivered", || async {
        spillway.get(&format!("/v1/jobs/{id}/deliveries")).await.1["stage"] == "done"
    })
    .await;
    let post = receiver.all().remove(0);
    assert_eq!(post.body["object"], "job", "no envelope");
    assert_eq!(post.headers["authorization"], "Bearer n8n");
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn without_an_allowlist_loopback_is_refused_at_submit() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&embedded(folder.path()), SCRIPTED)
        .replace("allow_networks = [\"127.0.0.0/8\"]", "");
    let spillway = Spillway::start(&settings);
    let receiver = Receiver::start();
    for url in [receiver.url("/"), receiver.url("/").replace("127.0.0.1", "localhost")] {
        let body = json!({ "task": "tag", "input": "x", "callback_url": url });
        let (status, problem) =
            answer(spillway.request(Method::POST, "/v1/jobs").json(&body)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("invalid_callback")));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("allow_networks"), "{detail}");
    }
    assert!(receiver.all().is_empty());
}

#[tokio::test]
async fn a_thin_callback_tells_what_ended_and_how_but_not_the_result() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::start();
    let thin = json!({ "body": "thin" });
    let job = json!({
        "task": "tag", "input": "x", "metadata": { "row": 1 }, "workflow": "w",
        "callback_url": receiver.url("/thin/job"), "callback": thin,
    });
    let id = spillway.submit(&job).await;
    receiver.until_taken(1).await;
    let group = json!({
        "task": "tag", "jobs": [{ "input": "a" }, { "input": "b" }],
        "callback_url": receiver.url("/thin/group"), "callback": thin,
    });
    let (status, receipt) = spillway.post("/v1/groups", &group).await;
    assert_eq!(status, 202, "{receipt}");
    receiver.until_taken(2).await;
    let all = receiver.all();
    let of_job = &all[0].body["data"];
    let whole = spillway.get(&format!("/v1/jobs/{id}")).await.1;
    assert_eq!(
        of_job,
        &json!({
            "id": id, "object": "job", "status": "succeeded", "ok": true, "task": "tag",
            "workflow": "w", "metadata": { "row": 1 }, "finished_at": whole["finished_at"],
        })
    );
    let of_group = &all[1].body["data"];
    assert_eq!((&of_group["id"], &of_group["status"]), (&receipt["id"], &json!("finished")));
    assert_eq!(of_group["counts"]["succeeded"], 2);
    assert_eq!(of_group.get("results"), None);
}
