//! A task's contract: read leniently, repaired once, escalated, or failed with the reason.

use rstest::rstest;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, settings};

/// Calls have a price, so that receipts can be added up.
const PRICED: &str = r#"
[[prices]]
provider = "scripted"
model = "*"
input = 1000.0
output = 5000.0
"#;

fn job(input: &str) -> Value {
    json!({ "task": "tag", "input": input })
}

fn models(result: &Value) -> Vec<(&str, &str)> {
    let attempts = result["attempts"].as_array().unwrap().iter();
    attempts
        .map(|attempt| (attempt["model"].as_str().unwrap(), attempt["outcome"].as_str().unwrap()))
        .collect()
}

/// The receipt is the sum of its lines.
fn adds_up(result: &Value) {
    let attempts = result["attempts"].as_array().unwrap();
    let sum: f64 = attempts.iter().map(|attempt| attempt["cost_usd"].as_f64().unwrap()).sum();
    let told = result["cost_usd"].as_f64().unwrap();
    assert!(sum > 0.0 && (sum - told).abs() < 1e-9, "{sum} {told}");
}

async fn route(spillway: &Spillway, body: &Value) -> Value {
    let result = spillway.run(body).await;
    println!("{}", serde_json::to_string(&models(&result)).unwrap());
    result
}

#[rstest]
#[case::fence("Sure! ```json {\"tags\": [\"a\", \"b\"]} ``` Anything else?")]
#[case::words("As you asked: {\"tags\": [\"a\", \"b\"]}. I hope it helps {you}.")]
#[case::commas("{\"tags\": [\"a\", \"b\",],}")]
#[case::single_quotes("{'tags': ['a', 'b']}")]
#[case::bare_keys("{tags: [\"a\", \"b\"]}")]
#[case::no_end("{\"tags\": [\"a\", \"b\"")]
#[tokio::test]
async fn what_is_meant_to_be_json_is_taken_for_it(#[case] said: &str) {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let result = route(&spillway, &job(&format!("#scripted:say {said}"))).await;
    assert_eq!(result["data"], json!({ "tags": ["a", "b"] }), "{result:#}");
    assert_eq!((&result["text"], &result["status"]), (&json!("a, b"), &json!("succeeded")));
    assert_eq!(models(&result), [("tiny-1", "answered")]);
}

#[rstest]
#[case::json("invalid_output")]
#[case::prose("text")]
#[tokio::test]
async fn an_answer_that_does_not_fit_is_repaired_at_the_same_step(#[case] fault: &str) {
    let faults = format!("latency = \"5ms\", faults = [{{ every = 2, answer = \"{fault}\" }}]");
    let settings = SCRIPTED.replacen("latency = \"5ms\"", &faults, 1) + PRICED;
    let (spillway, _folder) = start(Store::Embedded, &settings);
    assert_eq!(models(&route(&spillway, &job("first")).await), [("tiny-1", "answered")]);
    let result = route(&spillway, &job("second")).await;
    assert_eq!(models(&result), [("tiny-1", "invalid_output"), ("tiny-1", "answered")]);
    assert_eq!(result["escalated"], false);
    assert_eq!(result["status"], "succeeded");
    adds_up(&result);
    let (_, metrics) = spillway.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("spillway_repairs_total{task=\"tag\"} 1"));
}

#[tokio::test]
async fn what_cannot_be_repaired_is_escalated_on_one_receipt() {
    let (spillway, _folder) = start(Store::Redis, &format!("{SCRIPTED}{PRICED}"));
    let result = route(&spillway, &job("#scripted:invalid_output@tiny-1")).await;
    let expected =
        [("tiny-1", "invalid_output"), ("tiny-1", "invalid_output"), ("grand-1", "answered")];
    assert_eq!(models(&result), expected, "{result:#}");
    assert_eq!((&result["escalated"], &result["route"]), (&json!(true), &json!("premium")));
    assert_eq!(result["status"], "succeeded");
    adds_up(&result);
}

#[tokio::test]
async fn an_escalated_job_gets_its_repair_turn_there_too_and_fails_with_the_best_answer() {
    let (spillway, _folder) = start(Store::Embedded, &format!("{SCRIPTED}{PRICED}"));
    let input = "#scripted:say@tiny-1 {\"tags\": [1, 2, 3]}\n#scripted:say@grand-1 {\"tags\": [1]}";
    let result = route(&spillway, &job(input)).await;
    let unfit = |model| (model, "invalid_output");
    let expected = [unfit("tiny-1"), unfit("tiny-1"), unfit("grand-1"), unfit("grand-1")];
    assert_eq!(models(&result), expected, "{result:#}");
    assert_eq!((&result["status"], &result["escalated"]), (&json!("failed"), &json!(true)));
    assert_eq!(result["error"]["code"], "invalid_output");
    let message = result["error"]["message"].as_str().unwrap();
    assert!(message.contains("#/tags/0: 1 is not of type"), "{message}");
    assert!(result["error"]["hint"].as_str().unwrap().contains("escalate_to"));
    assert_eq!((&result["text"], &result["data"]), (&json!("{\"tags\": [1]}"), &Value::Null));
    adds_up(&result);
}

#[tokio::test]
async fn without_an_escalation_route_the_next_step_is_asked() {
    let more = r#"
[accounts.first]
provider = "scripted"
scripted = { latency = "1ms", faults = [{ every = 1, answer = "invalid_output" }] }
[accounts.second]
provider = "scripted"
scripted = { latency = "1ms" }
[routes.cheap]
steps = ["first/a", "second/b"]
[routes.premium]
steps = ["second/b"]
[tasks.tag]
escalate_to = false
"#;
    let (spillway, _folder) = start(Store::Embedded, more);
    let result = route(&spillway, &job("x")).await;
    let expected = [("a", "invalid_output"), ("a", "invalid_output"), ("b", "answered")];
    assert_eq!(models(&result), expected, "{result:#}");
    assert_eq!((&result["escalated"], &result["fell_back"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn an_answer_cut_at_its_cap_is_escalated_without_a_repair_turn() {
    let more = format!("{SCRIPTED}[tasks.tag]\nmax_output_tokens = 5\n");
    let (spillway, _folder) = start(Store::Embedded, &more);
    let long = format!("{{\"tags\": [\"{}\"]}}", "a".repeat(100));
    let input = format!("#scripted:say@tiny-1 {long}\n#scripted:say@grand-1 {{\"tags\": []}}");
    let result = route(&spillway, &job(&input)).await;
    let expected = [("tiny-1", "invalid_output"), ("grand-1", "answered")];
    assert_eq!(models(&result), expected, "{result:#}");
}

/// The replica that escalated the job is killed while it waits for its turn there.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_put_back_while_escalated_stays_escalated() {
    let redis = RedisServer::start(&[]);
    let more = format!(
        "{SCRIPTED}[[accounts.large.limits]]\nrequests = \"15/min\"\nburst = \"1s\"\n\
         [engine]\nlease = \"2s\"\n"
    );
    let settings = settings(&format!("url = \"{}\"", redis.url()), &more);
    let mut first = Spillway::start(&settings);
    let second = Spillway::start(&settings);
    // Takes the only turn at the escalation route's step for some seconds.
    let plan = json!({ "task": "plan", "input": "a plan", "lane": "interactive" });
    first.run(&plan).await;
    let id = first.submit(&job("#scripted:invalid_output@tiny-1")).await;
    eventually("it was escalated", || async {
        let (_, metrics) = first.get("/metrics").await;
        let (_, other) = second.get("/metrics").await;
        let told = "spillway_escalations_total";
        metrics.as_str().unwrap().contains(&format!("{told}{{"))
            || other.as_str().unwrap().contains(&format!("{told}{{"))
    })
    .await;
    // Back in its line with what it has been through.
    eventually("it waits", || async {
        second.get(&format!("/v1/jobs/{id}")).await.1["status"] == "queued"
    })
    .await;
    first.kill();
    let result = second.finished(&id).await;
    let expected =
        [("tiny-1", "invalid_output"), ("tiny-1", "invalid_output"), ("grand-1", "answered")];
    assert_eq!(models(&result), expected, "{result:#}");
    assert_eq!((&result["escalated"], &result["route"]), (&json!(true), &json!("premium")));
}
