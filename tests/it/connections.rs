//! What becomes of a connection whose client sends more than it is asked for, or sends it slowly.

use std::time::{Duration, Instant};

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::jobs::{Store, start};
use crate::support::spillway::{KEY, SCRIPTED, Spillway, embedded, settings};

/// How long the service may go on taking what it has refused.
const LONGEST: Duration = Duration::from_secs(10);

async fn connect(spillway: &Spillway) -> TcpStream {
    TcpStream::connect(spillway.base().trim_start_matches("http://")).await.unwrap()
}

/// A request's head with the test's key.
fn head(line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{more}\r\n")
}

/// Reads until the end of one answer's head and of the body it announces.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let count = stream.read(&mut piece).await.unwrap();
        text.extend_from_slice(&piece[..count]);
        let told = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = told.split_once("\r\n\r\n") else {
            assert!(count > 0, "the connection ended within an answer: {told}");
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if count == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return told;
        }
    }
}

/// Sends until the other side takes no more; how long it took bytes.
async fn pour(stream: TcpStream, piece: &[u8]) -> (String, Duration) {
    let (mut from, mut to) = stream.into_split();
    let reading = tokio::task::spawn(async move {
        let mut text = Vec::new();
        // A reset may follow the answer.
        drop(from.read_to_end(&mut text).await);
        String::from_utf8_lossy(&text).into_owned()
    });
    let started = Instant::now();
    while to.write_all(piece).await.is_ok() {
        assert!(started.elapsed() < LONGEST, "it still takes bytes");
    }
    (reading.await.unwrap(), started.elapsed())
}

fn chunk() -> Vec<u8> {
    [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat()
}

#[rstest]
#[case::no_key("POST /v1/jobs HTTP/1.1\r\nHost: x\r\n", "401")]
#[case::nothing_there("POST /nothing HTTP/1.1\r\nHost: x\r\n", "404")]
#[case::other_method("PUT /v1/me HTTP/1.1\r\nHost: x\r\n", "405")]
#[case::no_body_wanted("GET /health/live HTTP/1.1\r\nHost: x\r\n", "200")]
#[case::unknown_job(&head("DELETE /v1/jobs/none", ""), "404")]
#[case::too_large(&head("POST /v1/jobs", ""), "413")]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_nobody_reads_ends_its_connection(#[case] head: &str, #[case] status: &str) {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let head = head.trim_end();
    for (framing, piece) in [
        ("Transfer-Encoding: chunked", chunk()),
        ("Content-Length: 1000000000000", vec![b' '; 0x10000]),
    ] {
        let mut stream = connect(&spillway).await;
        stream.write_all(format!("{head}\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
        let (answer, time) = pour(stream, &piece).await;
        assert!(time < LONGEST, "{framing}: it took bytes for {time:?}");
        // Whoever sends on may lose the answer to the reset that ends the connection.
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 1000000000000"] {
        let mut stream = connect(&spillway).await;
        stream.write_all(format!("{head}\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
        if status == "413" && framing.starts_with("Transfer") {
            for _ in 0..17 {
                stream.write_all(&chunk()).await.unwrap();
            }
        }
        let told = answer(&mut stream).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{framing}: {told}");
        assert!(told.contains("\r\nconnection: close\r\n"), "{framing}: {told}");
    }
    assert_eq!(spillway.get("/health/live").await.0, 200);
}

#[rstest]
#[case::chunked("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n")]
#[case::counted("Content-Length: 100\r\n", "{")]
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_ends_its_connection(#[case] framing: &str, #[case] piece: &str) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&embedded(folder.path()), SCRIPTED);
    let spillway = Spillway::start_with(&settings, &[("SPILLWAY_SERVER__BODY_TIMEOUT", "1s")]);
    let mut stream = connect(&spillway).await;
    stream.write_all(head("POST /v1/jobs", framing).as_bytes()).await.unwrap();
    stream.write_all(piece.as_bytes()).await.unwrap();
    let told = answer(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    assert!(told.contains("\r\nconnection: close\r\n"), "{told}");
    assert!(told.contains("slow_body"), "{told}");
    let started = Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "it ends");
    assert!(started.elapsed() < LONGEST);
}

#[tokio::test]
async fn a_connection_is_kept_for_callers_with_a_key_alone() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let mut stream = connect(&spillway).await;
    for (path, status) in [("/v1/me", "200"), ("/v1/jobs/none", "404"), ("/v1/me", "200")] {
        stream.write_all(head(&format!("GET {path}"), "").as_bytes()).await.unwrap();
        let told = answer(&mut stream).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
        assert!(!told.contains("connection: close"), "{told}");
    }
    for path in ["/health/live", "/metrics", "/openapi.json", "/v1/me", "/nothing"] {
        let mut stream = connect(&spillway).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        assert!(told.contains("\r\nconnection: close\r\n"), "{path}: {told}");
    }
}

#[tokio::test]
async fn broken_framing_is_no_bad_json() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let mut stream = connect(&spillway).await;
    let head = head("POST /v1/jobs", "Transfer-Encoding: chunked\r\n");
    stream.write_all(format!("{head}1\r\n{{\r\nzz\r\n").as_bytes()).await.unwrap();
    let told = answer(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 400"), "{told}");
    assert!(told.contains("\"bad_body\"") && told.contains("connection: close"), "{told}");
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    for path in ["/health/live", "/health/ready", "/metrics", "/v1/me", "/v1/jobs"] {
        let get = spillway.request(reqwest::Method::GET, path).send().await.unwrap();
        let head = spillway.request(reqwest::Method::HEAD, path).send().await.unwrap();
        assert_eq!((get.status(), head.status()), (head.status(), get.status()), "{path}");
        assert_eq!(head.status(), 200, "{path}");
        assert_eq!(head.headers()["content-type"], get.headers()["content-type"], "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn another_method_is_told_which_ones_there_are() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    for (path, allowed) in [
        ("/v1/jobs", "POST, GET, HEAD"),
        ("/v1/jobs/x", "GET, DELETE, HEAD"),
        ("/v1/jobs/x/replay", "POST"),
        ("/health/live", "GET, HEAD"),
    ] {
        let response = spillway.request(reqwest::Method::PATCH, path).send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers()["allow"], allowed, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_query_or_path_that_cannot_be_read_is_a_problem_too() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    for (path, status, code) in [
        ("/v1/jobs/x?wait=1&wait=2", 400, "bad_query"),
        ("/v1/jobs?limit=1&limit=2", 400, "bad_query"),
        ("/v1/jobs/%FF", 404, "not_found"),
    ] {
        let response = spillway.request(reqwest::Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let problem: serde_json::Value = response.json().await.unwrap();
        assert_eq!(problem["code"], code, "{path}");
    }
}

#[tokio::test]
async fn what_a_proxy_header_says_does_not_become_the_status_url() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let request = spillway
        .request(reqwest::Method::POST, "/v1/jobs")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "host=evil.example;proto=https")
        .json(&serde_json::json!({ "task": "tag", "input": "x" }));
    let (status, receipt) = crate::support::spillway::answer(request).await;
    assert_eq!(status, 202, "{receipt}");
    let expected = format!("{}/v1/jobs/", spillway.base());
    assert!(receipt["status_url"].as_str().unwrap().starts_with(&expected), "{receipt}");
}
