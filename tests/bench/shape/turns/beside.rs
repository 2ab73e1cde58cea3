//! Turns a second from one process, beside `redis-benchmark` with the very same script.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spillway::limiter::redis::RedisLimiter;
use tokio::task::JoinSet;

use super::monitor::{self, Monitor};
use super::{PART, ask, keyspace, pool, take};
use crate::arrivals::percentile;
use crate::common::redis::{Fsync, RedisServer};
use crate::report::percent;
use crate::{Bench, progress};

/// Turns asked for at the same time, and `redis-benchmark`'s connections.
const AT_ONCE: u32 = 64;

/// How long each measurement takes.
const LENGTH: Duration = Duration::from_secs(4);

/// Rounds, in turn; the medians are told.
const ROUNDS: u32 = 3;

/// The least share.
const SHARE: f64 = 0.6;

/// What `redis-benchmark` replaces by a number, as long as what stands for it in the example.
const NUMBER: (&str, &str) = ("__rand_int__", "000000000000");

/// Measures and tells.
pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    progress(&format!("{PART}: beside redis-benchmark"))?;
    let mut redis = RedisServer::start(Fsync::Everysec, bench.folder.path())?;
    let limiter = Arc::new(RedisLimiter::new(keyspace(&redis, "sw").await?));
    let script = example(&mut redis, &limiter).await?;
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        redis.flush()?;
        own.push(turns(&limiter).await?);
        redis.flush()?;
        // As long as ours, to the state that ours had grown to.
        let rate = own.last().copied().unwrap_or_default();
        bare.push(benchmark(&mut redis, &script, rate / SHARE * LENGTH.as_secs_f64())?);
    }
    let median = |rates: &mut [f64]| percentile(rates, 50).unwrap_or_default();
    let (own, bare) = (median(&mut own), median(&mut bare));
    let share = own / bare;
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "what": "beside redis-benchmark", "turns_per_s": own, "redis_benchmark_per_s": bare,
            "share": share, "at_once": AT_ONCE,
        }),
    );
    let what = "turns a second at least 60 % of redis-benchmark's with the same script".to_owned();
    report.aim(PART, what, percent(share), share >= SHARE);
    let head = ["turns a second", "redis-benchmark", "share"];
    let row = vec![format!("{own:.0}"), format!("{bare:.0}"), percent(share)];
    let title = format!(
        "{PART}: one process, {AT_ONCE} at once, one pool with limits on three axes and places; medians \
         of {ROUNDS}"
    );
    report.table(&title, &head, &[row])
}

/// The words that our call sends, with a mark where each has a number of its own.
async fn example(redis: &mut RedisServer, limiter: &RedisLimiter) -> Result<Vec<Vec<u8>>> {
    let pool = pool()?;
    // The first call loads the script.
    take(limiter, &ask(&pool, name(NUMBER.1))).await?;
    let monitor = Monitor::start(redis, usize::MAX)?;
    take(limiter, &ask(&pool, name(NUMBER.1))).await?;
    let mut script = monitor::only_script(monitor.heard(redis)?)?;
    let (mark, number) = (name(NUMBER.0).into_bytes(), name(NUMBER.1).into_bytes());
    let own = script.iter_mut().filter(|word| **word == number);
    let replaced = own.map(|word| word.clone_from(&mark)).count();
    ensure!(replaced == 1, "the turn's name stands {replaced} times in the call");
    Ok(script)
}

/// A turn's name, as long as those of the service.
fn name(number: &str) -> String {
    format!("01K0000000ZZZZ{number}")
}

/// Turns a second.
async fn turns(limiter: &Arc<RedisLimiter>) -> Result<f64> {
    let pool = pool()?;
    let (begin, mut askers) = (Instant::now(), JoinSet::new());
    for asker in 0..AT_ONCE {
        let (limiter, pool) = (Arc::clone(limiter), Arc::clone(&pool));
        askers.spawn(async move {
            let mut count = 0_u32;
            while begin.elapsed() < LENGTH {
                let number = format!("{asker:04}{count:08}");
                take(&*limiter, &ask(&pool, name(&number))).await?;
                count += 1;
            }
            Ok::<u32, anyhow::Error>(count)
        });
    }
    let mut all = 0.0;
    while let Some(asker) = askers.join_next().await {
        all += f64::from(asker??);
    }
    Ok(all / begin.elapsed().as_secs_f64())
}

/// The same by `redis-benchmark`.
fn benchmark(redis: &mut RedisServer, script: &[Vec<u8>], calls: f64) -> Result<f64> {
    let before = redis.calls_of("evalsha")?;
    let (port, connections) = (redis.port().to_string(), AT_ONCE.to_string());
    let calls = format!("{calls:.0}");
    let output = Command::new("redis-benchmark")
        .args(["-p", &port, "-c", &connections, "-n", &calls, "-r", "999999999999", "--csv"])
        .args(script.iter().map(|word| OsStr::from_bytes(word)))
        .stdin(Stdio::null())
        .output()
        .context("redis-benchmark is missing: install redis-tools")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let after = redis.calls_of("evalsha")?;
    // It counts refusals like answers.
    ensure!(
        output.status.success() && after.failed == before.failed && after.all > before.all,
        "redis-benchmark: {} of {} calls failed; {said}",
        after.failed - before.failed,
        after.all - before.all,
    );
    // "test","rps",… or, before Redis 6.2, the figures alone.
    let figures = said.lines().last().and_then(|line| line.split("\",\"").nth(1));
    let rate = figures.map(|figure| figure.trim_matches('"').parse());
    Ok(rate.with_context(|| format!("redis-benchmark said: {said}"))??)
}
