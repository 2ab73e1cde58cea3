//! The scripted provider over real HTTP: its limits, and every fault as a client meets it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use spillway::clock::SystemClock;
use spillway::domain::limits::{Axis, Period};
use spillway::domain::prompt::{Message, Prompt};
use spillway::domain::told::Told;
use spillway::domain::units::{Rate, Span};
use spillway::provider::scripted::model::Model;
use spillway::provider::scripted::{Fault, Scripted, Settings, Stats, server};
use spillway::provider::settings::Vendor;
use spillway::provider::{Provider, ProviderError, codes, connect};
use tokio::sync::oneshot;

use crate::support::{eventually, http_client};

/// A scripted provider that listens until it is dropped.
pub(crate) struct Served {
    /// What it has seen.
    pub(crate) model: Arc<Model>,
    /// Where it listens.
    pub(crate) url: String,
    client: reqwest::Client,
    _stop: oneshot::Sender<()>,
}

impl Served {
    /// Starts one that behaves so.
    pub(crate) fn start(settings: Settings) -> Self {
        let listener = server::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let model = Arc::new(Model::new(settings, Arc::new(SystemClock)));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&model);
        #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
        tokio::spawn(async move {
            let until = async { drop(stopped.await) };
            server::run(listener, served, until).await.unwrap();
        });
        Self { model, url, client: http_client(), _stop: stop }
    }

    /// Starts one without limits that answers at once.
    pub(crate) fn quick() -> Self {
        Self::start(Settings { latency: Span::millis(0), ..Settings::default() })
    }

    async fn ask(&self, text: &str) -> reqwest::Result<reqwest::Response> {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
        self.client.post(format!("{}/v1/chat/completions", self.url)).json(&body).send().await
    }

    async fn stats(&self) -> Stats {
        let answer = self.client.get(format!("{}/stats", self.url)).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test]
async fn it_answers_as_openai_does() {
    let served = Served::quick();
    let schema = json!({ "type": "object", "required": ["tags"],
        "properties": { "tags": { "type": "array", "items": { "type": "string" } } } });
    let body = json!({
        "model": "small",
        "messages": [{ "role": "user", "content": "The invoice of March is wrong." }],
        "response_format": { "type": "json_schema",
            "json_schema": { "name": "r", "schema": schema } },
    });
    let url = format!("{}/v1/chat/completions", served.url);
    let response = served.client.post(url).json(&body).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["model"], "small");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let data: Value = serde_json::from_str(text).unwrap();
    assert_eq!(data["tags"][0], "invoice");
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 10);
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 1);

    let models = served.client.get(format!("{}/v1/models", served.url)).send().await.unwrap();
    assert_eq!(models.json::<Value>().await.unwrap()["data"][0]["id"], "scripted");
    let url = format!("{}/v1/chat/completions", served.url);
    let refused = served.client.post(url).body("{").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    assert_eq!(served.stats().await.answered, 1);
    served.client.post(format!("{}/reset", served.url)).send().await.unwrap();
    assert_eq!(served.stats().await, Stats::default());
}

#[tokio::test]
async fn a_burst_beyond_the_limit_is_refused_as_openai_refuses() {
    let requests = Rate::parse("120/min");
    let settings = Settings { requests, latency: Span::millis(0), ..Settings::default() };
    let served = Served::start(settings);
    let first = served.ask("hello").await.unwrap();
    assert_eq!(header(&first, "x-ratelimit-limit-requests"), Some("120"));
    assert_eq!(header(&first, "x-ratelimit-remaining-requests"), Some("1"));
    let burst = join_all((0..30).map(|_| served.ask("hello"))).await;
    let mut refused = 0;
    let mut longest = Duration::ZERO;
    for response in burst.into_iter().map(Result::unwrap) {
        if response.status().as_u16() == 200 {
            continue;
        }
        refused += 1;
        assert_eq!(response.status().as_u16(), 429);
        let seconds: u64 = header(&response, "retry-after").unwrap().parse().unwrap();
        let millis: u64 = header(&response, "retry-after-ms").unwrap().parse().unwrap();
        assert!(seconds >= 1 && seconds * 1_000 >= millis && millis > 0);
        longest = longest.max(Duration::from_millis(millis));
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "rate_limit_exceeded");
        assert_eq!(error["error"]["type"], "requests");
        assert_eq!(error["error"]["param"], Value::Null);
    }
    assert!(refused >= 20, "{refused}");
    // This wait is the subject of the test: whoever keeps to `retry-after` finds room.
    tokio::time::sleep(longest).await;
    assert_eq!(served.ask("hello").await.unwrap().status().as_u16(), 200);
    let stats = served.stats().await;
    assert_eq!((stats.calls, stats.rate_limited), (32, refused));
    let window = Duration::from_secs(1);
    assert!(stats.most_admitted_within(window) <= 4 && stats.most_within(window) >= 30);
}

fn prompt(text: &str) -> Prompt {
    let user = Message::user(text);
    Prompt { messages: vec![user], max_output_tokens: 300, ..Prompt::default() }
}

/// The first call is let in, the second refused.
const TIGHT: &str = r#"
    requests = "30/min"
    input_tokens = "6000/min"
    tokens = "600/min"
    tokens_per_day = 1000000
    latency = "0ms"
"#;

/// What both ways in make of the second call, or of the first where that is refused already.
async fn both_refusals(settings: &str, text: &str) -> [ProviderError; 2] {
    let settings: Settings = toml::from_str(settings).unwrap();
    let served = Served::start(settings.clone());
    let clock = Arc::new(SystemClock);
    let wire = connect(Vendor::OpenAiCompatible, Some(&served.url), None, clock.clone()).unwrap();
    let within = Scripted::new(settings, clock);
    let (prompt, patience) = (prompt(text), Duration::from_secs(20));
    let mut errors = Vec::new();
    for provider in [wire, Arc::new(within)] {
        let error = match provider.complete("m", &prompt, patience).await {
            Ok(_) => provider.complete("m", &prompt, patience).await.unwrap_err(),
            Err(error) => error,
        };
        errors.push(error);
    }
    let limits = |error: &ProviderError| {
        error.told.iter().map(|told| (told.axis, told.per, told.limit)).collect::<Vec<_>>()
    };
    assert_eq!(limits(&errors[0]), limits(&errors[1]), "{errors:?}");
    assert_eq!(
        errors[0].message.split(" Please").next(),
        errors[1].message.split(" Please").next()
    );
    errors.try_into().unwrap()
}

#[rstest::rstest]
#[case::a_rate("", "hello", codes::RATE_LIMITED, 4)]
#[case::a_window(
    "window = \"1m\"\noutput_tokens_per_answer = [300, 300]",
    "hello",
    codes::RATE_LIMITED,
    4
)]
#[case::growth("ramp = \"2x/10s from 5%\"\nburst = \"1m\"", "hello", codes::SLOW_DOWN, 4)]
#[case::too_large("window = \"1s\"", &"hello ".repeat(200), codes::LARGER_THAN_LIMIT, 4)]
#[case::no_headers("headers = false", "hello", codes::RATE_LIMITED, 0)]
#[case::no_hints("hints = false", "hello", codes::RATE_LIMITED, 0)]
#[tokio::test]
async fn a_refusal_means_the_same_in_process_and_on_the_wire(
    #[case] more: &str,
    #[case] text: &str,
    #[case] code: &str,
    #[case] limits: usize,
) {
    for error in both_refusals(&format!("{TIGHT}\n{more}"), text).await {
        assert_eq!((error.code, error.status), (code, Some(429)), "{error:?}");
        let waits = !more.contains("hints") && code != codes::LARGER_THAN_LIMIT;
        assert_eq!(error.retry_after.is_some(), waits, "{error:?}");
        let told: Vec<&Told> = error.told.iter().filter(|told| told.remaining.is_some()).collect();
        assert_eq!(told.len(), limits, "{error:?}");
        let limit = |axis, per| {
            let one = told.iter().find(|told| told.axis == axis && told.per == per);
            one.and_then(|told| told.limit)
        };
        if limits > 0 {
            assert_eq!(limit(Axis::Requests, Period::Minute), Some(30.0));
            assert_eq!(limit(Axis::InputTokens, Period::Minute), Some(6_000.0));
            assert_eq!(limit(Axis::Tokens, Period::Minute), Some(600.0));
            assert_eq!(limit(Axis::Tokens, Period::Day), Some(1e6));
        }
    }
}

#[tokio::test]
async fn without_hints_nothing_says_when_or_how_much() {
    let settings = Settings {
        requests: Rate::parse("60/min"),
        hints: false,
        latency: Span::millis(0),
        ..Settings::default()
    };
    let served = Served::start(settings);
    served.ask("hello").await.unwrap();
    let refused = served.ask("hello").await.unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    let told = |name: &str| name.starts_with("x-ratelimit") || name.starts_with("retry-after");
    assert!(!refused.headers().keys().any(|name| told(name.as_str())), "{refused:?}");
    let body = refused.text().await.unwrap();
    assert!(!body.contains("60") && !body.contains("try again"), "{body}");
}

#[tokio::test]
async fn what_each_call_took_can_be_added_up() {
    let settings = Settings {
        output_tokens_per_answer: Some([20, 400]),
        input_token_factor: 1.5,
        latency: Span::millis(0),
        ..Settings::default()
    };
    let provider = Scripted::new(settings, Arc::new(SystemClock));
    let prompt = prompt(&"hello ".repeat(40));
    let estimate = u64::from(prompt.estimated_input_tokens());
    let mut billed = Vec::new();
    for _ in 0..200 {
        let answer = provider.complete("m", &prompt, Duration::from_secs(20)).await.unwrap();
        let usage = answer.usage.unwrap();
        assert_eq!(usage.input_tokens, (estimate * 3).div_ceil(2), "{usage:?}");
        billed.push(usage.output_tokens);
    }
    assert!(billed.iter().all(|tokens| (20..=300).contains(tokens)), "{billed:?}");
    assert!(billed.iter().min() < Some(&40) && billed.iter().max() == Some(&300), "{billed:?}");
    let stats = provider.model().stats();
    let taken: Vec<u64> = stats.admitted_units.iter().map(|(_, _, output)| *output).collect();
    assert_eq!(taken, billed);
    let input: u64 = stats.admitted_units.iter().map(|(_, input, _)| input).sum();
    assert_eq!((stats.input_tokens, stats.output_tokens), (input, billed.iter().sum()));
    let again = Scripted::new(provider.model().settings().clone(), Arc::new(SystemClock));
    let answer = again.complete("m", &prompt, Duration::from_secs(20)).await.unwrap();
    assert_eq!(answer.usage.unwrap().output_tokens, billed[0], "the same in every run");
}

#[tokio::test]
async fn statuses_go_wrong_with_openais_bodies() {
    let served = Served::quick();
    for (word, status, kind) in [
        ("429", 429, "requests"),
        ("500", 500, "server_error"),
        ("503", 503, "service_unavailable_error"),
        ("529", 529, "overloaded_error"),
        ("401", 401, "invalid_request_error"),
    ] {
        let response = served.ask(&format!("#scripted:{word}")).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["type"], kind, "{error}");
    }
    let stats = served.stats().await;
    assert_eq!((stats.calls, stats.answered, stats.rate_limited), (5, 0, 1));
    assert_eq!(stats.by_fault.len(), 5);
}

#[tokio::test]
async fn bodies_go_wrong_for_real() {
    let served = Served::quick();
    let page = served.ask("#scripted:html").await.unwrap();
    assert!(header(&page, "content-type").unwrap().starts_with("text/html"));
    assert!(page.text().await.unwrap().starts_with("<!doctype html>"));

    let empty = served.ask("#scripted:empty").await.unwrap();
    assert_eq!((empty.status().as_u16(), empty.bytes().await.unwrap().len()), (200, 0));

    let mut half = served.ask("#scripted:half").await.unwrap();
    let announced: usize = header(&half, "content-length").unwrap().parse().unwrap();
    let mut received = 0;
    let broken = loop {
        match half.chunk().await {
            Ok(Some(piece)) => received += piece.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken && received == announced / 2, "{received} of {announced}");

    let huge = served.ask("#scripted:huge").await.unwrap();
    assert!(huge.bytes().await.unwrap().len() > 8 << 20);
    let prose = served.ask("#scripted:text").await.unwrap();
    assert_eq!(prose.status().as_u16(), 200);
}

#[tokio::test]
async fn connections_break_before_an_answer() {
    let served = Served::quick();
    for word in ["reset", "refuse"] {
        let error = served.ask(&format!("#scripted:{word}")).await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    }
    assert_eq!(served.stats().await.by_fault.get(&Fault::Reset), Some(&1));
}

#[tokio::test]
async fn a_call_that_hangs_frees_its_place_when_the_client_goes() {
    let served = Served::quick();
    tokio::select! {
        answer = served.ask("#scripted:hang") => panic!("{answer:?}"),
        () = eventually("the call hangs", || async { served.model.running() == 1 }) => {}
    }
    eventually("the place is free", || async { served.model.running() == 0 }).await;
    assert_eq!(served.stats().await.calls, 1);
}

#[tokio::test]
async fn it_bears_many_connections_at_once() {
    let served = Served::start(Settings { concurrency: Some(40), ..Settings::default() });
    let answers = join_all((0..200).map(|_| served.ask("hello"))).await;
    let answered = answers.iter().filter(|a| a.as_ref().unwrap().status().as_u16() == 200).count();
    let stats = served.stats().await;
    assert!(answered >= 40 && stats.max_concurrent <= 40, "{answered} {}", stats.max_concurrent);
    assert_eq!(stats.calls, 200);
}
