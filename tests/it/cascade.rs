//! Falling through: a provider that fails in any way is followed by the next, and the receipt
//! tells.

use rstest::rstest;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::Spillway;

/// Two steps: the first misbehaves, the second is well.
fn two_steps(first: &str) -> String {
    format!(
        r#"
[accounts.first]
provider = "scripted"
scripted = {{ latency = "1ms", {first} }}
[accounts.second]
provider = "scripted"
scripted = {{ latency = "1ms" }}
[routes.cheap]
steps = ["first/a", "second/b"]
[routes.premium]
steps = ["first/a", "second/b"]
[tasks.tag]
timeout = "1s"
"#
    )
}

fn attempts(result: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let attempts = result["attempts"].as_array().unwrap();
    attempts.iter().map(|a| (text(&a["account"]), text(&a["outcome"]))).collect()
}

/// Runs one job; it must be answered by the second step after this outcome at the first.
async fn falls_through(spillway: &Spillway, outcome: &str) {
    let result = spillway.run(&json!({ "task": "tag", "input": "some text" })).await;
    assert_eq!(result["status"], "succeeded", "{result:#}");
    let expected = [("first", outcome), ("second", "answered")];
    let expected: Vec<_> =
        expected.iter().map(|(a, o)| ((*a).to_owned(), (*o).to_owned())).collect();
    assert_eq!(attempts(&result), expected, "{result:#}");
    assert_eq!((&result["fell_back"], &result["model"]), (&json!(true), &json!("b")));
}

#[rstest]
#[case::limited("429", "rate_limited")]
#[case::broken("500", "overloaded")]
#[case::unavailable("503", "overloaded")]
#[case::overloaded("529", "overloaded")]
#[case::bad_key("401", "unauthorized")]
#[case::html("html", "garbled")]
#[case::half("half", "garbled")]
#[case::nothing("empty", "garbled")]
#[case::huge("huge", "garbled")]
#[case::never("hang", "timed_out")]
#[case::refused("refuse", "unreachable")]
#[tokio::test]
async fn whatever_the_first_provider_does_the_next_one_answers(
    #[case] fault: &str,
    #[case] outcome: &str,
) {
    let faults = format!("faults = [{{ every = 1, answer = \"{fault}\" }}]");
    let (spillway, _folder) = start(Store::Embedded, &two_steps(&faults));
    falls_through(&spillway, outcome).await;
}

#[rstest]
#[case::limited("429", "rate_limited")]
#[case::broken("500", "overloaded")]
#[case::html("html", "garbled")]
#[case::half("half", "unreachable")]
#[case::nothing("empty", "garbled")]
#[case::huge("huge", "garbled")]
#[case::never("hang", "timed_out")]
#[case::reset("reset", "unreachable")]
#[tokio::test]
async fn the_same_over_a_real_wire(#[case] fault: &str, #[case] outcome: &str) {
    let server = ScriptedServer::start(&json!({
        "latency": "1ms", "faults": [{ "every": 1, "answer": fault }],
    }));
    let more = format!(
        r#"
[accounts.first]
provider = "openai-compatible"
base_url = "{}"
api_key = "none"
[accounts.second]
provider = "scripted"
scripted = {{ latency = "1ms" }}
[routes.cheap]
steps = ["first/a", "second/b"]
[routes.premium]
steps = ["second/b"]
[tasks.tag]
timeout = "1s"
"#,
        server.url()
    );
    let (spillway, _folder) = start(Store::Embedded, &more);
    falls_through(&spillway, outcome).await;
}

#[tokio::test]
async fn a_429_holds_the_step_for_everybody_until_its_time() {
    let limited = "faults = [{ every = 1, answer = \"429\" }]";
    let (spillway, _folder) = start(Store::Redis, &two_steps(limited));
    falls_through(&spillway, "rate_limited").await;
    let result =
        spillway.run(&json!({ "task": "tag", "input": "more", "lane": "interactive" })).await;
    assert_eq!(result["status"], "succeeded");
    let (_, limits) = spillway.get("/v1/limits").await;
    let shut = limits["shut"].as_array().unwrap();
    assert!(shut.iter().any(|gate| gate["name"] == "org/first/a"), "{limits:#}");
}

#[tokio::test]
async fn a_job_no_provider_will_serve_ends_failed_with_the_reason() {
    let more = r#"
[accounts.first]
provider = "scripted"
scripted = { latency = "1ms", faults = [{ every = 1, answer = "500" }] }
[routes.cheap]
steps = ["first/a"]
[routes.premium]
steps = ["first/a"]
[engine]
max_attempts = 2
cooldown = "10ms"
"#;
    let (spillway, _folder) = start(Store::Embedded, more);
    let result = spillway.run(&json!({ "task": "tag", "input": "x" })).await;
    assert_eq!((&result["status"], &result["ok"]), (&json!("failed"), &json!(false)));
    assert_eq!(result["error"]["code"], "providers_failed", "{result:#}");
    assert_eq!(result["error"]["retryable"], true);
    assert_eq!(result["attempts"].as_array().unwrap().len(), 2, "{result:#}");
}

#[tokio::test]
async fn patience_decides_how_long_a_job_holds_out_for_the_better_step() {
    let more = r#"
[accounts.first]
provider = "scripted"
[[accounts.first.limits]]
requests = "1/h"
[accounts.second]
provider = "scripted"
[routes.cheap]
steps = ["first/a", "second/b"]
patience = "2s"
[routes.premium]
steps = ["second/b"]
"#;
    let (spillway, _folder) = start(Store::Embedded, more);
    let body = json!({ "task": "tag", "input": "x" });
    assert_eq!(spillway.run(&body).await["model"], "a");
    let second = spillway.run(&body).await;
    assert_eq!((&second["model"], &second["fell_back"]), (&json!("b"), &json!(true)));
    let outcomes = attempts(&second);
    assert_eq!(outcomes.len(), 1, "no attempt was wasted on a full bucket: {outcomes:?}");
}

#[tokio::test]
async fn a_job_may_choose_its_providers_and_what_it_costs_is_told() {
    let more = format!(
        "{}\n[[prices]]\nprovider = \"scripted\"\nmodel = \"*\"\ninput = 1.0\noutput = 5.0\n",
        two_steps("")
    );
    let (spillway, _folder) = start(Store::Embedded, &more);
    let body = json!({ "task": "tag", "input": "x", "provider": { "order": ["second"] } });
    let result = spillway.run(&body).await;
    assert_eq!((&result["model"], &result["fell_back"]), (&json!("b"), &json!(false)));
    assert!(result["cost_usd"].as_f64().unwrap() > 0.0, "{result:#}");
    let (status, problem) = spillway
        .post("/v1/jobs", &json!({ "task": "tag", "input": "x", "max_cost_usd": 1e-9 }))
        .await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("over_budget")));
}

#[tokio::test]
async fn a_job_whose_deadline_passes_expires_and_its_callback_is_told() {
    let more = r#"
[accounts.first]
provider = "scripted"
[routes.cheap]
steps = ["first/a"]
[routes.premium]
steps = ["first/a"]
"#;
    let (spillway, _folder) = start(Store::Redis, more);
    let receiver = crate::support::receiver::Receiver::start();
    let soon = chrono::Utc::now() + chrono::Duration::milliseconds(1_500);
    let result = spillway
        .run(&json!({
            "task": "tag", "input": "#scripted:slow 30s", "deliver_by": soon.to_rfc3339(),
            "callback_url": receiver.url("/"),
        }))
        .await;
    assert_eq!(
        (&result["status"], &result["error"]["code"]),
        (&json!("expired"), &json!("expired"))
    );
    receiver.until_taken(1).await;
    assert_eq!(receiver.all()[0].body["type"], "job.expired");
}
