//! A turn's time with few and with many workflows waiting: lease and take together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use spillway::domain::job::Job;
use spillway::domain::limits::Pool;
use spillway::lifecycle::Lifecycle;
use spillway::limiter::redis::RedisLimiter;
use spillway::queue::redis::RedisQueue;
use spillway::queue::settings::Settings;
use spillway::queue::{Batch, Queue};

use super::{PART, ask, keyspace, pool, take};
use crate::arrivals::{count, percentile};
use crate::common::redis::{Fsync, RedisServer};
use crate::job::{job, line, raw};
use crate::{Bench, progress};

/// Workflows waiting, and their jobs: as many together.
const SETS: [(usize, usize); 2] = [(10, 2_000), (10_000, 2)];

/// Turns that are timed in each set, in so many goes: one set after the other, in turn.
const TURNS: usize = 2_000;
const GOES: usize = 20;

/// The most times longer.
const RATIO: f64 = 1.3;

/// Jobs in hands for longer than this lasts.
const TERM: Duration = Duration::from_secs(600);

/// Workflows that wait for a turn.
struct Set {
    queue: RedisQueue,
    limiter: RedisLimiter,
    pool: Arc<Pool>,
    /// What each turn took, in µs.
    times: Vec<f64>,
    /// What Redis itself spent on all of them.
    micros: f64,
}

/// Measures and tells.
pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    progress(&format!("{PART}: few and many workflows waiting"))?;
    let mut redis = RedisServer::start(Fsync::Everysec, bench.folder.path())?;
    let lifecycle = Lifecycle::default();
    let mut sets = Vec::new();
    for (workflows, each) in SETS {
        sets.push(Set::prepare(&redis, &lifecycle, workflows, each).await?);
    }
    for go in 0..GOES {
        for set in &mut sets {
            let before = redis.calls_of("evalsha")?.micros;
            for turn in 0..TURNS / GOES {
                set.turn(&format!("turn-{go}-{turn}")).await?;
            }
            let spent = redis.calls_of("evalsha")?.micros - before;
            set.micros += f64::from(u32::try_from(spent)?);
        }
    }
    lifecycle.finish(Duration::from_secs(1)).await;
    tell(bench, &mut sets)
}

fn tell(bench: &mut Bench, sets: &mut [Set]) -> Result<()> {
    let (mut rows, mut found) = (Vec::new(), Vec::new());
    for ((workflows, each), set) in SETS.iter().zip(sets) {
        let [p50, p99] =
            [50, 99].map(|percent| percentile(&mut set.times, percent).unwrap_or_default());
        let on_redis = set.micros / count(TURNS);
        found.push([p50, on_redis]);
        let jobs = workflows * each;
        bench.report.figures(
            PART,
            json!({
                "what": "lease and take", "workflows": workflows, "jobs": jobs, "p50_us": p50,
                "p99_us": p99, "redis_us": on_redis,
            }),
        );
        let figures = [p50, p99, on_redis].map(|figure| format!("{figure:.0}"));
        rows.push([workflows, &jobs].map(ToString::to_string).into_iter().chain(figures).collect());
    }
    let ratio = |of: usize| {
        let of = |set: Option<&[f64; 2]>| set.and_then(|set| set.get(of).copied());
        of(found.last()).zip(of(found.first())).map_or(f64::INFINITY, |(many, few)| many / few)
    };
    let (whole, on_redis) = (ratio(0), ratio(1));
    let what = "a turn with 10,000 workflows waiting at most 1.3 times as long as with 10";
    let told = format!("{whole:.2}, on Redis alone {on_redis:.2}");
    bench.report.aim(PART, what.to_owned(), told, whole <= RATIO && on_redis <= RATIO);
    let head = ["workflows waiting", "jobs", "p50 µs", "p99 µs", "µs on Redis"];
    bench.report.table(&format!("{PART}: lease and take, one after another"), &head, &rows)
}

impl Set {
    async fn prepare(
        redis: &RedisServer,
        lifecycle: &Lifecycle,
        workflows: usize,
        each: usize,
    ) -> Result<Self> {
        let keyspace = keyspace(redis, &format!("w{workflows}")).await?;
        let limiter = RedisLimiter::new(keyspace.clone());
        let queue = RedisQueue::open(keyspace, &Settings::default(), lifecycle).await?;
        let jobs: Vec<Job> =
            (0..workflows * each).map(|number| job_of(number % workflows)).collect();
        for jobs in jobs.chunks(500) {
            queue.push(Batch { jobs: jobs.to_vec(), ..Batch::default() }).await?;
        }
        Ok(Self { queue, limiter, pool: pool()?, times: Vec::new(), micros: 0.0 })
    }

    async fn turn(&mut self, name: &str) -> Result<()> {
        let (line, ask) = (line(), ask(&self.pool, name.to_owned()));
        let before = Instant::now();
        let leased = self.queue.lease(&line, 1, TERM).await?;
        take(&self.limiter, &ask).await?;
        self.times.push(before.elapsed().as_secs_f64() * 1e6);
        ensure!(leased.len() == 1, "nothing was left to lease");
        Ok(())
    }
}

fn job_of(workflow: usize) -> Job {
    Job {
        caller: "bench".to_owned(),
        input: raw(r#""I was charged twice and need help today.""#),
        workflow: Some(format!("workflow-{workflow:05}")),
        ..job()
    }
}
