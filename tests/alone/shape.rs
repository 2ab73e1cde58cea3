//! A smaller `make bench-shape ARGS="--only axes --bind input-tokens"`, and its arithmetic.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::MACHINE;
use crate::arrivals::{covering_burst, jain, most_within, percentile, reached, span, total};
use crate::support::burst::provider;
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::{Spillway, settings};
use crate::work::{Axis, Limits, groups, varied};

#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_use_up_the_input_tokens_and_no_more() {
    let _machine = MACHINE.lock().await;
    let jobs = varied(600, 5);
    let limits = Limits::binding(Axis::InputTokens, &jobs, 20.0, 1.0);
    let mut scripted = json!({ "latency": "50ms", "output_tokens_per_answer": [20, 400] });
    for (name, rate) in limits.settings() {
        scripted[name] = rate.into();
    }
    let (redis, server) = (RedisServer::start(&[]), ScriptedServer::start(&scripted));
    let task = "[tasks.work]\nroute = \"cheap\"\nmax_output_tokens = 400\n";
    let limited = format!("[[accounts.main.limits]]\n{}{task}", limits.toml());
    let settings = settings(&format!("url = \"{}\"", redis.url()), &provider(&server, &limited));
    let replicas: Vec<Spillway> = (0..4).map(|_| Spillway::start(&settings)).collect();
    let receiver = Receiver::start();
    for (group, replica) in
        groups(&jobs, Some(&receiver.url("/"))).iter().zip(replicas.iter().cycle())
    {
        let (status, answer) = replica.post("/v1/groups", group).await;
        assert_eq!(status, 202, "{answer}");
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while receiver.taken().len() < jobs.len() {
        assert!(Instant::now() < deadline, "{} of {}", receiver.taken().len(), jobs.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stats = server.stats().await;
    assert_eq!((&stats["rate_limited"], &stats["calls"]), (&json!(0), &json!(jobs.len())));
    let taken: Vec<(i64, f64, f64)> =
        serde_json::from_value(stats["admitted_units"].clone()).unwrap();
    let requests: Vec<_> = taken.iter().map(|(at, ..)| (*at, 1.0)).collect();
    let input: Vec<_> = taken.iter().map(|(at, input, _)| (*at, *input)).collect();
    let output: Vec<_> = taken.iter().map(|(at, _, output)| (*at, *output)).collect();
    for (axis, arrivals) in Axis::ALL.into_iter().zip([&requests, &input, &output]) {
        let (rate, burst) =
            (limits.per_second(axis), covering_burst(arrivals, limits.per_second(axis)));
        assert!(burst <= rate + 1e-6, "{axis:?}: {burst} at once at {rate} a second");
    }
    let used = total(&input) / (limits.per_second(Axis::InputTokens) * span(&input));
    println!("{:.1} s: {:.2} % of the input tokens used, 0 x 429", span(&input), used * 100.0);
    assert!(used >= 0.97, "{used}");
}

#[test]
fn a_burst_covers_every_window() {
    // Three at once, then one a second: at one a second the three are the burst.
    let arrivals = [(0, 1.0), (0, 1.0), (0, 1.0), (1_000_000, 1.0), (2_000_000, 1.0)];
    assert!((covering_burst(&arrivals, 1.0) - 3.0).abs() < 1e-9);
    // At half a unit a second each second adds a half.
    assert!((covering_burst(&arrivals, 0.5) - 4.0).abs() < 1e-9);
    // A burst at the end counts like one at the beginning.
    let late = [(0, 1.0), (5_000_000, 2.0), (5_100_000, 2.0)];
    assert!((covering_burst(&late, 1.0) - 3.9).abs() < 1e-9);
}

#[test]
fn the_fullest_window_is_found() {
    let arrivals = [(0, 2.0), (10, 1.0), (11, 4.0), (20, 1.0), (25, 1.0)];
    assert!((most_within(&arrivals, 10) - 5.0).abs() < 1e-9);
    assert!((most_within(&arrivals, 11) - 6.0).abs() < 1e-9);
    assert!((most_within(&arrivals, 100) - 9.0).abs() < 1e-9);
}

#[test]
fn a_rate_is_reached_once_a_whole_window_has_it() {
    let slow = (0..10).map(|n| (n * 1_000_000, 1.0));
    let fast = (0..30).map(|n| (10_000_000 + n * 100_000, 1.0));
    let arrivals: Vec<(i64, f64)> = slow.chain(fast).collect();
    let at = reached(&arrivals, 1_000_000, 10.0);
    assert!(at.is_some_and(|at| (at - 10.9).abs() < 0.01), "{at:?}");
    assert_eq!(reached(&arrivals, 1_000_000, 20.0), None);
}

#[test]
fn fairness_and_percentiles() {
    assert!((jain(&[1.0; 50]) - 1.0).abs() < 1e-9);
    assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    let mut values: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!(percentile(&mut values, 99), Some(99.0));
    assert_eq!(percentile(&mut values, 50), Some(50.0));
    assert_eq!(percentile(&mut [], 50), None);
}
