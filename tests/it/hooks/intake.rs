//! Jobs and groups as platforms write them, by the code that hooks use.

use std::time::Instant;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::{SHOWN, with};
use crate::jobs::{Store, start};
use crate::support::spillway::{SCRIPTED, Spillway, answer};

/// The text of the job this body makes, and what its receipt warns of.
async fn run(spillway: &Spillway, kind: &str, body: &str) -> (String, Value) {
    let request = spillway
        .request(Method::POST, "/v1/jobs")
        .header("content-type", kind)
        .body(body.to_owned());
    let (status, receipt) = answer(request).await;
    assert_eq!(status, 202, "{body}: {receipt}");
    let job = spillway.finished(receipt["id"].as_str().unwrap()).await;
    (
        job["text"].as_str().unwrap_or_default().to_owned(),
        json!([receipt["warnings"], job["metadata"]]),
    )
}

#[tokio::test]
async fn jobs_are_taken_however_platforms_write_them() {
    let (spillway, _folder) = with("");
    let form = "application/x-www-form-urlencoded";
    let part = |name: &str, value: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let multipart = [part("task", "shown"), part("input[text]", "a"), part("metadata.row", "17")]
        .concat()
        + "--x--\r\n";
    for (kind, body, expected) in [
        (form, "task=shown&input__text=a&input__count=5&metadata__row=17", "a|5|||"),
        (
            form,
            "task=shown&input=%7B%22text%22%3A%22a%22%2C%22tags%22%3A%22x%2Cy%22%7D&metadata=%7B%22row%22%3A%2217%22%7D",
            "a|||x;y|",
        ),
        (
            form,
            "task=shown&input%5Btext%5D=a&input%5Btags%5D%5B%5D=x&input%5Btags%5D%5B%5D=y&metadata%5Brow%5D=17",
            "a|||x;y|",
        ),
        (form, r#"{"task":"shown","input":{"text":"a=b&c"},"metadata":{"row":"17"}}"#, "a=b&c||||"),
        ("multipart/form-data; boundary=x", &multipart, "a||||"),
        ("application/json", r#"{"task":"shown","input__text":"a","metadata.row":"17"}"#, "a||||"),
        (
            "application/json",
            r#"{"task":"shown","input":"{\"text\":\"a\",\"urgent\":\"true\"}","metadata":{"row":"17"}}"#,
            "a||true||",
        ),
        (
            "application/json",
            r#"[{"headers":{},"params":{},"query":{},"body":{"task":"shown","input":{"text":"a","count":"200"},"metadata":{"row":"17"}}}]"#,
            "a|200|||",
        ),
    ] {
        let (text, told) = run(&spillway, kind, body).await;
        assert_eq!((text.as_str(), &told[1]["row"]), (expected, &json!("17")), "{body}: {told}");
        assert!(!told[0].to_string().contains("not known"), "{told}");
    }
}

#[tokio::test]
async fn strict_callers_get_no_second_reading() {
    let (spillway, _folder) = with("");
    let body = json!({ "task": "shown", "input": { "text": "a", "count": "5" } });
    let request = || spillway.request(Method::POST, "/v1/jobs").json(&body);
    let (status, taken) = answer(request()).await;
    assert_eq!(status, 202);
    assert!(
        taken["warnings"][0].as_str().unwrap().contains("as the task's schema wants"),
        "{taken}"
    );
    let (status, problem) = answer(request().header("prefer", "handling=strict")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("invalid_input")));
    let wrong = json!({ "task": "shown", "input": { "text": "a", "count": "five" } });
    let (status, problem) = spillway.post("/v1/jobs", &wrong).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!("#/input/count")));
}

#[tokio::test]
async fn a_group_may_be_a_list_or_a_form() {
    let (spillway, _folder) = with("");
    let results = async |id: &Value| {
        let path = format!("/v1/groups/{}", id.as_str().unwrap());
        let mut group = Value::Null;
        crate::support::eventually("the group's end", || async {
            spillway.get(&path).await.1["status"] != "running"
        })
        .await;
        group["results"] = spillway.get(&path).await.1["results"].clone();
        group["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["text"].clone())
            .collect::<Vec<_>>()
    };
    let list = json!([{ "task": "shown", "input": { "text": "a", "count": "1" } }, { "task": "shown", "input": { "text": "b" } }]);
    let (status, receipt) = spillway.post("/v1/groups", &list).await;
    assert_eq!(status, 202, "{receipt}");
    assert_eq!(results(&receipt["id"]).await, ["a|1|||", "b||||"]);
    let request = spillway.request(Method::POST, "/v1/groups");
    let labelled = request.header("content-type", "application/x-www-form-urlencoded");
    let (status, receipt) = answer(labelled.body(list.to_string())).await;
    assert_eq!(status, 202, "{receipt}");
    assert_eq!(results(&receipt["id"]).await, ["a|1|||", "b||||"]);
    let form = [("task", "shown"), ("jobs[0][input][text]", "a"), ("jobs[1][input][text]", "b")];
    let (status, receipt) = answer(spillway.request(Method::POST, "/v1/groups").form(&form)).await;
    assert_eq!(status, 202, "{receipt}");
    assert_eq!(results(&receipt["id"]).await, ["a||||", "b||||"]);
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_group_may_have_sixteen_megabytes(#[case] store: Store) {
    let (spillway, _folder) = start(store, &format!("{SCRIPTED}{SHOWN}"));
    let text = "word ".repeat(3_200);
    let jobs: Vec<Value> = (0..1_000).map(|_| json!({ "input": { "text": text } })).collect();
    let large = json!({ "task": "shown", "jobs": jobs });
    let size = large.to_string().len();
    assert!((15 << 20..16 << 20).contains(&size), "{size}");
    let before = memory(&spillway);
    let began = Instant::now();
    let (status, receipt) = spillway.post("/v1/groups", &large).await;
    assert_eq!(status, 202, "{receipt}");
    let (took, more) = (began.elapsed(), memory(&spillway).saturating_sub(before) >> 20);
    println!("a group of {size} bytes and 1,000 jobs: {took:?}, {more} MiB more at the most");
    assert!(took.as_secs() < 30 && more < 512, "{took:?} {more} MiB");
    let (_, me) = spillway.get("/v1/me").await;
    let limits = json!({ "max_body": 1 << 20, "max_group": 1_000, "max_group_body": 16 << 20, "max_wait_s": 60 });
    assert_eq!(me["limits"], limits);
    let most = vec![b' '; (16 << 20) + 1];
    let (status, problem) = answer(spillway.request(Method::POST, "/v1/groups").body(most)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (413, &json!("too_large")));
    let values = format!("{{\"jobs\":[{}1]}}", "1,".repeat(600_000));
    let (status, _) = answer(spillway.request(Method::POST, "/v1/groups").body(values)).await;
    assert_eq!(status, 413);
}

/// The most memory the service ever had, in bytes.
fn memory(spillway: &Spillway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", spillway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
