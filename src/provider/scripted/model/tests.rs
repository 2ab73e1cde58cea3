//! Limits, places and what is counted, with the clock in hand.

use super::*;
use crate::clock::ManualClock;
use crate::domain::prompt::Message;
use crate::domain::units::{Rate, Span};
use chrono::DateTime;
use proptest::prelude::*;

fn prompt(bytes: usize) -> Prompt {
    let content = "a".repeat(bytes);
    let user = Message::user(content);
    Prompt { messages: vec![user], max_output_tokens: 100, ..Prompt::default() }
}

fn model(settings: Settings) -> (Arc<Model>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_790_000_000, 0).unwrap()));
    (Arc::new(Model::new(settings, Arc::<ManualClock>::clone(&clock))), clock)
}

fn limited(call: &Call) -> Option<Duration> {
    match call.outcome() {
        Outcome::Limited(limited) => limited.wait,
        Outcome::Answer(_) | Outcome::Fault(_) => None,
    }
}

proptest! {
    #[test]
    fn no_window_sees_more_than_the_limit(
        pauses in prop::collection::vec(0u64..200_000, 1..300),
        amount in 1u64..40,
    ) {
        let requests = Some(Rate { amount, per: Duration::from_secs(1) });
        let (model, clock) = model(Settings { requests, ..Settings::default() });
        for pause in pauses {
            clock.advance(Duration::from_micros(pause));
            model.call("m", &prompt(10));
        }
        let stats = model.stats();
        for millis in [1, 100, 1_000, 3_000, 10_000] {
            let window = Duration::from_millis(millis);
            let allowed = amount + amount * millis / 1_000;
            let seen = stats.most_admitted_within(window);
            prop_assert!(seen as u64 <= allowed, "{seen} in {millis} ms");
        }
        prop_assert_eq!(stats.calls, stats.answered + stats.rate_limited);
    }

    #[test]
    fn whoever_comes_back_when_told_finds_room(
        pauses in prop::collection::vec(0u64..100_000, 1..100),
        bytes in 1usize..4_000,
    ) {
        let settings = Settings {
            requests: Rate::parse("300/min"),
            input_tokens: Rate::parse("1000/min"),
            ..Settings::default()
        };
        let (model, clock) = model(settings);
        for pause in pauses {
            clock.advance(Duration::from_micros(pause));
            if let Some(wait) = limited(&model.call("m", &prompt(bytes))) {
                clock.advance(wait);
                prop_assert_eq!(limited(&model.call("m", &prompt(bytes))), None);
            }
        }
    }
}

#[test]
fn one_call_larger_than_the_bucket_goes_when_it_is_empty() {
    let input_tokens = Rate::parse("60/min");
    let (model, clock) = model(Settings { input_tokens, ..Settings::default() });
    assert_eq!(limited(&model.call("m", &prompt(4_000))), None);
    assert!(limited(&model.call("m", &prompt(4))).is_some_and(|wait| wait.as_secs() > 900));
    clock.advance(Duration::from_secs(1_100));
    assert_eq!(limited(&model.call("m", &prompt(4_000))), None);
}

#[test]
fn calls_at_the_same_time_are_limited_and_told_when_one_ends() {
    let latency = Span::millis(400);
    let settings = Settings { concurrency: Some(2), latency, jitter: 0.0, ..Settings::default() };
    let (model, _) = model(settings);
    let (first, second) = (model.call("m", &prompt(4)), model.call("m", &prompt(4)));
    assert_eq!((limited(&first), limited(&second)), (None, None));
    assert_eq!(limited(&model.call("m", &prompt(4))), Some(Duration::from_millis(401)));
    drop(first);
    assert_eq!(limited(&model.call("m", &prompt(4))), None);
    assert_eq!((model.stats().max_concurrent, model.stats().rate_limited), (2, 1));
    drop(second);
    assert_eq!(model.running(), 0);
}

#[test]
fn everything_seen_is_counted() {
    let text = "faults = [{ every = 2, answer = \"html\" }, { every = 3, answer = \"hang\" }]";
    let (model, _) = model(toml::from_str(text).unwrap());
    let calls: Vec<Call> = (0..6).map(|_| model.call("m", &prompt(4))).collect();
    assert!(calls.iter().any(|call| call.latency() == HANG));
    let stats = model.stats();
    assert_eq!((stats.calls, stats.answered, stats.rate_limited), (6, 2, 0));
    assert_eq!(stats.by_status, BTreeMap::from([(200, 5)]));
    assert_eq!(stats.by_fault, BTreeMap::from([(Fault::Html, 3), (Fault::Hang, 1)]));
    assert_eq!((stats.arrivals.len(), stats.max_concurrent), (6, 6));
    model.reset();
    assert_eq!((model.stats(), model.running()), (Stats::default(), 6));
}
