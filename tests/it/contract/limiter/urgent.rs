//! Who is waited for goes first.

use std::sync::Arc;

use futures::future::join_all;
use rstest::rstest;
use spillway::domain::limits::Pool;
use spillway::limiter::{Ask, CONCURRENCY_PAUSE, GRACE, Obstacle, Turn};

use super::{Bench, Kind, ask, calls, costing, departs, ms, not_before, places, urgent};

#[rstest]
#[tokio::test]
async fn others_keep_back_until_the_urgent_one_had_its_turn(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 1.0);
    bench.granted(&costing("a", &[&pool], 2.25)).await;
    let full = Obstacle::Bucket("p".to_owned());
    assert_eq!(bench.take(&urgent("u", &[&pool])).await, not_before(ms(100), full));
    bench.pass(ms(100));
    let kept_back = not_before(GRACE, Obstacle::Ahead("p".to_owned()));
    let patient = Ask { horizon: ms(10_000), ..ask("b", &[&pool]) };
    assert_eq!(bench.replica().take(&patient).await.unwrap(), kept_back);
    assert!(bench.wait(&urgent("u", &[&pool])).await.is_some());
    // The urgent one had a quarter of the burst beyond what others have.
    bench.pass(ms(125));
    assert!(bench.wait(&patient).await.is_some());
}

#[rstest]
#[tokio::test]
async fn one_who_gave_up_costs_the_others_no_more_than_the_grace(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 100.0, 1.0);
    bench.granted(&costing("a", &[&pool], 2.25)).await;
    assert_eq!(bench.wait(&urgent("gives up", &[&pool])).await, None);
    bench.pass(ms(9) + GRACE);
    assert_eq!(bench.wait(&ask("b", &[&pool])).await, None);
    bench.pass(ms(1));
    assert!(bench.wait(&ask("b", &[&pool])).await.is_some());
}

#[rstest]
#[tokio::test]
async fn the_turn_of_one_urgent_leaves_the_place_of_another(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 1.0);
    bench.granted(&costing("a", &[&pool], 2.25)).await;
    let (first, second) = (urgent("first", &[&pool]), urgent("second", &[&pool]));
    assert_eq!(bench.wait(&first).await, None);
    assert_eq!(bench.wait(&second).await, None);
    bench.pass(ms(100));
    // One urgent does not keep back another.
    assert!(bench.wait(&second).await.is_some());
    assert_eq!(bench.wait(&first).await, None);
    bench.pass(ms(100));
    assert_eq!(bench.wait(&ask("b", &[&pool])).await, None);
    assert!(bench.wait(&first).await.is_some());
    bench.pass(ms(125));
    assert!(bench.wait(&ask("b", &[&pool])).await.is_some());
}

#[rstest]
#[tokio::test]
async fn a_place_that_comes_free_is_for_the_urgent_one(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = places("p", 1);
    let first = ask("a", &[&pool]);
    bench.granted(&first).await;
    let taken = not_before(CONCURRENCY_PAUSE, Obstacle::Concurrency("p".to_owned()));
    for _ in 0..3 {
        assert_eq!(bench.take(&urgent("u", &[&pool])).await, taken);
        bench.pass(CONCURRENCY_PAUSE);
    }
    bench.settle(&first).await;
    let kept_back = not_before(GRACE, Obstacle::Ahead("p".to_owned()));
    assert_eq!(bench.take(&ask("b", &[&pool])).await, kept_back);
    bench.granted(&urgent("u", &[&pool])).await;
}

#[rstest]
#[tokio::test]
async fn a_long_wait_at_one_pool_keeps_nobody_back_from_another(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let (family, org) = (calls("family", 1.0, 10.0), calls("org", 10.0, 1.0));
    bench.granted(&costing("a", &[&family], 62.5)).await;
    bench.granted(&costing("b", &[&org], 2.0)).await;
    let refused = bench.take(&urgent("u", &[&family, &org])).await;
    assert_eq!(refused, not_before(ms(50_000), Obstacle::Bucket("family".to_owned())));
    bench.pass(ms(100));
    assert!(bench.wait(&ask("c", &[&org])).await.is_some());
}

#[rstest]
#[tokio::test]
async fn who_needs_two_busy_pools_keeps_the_one_that_has_come_free(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let (fast, slow) = (calls("fast", 2.0, 1.0), calls("slow", 1.0, 1.0));
    bench.granted(&costing("a", &[&slow], 2.25)).await;
    bench.granted(&ask("b", &[&fast])).await;
    let asks = urgent("u", &[&fast, &slow]);
    let full = Obstacle::Bucket("slow".to_owned());
    assert_eq!(bench.take(&asks).await, not_before(ms(1000), full));
    // The fast one recovers in time from one more departure, so it is not held idle; the slow one
    // would not.
    bench.pass(ms(900));
    bench.granted(&ask("c", &[&fast])).await;
    assert_eq!(bench.wait(&ask("d", &[&slow])).await, None);
    bench.pass(ms(100));
    assert_eq!(bench.wait(&asks).await, Some(ms(1000)));
}

/// All of a crowd asks whenever the clock moves, whatever it was told, and always before the
/// urgent one. Answers how many left between the urgent one's first ask and its turn.
async fn left_before_urgent(bench: &Bench, crowd: &[Ask], asks: &Ask) -> usize {
    let mut left = 0;
    let mut due = ms(0);
    let mut time = ms(0);
    loop {
        let turns = join_all(crowd.iter().map(|ask| bench.limiter.take(ask))).await;
        left += turns.iter().filter(|turn| departs(turn.as_ref().unwrap()).is_some()).count();
        if time >= due {
            match bench.take(asks).await {
                Turn::Granted { .. } => return left,
                Turn::NotBefore { wait, .. } => due = time + wait,
            }
            if time.is_zero() {
                left = 0;
            }
        }
        let step = ms(50);
        bench.pass(step);
        time += step;
        assert!(time < ms(20_000), "the urgent one starves");
    }
}

fn crowd(name: &str, size: usize, pools: &[&Arc<Pool>]) -> Vec<Ask> {
    (0..size).map(|n| ask(&format!("{name} {n}"), pools)).collect()
}

#[rstest]
#[tokio::test]
async fn of_a_crowd_that_hammers_at_most_one_leaves_before_the_urgent_one(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 4.0, 2.0);
    let size = match kind {
        Kind::Local => 3000,
        Kind::Redis | Kind::Cluster => 300,
    };
    let background = crowd("background", size, &[&pool]);
    for n in 0..3 {
        let asks = urgent(&format!("urgent {n}"), &[&pool]);
        let left = left_before_urgent(&bench, &background, &asks).await;
        assert!(left <= 1, "{left} left before it");
    }
}
