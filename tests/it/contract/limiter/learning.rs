//! What the provider's refusals and words change.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use spillway::domain::limits::{Axis, Learn, Period, Pool};
use spillway::domain::told::Told;
use spillway::limiter::End;

use super::{Bench, Kind, ask, calls, costing, ms};

fn remaining(left: f64) -> End {
    let (axis, per) = (Axis::Requests, Period::Minute);
    let told = Told { axis, per, limit: None, remaining: Some(left), reset: None };
    End { told: vec![told], ..End::default() }
}

fn pinned(pool: &Arc<Pool>) -> Arc<Pool> {
    Arc::new(Pool { learn: Learn::Off, ..Pool::clone(pool) })
}

#[rstest]
#[tokio::test]
async fn calls_refused_together_lower_the_share_once_and_it_grows_back(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 10.0);
    let asks = ["a", "b", "c"].map(|id| ask(id, &[&pool]));
    for ask in &asks {
        bench.granted(ask).await;
    }
    bench.pass(ms(500));
    for ask in &asks {
        let end = End { refused: true, age: ms(500), ..End::default() };
        bench.limiter.settle(ask, &end).await.unwrap();
        let stands = bench.stands(&pool).await;
        assert!((stands.share - 0.9).abs() < 1e-9, "{stands:?}");
        assert!((stands.buckets[0].rate * 1e6 - 9.0).abs() < 1e-6, "{stands:?}");
    }
    bench.pass(Duration::from_secs(120));
    assert!((bench.stands(&pool).await.share - 1.0).abs() < 1e-9);
}

#[rstest]
#[tokio::test]
async fn a_pinned_pool_heeds_neither_refusals_nor_words(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = pinned(&calls("p", 10.0, 10.0));
    bench.granted(&ask("a", &[&pool])).await;
    let end = End { refused: true, ..remaining(0.0) };
    bench.limiter.settle(&ask("a", &[&pool]), &end).await.unwrap();
    let stands = bench.stands(&pool).await;
    assert!((stands.share - 1.0).abs() < 1e-9 && (stands.buckets[0].units - 1.0).abs() < 1e-9);
}

#[rstest]
#[tokio::test]
async fn what_is_left_lowers_the_room_and_never_makes_any(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 1.0, 10.0);
    for (id, left, level) in [("a", 9.0, 1.0), ("b", 3.0, 7.0), ("c", 10.0, 8.0)] {
        bench.granted(&ask(id, &[&pool])).await;
        bench.limiter.settle(&ask(id, &[&pool]), &remaining(left)).await.unwrap();
        assert!((bench.level(&pool).await - level).abs() < 1e-9, "{id}");
    }
}

#[rstest]
#[tokio::test]
async fn a_learned_limit_scales_its_bucket_until_it_is_forgotten(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 4.0);
    for (factor, burst) in [(0.5, 2.0), (1.5, 6.0), (1.0, 4.0)] {
        bench.limiter.learn(&pool, &pool.buckets[0], factor).await.unwrap();
        let level = bench.stands(&pool).await.buckets[0];
        let figures = [level.learned / factor, level.burst / burst, level.rate * 4e5 / burst];
        assert!(figures.iter().all(|figure| (figure - 1.0).abs() < 1e-9), "{level:?}");
    }
    bench.limiter.learn(&pool, &pool.buckets[0], 0.5).await.unwrap();
    bench.granted(&costing("a", &[&pool], 2.0)).await;
    assert_eq!(bench.wait(&ask("b", &[&pool])).await, Some(ms(200)));
}
