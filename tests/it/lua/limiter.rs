//! The limiter's scripts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::{Value, cmd};
use spillway::domain::bucket::Quota;
use spillway::domain::limits::{Cost, Pool};
use spillway::keyspace::{Keyspace, Timeouts, script};
use spillway::limiter::local::LocalLimiter;
use spillway::limiter::redis::{RedisLimiter, scripts};
use spillway::limiter::{Ask, Limiter, LimiterError, Turn};

use crate::contract::limiter::clock;
use crate::support::redis::{RedisServer, unique_prefix};

/// Some moment long after this one, so that nothing expires.
const NOW: u64 = 4_000_000_000_000_000;

/// Calls a script; words are separated by spaces and `-` stands for an empty one.
async fn call<T: redis::FromRedisValue>(
    keyspace: &Keyspace,
    source: &str,
    keys: &str,
    args: &str,
) -> T {
    let script = script(source);
    let mut call = script.prepare_invoke();
    for key in keys.split_whitespace() {
        call.key(keyspace.key(key));
    }
    for arg in args.split_whitespace() {
        call.arg(if arg == "-" { "" } else { arg });
    }
    keyspace.run(&call).await.unwrap()
}

async fn ask<T: redis::FromRedisValue>(keyspace: &Keyspace, command: &str, key: &str) -> T {
    keyspace.ask(cmd(command).arg(keyspace.key(key))).await.unwrap()
}

/// An answer of `take`.
type Answer = (u8, f64, u8, u32);

/// An answer of `levels` for one pool.
type Level = (Option<f64>, Option<f64>, Option<f64>, u32);

/// Takes from one pool of one unit a second, two at once, and three places.
async fn take(keyspace: &Keyspace, id: &str, urgent: u8, now: u64) -> Answer {
    let args =
        format!("1 {id} 0 {urgent} 30000000 1 0 0 50000 100000 60000000 1e-6 2 - - - - 3 {now}");
    call(keyspace, scripts::TAKE, "l c u h", &args).await
}

#[tokio::test]
async fn take_answers_the_wait_and_writes_only_what_it_grants() {
    let keyspace = RedisServer::shared().keyspace().await;
    assert_eq!(take(&keyspace, "a", 0, NOW).await, (1, 0.0, 0, 0));
    assert_eq!(take(&keyspace, "b", 0, NOW + 500_000).await, (1, 0.0, 0, 0));
    assert_eq!(take(&keyspace, "c", 0, NOW + 500_000).await, (0, 500_000.0, 1, 1));
    let mut level: Vec<String> = ask(&keyspace, "HGETALL", "l").await;
    level.sort();
    assert_eq!(level, ["1.5", "4000000000500000", "a1", "u1"]);
    let turns: u32 = ask(&keyspace, "ZCARD", "c").await;
    assert_eq!(turns, 2);
    assert_eq!(take(&keyspace, "u", 1, NOW + 500_000).await, (0, 500_000.0, 1, 1));
    assert_eq!(take(&keyspace, "c", 0, NOW + 1_000_000).await, (0, 100_000.0, 4, 1));
    assert_eq!(take(&keyspace, "u", 1, NOW + 1_000_000).await, (1, 0.0, 0, 0));
    assert_eq!(take(&keyspace, "c", 1, NOW + 3_000_000).await, (0, 50_000.0, 2, 1));
    let _: Value =
        call(&keyspace, scripts::SHUT, "h", &format!("90000000 why {}", NOW + 3_000_000)).await;
    assert_eq!(take(&keyspace, "c", 1, NOW + 4_000_000).await, (0, 89_000_000.0, 3, 1));
}

#[tokio::test]
async fn settle_counts_once_and_renew_revives_nothing() {
    let keyspace = RedisServer::shared().keyspace().await;
    take(&keyspace, "a", 0, NOW).await;
    let renew = format!("a 60000000 60000000 {NOW}");
    let _: Value = call(&keyspace, scripts::RENEW, "c", &renew).await;
    let mut range = cmd("ZRANGE");
    range.arg(keyspace.key("c")).arg(&["0", "-1", "WITHSCORES"]);
    let turns: Vec<String> = keyspace.ask(&range).await.unwrap();
    assert_eq!(turns, ["a", "4000000060000000"]);
    let settle = format!("a 0.25 0 0 1e-6 - - {}", NOW + 500_000);
    let known: u32 = call(&keyspace, scripts::SETTLE, "l c", &settle).await;
    let again: u32 = call(&keyspace, scripts::SETTLE, "l c", &settle).await;
    assert_eq!((known, again), (1, 0));
    let _: Value = call(&keyspace, scripts::RENEW, "c", &renew).await;
    let levels: Vec<Level> =
        call(&keyspace, scripts::LEVELS, "l c", &format!("1e-6 - 1 {}", NOW + 500_000)).await;
    assert_eq!(levels, [(Some(0.75), None, Some(0.0), 0)]);
}

#[tokio::test]
async fn shut_keeps_the_later_time_and_gates_tells_it() {
    let keyspace = RedisServer::shared().keyspace().await;
    let mut shuts = Vec::new();
    for args in ["3000000 one", "2000000 two", "0 three", "4000000 four"] {
        let shut: u8 = call(&keyspace, scripts::SHUT, "h", &format!("{args} {NOW}")).await;
        shuts.push(shut);
    }
    assert_eq!(shuts, [1, 0, 0, 1]);
    let gates = async |now: u64| -> Vec<Option<(f64, String)>> {
        call(&keyspace, scripts::GATES, "other h", &now.to_string()).await
    };
    let four = Some((1_000_000.0, "four".to_owned()));
    assert_eq!(gates(NOW + 3_000_000).await, [None, four]);
    assert_eq!(gates(NOW + 4_000_000).await, [None, None]);
}

#[tokio::test]
async fn scripts_refuse_a_wrong_number_of_arguments() {
    let keyspace = RedisServer::shared().keyspace().await;
    let all = [
        scripts::TAKE,
        scripts::SETTLE,
        scripts::RENEW,
        scripts::SHUT,
        scripts::GATES,
        scripts::LEVELS,
    ];
    for source in all {
        let script = script(source);
        let mut call = script.prepare_invoke();
        call.key(keyspace.key("k")).arg(&[1_u32; 9][..]);
        let refused = keyspace.run::<Value>(&call).await.unwrap_err().to_string();
        assert!(refused.contains("wrong arity"), "{refused}");
    }
}

#[tokio::test]
async fn every_key_expires_once_it_cannot_matter() {
    let keyspace = RedisServer::shared().keyspace().await;
    let limiter = RedisLimiter::new(keyspace.clone());
    let quotas = [Some(Quota { rate: 1e-6, burst: 1.0 }), None, None];
    let pool = Arc::new(Pool { id: "p".to_owned(), quotas, concurrency: Some(5) });
    let first = Ask {
        id: "a".to_owned(),
        pools: vec![pool],
        gates: Vec::new(),
        cost: Cost([20.0, 0.0, 0.0]),
        horizon: Duration::ZERO,
        urgent: true,
        term: Duration::from_secs(5),
    };
    limiter.take(&first).await.unwrap();
    limiter.take(&Ask { id: "b".to_owned(), ..first.clone() }).await.unwrap();
    limiter.shut("g", Duration::from_secs(7), "why").await.unwrap();
    limiter.settle(&first, Some(Cost([30.0, 0.0, 0.0]))).await.unwrap();
    let all: Vec<String> =
        keyspace.ask(cmd("KEYS").arg(format!("{}*", keyspace.prefix()))).await.unwrap();
    let mut kinds = Vec::new();
    for key in all {
        let left: i64 = keyspace.ask(cmd("PTTL").arg(&key)).await.unwrap();
        let name = key.strip_prefix(keyspace.prefix()).unwrap();
        let kind = name.split(':').next().unwrap().to_owned();
        let expected = match kind.as_str() {
            "l" => 31_000,
            "u" => 21_100,
            "h" => 8_000,
            _ => panic!("{key} was left"),
        };
        assert!((expected - 5_000..expected + 100).contains(&left), "{key} expires in {left} ms");
        kinds.push(kind);
    }
    kinds.sort();
    assert_eq!(kinds, ["h", "l", "u"]);
}

#[tokio::test]
async fn replicas_share_one_rate_by_the_servers_clock() {
    let (server, prefix) = (RedisServer::shared(), unique_prefix());
    let timeouts = Timeouts { connect: Duration::from_secs(5), response: Duration::from_secs(5) };
    let quota = Quota { rate: 200.0 / 1e6, burst: 20.0 };
    let pool =
        Arc::new(Pool { id: "p".to_owned(), quotas: [Some(quota), None, None], concurrency: None });
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let keyspace = Keyspace::open(&server.url(), &prefix, timeouts).await.unwrap();
        replicas.push(RedisLimiter::new(keyspace));
    }
    let start = Instant::now();
    let (replicas, pool) = (&replicas, &pool);
    let work = async |worker: usize| {
        let mut departures = Vec::new();
        for n in 0.. {
            let ask = Ask {
                id: format!("{worker} {n}"),
                pools: vec![pool.clone()],
                gates: Vec::new(),
                cost: Cost([1.0, 0.0, 0.0]),
                horizon: Duration::from_millis(20),
                urgent: false,
                term: Duration::from_secs(30),
            };
            let turn = replicas[worker % 3].take(&ask).await.unwrap();
            let (Turn::Granted { wait } | Turn::NotBefore { wait, .. }) = turn;
            tokio::time::sleep(wait).await;
            if let Turn::Granted { .. } = turn {
                departures.push(start.elapsed());
            }
            if start.elapsed() > Duration::from_secs(1) {
                break;
            }
        }
        departures
    };
    let departures: Vec<Duration> = join_all((0..12).map(work)).await.concat();
    let last = departures.iter().max().unwrap().as_secs_f64();
    let (count, allowed) = (departures.len(), 20.0 + 200.0 * last);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let count = count as f64;
    assert!(count <= allowed, "{count} left, {allowed} may");
}

#[tokio::test]
async fn a_redis_that_is_full_or_gone_is_unavailable() {
    let mut server = RedisServer::start(&["--maxmemory", "100kb"]);
    let limiter = RedisLimiter::new(server.keyspace().await);
    let pool = Arc::new(Pool { id: "p".to_owned(), quotas: [None; 3], concurrency: Some(1) });
    let ask = Ask {
        id: "a".to_owned(),
        pools: vec![pool.clone()],
        gates: Vec::new(),
        cost: Cost::default(),
        horizon: Duration::ZERO,
        urgent: false,
        term: Duration::from_secs(5),
    };
    let unavailable = |error: LimiterError| matches!(error, LimiterError::Unavailable(_));
    assert!(unavailable(limiter.take(&ask).await.unwrap_err()));
    limiter.settle(&ask, None).await.unwrap();
    limiter.renew(&ask).await.unwrap();
    limiter.shut("g", Duration::from_secs(9), "429").await.unwrap();
    assert_eq!(limiter.shut_gates(&["g".to_owned()]).await.unwrap().len(), 1);
    limiter.open("g").await.unwrap();
    assert_eq!(limiter.levels(&[pool]).await.unwrap()[0].running, 0);
    server.kill();
    assert!(unavailable(limiter.take(&ask).await.unwrap_err()));
}

/// What a limiter is asked.
#[derive(Clone, Debug)]
enum Step {
    Take { who: u8, pools: u8, cost: [f64; 3], horizon: u64, urgent: bool },
    Settle { who: u8, used: Option<[f64; 3]> },
    Renew { who: u8 },
    Shut { gate: u8, micros: u64 },
    Open { gate: u8 },
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

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cost = || prop::array::uniform3(units());
    let take = (0..8u8, 0..8u8, cost(), 0..2_000_000u64, any::<bool>());
    let take = take.prop_map(|(who, pools, cost, horizon, urgent)| Step::Take {
        who,
        pools,
        cost,
        horizon,
        urgent,
    });
    let used = prop::option::of(cost());
    let step = prop_oneof![
        10 => take,
        5 => (0..8u8, used).prop_map(|(who, used)| Step::Settle { who, used }),
        1 => (0..8u8).prop_map(|who| Step::Renew { who }),
        1 => (0..3u8, 0..900_000u64).prop_map(|(gate, micros)| Step::Shut { gate, micros }),
        1 => (0..3u8).prop_map(|gate| Step::Open { gate }),
        6 => (0..3_000_000u64).prop_map(|micros| Step::Pass { micros }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a limiter answers to a step, and how it stands afterwards, to the last bit.
async fn answer(limiter: &dyn Limiter, step: &Step, asks: &[Ask], pools: &[Arc<Pool>]) -> String {
    let ask = |who: &u8| &asks[usize::from(*who)];
    let gate = |gate: &u8| &pools[usize::from(*gate)].id;
    let mut turn = None;
    match step {
        Step::Take { who, .. } => turn = Some(limiter.take(ask(who)).await.unwrap()),
        Step::Settle { who, used } => limiter.settle(ask(who), used.map(Cost)).await.unwrap(),
        Step::Renew { who } => limiter.renew(ask(who)).await.unwrap(),
        Step::Shut { gate: name, micros } => {
            limiter.shut(gate(name), Duration::from_micros(*micros), "why").await.unwrap();
        }
        Step::Open { gate: name } => limiter.open(gate(name)).await.unwrap(),
        Step::Pass { .. } => {}
    }
    let levels = limiter.levels(pools).await.unwrap();
    let bits: Vec<_> =
        levels.iter().map(|l| (l.running, l.units.map(|u| u.map(f64::to_bits)))).collect();
    let names: Vec<String> = pools.iter().map(|pool| pool.id.clone()).collect();
    let gates = limiter.shut_gates(&names).await.unwrap();
    format!("{turn:?} {levels:?} {bits:?} {gates:?}")
}

fn some_pools(case: u32) -> Vec<Arc<Pool>> {
    let quota = |rate, burst| Some(Quota { rate, burst });
    let pool = |name: &str, quotas, concurrency| {
        Arc::new(Pool { id: format!("{case} {name}"), quotas, concurrency })
    };
    vec![
        pool("a", [quota(3.0 / 7e6, 3.0), quota(1e-5, 50.0), None], Some(3)),
        pool("b", [quota(10.0 / 1e6, 1.0), None, quota(1.0 / 3e5, 0.1)], None),
        pool("c", [None; 3], Some(2)),
    ]
}

#[test]
fn lua_and_rust_answer_the_same_to_the_last_bit() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = clock();
    let keyspace = runtime.block_on(RedisServer::shared().keyspace());
    let lua = RedisLimiter::new(keyspace).by_clock(clock.clone());
    let rust = LocalLimiter::new(clock.clone());
    let case = std::cell::Cell::new(0);
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let same = TestRunner::new(config).run(&steps(), |steps| {
        case.set(case.get() + 1);
        let pools = some_pools(case.get());
        let nothing = |who: u8| Ask {
            id: who.to_string(),
            pools: Vec::new(),
            gates: Vec::new(),
            cost: Cost::default(),
            horizon: Duration::ZERO,
            urgent: false,
            term: Duration::from_secs(3),
        };
        let mut asks: Vec<Ask> = (0..8).map(nothing).collect();
        for step in &steps {
            match step {
                Step::Take { who, pools: chosen, cost, horizon, urgent } => {
                    let ask = &mut asks[usize::from(*who)];
                    let chosen = pools.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1);
                    ask.pools = chosen.map(|(_, pool)| pool.clone()).collect();
                    ask.cost = Cost(*cost);
                    ask.horizon = Duration::from_micros(*horizon);
                    ask.urgent = *urgent;
                    ask.gates = vec![pools[usize::from(*who) % 3].id.clone()];
                }
                Step::Pass { micros } => clock.advance(Duration::from_micros(*micros)),
                _ => {}
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
