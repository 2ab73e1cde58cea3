//! Prompts that are longer than a model's window.

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::jobs::{Store, start};
use crate::keys_refused::{good, provider};
use crate::support::spillway::Spillway;

/// A route over three models at one provider: `small`, `large` and `unknown`, in the order given.
fn settings(server: &MockServer, steps: &str) -> String {
    let url = server.uri();
    let window = |model: &str, tokens: u32| {
        format!(
            "[[prices]]\nprovider = \"*\"\nmodel = \"{model}\"\ninput = 1.0\noutput = 1.0\n\
             context = {tokens}\n"
        )
    };
    format!(
        "[routes.cheap]\nsteps = {steps}\n[routes.premium]\nsteps = {steps}\n\
         [accounts.a]\nprovider = \"openai\"\nbase_url = \"{url}\"\napi_key = \"k\"\n\
         [accounts.b]\nprovider = \"openai\"\nbase_url = \"{url}\"\napi_key = \"k\"\n{}{}{}",
        window("small", 8_000),
        window("medium", 16_000),
        window("large", 100_000),
    )
}

async fn run(spillway: &Spillway, bytes: usize) -> Value {
    spillway.run(&json!({ "task": "tag", "input": "x".repeat(bytes) })).await
}

/// The models that were asked, in order.
async fn asked(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    let model = |body: &[u8]| {
        serde_json::from_slice::<Value>(body).unwrap()["model"].as_str().unwrap().to_owned()
    };
    requests.iter().map(|request| model(&request.body)).collect()
}

fn too_long() -> ResponseTemplate {
    let message = "This model's maximum context length is 8000 tokens, you have 10011.";
    let body = json!({ "error": { "message": message, "type": "invalid_request_error",
                                  "code": "context_length_exceeded" } });
    ResponseTemplate::new(400).set_body_json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_goes_to_a_step_whose_window_holds_it() {
    let server = provider(good()).await;
    let steps = "[\"a/small\", \"a/unknown\", \"a/large\"]";
    let (spillway, _folder) = start(Store::Embedded, &settings(&server, steps));
    assert_eq!(run(&spillway, 400).await["status"], "succeeded");
    let result = run(&spillway, 40_000).await;
    assert_eq!(result["status"], "succeeded", "{result:#}");
    // What is not known to be too small is not passed over.
    assert_eq!(asked(&server).await, ["small", "unknown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_none_is_known_to_hold_it_the_estimate_is_not_believed() {
    let server = provider(good()).await;
    let steps = "[\"a/small\", \"a/unknown\"]";
    let (spillway, _folder) = start(Store::Embedded, &settings(&server, steps));
    assert_eq!(run(&spillway, 40_000).await["status"], "succeeded");
    assert_eq!(asked(&server).await, ["small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_word_that_it_is_too_long_only_larger_or_unknown_windows_are_asked() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(too_long()).up_to_n_times(1).mount(&server).await;
    Mock::given(any()).respond_with(good()).mount(&server).await;
    // The provider counts more tokens than the estimate.
    let steps = "[\"a/medium\", \"b/medium\", \"a/small\", \"a/large\"]";
    let (spillway, _folder) = start(Store::Embedded, &settings(&server, steps));
    let result = run(&spillway, 400).await;
    assert_eq!(result["status"], "succeeded", "{result:#}");
    assert_eq!(asked(&server).await, ["medium", "large"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_window_holds_fails_at_once_with_the_figures() {
    let server = provider(too_long()).await;
    let steps = "[\"a/small\", \"b/small\", \"a/medium\", \"a/unknown\"]";
    let (spillway, _folder) = start(Store::Embedded, &settings(&server, steps));
    let result = run(&spillway, 400_000).await;
    let error = &result["error"];
    assert_eq!((&result["status"], &error["code"]), (&json!("failed"), &json!("context_length")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("holds 16000") && message.contains("10011"), "{message}");
    assert!(message.contains("about 100"), "{message}");
    assert_eq!(asked(&server).await, ["small", "medium", "unknown"]);
}
