//! A backlog, and how long a job's way out of it takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::job::Job;
use spillway::domain::result::{JobResult, Status};
use spillway::queue::{Batch, Ending, Item, Pushed, Settled, SharedQueue, Verdict};

use crate::job::{job, line};

/// Jobs of one push while the backlog is filled.
const BATCH: u32 = 1_000;

/// Pushes under way while the backlog is filled.
const AT_ONCE: usize = 4;

/// How long a lease or a result is kept: longer than the measurement.
const LONG: Duration = Duration::from_secs(3_600);

/// Many jobs in one line, of so many workflows by turns.
pub(crate) struct Backlog {
    queue: SharedQueue,
    workflows: u32,
    pushed: u32,
}

/// How long single steps took.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) leases: Vec<Duration>,
    pub(crate) settles: Vec<Duration>,
    pub(crate) pushes: Vec<Duration>,
}

impl Times {
    pub(crate) fn add(&mut self, more: Self) {
        self.leases.extend(more.leases);
        self.settles.extend(more.settles);
        self.pushes.extend(more.pushes);
    }

    /// A lease and its settle together.
    pub(crate) fn both(&self) -> Vec<Duration> {
        self.leases.iter().zip(&self.settles).map(|(lease, settle)| *lease + *settle).collect()
    }
}

impl Backlog {
    /// Pushes so many jobs.
    pub(crate) async fn fill(queue: SharedQueue, jobs: u32, workflows: u32) -> Result<Self> {
        let mut backlog = Self { queue, workflows, pushed: 0 };
        let batches: Vec<u32> =
            (0..jobs.div_ceil(BATCH)).map(|batch| BATCH.min(jobs - batch * BATCH)).collect();
        let queue = backlog.queue.clone();
        let filling = batches.into_iter().map(|count| {
            let jobs = (0..count).map(|_| backlog.job()).collect();
            push(&queue, jobs)
        });
        stream::iter(filling).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(backlog)
    }

    /// Takes so many jobs one after another and ends each; a new one comes for each.
    pub(crate) async fn measure(&mut self, count: u32) -> Result<Times> {
        let mut times = Times::default();
        for _ in 0..count {
            let began = Instant::now();
            let lease = self.queue.lease(&line(), 1, LONG).await?.pop();
            times.leases.push(began.elapsed());
            let lease = lease.context("the backlog is empty")?;
            let Item::Job(job, _) = &lease.item else {
                anyhow::bail!("a group waits in a line of jobs");
            };
            let verdict = Verdict::Finish(ending(job)?);
            let began = Instant::now();
            let settled = self.queue.settle(&lease.token, verdict).await?;
            times.settles.push(began.elapsed());
            ensure!(settled == Settled::Done, "a lease was lost");
            let job = self.job();
            let began = Instant::now();
            push(&self.queue, vec![job]).await?;
            times.pushes.push(began.elapsed());
        }
        Ok(times)
    }

    fn job(&mut self) -> Job {
        let workflow = self.pushed % self.workflows;
        self.pushed += 1;
        Job {
            caller: "bench".to_owned(),
            input: RawValue::NULL.to_owned(),
            workflow: Some(format!("w{workflow}")),
            ..job()
        }
    }
}

async fn push(queue: &SharedQueue, jobs: Vec<Job>) -> Result<()> {
    let pushed = queue.push(Batch { jobs, group: None, dedup: None }).await?;
    ensure!(matches!(pushed, Pushed::Stored { .. }), "not stored: {pushed:?}");
    Ok(())
}

fn ending(job: &Job) -> Result<Ending> {
    let status = Status::Succeeded;
    let result = JobResult::open(job, status).ended(status, SystemClock.now(), None);
    let result = Bytes::from(serde_json::to_vec(&result)?);
    Ok(Ending { result, status, delivery: None, events: Vec::new(), group: None, keep: LONG })
}

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
