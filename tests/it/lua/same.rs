//! Lua and Rust are one specification: the same answers and levels, to the last bit.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use spillway::domain::bucket::{Quota, Ramp, Resets};
use spillway::domain::job::Lane;
use spillway::domain::limits::{Axis, Bucket, Cost, Learn, Period, Pool};
use spillway::domain::told::Told;
use spillway::limiter::local::LocalLimiter;
use spillway::limiter::redis::RedisLimiter;
use spillway::limiter::{Ask, End, Limiter};

use super::limiter::nobody;
use crate::contract::limiter::clock;
use crate::support::redis::RedisServer;

const AXES: [Axis; 4] = [Axis::Requests, Axis::InputTokens, Axis::OutputTokens, Axis::Tokens];

/// What a limiter is asked.
#[derive(Clone, Debug)]
enum Step {
    Take { who: usize, pools: u8, cost: Cost, horizon: u64, lane: usize, comes_back: bool },
    Settle { who: usize, end: End },
    Shut { gate: usize, micros: u64 },
    Open { gate: usize },
    Learn { pool: usize, bucket: usize, factor: f64 },
    Pass { micros: u64 },
}

fn units() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0..9u8).prop_map(f64::from),
        8 => 0.0..60.0f64,
        1 => Just(f64::NAN),
        1 => Just(-3.5),
        1 => 0.0..1e12f64,
    ]
}

fn cost() -> impl Strategy<Value = Cost> {
    let each = prop::array::uniform4(units());
    each.prop_map(|[requests, input, cached, output]| Cost { requests, input, cached, output })
}

fn axis() -> impl Strategy<Value = Axis> {
    prop::sample::select(&AXES[..])
}

fn per() -> impl Strategy<Value = Period> {
    prop::sample::select(&[Period::Minute, Period::Day][..])
}

fn told() -> impl Strategy<Value = Told> {
    let told = (axis(), per(), prop::option::of(units()));
    told.prop_map(|(axis, per, remaining)| Told { axis, per, limit: None, remaining, reset: None })
}

fn end() -> impl Strategy<Value = End> {
    let age = (0..20_000_000u64).prop_map(Duration::from_micros);
    let end = (prop::option::of(cost()), age, any::<bool>(), prop::collection::vec(told(), 0..3));
    end.prop_map(|(used, age, refused, told)| {
        let since = age + age / 8;
        End { used, since, age, refused, told }
    })
}

/// Small steps and large ones, up to more than a day.
fn micros() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..3_000u64, 8 => 0..3_000_000u64, 4 => 0..90_000_000u64, 1 => 0..200_000_000_000u64]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let take = (0..8usize, 0..8u8, cost(), 0..2_000_000u64, 0..3usize, any::<bool>());
    let take = take.prop_map(|(who, pools, cost, horizon, lane, comes_back)| Step::Take {
        who,
        pools,
        cost,
        horizon,
        lane,
        comes_back,
    });
    let factor = prop_oneof![Just(1.0), 0.05..3.0f64];
    let learn = (0..3usize, 0..8usize, factor);
    let step = prop_oneof![
        12 => take,
        5 => (0..8usize, end()).prop_map(|(who, end)| Step::Settle { who, end }),
        1 => (0..3usize, 0..900_000u64).prop_map(|(gate, micros)| Step::Shut { gate, micros }),
        1 => (0..3usize).prop_map(|gate| Step::Open { gate }),
        1 => learn.prop_map(|(pool, bucket, factor)| Step::Learn { pool, bucket, factor }),
        6 => micros().prop_map(|micros| Step::Pass { micros }),
    ];
    prop::collection::vec(step, 1..60)
}

fn quota() -> impl Strategy<Value = Quota> {
    let ramp = (1e-9..1e-6f64, 0.01..1.0f64, 1e5..2e7f64);
    let ramp = ramp.prop_map(|(growth, floor, period)| Ramp { growth, floor, period });
    (1e-7..1e-4f64, 0.1..50.0f64, prop::option::of(ramp))
        .prop_map(|(rate, burst, ramp)| Quota { ramp, ..Quota::even(rate, burst) })
}

fn day_quota() -> impl Strategy<Value = Quota> {
    let offset = (0..1_440u32).prop_map(|minutes| f64::from(minutes) * 60e6);
    let resets = offset.prop_map(|offset| Resets { period: 86_400e6, offset });
    (1.0..200.0f64, prop::option::of(resets)).prop_map(|(burst, resets)| {
        let even = Quota::even(burst / 86_400e6, burst);
        Quota { resets, ..even }
    })
}

/// A pool with some of the buckets there can be.
fn pool() -> impl Strategy<Value = Pool> {
    let bucket = |axis, per, quota| Bucket { axis, per, limit: 60.0, most: 60.0, quota };
    let minutes = prop::array::uniform4(prop::option::of(quota()));
    let days = prop::array::uniform4(prop::option::weighted(0.3, day_quota()));
    let learn = prop::sample::select(&[Learn::Off, Learn::Down, Learn::Both][..]);
    let pool = (minutes, days, prop::option::of(1..4u32), any::<bool>(), learn);
    pool.prop_map(move |(minutes, days, concurrency, counts_cached_input, learn)| {
        let named = |quotas: [Option<Quota>; 4], per| {
            let quotas = AXES.into_iter().zip(quotas);
            quotas.filter_map(move |(axis, quota)| Some(bucket(axis, per, quota?)))
        };
        let buckets = named(minutes, Period::Minute).chain(named(days, Period::Day)).collect();
        Pool { id: String::new(), buckets, concurrency, counts_cached_input, learn }
    })
}

/// What a limiter answers to a step, and how it stands afterwards. Doubles are written so that no
/// two differ in a bit and look the same.
async fn answer(limiter: &dyn Limiter, step: &Step, asks: &[Ask], pools: &[Arc<Pool>]) -> String {
    let mut turn = None;
    match step {
        Step::Take { who, .. } => turn = Some(limiter.take(&asks[*who]).await.unwrap()),
        Step::Settle { who, end } => limiter.settle(&asks[*who], end).await.unwrap(),
        Step::Shut { gate, micros } => {
            let time = Duration::from_micros(*micros);
            limiter.shut(&pools[*gate].id, time, "why").await.unwrap();
        }
        Step::Open { gate } => limiter.open(&pools[*gate].id).await.unwrap(),
        Step::Learn { pool, bucket, factor } => {
            let pool = &pools[*pool];
            if let Some(bucket) = pool.buckets.get(*bucket) {
                limiter.learn(pool, bucket, *factor).await.unwrap();
            }
        }
        Step::Pass { .. } => {}
    }
    let levels = limiter.levels(pools).await.unwrap();
    let names: Vec<String> = pools.iter().map(|pool| pool.id.clone()).collect();
    let gates = limiter.shut_gates(&names).await.unwrap();
    format!("{turn:?} {levels:?} {gates:?}")
}

/// Who asks for what after this step.
fn ask_anew(step: &Step, asks: &mut [Ask], pools: &[Arc<Pool>]) {
    if let Step::Take { who, pools: chosen, cost, horizon, lane, comes_back } = step {
        let touched = pools.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1);
        asks[*who] = Ask {
            pools: touched.map(|(_, pool)| pool.clone()).collect(),
            gates: vec![pools[who % 3].id.clone()],
            cost: *cost,
            horizon: Duration::from_micros(*horizon),
            lane: Lane::ALL[*lane],
            shares: [0.1, 0.3, 0.05],
            comes_back: *comes_back,
            ..nobody(who.to_string())
        };
    }
}

#[test]
fn lua_and_rust_answer_the_same_to_the_last_bit() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = clock();
    let keyspace = runtime.block_on(RedisServer::shared().keyspace());
    let lua = RedisLimiter::new(keyspace).by_clock(clock.clone());
    let case = std::cell::Cell::new(0);
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    let given = (prop::collection::vec(pool(), 3), steps());
    let same = TestRunner::new(config).run(&given, |(pools, steps)| {
        case.set(case.get() + 1);
        // One for each case: among few pools it forgets none before Redis, whose keys expire by
        // another clock.
        let rust = LocalLimiter::new(clock.clone());
        let named = |(n, pool): (usize, Pool)| Pool { id: format!("{} {n}", case.get()), ..pool };
        let pools: Vec<_> = pools.into_iter().enumerate().map(named).map(Arc::new).collect();
        let mut asks: Vec<Ask> = (0..8).map(|who: usize| nobody(who.to_string())).collect();
        for step in &steps {
            ask_anew(step, &mut asks, &pools);
            if let Step::Pass { micros } = step {
                clock.advance(Duration::from_micros(*micros));
            }
            let (lua, rust) = runtime.block_on(async {
                let lua = answer(&lua, step, &asks, &pools).await;
                (lua, answer(&rust, step, &asks, &pools).await)
            });
            prop_assert_eq!(lua, rust);
        }
        Ok(())
    });
    if let Err(fault) = same {
        panic!("{fault}");
    }
}
