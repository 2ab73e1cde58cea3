//! A task's contract and a caller's budget in calls that somebody waits for.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use spillway::app;
use spillway::clock::{SharedClock, SystemClock};
use spillway::config::load;
use spillway::domain::completion::Completion;
use spillway::domain::prompt::{Message, Prompt};
use spillway::domain::result::{JobResult, Outcome};
use spillway::engine::SharedEngine;
use spillway::engine::live::{Call, LiveError};
use spillway::lifecycle::Lifecycle;
use spillway::provider::stream::whole;

use crate::support::eventually;
use crate::support::spillway::SCRIPTED;

/// The engine alone, over these settings.
fn engine(more: &str) -> SharedEngine {
    let settings = format!("{SCRIPTED}{more}");
    let folder = std::path::Path::new(".");
    let loaded = load::parse(&settings, folder, &std::collections::BTreeMap::new()).unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let made = Arc::clone(&clock);
    let provider =
        move |account: &spillway::config::Account| app::provider(account, &made).unwrap();
    app::rehearsal(loaded, &clock, &Lifecycle::default(), 1, provider).unwrap()
}

fn call(engine: &SharedEngine, name: &str, text: &str) -> Call {
    Call {
        caller: "ann".to_owned(),
        named: engine.catalog().named(name).unwrap(),
        prompt: Prompt {
            messages: vec![Message::user(text)],
            max_output_tokens: 1_000,
            ..Prompt::default()
        },
        max_wait: Duration::from_secs(5),
        workflow: None,
        session: None,
        provider: None,
        max_cost_usd: None,
        metadata: None,
        traceparent: None,
    }
}

fn outcomes(result: &JobResult) -> Vec<(&str, Outcome)> {
    result.attempts.iter().map(|attempt| (attempt.model.as_str(), attempt.outcome)).collect()
}

async fn streamed(engine: &SharedEngine, call: Call) -> (usize, Completion, Vec<String>) {
    let streamed = engine.call_streamed(call).await.unwrap();
    let warnings = streamed.warnings().to_vec();
    let pieces: Vec<_> = streamed.collect().await;
    let count = pieces.len();
    (count, whole(futures::stream::iter(pieces).boxed()).await.unwrap(), warnings)
}

#[tokio::test]
async fn an_answer_is_repaired_and_escalated_before_anything_is_sent() {
    let engine = engine("");
    let unfit = "#scripted:invalid_output@tiny-1";
    let done = engine.call(call(&engine, "task:tag", unfit)).await.unwrap();
    let expected = [
        ("tiny-1", Outcome::InvalidOutput),
        ("tiny-1", Outcome::InvalidOutput),
        ("grand-1", Outcome::Answered),
    ];
    assert_eq!(outcomes(&done.result), expected);
    assert!(done.result.escalated && done.result.route == "premium");
    let (pieces, answer, _) = streamed(&engine, call(&engine, "task:tag", unfit)).await;
    assert_eq!((pieces, &answer.text), (1, &done.completion.text));
}

#[tokio::test]
async fn who_asked_for_json_gets_it_without_what_stood_around_it() {
    let engine = engine("");
    let said = "#scripted:say Sure: {'tags': ['a',]} Bye!";
    let done = engine.call(call(&engine, "task:tag", said)).await.unwrap();
    assert_eq!(done.completion.text, "{\"tags\":[\"a\"]}");
    assert_eq!(
        (done.result.data, done.result.text.as_deref()),
        (Some(json!({ "tags": ["a"] })), Some("a"))
    );
    let (_, answer, _) = streamed(&engine, call(&engine, "task:tag", said)).await;
    assert_eq!(answer.text, "{\"tags\":[\"a\"]}");
}

#[tokio::test]
async fn an_answer_that_never_fits_is_an_honest_failure() {
    let engine = engine("");
    let unfit = "#scripted:text";
    for streamed in [false, true] {
        let call = call(&engine, "task:tag", unfit);
        let failed = if streamed {
            engine.call_streamed(call).await.err().unwrap()
        } else {
            engine.call(call).await.err().unwrap()
        };
        let LiveError::Failed(result) = failed else { panic!("{failed}") };
        assert_eq!(result.error.unwrap().code, "invalid_output");
        assert!(result.text.unwrap().starts_with("Of course!"));
        assert_eq!(result.attempts.len(), 4);
    }
}

#[tokio::test]
async fn live_calls_have_a_budget_too() {
    let engine = engine(
        "[[prices]]\nprovider = \"scripted\"\nmodel = \"*\"\ninput = 0.0\noutput = 1000.0\n\
         [plans.default]\nusd_per_day = 2.0\ncalls_per_day = 4\nsoft = 0.5",
    );
    // A thousand tokens may cost a dollar; what is sent costs less.
    let spent = || async { engine.used("ann").await.unwrap().unwrap().standing };
    let done = engine.call(call(&engine, "cheap", "#scripted:say hello")).await.unwrap();
    let cost = done.result.cost_usd.unwrap();
    assert!(cost > 0.0 && done.warnings.is_empty());
    // The answer does not wait for that.
    eventually("it is paid for", || async { (spent().await.day.spent.usd() - cost).abs() < 1e-9 })
        .await;
    let (_, _, warnings) = streamed(&engine, call(&engine, "cheap", "#scripted:say hello")).await;
    assert_eq!(warnings, ["2 of 4 calls of this day are made."]);
    eventually("it is settled", || async {
        let day = spent().await.day;
        day.held.usd() == 0.0 && (day.spent.usd() - 2.0 * cost).abs() < 1e-9
    })
    .await;
    // Two at the same time would be too dear: one waits until the other has told what it did cost.
    let long = || engine.call(call(&engine, "cheap", "#scripted:slow 200ms #scripted:say hi"));
    let (first, second) = tokio::join!(long(), long());
    assert!(first.is_ok() && second.is_ok(), "{:?} {:?}", first.err(), second.err());
    let refused = engine.call(call(&engine, "cheap", "hello")).await.err().unwrap();
    let LiveError::OverBudget { message, retry_after } = refused else { panic!("{refused}") };
    assert!(message.contains("4 calls a day") && retry_after > Duration::ZERO, "{message}");
    assert_eq!(spent().await.calls, 4);
}

#[tokio::test]
async fn a_caller_that_hangs_up_pays_what_was_reserved() {
    let engine = engine(
        "[[prices]]\nprovider = \"scripted\"\nmodel = \"*\"\ninput = 0.0\noutput = 1000.0\n\
         [plans.default]\nusd_per_day = 5.0",
    );
    let slow = engine.call(call(&engine, "cheap", "#scripted:slow 1h"));
    assert!(tokio::time::timeout(Duration::from_millis(100), slow).await.is_err());
    eventually("it is settled", || async {
        let day = engine.used("ann").await.unwrap().unwrap().standing.day;
        day.held.usd() == 0.0 && (day.spent.usd() - 1.0).abs() < 1e-9
    })
    .await;
}
