//! What the settings allow a workflow, through HTTP.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::spillway::{SCRIPTED, answer};

fn job(workflow: &str) -> Value {
    json!({ "task": "tag", "input": "hello", "workflow": workflow })
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_full_workflow_is_told_so_until_a_job_of_it_ends(#[case] store: Store) {
    let slow = SCRIPTED.replace("5ms", "10m");
    let (spillway, _folder) = start(
        store,
        &format!(
            "{slow}[workflows.lead-intake]\nmax_queued = 2\n[workflows.\"*\"]\nmax_queued = 1"
        ),
    );
    let first = spillway.submit(&job("lead-intake")).await;
    let second = job("lead-intake");
    spillway.submit(&second).await;

    let request = spillway.request(Method::POST, "/v1/jobs").json(&second);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds > 0);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "workflow_full");
    let detail = problem["detail"].as_str().unwrap();
    for words in ["`lead-intake` may have 2 open jobs", "2 are open", "max_queued"] {
        assert!(detail.contains(words), "{detail}");
    }

    // Others have their own room, also those without a name; a group has room or it has not.
    let group = json!({ "jobs": [job("other"), job("another")] });
    assert_eq!(spillway.post("/v1/groups", &group).await.0, 202);
    assert_eq!(spillway.post("/v1/groups", &group).await.0, 429);
    let nameless = json!({ "task": "tag", "input": "hello" });
    spillway.submit(&nameless).await;
    let (status, problem) = spillway.post("/v1/jobs", &nameless).await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("workflow_full")));

    let cancel = spillway.request(Method::DELETE, &format!("/v1/jobs/{first}"));
    assert_eq!(answer(cancel).await.0, 200);
    assert_eq!(spillway.post("/v1/jobs", &second).await.0, 202);
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn no_more_of_a_workflow_run_than_may_and_all_of_them_in_the_end(#[case] store: Store) {
    let slow = SCRIPTED.replace("5ms", "150ms");
    let (spillway, _folder) =
        start(store, &format!("{slow}[workflows.careful]\nmax_running = 2\nweight = 0.5"));
    let jobs: Vec<Value> = (0..6).map(|_| job("careful")).collect();
    let (status, _) = spillway.post("/v1/groups", &json!({ "jobs": jobs })).await;
    assert_eq!(status, 202);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let (mut most, mut done) = (0, 0);
    while done < jobs.len() {
        assert!(tokio::time::Instant::now() < deadline, "{done} of them are done");
        let (_, list) = spillway.get("/v1/jobs?workflow=careful").await;
        let with = |status: &str| {
            let all = list["data"].as_array().unwrap();
            all.iter().filter(|job| job["status"] == status).count()
        };
        most = most.max(with("running"));
        done = with("succeeded");
    }
    assert_eq!(most, 2);
}
