//! What less urgent lanes are sure of, and who keeps back for whom.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::Lane;
use spillway::limiter::{Ask, Turn};

use super::{Bench, Kind, ask, calls, costing, ms};

#[rstest]
#[tokio::test]
async fn a_lane_gets_its_share_however_much_the_others_ask(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
    #[values(5.0, 100.0)] rate: f64,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", rate, (rate / 2.0).max(1.0));
    let length = Duration::from_secs_f64(2_000.0 / rate);
    let lanes = [0, 0, 0, 0, 1, 1, 2, 2];
    let mut due: BinaryHeap<_> = (0..lanes.len()).map(|who| Reverse((ms(0), who))).collect();
    let (mut time, mut turns, mut left) = (Duration::ZERO, [0_u32; 8], [0.0; 3]);
    while let Some(Reverse((at, who))) = due.pop().filter(|Reverse((at, _))| *at < length) {
        bench.pass(at.saturating_sub(time));
        time = at;
        let (lane, shares) = (Lane::ALL[lanes[who]], [0.0, 0.2, 0.1]);
        let id = format!("{who} {}", turns[who]);
        let asks = Ask { lane, shares, comes_back: true, ..ask(&id, &[&pool]) };
        let wait = match bench.take(&asks).await {
            Turn::Granted { wait, .. } => {
                turns[who] += 1;
                left[lanes[who]] += 1.0;
                wait
            }
            Turn::NotBefore { wait, .. } => wait,
        };
        due.push(Reverse((at + wait, who)));
    }
    let all: f64 = left.iter().sum();
    assert!(all > 0.97 * rate * length.as_secs_f64(), "{left:?}");
    for (lane, share) in [(1, 0.2), (2, 0.1)] {
        let part = left[lane] / all;
        assert!((part / share - 1.0).abs() < 0.2, "lane {lane}: {part} of {left:?}");
    }
}

#[rstest]
#[tokio::test]
async fn nobody_keeps_back_for_one_that_does_not_come_back(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 10.0, 1.0);
    bench.granted(&costing("a", &[&pool], 2.0)).await;
    let goes_on = Ask { lane: Lane::Interactive, ..ask("i", &[&pool]) };
    assert_eq!(bench.wait(&goes_on).await, None);
    assert_eq!(bench.stands(&pool).await.waiting, [0; 3]);
    bench.pass(ms(100));
    let batch = Ask { lane: Lane::Batch, ..ask("b", &[&pool]) };
    assert!(bench.wait(&batch).await.is_some());
}

#[rstest]
#[tokio::test]
async fn a_big_call_is_not_starved_by_small_ones(#[values(Kind::Local, Kind::Redis)] kind: Kind) {
    let bench = Bench::new(kind).await;
    let pool = calls("p", 100.0, 50.0);
    let (mut asked, big) = (0, costing("big", &[&pool], 40.0));
    for _ in 0..100 {
        while bench.wait(&ask(&format!("{asked}"), &[&pool])).await.is_some() {
            asked += 1;
        }
        bench.pass(ms(10));
        if bench.wait(&big).await.is_some() {
            return;
        }
    }
    panic!("{asked} small ones left and the big one did not");
}
