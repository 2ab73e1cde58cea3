//! Every way in which a call can go wrong on the way.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;
use spillway::provider::settings::Vendor;
use spillway::provider::{ErrorClass, ProviderError, codes};
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{KEY, LONG, answering, provider, question, raw, take_request};
use crate::support::free_port;

const DIALECTS: [Vendor; 3] = [Vendor::Anthropic, Vendor::OpenAi, Vendor::Gemini];

async fn failed(vendor: Vendor, base_url: &str, timeout: Duration) -> ProviderError {
    provider(vendor, base_url).complete("a-model", &question(), timeout).await.unwrap_err()
}

async fn answered(answer: ResponseTemplate) -> (MockServer, ProviderError) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let error = failed(Vendor::OpenAi, &server.uri(), LONG).await;
    (server, error)
}

fn assert_failover(error: &ProviderError, code: &str) {
    assert_eq!((error.class, error.code), (ErrorClass::FailoverProvider, code), "{error:?}");
    assert!(!error.message.contains(KEY), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_garbled() {
    for body in [
        "<html><body>Welcome</body></html>",
        "{\"choices\": [{\"mess",
        "",
        "   \n",
        "{}",
        "null",
        "[]",
        "7",
        "\"text\"",
        "{\"choices\": []}",
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_string(body);
        Mock::given(any()).respond_with(answer).mount(&server).await;
        for vendor in DIALECTS {
            let error = failed(vendor, &server.uri(), LONG).await;
            assert_failover(&error, codes::GARBLED);
            assert_eq!(error.status, Some(200), "{vendor:?} {body}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let endless = raw(|mut stream| {
        take_request(&mut stream);
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
        let mut going = stream.write_all(head.as_bytes());
        while going.is_ok() {
            going = stream.write_all(chunk.as_bytes());
        }
    });
    let error = failed(Vendor::OpenAi, &endless, LONG).await;
    assert_failover(&error, codes::TOO_LARGE);
}

#[tokio::test]
async fn a_provider_that_never_answers_costs_only_the_deadline() {
    let silent = raw(|mut stream| {
        // Holds the line until the other side lets go.
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let begun = Instant::now();
    let error = failed(Vendor::Anthropic, &silent, Duration::from_millis(200)).await;
    assert_failover(&error, codes::TIMED_OUT);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_answer_that_drips_does_not_outlast_the_deadline() {
    let dripping = raw(|mut stream| {
        take_request(&mut stream);
        let mut going = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
        while going.is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            going = stream.write_all(b" ");
        }
    });
    let begun = Instant::now();
    let error = failed(Vendor::OpenAi, &dripping, Duration::from_millis(300)).await;
    assert_failover(&error, codes::TIMED_OUT);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&elsewhere).await;
    let answer = ResponseTemplate::new(302).insert_header("location", elsewhere.uri());
    let (_server, error) = answered(answer).await;
    assert_failover(&error, codes::GARBLED);
    assert_eq!(error.status, Some(302));
}

#[tokio::test]
async fn no_connection_is_told_as_unreachable() {
    let refused = format!("http://127.0.0.1:{}", free_port());
    assert_failover(&failed(Vendor::Gemini, &refused, LONG).await, codes::UNREACHABLE);

    // Closing with a request unread resets the connection.
    let reset = raw(|stream| {
        drop(stream.peek(&mut [0]));
    });
    assert_failover(&failed(Vendor::OpenAi, &reset, LONG).await, codes::UNREACHABLE);

    let half = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\":");
    assert_failover(&failed(Vendor::OpenAi, &half, LONG).await, codes::UNREACHABLE);

    let no_http = answering(b"SSH-2.0-OpenSSH_9.9\r\n");
    assert_failover(&failed(Vendor::OpenAi, &no_http, LONG).await, codes::UNREACHABLE);

    let no_tls = raw(|mut stream| {
        drop(stream.read(&mut [0; 4_096]));
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    let no_tls = no_tls.replace("http://", "https://");
    assert_failover(&failed(Vendor::Anthropic, &no_tls, LONG).await, codes::UNREACHABLE);
}

#[tokio::test]
async fn a_key_that_is_echoed_is_not_repeated() {
    // The second key straddles the place where a long message is cut.
    let message = format!("bad key {KEY}: {}{KEY} and so on", "x".repeat(460));
    for vendor in DIALECTS {
        for body in [
            json!({ "error": { "message": message, "type": "t" } }).to_string(),
            json!({ "message": message }).to_string(),
            message.clone(),
        ] {
            let server = MockServer::start().await;
            let answer = ResponseTemplate::new(401).set_body_string(body);
            Mock::given(any()).respond_with(answer).mount(&server).await;
            let error = failed(vendor, &server.uri(), LONG).await;
            assert_eq!((error.class, error.code), (ErrorClass::AuthOrBilling, codes::BAD_KEY));
            assert!(error.message.starts_with("bad key [key]: "), "{error:?}");
            assert!(!format!("{error:?}").contains("sk-secret"), "{error:?}");
            assert!(error.message.chars().count() <= 501, "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_page_instead_of_an_error_is_not_repeated() {
    let page = ResponseTemplate::new(503).set_body_string("<html>We are down</html>");
    let (_server, error) = answered(page).await;
    assert_eq!((error.class, error.code), (ErrorClass::RetrySameKey, codes::OVERLOADED));
    assert_eq!(error.message, "the provider answered 503");
}

#[tokio::test]
async fn a_wait_is_read_from_errors_only() {
    let body = json!({ "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }] });
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(body).insert_header("retry-after", "60");
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let provider = provider(Vendor::OpenAi, &server.uri());
    assert!(provider.complete("a-model", &question(), LONG).await.is_ok());

    let inside = json!({ "error": { "code": 429, "message": "slow down" } });
    let answer =
        ResponseTemplate::new(200).set_body_json(inside).insert_header("retry-after", "60");
    let (_server, error) = answered(answer).await;
    assert_eq!((error.class, error.retry_after), (ErrorClass::CooldownKey, None));
}

#[tokio::test]
async fn limits_are_told_by_whatever_comes_back() {
    let inside = json!({ "error": { "code": 502, "message": "upstream broke" } });
    let page = ResponseTemplate::new(200).set_body_string("<html>Welcome</html>");
    let strange = ResponseTemplate::new(200).set_body_json(json!({ "choices": [] }));
    let inside = ResponseTemplate::new(200).set_body_json(inside);
    for answer in [ResponseTemplate::new(500), page, strange, inside] {
        let answer = answer.insert_header("x-ratelimit-limit-requests", "500");
        let (_server, error) = answered(answer).await;
        let limits: Vec<Option<f64>> = error.told.iter().map(|told| told.limit).collect();
        assert_eq!(limits, [Some(500.0)], "{error:?}");
    }
    let day = json!({ "error": { "message": "on requests per day (RPD): Limit 200, Used 200" } });
    let answer = ResponseTemplate::new(429).set_body_json(day);
    let answer = answer.insert_header("x-ratelimit-limit-requests", "500");
    let (_server, error) = answered(answer).await;
    let limits: Vec<Option<f64>> = error.told.iter().map(|told| told.limit).collect();
    assert_eq!(limits, [Some(500.0), Some(200.0)]);
}

#[tokio::test]
async fn a_wait_may_be_a_date() {
    let answer =
        ResponseTemplate::new(429).insert_header("retry-after", "Fri, 20 Nov 2026 12:01:30 GMT");
    let (_server, error) = answered(answer).await;
    assert_eq!((error.class, error.code), (ErrorClass::CooldownKey, codes::RATE_LIMITED));
    assert_eq!(error.retry_after, Some(Duration::from_secs(90)));
}

#[tokio::test]
async fn an_error_inside_a_good_answer_wins() {
    let message = json!({ "message": { "content": "half an" }, "finish_reason": null });
    for body in [
        json!({ "choices": [message], "error": { "code": 502, "message": "upstream broke" } }),
        json!({ "choices": [{ "error": { "code": 502, "message": "upstream broke" } }] }),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_json(body);
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let error = failed(Vendor::OpenRouter, &server.uri(), LONG).await;
        assert_failover(&error, codes::SERVER_ERROR);
        assert_eq!(error.message, "upstream broke");
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_blank_lines_are_passed_over() {
    let body = "\n   \n\u{feff} {\"choices\":[{\"message\":{\"content\":\"Hi\"}}]}\n";
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_string(body);
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let provider = provider(Vendor::OpenRouter, &server.uri());
    let completion = provider.complete("a-model", &question(), LONG).await.unwrap();
    assert_eq!((completion.text.as_str(), completion.usage), ("Hi", None));
}

#[tokio::test]
async fn a_key_is_checked_where_asking_costs_nothing() {
    for (vendor, asked, status, body) in [
        (
            Vendor::Anthropic,
            "/v1/models",
            401,
            json!({ "error": { "type": "authentication_error" } }),
        ),
        (Vendor::OpenAi, "/v1/models", 401, json!({ "error": { "code": "invalid_api_key" } })),
        (Vendor::Groq, "/v1/models", 403, json!({ "error": { "message": "no" } })),
        (Vendor::OpenRouter, "/v1/key", 401, json!({ "error": { "code": 401 } })),
        (Vendor::Ollama, "/v1/models", 401, json!({ "error": "no" })),
        (
            Vendor::Gemini,
            "/v1beta/models",
            400,
            json!({ "error": { "details": [{ "reason": "API_KEY_INVALID" }] } }),
        ),
    ] {
        let good = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_json(json!({ "data": [] }));
        Mock::given(path(asked)).respond_with(answer).mount(&good).await;
        assert_eq!(provider(vendor, &good.uri()).check(LONG).await, Ok(()), "{vendor:?}");

        let bad = MockServer::start().await;
        let answer = ResponseTemplate::new(status).set_body_json(body);
        Mock::given(path(asked)).respond_with(answer).mount(&bad).await;
        let error = provider(vendor, &bad.uri()).check(LONG).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::AuthOrBilling, "{vendor:?} {error:?}");
    }
}

#[tokio::test]
async fn a_server_without_a_list_of_models_is_not_held_to_have_refused_the_key() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(404)).mount(&server).await;
    assert_eq!(provider(Vendor::OpenAiCompatible, &server.uri()).check(LONG).await, Ok(()));
    assert!(provider(Vendor::OpenAi, &server.uri()).check(LONG).await.is_err());
}
