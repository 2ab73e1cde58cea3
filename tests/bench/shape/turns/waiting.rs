//! A turn's time with few and with many workflows waiting: lease and take together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{json, value::RawValue};
use spillway::clock::{Clock, SystemClock};
use spillway::domain::id::IdSource;
use spillway::domain::job::{Job, Lane, Line};
use spillway::domain::limits::Pool;
use spillway::lifecycle::Lifecycle;
use spillway::limiter::redis::RedisLimiter;
use spillway::queue::redis::RedisQueue;
use spillway::queue::settings::Settings;
use spillway::queue::{Batch, Queue};

use super::{PART, ask, keyspace, pool, take};
use crate::arrivals::percentile;
use crate::common::redis::{Fsync, RedisServer};
use crate::{Bench, progress};

/// Workflows waiting, and their jobs: as many together.
const SETS: [(usize, usize); 2] = [(10, 2_000), (10_000, 2)];

/// Turns that are timed in each set, in turn.
const TURNS: usize = 2_000;

/// The most times longer.
const RATIO: f64 = 1.3;

/// Jobs in hands for longer than this lasts.
const TERM: Duration = Duration::from_secs(600);

/// Workflows that wait for a turn.
struct Set {
    queue: RedisQueue,
    limiter: RedisLimiter,
    pool: Arc<Pool>,
    times: Vec<f64>,
}

/// Measures and tells.
pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    progress(&format!("{PART}: few and many workflows waiting"))?;
    let redis = RedisServer::start(Fsync::Everysec, bench.folder.path())?;
    let lifecycle = Lifecycle::default();
    let mut sets = Vec::new();
    for (workflows, each) in SETS {
        sets.push(Set::prepare(&redis, &lifecycle, workflows, each).await?);
    }
    for turn in 0..TURNS {
        for set in &mut sets {
            set.turn(turn).await?;
        }
    }
    lifecycle.finish(Duration::from_secs(1)).await;
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    for ((workflows, each), set) in SETS.iter().zip(&mut sets) {
        let [p50, p99] =
            [50, 99].map(|percent| percentile(&mut set.times, percent).unwrap_or_default());
        medians.push(p50);
        bench.report.figures(
            PART,
            json!({
                "what": "lease and take", "workflows": workflows, "jobs": workflows * each,
                "p50_us": p50, "p99_us": p99,
            }),
        );
        let jobs = (workflows * each).to_string();
        rows.push(vec![workflows.to_string(), jobs, format!("{p50:.0}"), format!("{p99:.0}")]);
    }
    let ratio = medians.last().zip(medians.first()).map_or(f64::INFINITY, |(many, few)| many / few);
    let what = "a turn with 10,000 workflows waiting at most 1.3 times as long as with 10";
    bench.report.aim(PART, what.to_owned(), format!("{ratio:.2}"), ratio <= RATIO);
    let head = ["workflows waiting", "jobs", "p50 µs", "p99 µs"];
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
        let ids = IdSource::default();
        let jobs: Vec<Job> = (0..workflows * each)
            .map(|number| job(&ids, number % workflows))
            .collect::<Result<_>>()?;
        for jobs in jobs.chunks(500) {
            queue.push(Batch { jobs: jobs.to_vec(), ..Batch::default() }).await?;
        }
        Ok(Self { queue, limiter, pool: pool()?, times: Vec::new() })
    }

    async fn turn(&mut self, number: usize) -> Result<()> {
        let line = Line::Run { lane: Lane::Standard, route: "bench".to_owned() };
        let ask = ask(&self.pool, format!("turn-{number}"));
        let before = Instant::now();
        let leased = self.queue.lease(&line, 1, TERM).await?;
        take(&self.limiter, &ask).await?;
        self.times.push(before.elapsed().as_secs_f64() * 1e6);
        ensure!(leased.len() == 1, "nothing was left to lease");
        Ok(())
    }
}

fn job(ids: &IdSource, workflow: usize) -> Result<Job> {
    let now = SystemClock.now();
    Ok(Job {
        id: ids.job(now),
        caller: "bench".to_owned(),
        task: "work".to_owned(),
        input: RawValue::from_string("\"I was charged twice and need help today.\"".to_owned())?,
        route: "bench".to_owned(),
        lane: Lane::Standard,
        created_at: now,
        workflow: Some(format!("workflow-{workflow:05}")),
        session: None,
        callback: None,
        deliver_by: None,
        max_cost_usd: None,
        provider: None,
        metadata: None,
        group: None,
        traceparent: None,
    })
}
