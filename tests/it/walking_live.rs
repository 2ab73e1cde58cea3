//! Live calls walk a route as jobs do: deadlines, hedging, how a step comes back. In virtual time,
//! with the real engine.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use futures::StreamExt;
use spillway::app;
use spillway::clock::{SharedClock, VirtualClock};
use spillway::config::load_rehearsal;
use spillway::domain::prompt::{Message, Prompt};
use spillway::domain::result::Outcome;
use spillway::engine::SharedEngine;
use spillway::engine::live::Call;
use spillway::lifecycle::Lifecycle;
use spillway::provider::SharedProvider;
use spillway::provider::scripted::Scripted;
use spillway::provider::stream::Event;
use tokio::time::Instant;

/// An engine over two accounts of the built-in provider.
fn engine(rules: &str) -> (SharedEngine, Lifecycle) {
    let folder = tempfile::tempdir().unwrap().keep();
    let file = folder.join("spillway.toml");
    let account = |name: &str| {
        format!("[accounts.{name}]\nprovider = \"scripted\"\nscripted = {{ latency = \"10ms\" }}\n")
    };
    let routes = format!("[routes.cheap]\n{rules}\n[routes.premium]\nsteps = [\"a/x\"]\n");
    std::fs::write(&file, format!("{}{}{routes}", account("a"), account("b"))).unwrap();
    let loaded = load_rehearsal(Some(file), &std::collections::BTreeMap::new()).unwrap();
    let start = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
    let clock: SharedClock = Arc::new(VirtualClock::starting_at(start));
    let lifecycle = Lifecycle::default();
    let engine = app::rehearsal(loaded, &clock, &lifecycle, 7, |account| -> SharedProvider {
        Arc::new(Scripted::new(account.scripted.clone().unwrap_or_default(), Arc::clone(&clock)))
    });
    let engine = engine.unwrap();
    engine.start();
    (engine, lifecycle)
}

fn call(engine: &SharedEngine, text: &str) -> Call {
    Call {
        caller: "me".to_owned(),
        named: engine.catalog().named("cheap").unwrap(),
        prompt: Prompt {
            messages: vec![Message::user(text)],
            max_output_tokens: 100,
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

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_hedged_and_its_loser_stands_on_the_receipt() {
    let hedge = "steps = [\"a/x\", \"b/y\"]\nhedge = { after = \"300ms\", most = 1.0 }";
    let (engine, lifecycle) = engine(hedge);
    let began = Instant::now();
    let done = engine.call(call(&engine, "#scripted:slow@x 60s")).await.unwrap();
    assert_eq!(done.completion.model, "y");
    let took = began.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_millis(400)).contains(&took), "{took:?}");
    let outcomes: Vec<_> = done.result.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Outcome::Hedged, Outcome::Answered]);
    // The first may still answer first.
    let done = engine.call(call(&engine, "#scripted:slow@x 400ms\n#scripted:slow@y 9s")).await;
    let done = done.unwrap();
    assert_eq!(done.completion.model, "x");
    let models: Vec<_> = done.result.attempts.iter().map(|a| (&a.model[..], a.outcome)).collect();
    assert_eq!(models, [("y", Outcome::Hedged), ("x", Outcome::Answered)]);
    lifecycle.drop_all().await;
}

#[tokio::test(start_paused = true)]
async fn when_one_of_two_fails_the_other_is_waited_for() {
    let hedge = "steps = [{ step = \"a/x\", timeout = \"2s\" }, \"b/y\"]\n\
                 hedge = { after = \"300ms\", most = 1.0 }";
    let (engine, lifecycle) = engine(hedge);
    let done = engine.call(call(&engine, "#scripted:hang@x\n#scripted:slow@y 5s")).await.unwrap();
    let outcomes: Vec<_> = done.result.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Outcome::TimedOut, Outcome::Answered]);
    let done = engine.call(call(&engine, "#scripted:slow@x 1s\n#scripted:500@y")).await.unwrap();
    assert_eq!(done.completion.model, "x");
    let outcomes: Vec<_> = done.result.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Outcome::Overloaded, Outcome::Answered]);
    lifecycle.drop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_begin_is_hedged_or_left() {
    for rules in [
        "steps = [\"a/x\", \"b/y\"]\nhedge = { after = \"300ms\", most = 1.0 }",
        "steps = [\"a/x\", \"b/y\"]\nfirst_token = \"300ms\"",
    ] {
        let (engine, lifecycle) = engine(rules);
        let began = Instant::now();
        let streamed = engine.call_streamed(call(&engine, "#scripted:slow@x 60s")).await.unwrap();
        assert_eq!(streamed.model(), "y", "{rules}");
        assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
        let pieces: Vec<_> = streamed.map(Result::unwrap).collect().await;
        let last = pieces.last().and_then(|piece| piece.events.last());
        assert!(matches!(last, Some(Event::End(_))));
        lifecycle.drop_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn medians_of_the_last_five_minutes_decide_who_goes_first() {
    let (engine, lifecycle) = engine("steps = [\"a/x\", \"b/y\"]\nsort = \"latency\"");
    let only = |provider: &str| {
        let only = vec![provider.to_owned()];
        Some(spillway::domain::job::ProviderChoice { only, ..Default::default() })
    };
    let ask = async |text: &str, provider| {
        let asked = Call { provider, ..call(&engine, text) };
        engine.call(asked).await.unwrap().completion.model
    };
    for _ in 0..6 {
        ask("#scripted:slow@x 800ms", only("a")).await;
        ask("#scripted:slow@y 200ms", only("b")).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut firsts = Vec::new();
    for _ in 0..10 {
        firsts.push(ask("#scripted:slow@x 800ms\n#scripted:slow@y 200ms", None).await);
    }
    assert!(firsts.iter().all(|model| model == "y"), "{firsts:?}");
    // What was seen is forgotten, and they are as they are written.
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(ask("x", None).await, "x");
    lifecycle.drop_all().await;
}
