//! The shape of what leaves: never more than allowed, hardly less.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rstest::rstest;
use spillway::domain::job::Lane;
use spillway::domain::limits::{Axis, Bucket, Cost, Pool};
use spillway::limiter::{Ask, End, Turn};

use super::{Bench, Kind, ask, calls, minute, ms, pool, tried};

/// What somebody does: who, in which pools, at what cost, within which horizon; whether the last
/// call of his ends first; and how much time passes afterwards.
#[derive(Clone, Debug)]
struct Move {
    who: usize,
    pools: u8,
    units: u8,
    horizon: u64,
    lane: usize,
    comes_back: bool,
    ends: bool,
    pause: u64,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (0..4usize, 1..8u8, 0..6u8, 0..400u64, 0..3usize, any::<(bool, bool)>(), 0..120u64);
    let one = one.prop_map(|(who, pools, units, horizon, lane, (comes_back, ends), pause)| Move {
        who,
        pools,
        units,
        horizon,
        lane,
        comes_back,
        ends,
        pause,
    });
    prop::collection::vec(one, 1..80)
}

fn pools(case: u64) -> [Arc<Pool>; 3] {
    use Axis::{InputTokens, OutputTokens, Requests};
    let named = |name: &str| format!("{case} {name}");
    let fast = vec![minute(Requests, 20.0, 10.0), minute(OutputTokens, 90.0, 40.0)];
    let slow = vec![minute(Requests, 7.0, 5.0), minute(InputTokens, 30.0, 7.5)];
    [
        pool(&named("fast"), fast, None),
        pool(&named("slow"), slow, Some(4)),
        pool(&named("few"), Vec::new(), Some(2)),
    ]
}

/// When each pool's turns left, and at what cost.
type Departures = HashMap<String, Vec<(f64, Cost)>>;

/// Plays the moves on several replicas. Answers the departures.
async fn play(bench: &Bench, case: u64, moves: &[Move]) -> Departures {
    let replicas = [bench.replica(), bench.replica(), bench.replica(), bench.replica()];
    let pools = pools(case);
    let mut time = 0.0;
    let mut running: Vec<Ask> = Vec::new();
    let mut departures = Departures::new();
    for (n, step) in moves.iter().enumerate() {
        if step.ends && !running.is_empty() {
            let ended = running.remove(step.who % running.len());
            replicas[step.who].settle(&ended, &End::used(ended.cost)).await.unwrap();
        }
        let units = f64::from(step.units);
        let chosen: Vec<&Arc<Pool>> = pools
            .iter()
            .enumerate()
            .filter(|(n, _)| step.pools >> n & 1 == 1)
            .map(|p| p.1)
            .collect();
        let asks = Ask {
            cost: Cost { requests: units.min(1.0), input: units, cached: 0.0, output: units * 4.0 },
            horizon: ms(step.horizon),
            lane: Lane::ALL[step.lane],
            shares: [0.6, 0.3, 0.1],
            comes_back: step.comes_back,
            ..ask(&format!("{case} {n}"), &chosen)
        };
        if let Turn::Granted { wait, .. } = replicas[step.who].take(&asks).await.unwrap() {
            for pool in &asks.pools {
                let left = departures.entry(pool.id.clone()).or_default();
                left.push((time + wait.as_secs_f64() * 1e6, asks.cost));
            }
            running.push(asks);
        }
        for pool in &pools {
            let count = running.iter().filter(|ask| ask.pools.contains(pool)).count();
            assert!(pool.concurrency.is_none_or(|places| count <= places as usize));
        }
        let pause = ms(step.pause);
        bench.pass(pause);
        time += pause.as_secs_f64() * 1e6;
    }
    departures
}

/// The most that a window of one pool and axis holds beyond what is allowed.
fn excess(pool: &Pool, bucket: &Bucket, departures: &mut [(f64, Cost)]) -> f64 {
    departures.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut most = f64::NEG_INFINITY;
    for from in 0..departures.len() {
        let mut sum = 0.0;
        for (at, cost) in &departures[from..] {
            sum += pool.units(bucket, cost);
            most = most.max(
                sum - bucket.quota.roomier().burst - bucket.quota.rate * (at - departures[from].0),
            );
        }
    }
    most
}

#[rstest]
fn no_window_of_any_pool_holds_more_than_burst_and_rate(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::new(kind));
    let case = std::cell::Cell::new(0);
    let holds = TestRunner::new(tried(kind)).run(&moves(), |moves| {
        case.set(case.get() + 1);
        let mut departures = runtime.block_on(play(&bench, case.get(), &moves));
        for pool in pools(case.get()) {
            let Some(left) = departures.get_mut(&pool.id) else { continue };
            for bucket in &pool.buckets {
                // Costs on the third axis go up to 20, within its burst; on the second up to 5.
                let excess = excess(&pool, bucket, left);
                prop_assert!(excess < 1e-6, "{} {}: {excess} too much", pool.id, bucket.key());
            }
        }
        Ok(())
    });
    if let Err(fault) = holds {
        panic!("{fault}");
    }
}

#[rstest]
#[tokio::test]
async fn while_a_backlog_exists_what_the_bucket_allows_is_used(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
    #[values(0, 50)] horizon: u64,
) {
    let bench = Bench::new(kind).await;
    let (rate, burst, length) = (30.0, 15.0, Duration::from_secs(30));
    let pool = calls("p", rate, burst);
    // Four that always want a turn and ask when they were told to.
    let mut due: BinaryHeap<_> = (0..4).map(|who| Reverse((Duration::ZERO, who))).collect();
    let (mut time, mut asked, mut left) = (Duration::ZERO, 0_u32, 0_u32);
    while let Some(Reverse((at, who))) = due.pop().filter(|Reverse((at, _))| *at < length) {
        bench.pass(at.saturating_sub(time));
        time = at;
        asked += 1;
        let asks = Ask { horizon: ms(horizon), ..ask(&asked.to_string(), &[&pool]) };
        let (wait, granted) = match bench.take(&asks).await {
            Turn::Granted { wait, .. } => (wait, 1),
            Turn::NotBefore { wait, .. } => (wait, 0),
        };
        left += granted;
        due.push(Reverse((at + wait, who)));
    }
    let allowed = burst + rate * length.as_secs_f64();
    assert!(f64::from(left) > 0.97 * allowed, "{left} of {allowed} left");
}
