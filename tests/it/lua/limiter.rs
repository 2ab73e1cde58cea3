//! The limiter's scripts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::{Value, cmd};
use spillway::domain::bucket::Quota;
use spillway::domain::job::Lane;
use spillway::domain::limits::{Axis, Bucket, Cost, Learn, Period, Pool};
use spillway::keyspace::{Keyspace, Timeouts, script};
use spillway::limiter::redis::{RedisLimiter, scripts};
use spillway::limiter::{Ask, End, Limiter, LimiterError, Turn};

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

/// A pool of these buckets.
pub(super) fn pool(id: &str, buckets: Vec<Bucket>, concurrency: Option<u32>) -> Arc<Pool> {
    let (id, learn) = (id.to_owned(), Learn::Down);
    Arc::new(Pool { id, buckets, concurrency, counts_cached_input: true, learn })
}

fn requests(quota: Quota) -> Bucket {
    Bucket {
        axis: Axis::Requests,
        per: Period::Minute,
        limit: quota.rate * 60e6,
        most: 60.0,
        quota,
    }
}

/// An ask for nothing.
pub(super) fn nobody(id: String) -> Ask {
    Ask {
        id,
        pools: Vec::new(),
        gates: Vec::new(),
        cost: Cost::default(),
        horizon: Duration::ZERO,
        lane: Lane::Standard,
        shares: [0.0; 3],
        comes_back: false,
        term: Duration::from_secs(3),
    }
}

/// An answer of `take`.
type Answer = (u8, f64, u8, u32, f64);

/// An answer of `levels` for one pool.
type Level = (f64, u32, [u32; 3], Vec<(f64, f64, f64, f64)>);

/// Takes from one pool of one unit a second, two at once, and three places; nothing ahead.
async fn take(keyspace: &Keyspace, id: &str, urgent: u8, now: u64) -> Answer {
    let lane = 1 - urgent;
    let args = format!(
        "1 {id} 0 {lane} 30000000 0 0 0 50000 100000 60000000 0 5000000 66000000 {urgent} \
         1 3 r 1e-6 2 - - - - - 1 {now}"
    );
    call(keyspace, scripts::TAKE, "l c u h", &args).await
}

#[tokio::test]
async fn take_answers_the_wait_and_writes_only_what_it_grants() {
    let keyspace = RedisServer::shared().keyspace().await;
    assert_eq!(take(&keyspace, "a", 0, NOW).await, (1, 0.0, 0, 0, 0.0));
    assert_eq!(take(&keyspace, "b", 0, NOW + 500_000).await, (1, 0.0, 0, 0, 500_000.0));
    assert_eq!(take(&keyspace, "c", 0, NOW + 500_000).await, (0, 500_000.0, 1, 1, 0.0));
    let mut level: Vec<String> = ask(&keyspace, "HGETALL", "l").await;
    level.sort();
    // One unit was left when it was charged last; it began with the first.
    let expected =
        ["0.5", "0.5", "1.5", "4000000000000000", "4000000000500000", "ar", "br", "mr", "nr", "ur"];
    assert_eq!(level, expected);
    let turns: u32 = ask(&keyspace, "ZCARD", "c").await;
    assert_eq!(turns, 2);
    // Who is waited for may have a quarter more of the burst.
    assert_eq!(take(&keyspace, "t", 1, NOW + 500_000).await, (1, 0.0, 0, 0, 1_000_000.0));
    assert_eq!(take(&keyspace, "u", 1, NOW + 500_000).await, (0, 1_000_000.0, 1, 1, 0.0));
    assert_eq!(take(&keyspace, "c", 0, NOW + 1_000_000).await, (0, 1_900_000.0, 1, 1, 0.0));
    assert_eq!(take(&keyspace, "u", 1, NOW + 1_500_000).await, (0, 50_000.0, 2, 1, 0.0));
    assert_eq!(take(&keyspace, "c", 1, NOW + 3_000_000).await, (0, 50_000.0, 2, 1, 0.0));
    let _: Value =
        call(&keyspace, scripts::SHUT, "h", &format!("90000000 why {}", NOW + 3_000_000)).await;
    assert_eq!(take(&keyspace, "c", 1, NOW + 4_000_000).await, (0, 89_000_000.0, 3, 1, 0.0));
}

#[tokio::test]
async fn settle_counts_once() {
    let keyspace = RedisServer::shared().keyspace().await;
    take(&keyspace, "a", 0, NOW).await;
    let mut range = cmd("ZRANGE");
    range.arg(keyspace.key("c")).arg(&["0", "-1", "WITHSCORES"]);
    let turns: Vec<String> = keyspace.ask(&range).await.unwrap();
    assert_eq!(turns, ["a", "4000000030000000"]);
    let settle =
        format!("a 0 0 3600000000 60000000 1 0 r 1e-6 2 - - - - - 0.25 - {}", NOW + 500_000);
    let known: u32 = call(&keyspace, scripts::SETTLE, "l c", &settle).await;
    let again: u32 = call(&keyspace, scripts::SETTLE, "l c", &settle).await;
    assert_eq!((known, again), (1, 0));
    let levels: Vec<Level> = call(
        &keyspace,
        scripts::LEVELS,
        "l c u",
        &format!("1 r 1e-6 2 - - - - - {}", NOW + 500_000),
    )
    .await;
    assert_eq!(levels, [(1.0, 0, [0; 3], vec![(0.75, 1e-6, 2.0, 1.0)])]);
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
        scripts::SHUT,
        scripts::GATES,
        scripts::LEVELS,
        scripts::LEARN,
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
    let pool = pool("p", vec![requests(Quota::even(1e-6, 1.0))], Some(5));
    let first = Ask {
        pools: vec![pool],
        cost: Cost { requests: 20.0, ..Cost::default() },
        comes_back: true,
        term: Duration::from_secs(5),
        ..nobody("a".to_owned())
    };
    limiter.take(&first).await.unwrap();
    limiter.take(&Ask { id: "b".to_owned(), ..first.clone() }).await.unwrap();
    limiter.shut("g", Duration::from_secs(7), "why").await.unwrap();
    limiter.settle(&first, &End::used(Cost { requests: 30.0, ..Cost::default() })).await.unwrap();
    let all: Vec<String> =
        keyspace.ask(cmd("KEYS").arg(format!("{}*", keyspace.prefix()))).await.unwrap();
    let mut kinds = Vec::new();
    for key in all {
        let left: i64 = keyspace.ask(cmd("PTTL").arg(&key)).await.unwrap();
        let name = key.strip_prefix(keyspace.prefix()).unwrap();
        let kind = name.split(':').next().unwrap().to_owned();
        let expected = match kind.as_str() {
            "l" => 31_000,
            "u" => 20_100,
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
    let pool = pool("p", vec![requests(Quota::even(200.0 / 1e6, 20.0))], None);
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
                pools: vec![pool.clone()],
                cost: Cost { requests: 1.0, ..Cost::default() },
                horizon: Duration::from_millis(20),
                term: Duration::from_secs(30),
                ..nobody(format!("{worker} {n}"))
            };
            let turn = replicas[worker % 3].take(&ask).await.unwrap();
            let (Turn::Granted { wait, .. } | Turn::NotBefore { wait, .. }) = turn;
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
    let pool = self::pool("p", Vec::new(), Some(1));
    let ask = Ask {
        pools: vec![pool.clone()],
        cost: Cost::default(),
        term: Duration::from_secs(5),
        ..nobody("a".to_owned())
    };
    let unavailable = |error: LimiterError| matches!(error, LimiterError::Unavailable(_));
    assert!(unavailable(limiter.take(&ask).await.unwrap_err()));
    limiter.settle(&ask, &End::default()).await.unwrap();
    limiter.shut("g", Duration::from_secs(9), "429").await.unwrap();
    assert_eq!(limiter.shut_gates(&["g".to_owned()]).await.unwrap().len(), 1);
    limiter.open("g").await.unwrap();
    assert_eq!(limiter.levels(&[pool]).await.unwrap()[0].running, 0);
    server.kill();
    assert!(unavailable(limiter.take(&ask).await.unwrap_err()));
}
