//! Gates: shut, opened, passed.

use std::time::Duration;

use rstest::rstest;
use spillway::limiter::{Ask, Obstacle, ShutGate};

use super::{Bench, Kind, ask, calls, ms, not_before, urgent};

#[rstest]
#[tokio::test]
async fn nobody_passes_a_shut_gate_however_patient_until_its_time(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 5.0);
    bench.limiter.shut("p", ms(300), "429").await.unwrap();
    let call = Ask { horizon: ms(5000), ..urgent("a", &[&pool]) };
    let shut = |wait, gate: &str| not_before(ms(wait), Obstacle::Gate(gate.to_owned()));
    assert_eq!(bench.take(&call).await, shut(300, "p"));
    // The gates of an ask count like those of its pools; the longest wait is told.
    let other = Ask { gates: vec!["open".to_owned(), "step".to_owned()], ..call.clone() };
    bench.replica().shut("step", ms(700), "it fails").await.unwrap();
    assert_eq!(bench.take(&other).await, shut(700, "step"));
    bench.pass(ms(300));
    bench.granted(&call).await;
    assert_eq!(bench.take(&other).await, shut(400, "step"));
    bench.limiter.open("step").await.unwrap();
    bench.granted(&other).await;
    bench.limiter.open("never shut").await.unwrap();
}

#[rstest]
#[tokio::test]
async fn the_later_of_two_times_stays(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let names = ["b", "open", "a"].map(str::to_owned);
    bench.limiter.shut("a", ms(500), "first\nwith 2 lines").await.unwrap();
    bench.limiter.shut("a", ms(400), "shorter").await.unwrap();
    bench.limiter.shut("b", ms(100), "shorter").await.unwrap();
    bench.limiter.shut("b", ms(900), "").await.unwrap();
    bench.limiter.shut("open", Duration::ZERO, "not at all").await.unwrap();
    let gate = |gate: &str, left, reason: &str| ShutGate {
        gate: gate.to_owned(),
        left: ms(left),
        reason: reason.to_owned(),
    };
    let shut = async || bench.limiter.shut_gates(&names).await.unwrap();
    assert_eq!(shut().await, [gate("b", 900, ""), gate("a", 500, "first\nwith 2 lines")]);
    bench.pass(ms(500));
    assert_eq!(shut().await, [gate("b", 400, "")]);
    bench.limiter.shut("a", ms(1), "again").await.unwrap();
    assert_eq!(shut().await, [gate("b", 400, ""), gate("a", 1, "again")]);
}

#[rstest]
#[tokio::test]
async fn a_gate_without_end_is_shut_for_very_long(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    bench.limiter.shut("key", Duration::MAX, "refused").await.unwrap();
    let shut = bench.limiter.shut_gates(&["key".to_owned()]).await.unwrap();
    assert!(shut[0].left > Duration::from_secs(20 * 365 * 86_400));
}

#[rstest]
#[tokio::test]
async fn behind_a_shut_gate_nobody_urgent_keeps_others_back(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 1.0);
    bench.granted(&ask("a", &[&pool])).await;
    bench.limiter.shut("step", ms(60_000), "it fails").await.unwrap();
    let waits = Ask { gates: vec!["step".to_owned()], ..urgent("u", &[&pool]) };
    let shut = Obstacle::Gate("step".to_owned());
    assert_eq!(bench.take(&waits).await, not_before(ms(60_000), shut));
    bench.pass(ms(100));
    bench.granted(&ask("b", &[&pool])).await;
}
