//! How calls end that do not go well: errors in the dialects' own words, falling through before
//! the first byte, breaking off after it, and callers who hang up.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::{COMPLETIONS, MESSAGES, Stage, completion, events, message};
use crate::support::eventually;

async fn refused(stage: &Stage, path: &str, body: &Value) -> (u16, Value) {
    let response = stage.send(path, body).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn errors_are_told_in_the_dialects_words() {
    let stage = Stage::start();
    for (model, more, status, openai, anthropic) in [
        ("nobody-has-this", json!({}), 404, "invalid_request_error", "not_found_error"),
        ("openai-unknown", json!({}), 404, "invalid_request_error", "not_found_error"),
        (
            "openai",
            json!({ "temperature": "hot" }),
            400,
            "invalid_request_error",
            "invalid_request_error",
        ),
        ("openai-strict", json!({}), 400, "invalid_request_error", "invalid_request_error"),
        ("anthropic-strict", json!({}), 400, "invalid_request_error", "invalid_request_error"),
        ("gpt-4.1/../x y", json!({}), 404, "invalid_request_error", "not_found_error"),
        ("task:nothing", json!({}), 404, "invalid_request_error", "not_found_error"),
    ] {
        for stream in [false, true] {
            let (mut asked, mut other) = (completion(model, &more), message(model, &more));
            asked["stream"] = json!(stream);
            other["stream"] = json!(stream);
            let (got, error) = refused(&stage, COMPLETIONS, &asked).await;
            assert_eq!(
                (got, &error["error"]["type"]),
                (status, &json!(openai)),
                "{model}: {error}"
            );
            let keys: Vec<_> = error["error"].as_object().unwrap().keys().collect();
            assert_eq!(keys, ["message", "type", "param", "code"]);
            let (got, error) = refused(&stage, MESSAGES, &other).await;
            assert_eq!(
                (got, &error["error"]["type"]),
                (status, &json!(anthropic)),
                "{model}: {error}"
            );
            assert_eq!(error["type"], "error");
        }
    }
    let (_, error) = refused(&stage, COMPLETIONS, &completion("openai", &json!({ "n": 3 }))).await;
    assert_eq!(
        (&error["error"]["param"], &error["error"]["code"]),
        (&json!("n"), &json!("invalid_request"))
    );
}

#[tokio::test]
async fn an_unknown_key_is_told_in_the_dialects_words_too() {
    let stage = Stage::start();
    let asked = |path| stage.spillway.request_as("sw_nobody", Method::POST, path).json(&json!({}));
    for path in [COMPLETIONS, "/openai/v1/chat/completions"] {
        let response = asked(path).send().await.unwrap();
        assert_eq!(response.status(), 401);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "invalid_api_key");
    }
    for path in [MESSAGES, "/anthropic/v1/messages/count_tokens"] {
        let response = asked(path).send().await.unwrap();
        assert_eq!(response.status(), 401);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["type"], "authentication_error");
    }
    let response = asked("/chat").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_dialects_words_too() {
    let stage = Stage::start();
    for (method, path, status, place) in [
        (Method::GET, COMPLETIONS, 405, "/error/code"),
        (Method::POST, "/v1/responses", 404, "/error/code"),
        (Method::POST, "/openai/v1/embeddings", 404, "/error/code"),
        (Method::GET, MESSAGES, 405, "/error/type"),
        (Method::POST, "/anthropic/v1/messages/batches", 404, "/error/type"),
        (Method::POST, "/v1/nothing", 404, "/code"),
    ] {
        let response = stage.spillway.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers().contains_key("allow"), status == 405, "{path}");
        let error: Value = response.json().await.unwrap();
        assert!(error.pointer(place).is_some_and(Value::is_string), "{path}: {error}");
        assert_eq!(path.ends_with("responses"), error.to_string().contains("n8n"), "{error}");
    }
}

#[rstest]
#[case::openai(COMPLETIONS, completion("fallen", &json!({})))]
#[case::anthropic(MESSAGES, message("fallen", &json!({})))]
#[tokio::test]
async fn before_the_first_byte_another_provider_is_asked(#[case] path: &str, #[case] body: Value) {
    let stage = Stage::start();
    let told = stage.stream(path, &body).await;
    assert!(told.contains("there"), "{told}");
    // Cooling off, the broken step is not asked again at once.
    let response = stage.send(path, &body).await;
    assert_eq!(response.headers()["spillway-provider"], "anthropic");
    assert_eq!(stage.vendor.heard("claude-haiku-4-5").len(), 2);
}

#[rstest]
#[case::same("openai-cut")]
#[case::across("anthropic-cut")]
#[case::short("openai-short")]
#[case::short_across("anthropic-short")]
#[tokio::test]
async fn a_completion_that_breaks_off_ends_in_an_error(#[case] route: &str) {
    let stage = Stage::start();
    let told = events(&stage.stream(COMPLETIONS, &completion(route, &json!({}))).await);
    let last = told.last().unwrap();
    assert_eq!(last["error"]["type"], "server_error", "{told:?}");
    assert!(!told.contains(&json!("[DONE]")));
    assert!(told.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
}

#[rstest]
#[case::same("anthropic-cut")]
#[case::across("openai-cut")]
#[case::short("anthropic-short")]
#[case::short_across("openai-short")]
#[tokio::test]
async fn a_message_that_breaks_off_ends_in_an_error(#[case] route: &str) {
    let stage = Stage::start();
    let told = events(&stage.stream(MESSAGES, &message(route, &json!({}))).await);
    let last = told.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("api_error")));
    assert!(told.iter().all(|event| event["type"] != "message_stop"));
}

#[rstest]
#[case::openai(COMPLETIONS, completion("openai", &json!({})), "rate_limit_error")]
#[case::anthropic(MESSAGES, message("openai", &json!({})), "rate_limit_error")]
#[case::chat("/chat", json!({ "model": "openai", "message": "Hi" }), "no_turn")]
#[tokio::test]
async fn without_a_turn_in_time_the_caller_is_told_when(
    #[case] path: &str,
    #[case] body: Value,
    #[case] word: &str,
) {
    let stage = Stage::with("", "[[accounts.oai.limits]]\nrequests = \"2/min\"\nburst = \"1s\"");
    let sent = || {
        stage.spillway.request(Method::POST, path).header("Spillway-Max-Wait", "0.2").json(&body)
    };
    let began = Instant::now();
    let mut last = sent().send().await.unwrap();
    while last.status() == 200 && began.elapsed() < Duration::from_secs(20) {
        last = sent().send().await.unwrap();
    }
    assert_eq!(last.status(), 429);
    let wait: u64 = last.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((2..=60).contains(&wait), "{wait}");
    assert!(last.text().await.unwrap().contains(word));
}

#[tokio::test]
async fn a_provider_that_is_limited_is_waited_for_when_that_is_allowed() {
    let stage = Stage::start();
    let answer = stage.ask(COMPLETIONS, &completion("openai-limited-once", &json!({}))).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: Hi there");
    assert_eq!(stage.vendor.heard("limited-once").len(), 2);
    let sent = stage.spillway.request(Method::POST, MESSAGES).header("Spillway-Max-Wait", "0");
    let response = sent.json(&message("busy", &json!({}))).send().await.unwrap();
    assert_eq!(response.status(), 429, "{}", response.text().await.unwrap());
}

#[rstest]
#[case::openai("openai-broken")]
#[case::anthropic("anthropic-broken")]
#[tokio::test]
async fn when_everybody_fails_the_cause_is_told(#[case] route: &str) {
    let stage = Stage::start();
    let sent = stage.spillway.request(Method::POST, COMPLETIONS).header("Spillway-Max-Wait", "0");
    let response = sent.json(&completion(route, &json!({}))).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(response.headers()["spillway-attempts"], "1");
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["type"], "server_error");
}

#[rstest]
#[case::openai("openai-declining")]
#[case::anthropic("anthropic-declining")]
#[tokio::test]
async fn a_refusal_is_an_answer_in_either_dialect(#[case] route: &str) {
    let stage = Stage::start();
    let answer = stage.ask(COMPLETIONS, &completion(route, &json!({}))).await;
    assert_eq!(answer["choices"][0]["message"]["refusal"], "I will not.", "{answer}");
    let answer = stage.ask(MESSAGES, &message(route, &json!({}))).await;
    assert_eq!(answer["stop_reason"], "refusal");
    let told = events(&stage.stream(MESSAGES, &message(route, &json!({}))).await);
    assert_eq!(told[told.len() - 2]["delta"]["stop_reason"], "refusal");
    let (status, problem) =
        refused(&stage, "/chat", &json!({ "model": route, "message": "Hi" })).await;
    assert_eq!((status, &problem["code"]), (400, &json!("refused")));
}

#[rstest]
#[case::whole(false)]
#[case::streamed(true)]
#[tokio::test]
async fn who_hangs_up_cancels_the_call(#[case] stream: bool) {
    let stage = Stage::start();
    for (path, mut body) in [
        (COMPLETIONS, completion("openai-hang", &json!({}))),
        (MESSAGES, message("openai-hang", &json!({}))),
    ] {
        body["stream"] = json!(stream);
        let (before, heard) = (stage.vendor.gone(), stage.vendor.heard("hang").len());
        let request = stage.spillway.request(Method::POST, path).json(&body);
        let call = tokio::spawn(async move {
            let response = request.send().await.unwrap();
            let mut body = response.bytes_stream();
            while body.next().await.is_some() {}
        });
        eventually("the provider is asked", || async { stage.vendor.heard("hang").len() > heard })
            .await;
        call.abort();
        eventually("the provider's call is gone", || async { stage.vendor.gone() > before }).await;
    }
}

#[tokio::test]
async fn a_large_body_has_a_cap_of_its_own() {
    let stage = Stage::with("", "");
    let image = format!("data:image/png;base64,{}", "A".repeat(3 << 20));
    let parts = json!([{ "type": "image_url", "image_url": { "url": image } }]);
    let asked =
        completion("openai", &json!({ "messages": [{ "role": "user", "content": parts }] }));
    stage.ask(COMPLETIONS, &asked).await;
}
