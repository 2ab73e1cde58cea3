//! What callers may use up, through HTTP on the real binary.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, answer, embedded, settings};

/// A call of 10 output tokens at the most costs 0.1 USD at the most, and next to nothing for input.
const PRICED: &str = r#"
[[prices]]
provider = "scripted"
model = "*"
input = 0.0
output = 10000.0
[tasks.tag]
max_output_tokens = 10
"#;

/// A call with an answer of 3 tokens: 0.03 USD.
fn job() -> Value {
    json!({ "task": "tag", "input": "#scripted:say {\"tags\":[]}" })
}

fn budgeted(more: &str) -> String {
    format!("{SCRIPTED}{PRICED}{more}")
}

async fn me(spillway: &Spillway) -> Value {
    let (status, me) = spillway.get("/v1/me").await;
    assert_eq!(status, 200, "{me}");
    me["budget"].clone()
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_budget_is_told_warned_of_and_refused_at_the_door(#[case] store: Store) {
    let more = "[plans.small]\nusd_per_day = 0.2\nusd_per_month = 1\nsoft = 0.25\n\
                [callers.default]\nplan = \"small\"";
    let (spillway, _folder) = start(store, &budgeted(more));
    let before = me(&spillway).await;
    assert_eq!((&before["plan"], &before["day"]["spent_usd"]), (&json!("small"), &json!(0.0)));
    let mut paid = 0.0;
    for _ in 0..4 {
        let result = spillway.run(&job()).await;
        assert_eq!(result["status"], "succeeded", "{result:#}");
        paid += result["cost_usd"].as_f64().unwrap();
    }
    assert!((paid - 0.12).abs() < 1e-9, "{paid}");
    let after = me(&spillway).await;
    let spent = |period: &str| after[period]["spent_usd"].as_f64().unwrap();
    assert!((spent("day") - paid).abs() < 1e-9 && (spent("month") - paid).abs() < 1e-9, "{after}");
    assert_eq!(after["day"]["reserved_usd"], 0.0);
    assert!((after["day"]["left_usd"].as_f64().unwrap() - 0.08).abs() < 1e-9, "{after}");

    // 0.08 are left, and the next may cost 0.1.
    let response = spillway.request(Method::POST, "/v1/jobs").json(&job()).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "budget_exhausted");
    let resets: chrono::DateTime<chrono::Utc> =
        after["day"]["resets_at"].as_str().unwrap().parse().unwrap();
    let left = u64::try_from((resets - chrono::Utc::now()).num_seconds()).unwrap();
    assert!(seconds.abs_diff(left) <= 5, "{seconds} {left}");
    assert!(problem["detail"].as_str().unwrap().contains("0.1200 of 0.2 USD"), "{problem}");

    // Another caller is not limited, and told so.
    let other = "sw_otherkey_0123456789abcdefghijABCDEFGHIJ";
    let (_, free) = answer(spillway.request_as(other, Method::GET, "/v1/me")).await;
    assert_eq!(free["budget"], Value::Null);
    let submit = spillway.request_as(other, Method::POST, "/v1/jobs").json(&job());
    assert_eq!(answer(submit).await.0, 202);
    let (_, metrics) = spillway.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "spillway_caller_spent_usd_total{caller=\"default\"} 0.12",
        "spillway_over_budget_total{caller=\"default\",period=\"day\"} 1",
        "spillway_budget_used_ratio{caller=\"default\",period=\"month\"}",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_soft_budget_warns_and_refuses_nothing() {
    let more = "[plans.default]\nusd_per_day = 0.05\ncalls_per_day = 3\nhard = false";
    let (spillway, _folder) = start(Store::Embedded, &budgeted(more));
    for _ in 0..4 {
        assert_eq!(spillway.run(&job()).await["status"], "succeeded");
    }
    let response = spillway.request(Method::POST, "/v1/jobs").json(&job()).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let headers: Vec<_> = response.headers().get_all("spillway-warning").iter().cloned().collect();
    let receipt: Value = response.json().await.unwrap();
    let warnings = receipt["warnings"].as_array().unwrap();
    assert_eq!((headers.len(), warnings.len()), (2, 2), "{receipt}");
    assert!(warnings[1].as_str().unwrap().contains("5 of 3 calls"), "{receipt}");
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn calls_of_a_day_count_what_was_stored_and_nothing_else(#[case] store: Store) {
    let (spillway, _folder) =
        start(store, &format!("{SCRIPTED}[plans.default]\ncalls_per_day = 4"));
    let made = || async { me(&spillway).await["calls"]["made"].as_u64().unwrap() };
    let once = || {
        let request = spillway.request(Method::POST, "/v1/jobs").json(&job());
        answer(request.header("idempotency-key", "once"))
    };
    assert_eq!(once().await.0, 202);
    assert_eq!(once().await.0, 202);
    assert_eq!(spillway.post("/v1/jobs", &json!({ "task": "tag", "input": {} })).await.0, 422);
    assert_eq!(made().await, 1, "neither a repetition nor what was refused");
    let group = |jobs: usize| json!({ "jobs": vec![job(); jobs] });
    assert_eq!(spillway.post("/v1/groups", &group(4)).await.0, 429);
    assert_eq!(made().await, 1);
    assert_eq!(spillway.post("/v1/groups", &group(3)).await.0, 202);
    let (status, problem) = spillway.post("/v1/jobs", &job()).await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("budget_exhausted")));
    assert_eq!(made().await, 4);
    assert_eq!(once().await.0, 202, "what was stored is told again");
}

#[tokio::test]
async fn a_price_that_is_not_known_is_refused_under_a_hard_budget() {
    let (spillway, _folder) =
        start(Store::Embedded, &format!("{SCRIPTED}[plans.default]\nusd_per_day = 100"));
    let (status, problem) = spillway.post("/v1/jobs", &job()).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("over_budget")), "{problem}");
    assert_eq!(me(&spillway).await["calls"]["made"], 0);
}

/// Thirty jobs on two replicas against a dollar: what is spent stays below, and who is refused is
/// told why.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_budget_and_do_not_overspend() {
    let redis = RedisServer::start(&[]);
    let more = "[plans.default]\nusd_per_day = 0.5";
    let settings = settings(&format!("url = \"{}\"", redis.url()), &budgeted(more));
    let replicas = [Spillway::start(&settings), Spillway::start(&settings)];
    let mut ids = Vec::new();
    for number in 0..30 {
        let (status, receipt) = replicas[number % 2].post("/v1/jobs", &job()).await;
        if status == 202 {
            ids.push(receipt["id"].as_str().unwrap().to_owned());
        }
    }
    let (mut paid, mut answered, mut refused) = (0.0, 0, 0);
    for id in &ids {
        let result = replicas[0].finished(id).await;
        paid += result["cost_usd"].as_f64().unwrap();
        if result["status"] == "succeeded" {
            answered += 1;
        } else {
            assert_eq!(result["error"]["code"], "budget_exhausted", "{result:#}");
            assert_eq!(result["error"]["retryable"], true);
            refused += 1;
        }
    }
    let told = me(&replicas[1]).await;
    let spent = told["day"]["spent_usd"].as_f64().unwrap();
    println!(
        "{answered} answered, {refused} refused later, {} at the door: {spent} USD",
        30 - ids.len()
    );
    assert!((spent - paid).abs() < 1e-9 && spent <= 0.5, "{spent} {paid}");
    // 0.1 is reserved for each: 0.41 at least could be spent.
    assert!(answered >= 14, "{answered}");
}

#[tokio::test]
async fn what_was_spent_survives_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        settings(&embedded(folder.path()), &budgeted("[plans.default]\nusd_per_day = 0.2"));
    let mut spillway = Spillway::start(&settings);
    spillway.run(&job()).await;
    spillway.kill();
    let again = Spillway::start(&settings);
    let told = me(&again).await;
    assert_eq!((&told["day"]["spent_usd"], &told["calls"]["made"]), (&json!(0.03), &json!(1)));
}

#[tokio::test]
async fn callers_without_a_key_have_a_plan_for_each_address() {
    let more = format!("{SCRIPTED}[plans.visitor]\ncalls_per_day = 2\n");
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&embedded(folder.path()), &more)
        .replace("[server]", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .replace("[auth]", "[auth]\nanonymous = \"visitor\"");
    let spillway = Spillway::start(&settings);
    let client = crate::support::http_client();
    let submit = |address: &'static str| {
        let request = client.post(format!("{}/v1/jobs", spillway.base())).json(&job());
        answer(request.header("x-forwarded-for", address))
    };
    for _ in 0..2 {
        assert_eq!(submit("198.51.100.7").await.0, 202);
    }
    let (status, problem) = submit("198.51.100.7").await;
    assert_eq!((status.as_u16(), &problem["code"]), (429, &json!("budget_exhausted")));
    assert_eq!(submit("198.51.100.8").await.0, 202, "another address");
    assert_eq!(submit("2001:db8::1").await.0, 202);
    assert_eq!(submit("2001:db8::2").await.0, 202);
    assert_eq!(submit("2001:db8::3").await.0, 429, "of IPv6 the network counts");
    let me = client.get(format!("{}/v1/me", spillway.base()));
    let (_, me) = answer(me.header("x-forwarded-for", "198.51.100.7")).await;
    assert_eq!(me["caller"], "anon:198.51.100.7");
    assert_eq!(
        me["budget"]["calls"],
        json!({
            "limit": 2, "made": 2, "left": 0, "resets_at": me["budget"]["calls"]["resets_at"],
        })
    );
    let wrong = client.get(format!("{}/v1/me", spillway.base())).bearer_auth("sw_wrong");
    assert_eq!(answer(wrong).await.0, 401, "a wrong key is no reason to be let in");
    assert_eq!(spillway.get("/v1/me").await.1["budget"], Value::Null);
}

#[tokio::test]
async fn a_plan_names_what_may_be_asked_for() {
    let more = format!(
        "{SCRIPTED}[plans.visitor]\ncalls_per_day = 9\n[plans.default]\n\
         models = [\"task:t*\", \"other-*\"]\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&embedded(folder.path()), &more)
        .replace("[auth]", "[auth]\nanonymous = \"visitor\"");
    let spillway = Spillway::start(&settings);
    assert_eq!(spillway.post("/v1/jobs", &job()).await.0, 202);
    let other = json!({ "task": "classify", "input": "x" });
    let (status, problem) = spillway.post("/v1/jobs", &other).await;
    assert_eq!((status.as_u16(), &problem["code"]), (403, &json!("not_allowed")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("tag") && !detail.contains("summarize"), "{detail}");
    let chat =
        |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "x" }] });
    let (status, problem) = spillway.post("/v1/chat/completions", &chat("cheap")).await;
    assert_eq!((status.as_u16(), &problem["error"]["code"]), (404, &json!("model_not_found")));
    let (_, models) = spillway.get("/v1/models").await;
    let named =
        |models: &Value, name| models["data"].as_array().unwrap().iter().any(|m| m["id"] == name);
    assert!(named(&models, "task:tag") && !named(&models, "cheap"), "{models}");

    // Without a key routes and tasks may be named, and no other model.
    let client = crate::support::http_client();
    let ask = |model: &'static str| {
        let request = client.post(format!("{}/v1/chat/completions", spillway.base()));
        answer(request.json(&chat(model)))
    };
    assert_eq!(ask("gpt-5").await.0, 404);
    assert_eq!(ask("scripted/any").await.0, 404);
    assert_eq!(ask("cheap").await.0, 200);
}

#[tokio::test]
async fn without_the_setting_nobody_is_let_in_without_a_key() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let request = crate::support::http_client().get(format!("{}/v1/me", spillway.base()));
    assert_eq!(answer(request).await.0, 401);
}
