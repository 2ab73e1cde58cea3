//! Taking turns, reserving them, giving them back.

use std::time::Duration;

use rstest::rstest;
use spillway::domain::limits::{Axis, Cost};
use spillway::limiter::{Ask, CONCURRENCY_PAUSE, End, Obstacle};

use super::{Bench, Kind, ask, calls, costing, minute, ms, not_before, places, pool, units};

#[rstest]
#[tokio::test]
async fn a_burst_leaves_at_once_and_the_rest_at_the_rate(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("acme/*", 10.0, 3.0);
    for id in ["a", "b", "c"] {
        bench.granted(&ask(id, &[&pool])).await;
    }
    // One departure of its own size is taken ahead.
    assert_eq!(bench.wait(&ask("d", &[&pool])).await, Some(ms(100)));
    let full = Obstacle::Bucket("acme/*".to_owned());
    assert_eq!(bench.take(&ask("e", &[&pool])).await, not_before(ms(100), full.clone()));
    bench.pass(ms(99));
    assert_eq!(bench.take(&ask("e", &[&pool])).await, not_before(ms(1), full));
    bench.pass(ms(1));
    assert_eq!(bench.wait(&ask("e", &[&pool])).await, Some(ms(100)));
    assert!((bench.level(&pool).await - 4.0).abs() < 1e-9);
}

#[rstest]
#[tokio::test]
async fn what_asks_for_nothing_and_touches_nothing_goes(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    bench.granted(&ask("a", &[])).await;
    bench.settle(&ask("a", &[])).await;
    let pool = calls("p", 1.0, 1.0);
    bench.granted(&ask("b", &[&pool])).await;
    bench.granted(&costing("c", &[&pool], 0.0)).await;
    assert_eq!(bench.limiter.levels(&[]).await.unwrap(), []);
    assert_eq!(bench.limiter.shut_gates(&[]).await.unwrap(), []);
}

#[rstest]
#[tokio::test]
async fn a_turn_is_taken_from_all_pools_or_from_none(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let (wide, narrow, slots) =
        (calls("wide", 10.0, 5.0), calls("narrow", 1.0, 1.0), places("s", 9));
    bench.granted(&costing("full", &[&narrow], 2.0)).await;
    bench.granted(&ask("a", &[&wide, &slots])).await;
    let refused = bench.take(&ask("b", &[&wide, &narrow, &slots])).await;
    assert_eq!(refused, not_before(ms(1000), Obstacle::Bucket("narrow".to_owned())));
    assert!((bench.level(&wide).await - 1.0).abs() < 1e-9);
    assert_eq!(bench.running(&slots).await, 1);
}

#[rstest]
#[tokio::test]
async fn every_axis_is_counted_and_a_pool_named_twice_once(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let buckets = vec![minute(Axis::Requests, 1.0, 2.0), minute(Axis::OutputTokens, 1.0, 100.0)];
    let pool = pool("p", buckets, None);
    let cost = Cost { requests: 1.0, input: 1e6, cached: 0.0, output: 60.0 };
    let call = Ask { cost, ..ask("a", &[&pool, &pool]) };
    bench.granted(&call).await;
    let level = bench.limiter.levels(std::slice::from_ref(&pool)).await.unwrap().remove(0);
    let units: Vec<u64> = level.buckets.iter().map(|bucket| bucket.units.to_bits()).collect();
    assert_eq!((units, level.running), (vec![1f64.to_bits(), 60f64.to_bits()], 1));
    let refused = bench.take(&Ask { id: "b".to_owned(), ..call }).await;
    assert_eq!(refused, not_before(ms(19_000), Obstacle::Bucket("p".to_owned())));
}

#[rstest]
#[tokio::test]
async fn a_turn_within_the_horizon_is_reserved(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 1.0);
    let soon = |id: &str| Ask { horizon: ms(250), ..ask(id, &[&pool]) };
    for (id, wait) in [("a", 0), ("b", 100), ("c", 200)] {
        assert_eq!(bench.wait(&soon(id)).await, Some(ms(wait)));
    }
    let full = Obstacle::Bucket("p".to_owned());
    assert_eq!(bench.take(&soon("d")).await, not_before(ms(50), full.clone()));
    bench.pass(ms(100));
    assert_eq!(bench.take(&ask("d", &[&pool])).await, not_before(ms(100), full));
}

#[rstest]
#[tokio::test]
async fn a_turn_that_waits_for_one_pool_counts_in_the_others_when_it_leaves(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let (fast, slow) = (calls("fast", 10.0, 4.0), calls("slow", 1.0, 1.0));
    bench.granted(&ask("a", &[&slow])).await;
    let later = Ask { horizon: ms(1000), ..ask("b", &[&fast, &slow]) };
    assert_eq!(bench.wait(&later).await, Some(ms(1000)));
    bench.pass(ms(1000));
    // `b` leaves now. Three more make a burst of four; a fourth would exceed it.
    for id in ["c", "d", "e"] {
        bench.granted(&ask(id, &[&fast])).await;
    }
    assert_ne!(bench.wait(&ask("f", &[&fast])).await, Some(Duration::ZERO));
}

#[rstest]
#[tokio::test]
async fn a_cost_larger_than_the_bucket_goes_alone(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 10.0);
    bench.granted(&costing("a", &[&pool], 30.0)).await;
    let full = Obstacle::Bucket("p".to_owned());
    assert_eq!(bench.take(&ask("b", &[&pool])).await, not_before(ms(2000), full));
}

#[rstest]
#[tokio::test]
async fn accounts_of_one_org_share_what_has_one_name(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    bench.granted(&costing("a", &[&calls("acme/*", 1.0, 1.0)], 2.0)).await;
    let other = bench.replica().take(&ask("b", &[&calls("acme/*", 1.0, 1.0)])).await.unwrap();
    assert_eq!(other, not_before(ms(1000), Obstacle::Bucket("acme/*".to_owned())));
    bench.granted(&ask("c", &[&calls("other/*", 1.0, 1.0)])).await;
}

#[rstest]
#[tokio::test]
async fn settling_corrects_the_charge_both_ways(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 1.0, 100.0);
    let [less, more, as_charged] =
        ["less", "more", "as charged"].map(|id| costing(id, &[&pool], 10.0));
    for ask in [&less, &more, &as_charged] {
        bench.granted(ask).await;
    }
    let settle = async |ask: &Ask, used: f64| {
        bench.limiter.settle(ask, &End::used(units(used))).await.unwrap();
        bench.level(&pool).await
    };
    assert!((settle(&less, 4.0).await - 24.0).abs() < 1e-9);
    bench.pass(ms(2000));
    assert!((settle(&more, 15.0).await - 27.0).abs() < 1e-9);
    bench.settle(&as_charged).await;
    assert!((bench.level(&pool).await - 27.0).abs() < 1e-9);
    // A repetition, as after a lost answer, changes nothing.
    assert!((settle(&less, 4.0).await - 27.0).abs() < 1e-9);
    assert!((settle(&more, 15.0).await - 27.0).abs() < 1e-9);
    // A refund never makes room beyond the burst.
    let last = costing("last", &[&pool], 10.0);
    bench.granted(&last).await;
    bench.pass(ms(35_000));
    assert!(settle(&last, 0.0).await.abs() < 1e-9);
}

#[rstest]
#[tokio::test]
async fn no_more_run_at_once_than_there_are_places(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = places("p", 2);
    bench.granted(&ask("a", &[&pool])).await;
    bench.granted(&ask("b", &[&pool])).await;
    let taken = not_before(CONCURRENCY_PAUSE, Obstacle::Concurrency("p".to_owned()));
    let patient = Ask { horizon: Duration::from_secs(60), ..ask("c", &[&pool]) };
    assert_eq!(bench.take(&patient).await, taken);
    bench.settle(&ask("a", &[&pool])).await;
    bench.settle(&ask("a", &[&pool])).await;
    bench.granted(&patient).await;
    assert_eq!(bench.take(&ask("d", &[&pool])).await, taken);
    // Who asks again under his own name, having missed the answer, is not in his own way.
    bench.granted(&ask("b", &[&pool])).await;
    assert_eq!(bench.running(&pool).await, 2);
}

#[rstest]
#[tokio::test]
async fn a_place_is_free_again_when_its_term_passes(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = places("p", 2);
    let (lost, later) = (ask("lost", &[&pool]), ask("later", &[&pool]));
    bench.granted(&lost).await;
    bench.pass(Duration::from_secs(20));
    bench.granted(&later).await;
    bench.pass(ms(10_000));
    assert_eq!(bench.running(&pool).await, 1);
    bench.granted(&ask("next", &[&pool])).await;
    assert_eq!(bench.wait(&ask("one more", &[&pool])).await, None);
}

#[rstest]
#[tokio::test]
async fn a_turn_settled_after_its_term_is_still_corrected(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 1e-6, 10.0);
    let late = ask("late", &[&pool]);
    bench.granted(&late).await;
    bench.pass(late.term + ms(20_000));
    bench.granted(&ask("other", &[&pool])).await;
    bench.limiter.settle(&late, &End::used(units(5.0))).await.unwrap();
    assert!((bench.level(&pool).await - 6.0).abs() < 1e-3);
}

#[rstest]
#[tokio::test]
async fn a_turn_settled_more_than_a_minute_after_its_term_is_not(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 1e-6, 10.0);
    let [in_time, too_late] = ["in time", "too late"].map(|id| ask(id, &[&pool]));
    bench.granted(&in_time).await;
    bench.granted(&too_late).await;
    bench.pass(in_time.term + ms(60_000));
    bench.limiter.settle(&in_time, &End::used(units(4.0))).await.unwrap();
    bench.pass(ms(1));
    bench.limiter.settle(&too_late, &End::used(units(4.0))).await.unwrap();
    assert!((bench.level(&pool).await - 5.0).abs() < 1e-3);
}

#[rstest]
#[tokio::test]
async fn senseless_figures_do_not_spoil_a_bucket(
    #[values(Kind::Local, Kind::Redis, Kind::Cluster)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 1000.0, 10.0);
    for (id, amount) in [("nan", f64::NAN), ("less", -1e300), ("none", f64::NEG_INFINITY)] {
        let call = costing(id, &[&pool], amount);
        bench.granted(&call).await;
        bench.limiter.settle(&call, &End::used(units(f64::NAN))).await.unwrap();
        assert!(bench.level(&pool).await.abs() < 1e-9);
    }
    let call = Ask { horizon: Duration::MAX, term: Duration::MAX, ..ask("long", &[&pool]) };
    bench.granted(&call).await;
    bench.limiter.settle(&call, &End::used(units(f64::INFINITY))).await.unwrap();
    assert!(bench.level(&pool).await <= 1e9);
    bench.pass(Duration::from_secs(1_000_000));
    bench.granted(&ask("after", &[&pool])).await;
}
