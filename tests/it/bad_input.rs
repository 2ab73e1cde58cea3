//! What bad input gets: a clear problem and no half-made job.

use reqwest::Method;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::spillway::{SCRIPTED, Spillway, answer};

/// Sends a body as it is; the problem it gets.
async fn refused(spillway: &Spillway, body: impl Into<reqwest::Body>, status: u16) -> Value {
    let request = spillway
        .request(Method::POST, "/v1/jobs")
        .header("content-type", "application/json")
        .body(body);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let told = response.status();
    let problem: Value = response.json().await.unwrap();
    assert_eq!(told, status, "{problem}");
    assert_eq!(problem["status"], status);
    for member in ["type", "title", "code", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    problem
}

#[tokio::test]
async fn each_kind_of_bad_body_gets_its_own_problem() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let code = |problem: &Value| problem["code"].as_str().unwrap().to_owned();
    for text in ["", "tag", "[1]", "{\"task\": \"tag\", \"input\": \"a\nb\"}", "{\"task\":\"tag\""]
    {
        assert_eq!(code(&refused(&spillway, text, 400).await), "not_json", "{text}");
    }
    let latin1 = b"{\"task\":\"tag\",\"input\":\"\xfc\"}".to_vec();
    let problem = refused(&spillway, latin1, 400).await;
    assert_eq!(code(&problem), "not_utf8");
    assert!(problem["detail"].as_str().unwrap().contains("offset 23"), "{problem}");
    let deep = format!("{{\"task\":\"tag\",\"input\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(code(&refused(&spillway, deep, 400).await), "too_deep");
    let large = json!({ "task": "tag", "input": "x".repeat(1 << 20) }).to_string();
    assert_eq!(code(&refused(&spillway, large, 413).await), "too_large");
    assert_eq!(spillway.get("/v1/jobs").await.1["data"], json!([]), "nothing half-made");
}

#[tokio::test]
async fn a_body_without_a_length_is_capped_while_reading() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let chunk = bytes::Bytes::from(vec![b' '; 64 * 1024]);
    let endless =
        futures::stream::iter((0..64).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let request =
        spillway.request(Method::POST, "/v1/jobs").body(reqwest::Body::wrap_stream(endless));
    // The service answers before all is sent; a client may see the answer or a closed connection.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    assert_eq!(spillway.get("/health/live").await.0, 200);
}

#[tokio::test]
async fn each_kind_of_bad_request_says_what_to_do() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let cases: [(Value, &str, &str); 14] = [
        (json!({ "task": "tga", "input": "x" }), "unknown_task", "Did you mean `tag`?"),
        (json!({ "task": "tag", "input": { "txt": 1 } }), "invalid_input", "GET /v1/tasks"),
        (json!({ "task": "tag" }), "invalid_request", "input"),
        (json!({ "input": "x" }), "invalid_request", "task"),
        (json!({ "task": "tag", "input": "x", "lane": "fast" }), "invalid_request", "interactive"),
        (
            json!({ "task": "tag", "input": "x", "deliver_by": "2020-01-01T00:00:00Z" }),
            "deliver_by_past",
            "future",
        ),
        (
            json!({ "task": "tag", "input": "x", "callback_url": "ftp://a.example/" }),
            "invalid_callback",
            "http",
        ),
        (
            json!({ "task": "tag", "input": "x", "callback_url": "nonsense" }),
            "invalid_callback",
            "URL",
        ),
        (
            json!({ "task": "tag", "input": "x", "callback_url": "https://u:p@a.example/" }),
            "invalid_callback",
            "user",
        ),
        (
            json!({ "task": "tag", "input": "x", "callback_url": "http://169.254.169.254/latest" }),
            "invalid_callback",
            "allow_networks",
        ),
        (
            json!({ "task": "tag", "input": "x", "callback_url": "http://[::ffff:10.0.0.1]/" }),
            "invalid_callback",
            "allow_networks",
        ),
        (
            json!({ "task": "tag", "input": "x", "callback_url": "http://0x0a000001/" }),
            "invalid_callback",
            "allow_networks",
        ),
        (
            json!({ "task": "tag", "input": "x", "provider": { "only": ["openai"] } }),
            "no_step",
            "scripted",
        ),
        (
            json!({ "task": "chat", "input": { "messages": [{ "role": "system", "content": "x" }] } }),
            "invalid_input",
            "message",
        ),
    ];
    for (body, code, says) in cases {
        let problem = refused(&spillway, body.to_string(), 422).await;
        assert_eq!(problem["code"], code, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "`{says}` is not in {problem}");
    }
    assert_eq!(spillway.get("/v1/jobs").await.1["data"], json!([]), "nothing half-made");
}

#[tokio::test]
async fn every_violation_of_the_input_schema_is_told_with_its_pointer() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let body = json!({ "task": "classify", "input": { "text": {}, "labels": [[1], "ok", {}] } });
    let problem = refused(&spillway, body.to_string(), 422).await;
    let told: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    assert!(!told.is_empty(), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("classify"), "{problem}");
}

#[tokio::test]
async fn unknown_fields_are_told_and_refused_when_strict() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let body = json!({ "task": "tag", "input": "x", "wrokflow": "a", "extra": 1 });
    let (status, receipt) = spillway.post("/v1/jobs", &body).await;
    assert_eq!(status, 202);
    let warnings = receipt["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{receipt}");
    assert!(warnings[0].as_str().unwrap().contains("did you mean `workflow`"), "{receipt}");
    let request = spillway.request(Method::POST, "/v1/jobs").header("prefer", "handling=strict");
    let (status, problem) = answer(request.json(&body)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("unknown_fields")));
}

#[tokio::test]
async fn no_key_a_wrong_key_and_a_wrong_place_are_told_apart() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let client = crate::support::http_client();
    let url = format!("{}/v1/me", spillway.base());
    let bare = client.get(&url).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(bare.headers()["www-authenticate"], "Bearer");
    let (status, problem) = answer(spillway.request_as("sw_wrong", Method::GET, "/v1/me")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (401, &json!("unauthorized")));
    let other_header = client.get(&url).header("x-api-key", crate::support::spillway::KEY);
    assert_eq!(other_header.send().await.unwrap().status(), 200);
    assert_eq!(spillway.get("/v1/nothing").await.0, 404);
    let (status, problem) = answer(spillway.request(Method::PUT, "/v1/jobs")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (405, &json!("method_not_allowed")));
}

#[tokio::test]
async fn a_form_is_taken_like_json() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let request = spillway.request(Method::POST, "/v1/jobs").form(&[
        ("task", "tag"),
        ("input", "a \"quoted\" text\nwith a line break"),
        ("metadata", "{\"row\":17}"),
        ("lane", "batch"),
    ]);
    let (status, receipt) = answer(request).await;
    assert_eq!(status, 202, "{receipt}");
    let result = spillway.finished(receipt["id"].as_str().unwrap()).await;
    assert_eq!(result["status"], "succeeded");
}
