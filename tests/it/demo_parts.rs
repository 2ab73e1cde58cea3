//! The demo's parts against real servers: the scripted provider and a receiver.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spillway::cli::demo::direct::{self, Retries, Target, Targets};
use spillway::cli::demo::receiver::{self, Receiver};
use spillway::cli::demo::{burst, client};
use spillway::clock::SystemClock;
use spillway::domain::units::{Rate, Span};
use spillway::provider::scripted::Settings;
use standardwebhooks::Webhook;
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::scripted::Served;
use crate::support::http_client;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn a_burst_straight_at_a_provider_loses_what_its_limit_does_not_let_through() {
    let requests = Rate::parse("600/min");
    let settings = Settings { requests, latency: Span::millis(1), ..Settings::default() };
    let (cheap, premium) = (Served::start(settings), Served::quick());
    let target = |served: &Served, model: &str| Target {
        base_url: served.url.clone(),
        model: model.to_owned(),
    };
    let targets = Targets { cheap: target(&cheap, "small"), premium: target(&premium, "large") };
    let retries = Retries { pause: Duration::from_millis(50), ..Retries::default() };
    let jobs = burst::jobs();
    let straight = direct::run(&http_client(), &targets, &jobs, retries).await;
    assert_eq!(straight.answered + straight.failed, jobs.len());
    let (cheap, premium) = (cheap.model.stats(), premium.model.stats());
    assert_eq!((premium.calls, premium.answered), (20, 20));
    assert_eq!(cheap.calls + premium.calls, straight.requests as u64);
    assert_eq!(cheap.rate_limited, straight.rate_limited as u64);
    assert_eq!(cheap.answered + premium.answered, straight.answered as u64);
    assert!(straight.failed > 0 && straight.rate_limited > straight.failed, "{straight:?}");
}

#[tokio::test]
async fn the_burst_is_submitted_as_the_contract_says() {
    let spillway = MockServer::start().await;
    let submit = || Mock::given(method("POST")).and(path("/v1/jobs"));
    let tired = ResponseTemplate::new(429).set_body_json(json!({ "detail": "later" }));
    submit()
        .and(body_partial_json(json!({ "task": "plan" })))
        .respond_with(tired)
        .mount(&spillway)
        .await;
    let receipt = json!({ "id": "job_0_X", "status": "queued" });
    submit()
        .and(header("authorization", "Bearer key"))
        .and(body_partial_json(json!({ "callback_url": "http://127.0.0.1:1/x" })))
        .respond_with(ResponseTemplate::new(202).set_body_json(receipt))
        .mount(&spillway)
        .await;
    let entrance = burst::Entrance {
        base_url: spillway.uri(),
        key: "key".to_owned(),
        callback_url: "http://127.0.0.1:1/x".to_owned(),
    };
    let told = burst::submit(&http_client(), &entrance, &burst::jobs(), 32).await;
    assert_eq!((told.jobs, told.count(), told.rate_limited), (300, 280, 20));
    assert_eq!(told.accepted.get("support-inbox").map(Vec::len), Some(90));
    assert!(told.refused.is_empty() && told.waits.len() == 300);
}

#[tokio::test]
async fn a_receiver_takes_signed_results_at_any_path() {
    let receiver = Arc::new(Receiver::new(SECRET, Arc::new(SystemClock)).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/results?key=1", listener.local_addr().unwrap());
    let serving = receiver::run(listener, Arc::clone(&receiver), std::future::pending());
    let body = json!({ "type": "job.failed", "timestamp": "2026-11-20T18:00:00Z", "data": {
        "id": "job_0_X", "object": "job", "status": "failed", "ok": false, "task": "tag",
        "text": null, "data": null, "finish": null, "tool_calls": [],
        "images": [], "provider": null,
        "model": null, "route": "cheap", "fell_back": false, "escalated": false,
        "cost_usd": null, "usage": null, "attempts": [],
        "timing": { "queued_ms": null, "running_ms": null, "total_ms": null },
        "error": { "code": "x", "message": "x", "retryable": true, "hint": null },
        "workflow": "lead-intake", "session": null, "metadata": null,
        "created_at": "2026-11-20T18:00:00Z", "finished_at": null,
    } })
    .to_string();
    let posting = async {
        // The receiver checks the age, so the signature is of now.
        let now = seconds_now();
        let signature = Webhook::new(SECRET).unwrap().sign("msg_1", now, body.as_bytes()).unwrap();
        let client = client().unwrap();
        let post = |signature: String| {
            let request = client.post(&url).header("webhook-id", "msg_1");
            let request = request.header("webhook-timestamp", now);
            request.header("webhook-signature", signature).body(body.clone()).send()
        };
        let forged = post("v1,AAAA".to_owned()).await.unwrap();
        assert_eq!(forged.status().as_u16(), 401);
        let taken = post(signature).await.unwrap();
        assert_eq!(taken.status().as_u16(), 204);
        receiver.results().wait_for(|count| *count == 1).await.unwrap();
    };
    http_client();
    tokio::select! {
        ended = serving => panic!("{ended:?}"),
        () = posting => {}
    }
    let tally = receiver.tally();
    assert_eq!((tally.verified, tally.forged), (1, 1));
    assert_eq!(tally.by_workflow().get("lead-intake"), Some(&(0, 1)));
}

/// Seconds since 1970.
fn seconds_now() -> i64 {
    use spillway::clock::Clock;
    SystemClock.now().timestamp()
}
