//! Answers that begin to come and fail: before the first piece, at it and after it.

use std::time::Duration;

use serde_json::{Value, json};
use spillway::provider::settings::Vendor;
use spillway::provider::{ErrorClass, codes};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::streamed::{ANTHROPIC, PATIENT, sending, taken};
use super::streams::{delta, done, events, finish, part, read, refused};
use super::{LONG, provider, question};

#[tokio::test]
async fn what_fails_before_the_first_piece_is_an_error_of_the_call() {
    use ErrorClass::{AuthOrBilling, CallerError, CooldownKey, FailoverProvider, RetrySameKey};
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n\
                 event: ping\ndata: {\"type\":\"ping\"}\n\n";
    let role = events(&[delta(json!({ "role": "assistant", "content": "" }))]);
    let anthropic = |kind: &str| {
        let error = json!({ "type": "error", "error": { "type": kind, "message": "m" } });
        (Vendor::Anthropic, format!("{start}event: error\ndata: {error}\n\n"))
    };
    let of = |vendor: Vendor, error: Value| (vendor, format!("{role}{}", events(&[error])));
    let quota = json!({ "error": { "type": "insufficient_quota", "code": "insufficient_quota" } });
    let within = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "error",
                                       "error": { "code": 502, "message": "broke" } }] });
    let tool = json!({ "error": { "type": "invalid_request_error", "code": "tool_use_failed",
                                  "status_code": 400 } });
    let told = json!({ "error": { "type": "too_many_requests_error", "code": "queue_exceeded" },
                       "status_code": 429 });
    let flat = json!({ "message": "no", "type": "server_error", "code": "server_error" });
    for ((vendor, body), class, code, status) in [
        (anthropic("overloaded_error"), FailoverProvider, codes::OVERLOADED, Some(529)),
        (anthropic("rate_limit_error"), CooldownKey, codes::RATE_LIMITED, Some(429)),
        (anthropic("api_error"), RetrySameKey, codes::SERVER_ERROR, Some(500)),
        (anthropic("authentication_error"), AuthOrBilling, codes::BAD_KEY, Some(401)),
        (anthropic("brand_new_error"), RetrySameKey, codes::SERVER_ERROR, Some(502)),
        (of(Vendor::OpenAi, quota), AuthOrBilling, codes::INSUFFICIENT_QUOTA, Some(429)),
        (of(Vendor::OpenRouter, within), FailoverProvider, codes::SERVER_ERROR, Some(502)),
        (of(Vendor::Groq, tool), RetrySameKey, codes::MODEL_OUTPUT_INVALID, Some(400)),
        (of(Vendor::Cerebras, told), FailoverProvider, codes::OVERLOADED, Some(429)),
        (
            (Vendor::Groq, format!("event: error\ndata: {flat}\n\n")),
            RetrySameKey,
            codes::SERVER_ERROR,
            Some(500),
        ),
        (
            (Vendor::OpenAiCompatible, events(&[json!({ "error": "model is broken" })])),
            RetrySameKey,
            codes::SERVER_ERROR,
            Some(502),
        ),
        (
            (Vendor::OpenAi, json!({ "error": { "code": "model_not_found" } }).to_string()),
            CallerError,
            codes::MODEL_NOT_FOUND,
            Some(404),
        ),
    ] {
        let error = refused(vendor, &body).await;
        assert_eq!(
            (error.class, error.code, error.status),
            (class, code, status),
            "{vendor:?} {body}"
        );
        assert_eq!(error.retry_after, None, "{body}");
    }
}

#[tokio::test]
async fn what_a_provider_ends_with_an_error_is_no_answer() {
    let broken = json!({ "candidates": [{ "finishReason": "MALFORMED_FUNCTION_CALL" }] });
    for (vendor, messages) in [
        (Vendor::OpenRouter, vec![finish("error"), done()]),
        (Vendor::OpenRouter, vec![delta(json!({ "content": "Hi" })), finish("error"), done()]),
        (Vendor::Gemini, vec![broken.clone()]),
        (Vendor::Gemini, vec![part(json!({ "text": "Hi" })), broken]),
    ] {
        let error = read(vendor, &messages).await.unwrap_err();
        let told = (error.class, error.code);
        assert_eq!(told, (ErrorClass::FailoverProvider, codes::CUT), "{messages:?}");
    }
    assert_eq!(
        refused(Vendor::OpenRouter, &events(&[finish("error"), done()])).await.code,
        codes::CUT
    );
}

#[tokio::test]
async fn geminis_errors_may_stand_in_a_list_and_tell_when_to_come_back() {
    let limit = json!({ "error": { "code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED",
        "details": [{ "@type": "x/google.rpc.RetryInfo", "retryDelay": "7s" }] } });
    let list = json!([limit]);
    for body in [events(&[limit]), events(std::slice::from_ref(&list)), list.to_string()] {
        let error = refused(Vendor::Gemini, &body).await;
        let told = (error.class, error.code, error.status);
        assert_eq!(told, (ErrorClass::CooldownKey, codes::RATE_LIMITED, Some(429)), "{body}");
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)), "{body}");
    }
}

#[tokio::test]
async fn what_is_no_stream_or_breaks_off_at_its_beginning_is_an_error_of_the_call() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
    let role = events(&[delta(json!({ "role": "assistant", "content": "" }))]);
    let role_and_done = events(&[delta(json!({ "role": "assistant" })), done()]);
    let nothing = events(&[json!({})]);
    for (vendor, body, code, status) in [
        (Vendor::OpenAi, "<html>Welcome</html>", codes::GARBLED, Some(200)),
        (Vendor::OpenAi, "upstream error", codes::GARBLED, Some(200)),
        (Vendor::Anthropic, "", codes::GARBLED, Some(200)),
        (Vendor::Anthropic, "data: {]\n\n", codes::GARBLED, Some(200)),
        (Vendor::Anthropic, start, codes::CUT, None),
        (Vendor::OpenAi, &role, codes::CUT, None),
        (Vendor::OpenAi, &role_and_done, codes::CUT, None),
        (Vendor::Gemini, &nothing, codes::CUT, None),
    ] {
        let error = refused(vendor, body).await;
        let told = (error.class, error.code, error.status);
        assert_eq!(told, (ErrorClass::FailoverProvider, code, status), "{vendor:?} {body}");
    }
}

#[tokio::test]
async fn an_error_status_means_what_it_means_without_a_stream() {
    for vendor in [Vendor::Anthropic, Vendor::OpenAi, Vendor::Gemini] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(429)
            .insert_header("retry-after", "3")
            .insert_header("content-type", "text/event-stream")
            .set_body_string("{\"error\":{\"message\":\"slow: sk-secret-0123456789\"}}");
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let provider = provider(vendor, &server.uri());
        let streamed = provider.stream("m", &question(), PATIENT).await.err().unwrap();
        let plain = provider.complete("m", &question(), LONG).await.unwrap_err();
        assert_eq!(streamed, plain, "{vendor:?}");
        assert_eq!(streamed.retry_after, Some(Duration::from_secs(3)));
        assert!(!format!("{streamed:?}").contains("sk-secret"), "{streamed:?}");
    }
}

#[tokio::test]
async fn an_error_after_the_first_piece_ends_the_stream() {
    let text = ANTHROPIC.split_once("event: content_block_stop").unwrap().0;
    let overloaded = json!({ "type": "error", "error": { "type": "overloaded_error",
        "message": "Overloaded", "details": null } });
    let spoken = events(&[delta(json!({ "content": "Hi" }))]);
    let broke = json!({ "error": { "code": 502, "message": "broke" }, "choices": [
        { "index": 0, "delta": { "content": "" }, "finish_reason": null },
    ], "usage": { "prompt_tokens": 1 } });
    let half = part(json!({ "text": "Hi" }));
    for (vendor, body, code) in [
        (
            Vendor::Anthropic,
            format!("{text}event: error\ndata: {overloaded}\n\n"),
            codes::OVERLOADED,
        ),
        (Vendor::Anthropic, text.to_owned(), codes::CUT),
        (Vendor::Anthropic, format!("{text}data: [DONE]\n\n"), codes::CUT),
        (Vendor::Anthropic, format!("{text}data: {{\"type\":\"message_stop\"}}\n\n"), codes::CUT),
        (Vendor::OpenRouter, format!("{spoken}{}", events(&[broke, done()])), codes::SERVER_ERROR),
        (Vendor::OpenAi, format!("{spoken}{}", events(&[finish("stop")])), codes::CUT),
        (Vendor::OpenAi, format!("{spoken}data: {{\"choi"), codes::CUT),
        (Vendor::Gemini, events(std::slice::from_ref(&half)), codes::CUT),
        (
            Vendor::Gemini,
            events(&[half, json!({ "error": { "code": 500, "message": "m" } })]),
            codes::SERVER_ERROR,
        ),
    ] {
        let provider = provider(vendor, &sending(body.clone()).await);
        let pieces = provider.stream("m", &question(), PATIENT).await.unwrap();
        let (pieces, error) = taken(pieces).await;
        assert_eq!((pieces.len(), error.map(|error| error.code)), (1, Some(code)), "{body}");
    }
}
