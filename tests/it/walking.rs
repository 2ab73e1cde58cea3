//! Walking a route: weights, sorting, what a job's `provider` object asks, deadlines of steps, how
//! a step comes back, and hedging.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::redis::RedisServer;
use crate::support::spillway::{Spillway, settings};

/// Accounts `a`, `b` and `c` of the built-in provider, and these routes.
fn scripted(routes: &str) -> String {
    let account = |name: &str| {
        format!("[accounts.{name}]\nprovider = \"scripted\"\nscripted = {{ latency = \"5ms\" }}\n")
    };
    format!("{}{}{}{routes}", account("a"), account("b"), account("c"))
}

/// The same steps for both built-in routes.
fn both(rules: &str) -> String {
    scripted(&format!("[routes.cheap]\n{rules}\n[routes.premium]\nsteps = [\"a/m\"]\n"))
}

async fn model_of(spillway: &Spillway, body: Value) -> String {
    let result = spillway.run(&body).await;
    assert_eq!(result["status"], "succeeded", "{result:#}");
    result["model"].as_str().unwrap().to_owned()
}

fn job(provider: &Value) -> Value {
    json!({ "task": "tag", "input": "some text", "provider": provider })
}

/// What `GET /v1/routes` tells of a step of the route `cheap`.
async fn step(spillway: &Spillway, index: usize) -> Value {
    let (status, routes) = spillway.get("/v1/routes").await;
    assert_eq!(status, 200, "{routes}");
    let routes = routes["data"].as_array().unwrap();
    routes.iter().find(|route| route["name"] == "cheap").unwrap()["steps"][index].clone()
}

#[tokio::test]
async fn neighbours_share_their_jobs_by_weight() {
    let steps = "steps = [{ step = \"a/x\", weight = 3 }, { step = \"b/y\", weight = 1 }]";
    let (spillway, _folder) = start(Store::Embedded, &both(steps));
    let jobs: Vec<Value> = (0..400).map(|n| json!({ "input": format!("text {n}") })).collect();
    let (status, group) =
        spillway.post("/v1/groups", &json!({ "task": "tag", "jobs": jobs })).await;
    assert_eq!(status, 202, "{group}");
    let path = format!("/v1/groups/{}", group["id"].as_str().unwrap());
    eventually("all jobs end", || async {
        let (_, group) = spillway.get(&path).await;
        group["jobs"].as_array().unwrap().iter().all(|job| job["status"] == "succeeded")
    })
    .await;
    let (_, group) = spillway.get(&path).await;
    let mut models: HashMap<String, u32> = HashMap::new();
    for job in group["jobs"].as_array().unwrap() {
        *models.entry(job["model"].as_str().unwrap().to_owned()).or_default() += 1;
        assert_eq!(job["fell_back"], false, "{job:#}");
    }
    // Three in four of 400, give or take four standard deviations.
    assert!((265..=335).contains(&models["x"]), "{models:?}");
    assert_eq!(step(&spillway, 0).await["weight"], 3);
}

#[tokio::test]
async fn the_fastest_step_goes_first_on_every_replica() {
    let redis = RedisServer::start(&[]);
    let more = both("steps = [\"a/x\", \"b/y\"]\nsort = \"latency\"").replacen(
        "latency = \"5ms\"",
        "latency = \"150ms\"",
        1,
    );
    let settings = settings(&format!("url = \"{}\"", redis.url()), &more);
    let first = Spillway::start(&settings);
    assert_eq!(model_of(&first, json!({ "task": "tag", "input": "x" })).await, "x", "as written");
    for only in ["a", "b"] {
        for _ in 0..6 {
            model_of(&first, job(&json!({ "only": [only] }))).await;
        }
    }
    // Another replica has asked nobody yet.
    let second = Spillway::start(&settings);
    eventually("the other replica knows both", || async {
        let median = |step: Value| step["latency_s"]["p50"].as_f64();
        let (slow, fast) = (median(step(&second, 0).await), median(step(&second, 1).await));
        slow.zip(fast).is_some_and(|(slow, fast)| slow > 0.1 && fast < 0.1)
    })
    .await;
    eventually("the first knows both", || async { !step(&first, 1).await["latency_s"].is_null() })
        .await;
    let mut models = Vec::new();
    for _ in 0..10 {
        models.push(model_of(&second, json!({ "task": "tag", "input": "x" })).await);
    }
    assert!(models.iter().all(|model| model == "y"), "{models:?}");
    let slower = job(&json!({ "order": ["a"] }));
    assert_eq!(model_of(&second, slower).await, "x", "a job's own order goes before");
}

#[tokio::test]
async fn a_job_says_what_it_may_cost_and_what_must_be_supported() {
    let prices = r#"
[[prices]]
provider = "scripted"
model = "dear"
input = 3.0
output = 15.0
[[prices]]
provider = "scripted"
model = "fair"
input = 1.0
output = 5.0
[accounts.plain]
provider = "groq"
api_key = "none"
base_url = "http://127.0.0.1:9"
"#;
    let steps =
        "steps = [\"plain/llama-3.3-70b-versatile\", \"a/dear\", \"b/fair\", \"c/unpriced\"]";
    let (spillway, _folder) = start(Store::Embedded, &format!("{}{prices}", both(steps)));
    let choose = async |choice: Value| model_of(&spillway, job(&choice)).await;
    let cheapest = json!({ "sort": "price", "ignore": ["groq"] });
    assert_eq!(choose(cheapest).await, "fair");
    let cap = json!({ "max_price": { "prompt": 2, "completion": "10" } });
    assert_eq!(choose(json!({ "ignore": ["groq"], "max_price": cap["max_price"] })).await, "fair");
    assert_eq!(choose(json!({ "require_parameters": true })).await, "dear");
    let strict = json!({ "order": ["c", "b"], "allow_fallbacks": false });
    assert_eq!(choose(strict).await, "unpriced");

    let refused = async |choice: Value| {
        let (status, problem) = spillway.post("/v1/jobs", &job(&choice)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("no_step")), "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    };
    let detail = refused(json!({ "only": ["scripted"], "max_price": { "prompt": 0.5 } })).await;
    assert!(detail.contains("b/fair (scripted), which costs 1 in and 5 out"), "{detail}");
    assert!(detail.contains("c/unpriced (scripted), which has no known price"), "{detail}");
    let detail = refused(json!({ "only": ["groq"], "require_parameters": true })).await;
    assert!(detail.contains("does not support an output schema"), "{detail}");
    let detail = refused(json!({ "order": ["nobody"], "allow_fallbacks": false })).await;
    assert!(detail.contains("a/dear"), "{detail}");
}

#[tokio::test]
async fn names_and_fields_that_mean_nothing_here_are_told() {
    let (spillway, _folder) = start(Store::Embedded, &both("steps = [\"a/m\"]"));
    let choice = json!({ "order": ["deepinfra", "Scripted", "a"], "ignore": ["nobody", "deepinfra"],
                         "quantizations": ["int8"], "zdr": null });
    let (status, receipt) = spillway.post("/v1/jobs", &job(&choice)).await;
    assert_eq!(status, 202, "{receipt}");
    let warnings: Vec<_> =
        receipt["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, name) in warnings.iter().zip(["quantizations", "`deepinfra`", "`nobody`"]) {
        assert!(warning.contains(name), "{warnings:?}");
    }
    let jobs = json!({ "task": "tag", "provider": { "order": ["nobody"] },
                       "jobs": [{ "input": "a" }, { "input": "b" }] });
    let (_, receipt) = spillway.post("/v1/groups", &jobs).await;
    assert_eq!(receipt["warnings"].as_array().unwrap().len(), 1, "{receipt}");
}

#[tokio::test]
async fn a_step_that_does_not_begin_in_time_is_left() {
    let steps = "steps = [{ step = \"a/x\", first_token = \"200ms\" }, { step = \"b/y\", timeout = \"300ms\" }, \"c/z\"]";
    let (spillway, _folder) = start(Store::Embedded, &both(steps));
    let began = Instant::now();
    let input = "#scripted:hang@x\n#scripted:hang@y";
    let result = spillway.run(&json!({ "task": "tag", "input": input })).await;
    assert_eq!((&result["status"], &result["model"]), (&json!("succeeded"), &json!("z")));
    let outcomes: Vec<_> =
        result["attempts"].as_array().unwrap().iter().map(|a| a["outcome"].clone()).collect();
    assert_eq!(outcomes, ["timed_out", "timed_out", "answered"], "{result:#}");
    assert!(began.elapsed() < Duration::from_secs(5), "{result:#}");
    let result = spillway.run(&json!({ "task": "tag", "input": "quick" })).await;
    assert_eq!(result["model"], "x", "a stream put together is an answer: {result:#}");
}

/// A provider over HTTP that can be broken and healed, and counts what it is asked.
struct Moody {
    server: MockServer,
    broken: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Moody {
    /// One whose good answers take a while.
    async fn start(latency: Duration) -> Self {
        let server = MockServer::start().await;
        let (broken, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_broken, count) = (Arc::clone(&broken), Arc::clone(&asked));
        let answer = move |_: &Request| {
            count.fetch_add(1, Ordering::SeqCst);
            if is_broken.load(Ordering::SeqCst) {
                return ResponseTemplate::new(500);
            }
            let answer = json!({ "id": "1", "object": "chat.completion", "model": "x", "choices": [
                { "index": 0, "finish_reason": "stop",
                  "message": { "role": "assistant", "content": "{\"tags\":[\"one\"]}" } }],
                "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 } });
            ResponseTemplate::new(200).set_body_json(answer).set_delay(latency)
        };
        Mock::given(any()).respond_with(answer).mount(&server).await;
        Self { server, broken, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_step_that_was_shut_comes_back_with_one_call_first() {
    let moody = Moody::start(Duration::from_millis(400)).await;
    moody.broken.store(true, Ordering::SeqCst);
    let more = format!(
        r#"
[accounts.moody]
provider = "openai-compatible"
base_url = "{}"
api_key = "none"
[accounts.well]
provider = "scripted"
scripted = {{ latency = "1ms" }}
[routes.cheap]
steps = ["moody/x", "well/y"]
patience = "1s"
[routes.premium]
steps = ["well/y"]
[engine]
cooldown = "1s"
"#,
        moody.server.uri()
    );
    let (spillway, _folder) = start(Store::Embedded, &more);
    let body = json!({ "task": "tag", "input": "x" });
    for _ in 0..3 {
        assert_eq!(model_of(&spillway, body.clone()).await, "y");
    }
    assert_eq!((step(&spillway, 0).await["circuit"].as_str(), moody.asked()), (Some("open"), 3));
    eventually("the gate is shut", || async {
        let (_, limits) = spillway.get("/v1/limits").await;
        limits["shut"].as_array().unwrap().iter().any(|gate| gate["name"] == "step/moody/x")
    })
    .await;
    moody.broken.store(false, Ordering::SeqCst);
    eventually("the gate is open", || async {
        let (_, limits) = spillway.get("/v1/limits").await;
        limits["shut"].as_array().unwrap().is_empty()
    })
    .await;
    let ids = futures::future::join_all((0..8).map(|_| spillway.submit(&body))).await;
    let results = futures::future::join_all(ids.iter().map(|id| spillway.finished(id))).await;
    let at_moody = results.iter().filter(|result| result["model"] == "x").count();
    assert!((1..=2).contains(&at_moody), "one goes first, the others pass it over: {at_moody}");
    let recovering = step(&spillway, 0).await;
    assert_eq!(recovering["circuit"], "recovering", "{recovering}");
    assert!(recovering["at_once"].as_u64().unwrap() >= 2, "{recovering}");
    eventually("the circuit closes", || async {
        let ids = futures::future::join_all((0..16).map(|_| spillway.submit(&body))).await;
        futures::future::join_all(ids.iter().map(|id| spillway.finished(id))).await;
        step(&spillway, 0).await["circuit"] == "closed"
    })
    .await;
    let metrics = spillway.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("spillway_circuit_open_ratio{step=\"moody/x\"} 0"), "{metrics}");
}

#[tokio::test]
async fn who_waits_is_answered_by_a_second_step_when_the_first_is_slow() {
    let prices = "[[prices]]\nprovider = \"scripted\"\nmodel = \"*\"\ninput = 1.0\noutput = 5.0\n";
    let hedge = "steps = [\"a/x\", \"b/y\"]\nhedge = { after = \"100ms\", most = 1.0 }";
    let (spillway, _folder) = start(Store::Embedded, &format!("{}{prices}", both(hedge)));
    let slow = |lane: &str, time: &str| json!({ "task": "tag", "input": format!("#scripted:slow@x {time}"), "lane": lane });
    let began = Instant::now();
    let result = spillway.run(&slow("interactive", "20s")).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{result:#}");
    assert_eq!((&result["model"], &result["fell_back"]), (&json!("y"), &json!(true)));
    let attempts = result["attempts"].as_array().unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt["outcome"].clone()).collect();
    assert_eq!(outcomes, ["hedged", "answered"], "{result:#}");
    let cost = |value: &Value| value["cost_usd"].as_f64().unwrap();
    assert!(cost(&attempts[0]) > 0.0, "{result:#}");
    let both = cost(&attempts[0]) + cost(&attempts[1]);
    assert!((cost(&result) - both).abs() < 1e-9, "one receipt: {result:#}");

    let patient = spillway.run(&slow("standard", "1s")).await;
    assert_eq!(
        (&patient["model"], patient["attempts"].as_array().unwrap().len()),
        (&json!("x"), 1)
    );
    let quick = spillway.run(&slow("interactive", "150ms")).await;
    assert_eq!(quick["status"], "succeeded", "{quick:#}");
}

#[tokio::test]
async fn a_second_step_is_asked_past_what_is_usual_and_not_too_often() {
    let hedge = "steps = [\"a/x\", \"b/y\"]\nhedge = true";
    let (spillway, _folder) = start(Store::Embedded, &both(hedge));
    let body = |input: &str| json!({ "task": "tag", "input": input, "lane": "interactive" });
    for _ in 0..15 {
        assert_eq!(model_of(&spillway, body("quick")).await, "x");
    }
    eventually("what is usual is known", || async {
        !step(&spillway, 0).await["latency_s"].is_null()
    })
    .await;
    let slow = body("#scripted:slow@x 3s");
    assert_eq!(model_of(&spillway, slow.clone()).await, "y", "hedged");
    assert_eq!(model_of(&spillway, slow).await, "x", "fifteen calls allow one");
    let metrics = spillway.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("spillway_hedges_total{route=\"cheap\",answered=\"second\"} 1"),
        "{metrics}"
    );
}
