//! Prompt caches over the real binary: what is marked, who waits for whom, what waiting is worth, and
//! what the metrics tell.

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::Spillway;

/// 3,000 tokens.
fn long(what: &str) -> String {
    format!("{what}: {}", "rule ".repeat(2_400))
}

/// A chat about these instructions that was said so.
async fn chat(spillway: &Spillway, system: &str, said: &[&str], more: &Value) -> Value {
    let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "assistant" };
    let message = |(index, text): (usize, &&str)| json!({ "role": role(index), "content": text });
    let messages: Vec<Value> = said.iter().enumerate().map(message).collect();
    let mut body = json!({ "route": "cheap", "system": system, "messages": messages });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, result) = spillway.post("/chat", &body).await;
    assert_eq!(status, 200, "{result:#}");
    result
}

/// The accounts that were asked, and what came of it.
fn asked(result: &Value) -> Vec<(String, String)> {
    let word = |attempt: &Value, name: &str| attempt[name].as_str().unwrap().to_owned();
    let attempts = result["attempts"].as_array().unwrap();
    attempts.iter().map(|one| (word(one, "account"), word(one, "outcome"))).collect()
}

const PRICE: &str = "[[prices]]\nprovider = \"openai-compatible\"\nmodel = \"tiny-1\"\n\
                     input = 3.0\noutput = 15.0\ncached_input = 0.3\n";

/// An account of this name with these further lines.
fn account(name: &str, vendor: &str, url: &str, more: &str) -> String {
    format!(
        "[accounts.{name}]\nprovider = \"{vendor}\"\nbase_url = \"{url}\"\napi_key = \"k\"\n\
         org = \"{name}\"\n{more}\n"
    )
}

fn routes(steps: &str) -> String {
    format!("[routes]\ncheap = {{ steps = {steps} }}\npremium = {{ steps = {steps} }}\n")
}

/// Where the last request to Anthropic is marked: its system, its last message.
async fn marks(server: &MockServer) -> (bool, bool) {
    let requests = server.received_requests().await.unwrap();
    let body: Value = requests.last().unwrap().body_json().unwrap();
    let marked = |value: &Value| value.to_string().contains("cache_control");
    (marked(&body["system"]), marked(body["messages"].as_array().unwrap().last().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_is_marked_and_nothing_else() {
    let server = MockServer::start().await;
    let answer = json!({ "type": "message", "content": [{ "type": "text", "text": "Yes" }],
        "stop_reason": "end_turn", "usage": { "input_tokens": 9, "output_tokens": 1 } });
    let answer = ResponseTemplate::new(200).set_body_json(answer);
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let account = account("claude", "anthropic", &server.uri(), "");
    let settings = account + &routes("[\"claude/claude-sonnet-4-6\"]");
    let (spillway, _folder) = start(Store::Embedded, &settings);
    let none = json!({});

    chat(&spillway, &long("A"), &["one?"], &none).await;
    assert_eq!(marks(&server).await, (false, false), "a prompt that nobody has seen");
    chat(&spillway, &long("A"), &["another?"], &none).await;
    assert_eq!(marks(&server).await, (true, false), "instructions that come again");
    chat(&spillway, &long("B"), &["one?"], &json!({ "session": "s" })).await;
    assert_eq!(marks(&server).await, (true, true), "a session");
    chat(&spillway, &long("C"), &["one?", "Yes", "Sure?"], &none).await;
    assert_eq!(marks(&server).await, (true, true), "a conversation");
    chat(&spillway, "Be brief.", &["one?"], &json!({ "session": "s" })).await;
    assert_eq!(marks(&server).await, (false, false), "what is too short to be cached");
}

/// A gauge or the sum of a counter's lines that have all these words.
async fn metric(spillway: &Spillway, words: &[&str]) -> f64 {
    let (_, text) = spillway.get("/metrics").await;
    let lines = text.as_str().unwrap().lines().filter(|line| !line.starts_with('#'));
    let found = lines.filter(|line| words.iter().all(|word| line.contains(word)));
    found.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_was_written_read_and_saved() {
    let server = ScriptedServer::start(&json!({ "latency": "1ms", "cache": { "mode": "marked" } }));
    let url = format!("{}/anthropic", server.url());
    let settings =
        account("claude", "anthropic", &url, "") + &routes("[\"claude/claude-sonnet-4-6\"]");
    let (spillway, _folder) = start(Store::Embedded, &settings);
    let said = ["one?", "Yes", "two?", "Yes", "three?"];
    for turns in [1, 3, 5] {
        chat(&spillway, &long("A"), &said[..turns], &json!({ "session": "s" })).await;
    }
    let stats = server.stats().await;
    let count = |name: &str| stats[name].as_f64().unwrap();
    let (read, written) = (count("cached_input_tokens"), count("cache_write_tokens"));
    assert!(written > 3_000.0 && read > 2.0 * 3_000.0 && written < 3_200.0, "{stats}");
    for (kind, tokens) in [("\"cached_input\"", read), ("\"cache_write\"", written)] {
        let told = metric(&spillway, &["gen_ai_client_token_usage_total{", "claude", kind]).await;
        assert!((told - tokens).abs() < 0.5, "{kind}: {told}, not {tokens}");
    }
    let ratio = metric(&spillway, &["spillway_cache_hit_ratio{account=\"claude\"}"]).await;
    assert!((ratio - read / count("input_tokens")).abs() < 1e-6, "{ratio} {stats}");
    let saved = metric(&spillway, &["spillway_cache_saved_usd{account=\"claude\""]).await;
    let expected = (read * 2.7 - written * 0.75) / 1e6;
    assert!((saved - expected).abs() < 1e-9, "{saved}, not {expected}");
}

/// Of calls that begin alike.
const QUESTIONS: [&str; 6] = ["one?", "two?", "three?", "four?", "five?", "six?"];

#[rstest]
#[case::worth_the_wait(0.01, 5)]
#[case::not_worth_it(1e9, 0)]
#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_begin_alike_one_writes_and_the_others_read(
    #[case] hour_usd: f64,
    #[case] readers: u64,
) {
    let cached = json!({ "latency": "1s", "cache": { "mode": "automatic" } });
    let server = ScriptedServer::start(&cached);
    let url = format!("{}/v1", server.url());
    let hour = format!("[engine.sessions.hour_usd]\ninteractive = {hour_usd:?}\n");
    let account = account("one", "openai-compatible", &url, "");
    let settings = account + &routes("[\"one/tiny-1\"]") + PRICE + &hour;
    let (spillway, _folder) = start(Store::Embedded, &settings);
    let (system, none) = (long("A"), json!({}));
    let call = |at: usize| chat(&spillway, &system, &QUESTIONS[at..=at], &none);
    let others = async {
        // Once the first is under way: the provider has it, and not yet answered.
        eventually("the first is asked", || async { server.stats().await["calls"] == 1 }).await;
        join_all((1..QUESTIONS.len()).map(call)).await
    };
    futures::join!(call(0), others);
    let stats = server.stats().await;
    let whole = stats["cached_input_tokens"].as_u64().unwrap() / 2_900;
    assert_eq!((&stats["calls"], whole), (&json!(6), readers), "{stats}");
}

#[rstest]
#[case::reading_saves_more(0.01, true)]
#[case::waiting_costs_more(1e9, false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_holds_out_for_its_account_while_that_is_cheaper(
    #[case] hour_usd: f64,
    #[case] stays: bool,
) {
    let server = ScriptedServer::start(&json!({ "latency": "1ms" }));
    let url = format!("{}/v1", server.url());
    let hour = format!("[engine.sessions.hour_usd]\ninteractive = {hour_usd:?}\n");
    // Three seconds from one call to the next.
    let limits =
        |name| format!("[[accounts.{name}.limits]]\nrequests = \"20/min\"\nburst = \"1s\"");
    let accounts =
        ["one", "two"].map(|name| account(name, "openai-compatible", &url, &limits(name))).concat();
    let settings = accounts + &routes("[\"one/tiny-1\", \"two/tiny-1\"]") + PRICE + &hour;
    let (spillway, _folder) = start(Store::Embedded, &settings);
    let said = ["one?", "Yes", "two?"];
    let first = asked(&chat(&spillway, &long("A"), &said[..1], &json!({})).await);
    let second = asked(&chat(&spillway, &long("A"), &said, &json!({})).await);
    assert_eq!((first.len(), second.len()), (1, 1), "{first:?} {second:?}");
    assert_eq!(first == second, stays, "{first:?} {second:?}");
}

/// From now on this server answers so.
async fn answers(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    Mock::given(any()).respond_with(answer).mount(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_when_its_account_is_shut_and_stays_where_it_was_answered() {
    let message = json!({ "choices": [{ "message": { "content": "Yes" }, "finish_reason": "stop" }],
                          "usage": { "prompt_tokens": 10, "completion_tokens": 5 } });
    let good = ResponseTemplate::new(200).set_body_json(message);
    let servers = [MockServer::start().await, MockServer::start().await, MockServer::start().await];
    for server in &servers {
        answers(server, good.clone()).await;
    }
    let names = ["one", "two", "three"];
    let accounts = names.iter().zip(&servers);
    let accounts: String = accounts
        .map(|(name, server)| account(name, "openai-compatible", &server.uri(), ""))
        .collect();
    let steps = routes("[\"one/m\", \"two/m\", \"three/m\"]");
    let (spillway, _folder) =
        start(Store::Embedded, &(accounts + &steps + "[engine]\ndisabled = \"1h\"\n"));
    let session = json!({ "session": "s" });
    let home = asked(&chat(&spillway, "Be brief.", &["one?"], &session).await);
    assert_eq!(home.len(), 1, "{home:?}");
    let at = |name: &str| &servers[names.iter().position(|other| *other == name).unwrap()];

    // Its key is revoked, and the account that is asked next has a bad moment.
    answers(at(&home[0].0), ResponseTemplate::new(401)).await;
    let others = names.iter().filter(|name| **name != home[0].0);
    for server in others.clone().map(|name| at(name)) {
        server.reset().await;
        let once = Mock::given(any()).respond_with(ResponseTemplate::new(500));
        once.up_to_n_times(1).mount(server).await;
        Mock::given(any()).respond_with(good.clone()).mount(server).await;
    }
    let moved = asked(&chat(&spillway, "Be brief.", &["two?"], &session).await);
    let (first, last) = (moved[0].clone(), moved.last().unwrap().clone());
    assert_eq!(first, (home[0].0.clone(), "unauthorized".to_owned()), "{moved:?}");
    assert_eq!(last.1, "answered", "{moved:?}");
    for _ in 0..3 {
        let stays = asked(&chat(&spillway, "Be brief.", &["three?"], &session).await);
        assert_eq!(stays, std::slice::from_ref(&last), "bound by the answer, not by what failed");
    }
}
