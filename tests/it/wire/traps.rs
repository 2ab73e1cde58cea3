//! What providers do that nobody expects: the traps of the fact sheet, one by one.

use std::time::Duration;

use serde_json::{Value, json};
use spillway::domain::completion::{Completion, Finish, Usage};
use spillway::domain::limits::{Axis, Period};
use spillway::domain::price::PriceTable;
use spillway::provider::settings::Vendor;
use spillway::provider::stream::whole;
use spillway::provider::{ErrorClass, ProviderError, Timeouts, codes};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::errors::{answered, gemini, quota};
use super::{LONG, provider, question};

fn json_answer(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

async fn asked(vendor: Vendor, answer: ResponseTemplate) -> Result<Completion, ProviderError> {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    provider(vendor, &server.uri()).complete("a-model", &question(), LONG).await
}

async fn class(vendor: Vendor, status: u16, body: &Value) -> (ErrorClass, &'static str) {
    let error = answered(vendor, json_answer(status, body)).await;
    (error.class, error.code)
}

fn chat(message: &Value, finish: &Value) -> Value {
    json!({ "choices": [{ "message": message, "finish_reason": finish }] })
}

#[tokio::test]
async fn trap_1_a_wait_beside_a_good_answer_means_nothing() {
    let message =
        json!({ "content": [{ "type": "text", "text": "Hi" }], "stop_reason": "end_turn" });
    let answer = json_answer(200, &message).insert_header("retry-after", "55");
    let completion = asked(Vendor::Anthropic, answer).await.unwrap();
    assert_eq!((completion.text.as_str(), completion.told.len()), ("Hi", 0));
}

#[tokio::test]
async fn trap_3_an_error_may_stand_in_a_good_answer_without_a_finish() {
    let mut body = chat(&json!({ "content": "half" }), &json!(null));
    body["error"] = json!({ "code": 400, "message": "Token limit reached" });
    let told = class(Vendor::OpenRouter, 200, &body).await;
    assert_eq!(told, (ErrorClass::CallerError, codes::MAX_TOKENS));
}

#[tokio::test]
async fn trap_4_blanks_may_stand_before_the_json() {
    let body = format!("\n\n      \n{}", chat(&json!({ "content": "Hi" }), &json!("stop")));
    let answer = ResponseTemplate::new(200).set_body_string(body);
    assert_eq!(asked(Vendor::OpenRouter, answer).await.unwrap().text, "Hi");
}

#[tokio::test]
async fn trap_5_an_error_comes_in_every_envelope() {
    for (vendor, body) in [
        (Vendor::Cerebras, json!({ "message": "no room", "type": "x", "param": "", "code": "y" })),
        (Vendor::Ollama, json!({ "error": "no room" })),
        (Vendor::Gemini, json!([{ "error": { "code": 503, "message": "no room" } }])),
        (Vendor::OpenAi, json!({ "error": { "message": "no room", "code": null } })),
        (Vendor::OpenAiCompatible, json!({ "object": "error", "message": "no room", "code": 503 })),
        (Vendor::OpenAiCompatible, json!({ "detail": "no room" })),
    ] {
        let error = answered(vendor, json_answer(503, &body)).await;
        assert_eq!((error.code, error.message.as_str()), (codes::OVERLOADED, "no room"), "{body}");
    }
    let text = "upstream connect error or disconnect/reset before headers";
    let error = answered(Vendor::OpenAi, ResponseTemplate::new(503).set_body_string(text)).await;
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::RetrySameKey, text));
}

#[tokio::test]
async fn trap_6_a_bad_key_is_told_as_a_bad_request() {
    let body = gemini("INVALID_ARGUMENT", "m", &json!([{ "reason": "API_KEY_INVALID" }]));
    let told = class(Vendor::Gemini, 400, &body).await;
    assert_eq!(told, (ErrorClass::AuthOrBilling, codes::BAD_KEY));
}

#[tokio::test]
async fn trap_7_a_429_may_mean_that_the_key_cannot_pay() {
    let spent = json!({ "error": { "type": "rate_limit_error",
        "details": { "error_code": "enforced_spend_limit_reached" } } });
    let error = answered(Vendor::Anthropic, json_answer(429, &spent)).await;
    // Until the first of December, 00:00 UTC.
    let until = Some(Duration::from_secs(10 * 86_400 + 43_200));
    assert_eq!((error.class, error.retry_after), (ErrorClass::AuthOrBilling, until));
    let empty = json!({ "error": { "type": "insufficient_quota",
                                   "code": "credit_balance_exhausted" } });
    assert_eq!(class(Vendor::OpenAi, 429, &empty).await.0, ErrorClass::AuthOrBilling);
    let zero = "Quota exceeded, limit: 0, model: m\nPlease retry in 3s.";
    let zero = gemini("RESOURCE_EXHAUSTED", zero, &quota("x", "0", "3s"));
    let told = class(Vendor::Gemini, 429, &zero).await;
    assert_eq!(told, (ErrorClass::AuthOrBilling, codes::MODEL_FORBIDDEN));
    let prepaid = gemini("RESOURCE_EXHAUSTED", "m", &json!([]));
    assert_eq!(class(Vendor::Gemini, 402, &prepaid).await.0, ErrorClass::AuthOrBilling);
}

#[tokio::test]
async fn trap_8_a_400_may_mean_that_the_key_cannot_pay() {
    for message in [
        "You have reached your specified API usage limits.",
        "You have reached your specified workspace API usage limits.",
        "Your credit balance is too low to access the Anthropic API.",
    ] {
        let body = json!({ "error": { "type": "invalid_request_error", "message": message } });
        let told = class(Vendor::Anthropic, 400, &body).await;
        assert_eq!(told, (ErrorClass::AuthOrBilling, codes::INSUFFICIENT_QUOTA), "{message}");
    }
}

#[tokio::test]
async fn trap_9_what_is_larger_than_the_limit_is_not_waited_for() {
    let said = "Request too large for m: Limit 6000, Requested 6294. Please try again in 3s.";
    let body = json!({ "error": { "message": said, "type": "tokens",
                                  "code": "rate_limit_exceeded" } });
    let tokens = "GenerateContentPaidTierInputTokensPerModelPerMinute";
    let larger = gemini("RESOURCE_EXHAUSTED", "m", &quota(tokens, "0", "48s"));
    for (vendor, status, body) in
        [(Vendor::OpenAi, 429, &body), (Vendor::Groq, 413, &body), (Vendor::Gemini, 429, &larger)]
    {
        let error = answered(vendor, json_answer(status, body)).await;
        assert_eq!((error.class, error.retry_after), (ErrorClass::CallerError, None), "{vendor:?}");
        assert_eq!(error.code, codes::LARGER_THAN_LIMIT, "{vendor:?}");
    }
}

#[tokio::test]
async fn trap_10_gemini_says_stop_with_calls_nothing_when_blocked_and_thoughts_apart() {
    let of = |candidate: Value| {
        json!({ "candidates": [candidate], "usageMetadata": {
        "promptTokenCount": 61, "candidatesTokenCount": 10, "thoughtsTokenCount": 35 } })
    };
    let call = json!({ "functionCall": { "name": "f", "args": {} } });
    let called = of(json!({ "content": { "parts": [call] }, "finishReason": "STOP" }));
    let called = asked(Vendor::Gemini, json_answer(200, &called)).await.unwrap();
    let usage = called.usage.unwrap();
    assert_eq!((called.finish, usage.output_tokens), (Finish::ToolCalls, 45));
    let blocked = of(json!({ "content": {}, "finishReason": "SAFETY" }));
    let blocked = asked(Vendor::Gemini, json_answer(200, &blocked)).await.unwrap();
    assert_eq!((blocked.finish, blocked.text.as_str()), (Finish::ContentFilter, ""));
    let cut = json!({ "candidates": [{ "finishReason": "MAX_TOKENS", "content": {} }],
        "usageMetadata": { "promptTokenCount": 9, "thoughtsTokenCount": 50 } });
    let cut = asked(Vendor::Gemini, json_answer(200, &cut)).await.unwrap();
    assert_eq!((cut.finish, cut.usage.unwrap().output_tokens), (Finish::Length, 50));
}

#[tokio::test]
async fn trap_11_a_wait_may_be_hours_and_m_is_not_ms() {
    for (reset, seconds) in
        [("83h10m39.057s", 299_439.057), ("2m", 120.0), ("2ms", 0.002), ("1h8m25.745s", 4_105.745)]
    {
        let answer = ResponseTemplate::new(429)
            .insert_header("x-ratelimit-remaining-requests", "0")
            .insert_header("x-ratelimit-reset-requests", reset);
        let wait = answered(Vendor::OpenAi, answer).await.retry_after.unwrap().as_secs_f64();
        assert!((wait - seconds).abs() < 1e-6, "{reset}: {wait}");
    }
}

#[tokio::test]
async fn trap_12_groqs_requests_are_counted_by_the_day() {
    let answer = json_answer(200, &chat(&json!({ "content": "Hi" }), &json!("stop")));
    let answer = answer
        .insert_header("x-ratelimit-limit-requests", "14400")
        .insert_header("x-ratelimit-limit-tokens", "6000");
    let told = asked(Vendor::Groq, answer).await.unwrap().told;
    let lines: Vec<_> = told.iter().map(|told| (told.axis, told.per)).collect();
    assert_eq!(lines, [(Axis::Requests, Period::Day), (Axis::Tokens, Period::Minute)]);
}

#[tokio::test]
async fn trap_14_what_is_told_of_use_later_replaces_what_was_told_before() {
    let event = |body: Value| format!("data: {body}\n\n");
    let delta = |output: u64| {
        event(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" },
                      "usage": { "output_tokens": output } }))
    };
    let start = json!({ "type": "message_start", "message": {
        "usage": { "input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 90 } } });
    let body = [event(start), delta(5), delta(9), event(json!({ "type": "message_stop" }))];
    let answer = ResponseTemplate::new(200).set_body_raw(body.concat(), "text/event-stream");
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let timeouts = Timeouts { first: LONG, total: LONG };
    let provider = provider(Vendor::Anthropic, &server.uri());
    let pieces = provider.stream("a-model", &question(), timeouts).await.unwrap();
    let usage = whole(pieces).await.unwrap().usage.unwrap();
    assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (100, 90, 9));
}

#[tokio::test]
async fn trap_16_words_nobody_knows_do_no_harm() {
    let odd = json!({ "content": [{ "type": "hologram" }], "stop_reason": "moon_phase",
                      "usage": { "input_tokens": 1, "new": [] }, "new": {} });
    let read = asked(Vendor::Anthropic, json_answer(200, &odd)).await.unwrap();
    assert_eq!(read.finish, Finish::Unknown);
    let odd = chat(&json!({ "content": "Hi", "aura": 7 }), &json!("moon_phase"));
    let read = asked(Vendor::OpenAi, json_answer(200, &odd)).await.unwrap();
    assert_eq!(read.finish, Finish::Unknown);
    let odd = json!({ "candidates": [{ "finishReason": "MOON_PHASE",
                                       "content": { "parts": [{ "aura": 7 }] } }] });
    let read = asked(Vendor::Gemini, json_answer(200, &odd)).await.unwrap();
    assert_eq!(read.finish, Finish::Unknown);
    for vendor in [Vendor::Anthropic, Vendor::OpenAi, Vendor::Gemini, Vendor::OpenRouter] {
        for status in [418, 451, 599] {
            let body = json!({ "error": { "type": "moon_phase", "code": "moon_phase", "status": [],
                                          "details": "x", "metadata": 7 } });
            let error = answered(vendor, json_answer(status, &body)).await;
            assert_eq!(error.status, Some(status), "{vendor:?}");
        }
    }
}

#[tokio::test]
async fn trap_19_a_cache_that_is_gone_is_no_word_about_the_key() {
    let gone = gemini("PERMISSION_DENIED", "CachedContent not found", &json!([]));
    assert_eq!(class(Vendor::Gemini, 403, &gone).await.0, ErrorClass::CallerError);
}

#[test]
fn trap_20_a_price_has_a_date_and_may_step_at_a_prompt_size() {
    let table = PriceTable::with_built_in(Vec::new()).unwrap();
    let cost = |provider: &str, model: &str, day: &str, input_tokens: u64, cached: u64| {
        let at = format!("{day}T12:00:00Z").parse().unwrap();
        let usage = Usage { input_tokens, cached_input_tokens: cached, ..Usage::default() };
        table.cost((provider, model), &usage, at).unwrap()
    };
    for (provider, model, day, input, cached, dollars) in [
        ("anthropic", "claude-sonnet-5-5", "2026-10-06", 1_000_000, 1_000_000, 0.20),
        ("anthropic", "claude-sonnet-5-5", "2026-10-07", 1_000_000, 1_000_000, 0.10),
        ("gemini", "gemini-3.8-flash", "2026-12-31", 1_000_000, 0, 0.75),
        ("gemini", "gemini-3.8-flash", "2027-01-01", 1_000_000, 0, 1.50),
        ("anthropic", "claude-haiku-5-5", "2026-11-20", 100_000, 0, 0.01),
        ("anthropic", "claude-haiku-5-5", "2026-11-20", 200_000, 0, 0.10),
        ("openai", "gpt-5.4", "2026-11-20", 272_000, 0, 0.68),
        ("openai", "gpt-5.4", "2026-11-20", 300_000, 0, 1.50),
    ] {
        let got = cost(provider, model, day, input, cached);
        assert!((got - dollars).abs() < 1e-9, "{model} {day} {input}: {got}");
    }
}
