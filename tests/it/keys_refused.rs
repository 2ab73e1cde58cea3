//! A key that cannot pay or is revoked is taken out and told of, not asked again; a request that no
//! key can serve fails at once.

use rstest::rstest;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::jobs::{Store, start};
use crate::support::spillway::Spillway;

/// A provider that answers everything alike.
pub(crate) async fn provider(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

/// A chat completion.
pub(crate) fn good() -> ResponseTemplate {
    let message = json!({ "content": "{\"tags\":[\"a\"]}" });
    let answer = json!({ "choices": [{ "message": message, "finish_reason": "stop" }],
                         "usage": { "prompt_tokens": 10, "completion_tokens": 5 } });
    ResponseTemplate::new(200).set_body_json(answer)
}

/// An account of this vendor at each server, asked in this order.
pub(crate) fn accounts(vendor: &str, steps: &str, servers: &[&MockServer]) -> String {
    let routes = format!("[routes.cheap]\nsteps = {steps}\n[routes.premium]\nsteps = {steps}\n");
    let accounts = ["first", "second"].into_iter().zip(servers).map(|(name, server)| {
        let url = server.uri();
        format!(
            "[accounts.{name}]\nprovider = \"{vendor}\"\nbase_url = \"{url}\"\n\
             api_key = \"sk-{name}-secret\"\n"
        )
    });
    std::iter::once(routes).chain(accounts).collect()
}

/// Runs a job; its result.
async fn run(spillway: &Spillway, text: &str) -> Value {
    spillway.run(&json!({ "task": "tag", "input": text })).await
}

async fn asked(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

const STEPS: &str = "[\"first/a\", \"second/a\", \"first/b\"]";

#[rstest]
#[case::revoked(401, "invalid_api_key", "bad_key", "the provider refused the key")]
#[case::unpaid(402, "payment_required", "insufficient_quota", "the account cannot pay")]
#[case::spent(429, "insufficient_quota", "insufficient_quota", "the account cannot pay")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_serve_is_taken_out_and_told_of(
    #[case] status: u16,
    #[case] word: &str,
    #[case] code: &str,
    #[case] reason: &str,
) {
    let body = json!({ "error": { "message": "no", "type": word, "code": word } });
    let refusing = provider(ResponseTemplate::new(status).set_body_json(body)).await;
    let serving = provider(good()).await;
    let settings = accounts("openai", STEPS, &[&refusing, &serving]);
    let (spillway, _folder) = start(Store::Redis, &settings);
    for round in 0..3 {
        let result = run(&spillway, &format!("text {round}")).await;
        assert_eq!(result["status"], "succeeded", "{result:#}");
        let outcomes: Vec<&Value> =
            result["attempts"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
        let expected = if round == 0 { vec!["unauthorized", "answered"] } else { vec!["answered"] };
        assert_eq!(outcomes, expected, "{result:#}");
    }
    assert_eq!((asked(&refusing).await, asked(&serving).await), (1, 3));

    let (_, limits) = spillway.get("/v1/limits").await;
    let shut = limits["shut"].as_array().unwrap();
    let gate = shut.iter().find(|gate| gate["name"] == "account/first").unwrap();
    assert_eq!(gate["reason"], reason);
    assert!(gate["for_ms"].as_u64().unwrap() > 500_000, "{gate}");
    let (_, metrics) = spillway.get("/metrics").await;
    let line = format!("spillway_accounts_disabled_total{{account=\"first\",code=\"{code}\"}} 1");
    assert!(metrics.as_str().unwrap().contains(&line), "{metrics}");
    let log = spillway.log();
    assert!(log.contains(reason) && log.contains("first"), "{log}");
    assert!(!log.contains("sk-first-secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_not_use_one_model_serves_the_others() {
    let forbidden = json!({ "error": { "type": "permission_error", "message": "not this one" } });
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::body_partial_json(json!({ "model": "claude-opus-5" })))
        .respond_with(ResponseTemplate::new(403).set_body_json(forbidden))
        .mount(&server)
        .await;
    let message = json!({ "content": [{ "type": "text", "text": "{\"tags\":[\"a\"]}" }],
                          "stop_reason": "end_turn" });
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_json(message))
        .mount(&server)
        .await;
    let steps = "[\"first/claude-opus-5\", \"first/claude-haiku-5-5\"]";
    let settings = accounts("anthropic", steps, &[&server]);
    let (spillway, _folder) = start(Store::Embedded, &settings);
    for round in 0..3 {
        let result = run(&spillway, &format!("text {round}")).await;
        assert_eq!(result["model"], "claude-haiku-5-5", "{result:#}");
    }
    assert_eq!(asked(&server).await, 4);
    let (_, limits) = spillway.get("/v1/limits").await;
    let names: Vec<&Value> =
        limits["shut"].as_array().unwrap().iter().map(|gate| &gate["name"]).collect();
    assert_eq!(names, ["step/first/claude-opus-5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_account_is_left_alone_until_it_may_spend_again() {
    let spent = json!({ "type": "error", "error": { "type": "rate_limit_error", "message": "m",
        "details": { "error_code": "enforced_spend_limit_reached" } } });
    let refusing = provider(ResponseTemplate::new(429).set_body_json(spent)).await;
    let message = json!({ "content": [{ "type": "text", "text": "{\"tags\":[\"a\"]}" }],
                          "stop_reason": "end_turn" });
    let serving = provider(ResponseTemplate::new(200).set_body_json(message)).await;
    let steps = "[\"first/claude-opus-5\", \"second/claude-opus-5\"]";
    let settings = accounts("anthropic", steps, &[&refusing, &serving]);
    let (spillway, _folder) = start(Store::Embedded, &settings);
    assert_eq!(run(&spillway, "text").await["status"], "succeeded");
    let (_, limits) = spillway.get("/v1/limits").await;
    let left = limits["shut"][0]["for_ms"].as_i64().unwrap();
    let now = chrono::Utc::now();
    let day = chrono::Datelike::with_day(&now.date_naive(), 1).unwrap();
    let first = day + chrono::Months::new(1);
    let until = first.and_hms_opt(0, 0, 0).unwrap().and_utc() - now;
    assert!((until.num_milliseconds() - left).abs() < 5_000, "{left} {until}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_no_key_can_serve_fails_at_once_with_the_reason() {
    let body = json!({ "error": { "message": "messages: too odd", "type": "invalid_request_error",
                                  "code": "invalid_value" } });
    let refusing = provider(ResponseTemplate::new(400).set_body_json(body)).await;
    let serving = provider(good()).await;
    let settings = accounts("openai", STEPS, &[&refusing, &serving]);
    let (spillway, _folder) = start(Store::Embedded, &settings);
    let result = run(&spillway, "text").await;
    assert_eq!(result["error"]["code"], "invalid_request", "{result:#}");
    assert_eq!(result["error"]["retryable"], false, "{result:#}");
    assert!(result["error"]["message"].as_str().unwrap().contains("too odd"), "{result:#}");
    assert_eq!((asked(&refusing).await, asked(&serving).await), (1, 0));
    // The key is none the worse for it.
    let (_, limits) = spillway.get("/v1/limits").await;
    assert_eq!(limits["shut"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_provider_does_not_take_another_is_asked() {
    let serving = provider(good()).await;
    let url = serving.uri();
    let steps = "[\"first/gemma-4-31b\", \"second/gpt-4.1\"]";
    let settings = format!(
        "[routes.cheap]\nsteps = {steps}\n[routes.premium]\nsteps = {steps}\n\
         [accounts.first]\nprovider = \"cerebras\"\nbase_url = \"{url}\"\napi_key = \"a\"\n\
         [accounts.second]\nprovider = \"openai\"\nbase_url = \"{url}\"\napi_key = \"b\"\n"
    );
    let (spillway, _folder) = start(Store::Embedded, &settings);
    let content = json!([
        { "type": "text", "text": "What is this?" },
        { "type": "image_url", "image_url": { "url": "https://example.com/cat.png" } },
    ]);
    let input = json!({ "messages": [{ "role": "user", "content": content }] });
    let result = spillway.run(&json!({ "task": "chat", "input": input })).await;
    let outcomes: Vec<&Value> =
        result["attempts"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["rejected", "answered"], "{result:#}");
    assert_eq!((asked(&serving).await, &result["images"]), (1, &json!([])));
    let bad = json!({ "messages": [{ "role": "user", "content": [{ "type": "text" }] }] });
    let (status, _) = spillway.post("/v1/jobs", &json!({ "task": "chat", "input": bad })).await;
    assert_eq!(status, 422);
}
