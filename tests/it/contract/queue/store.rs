//! The stores under test, and what is put into them.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::id::{GroupId, JobId};
use spillway::domain::job::{Flow, Group, Job, Line, Stage};
use spillway::domain::result::{DeliveryAttempt, JobResult, Status};
use spillway::lifecycle::Lifecycle;
use spillway::queue::embedded::EmbeddedQueue;
use spillway::queue::redis::RedisQueue;
use spillway::queue::settings::Settings;
use spillway::queue::{
    Batch, Delivery, Ending, Item, Lease, LeaseToken, Pushed, Queue, Record, Settled, Verdict,
};
use tempfile::TempDir;

use crate::support::cluster::ClusterServers;
use crate::support::eventually;
pub(in crate::contract) use crate::support::job::job;
pub(super) use crate::support::job::{IDS, line, raw};
use crate::support::redis::RedisServer;

/// A term no test outlasts.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// A time every test can wait for.
pub(super) const SHORT: Duration = Duration::from_millis(50);

/// What a wait of [`SHORT`] lasts at least, whatever two clocks make of a millisecond.
pub(super) const AT_LEAST: Duration = Duration::from_millis(45);

/// The implementations.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Redis,
    Cluster,
    Embedded,
}

/// An empty store of one's own.
pub(super) struct Store {
    queue: Arc<dyn Queue>,
    _lifecycle: Lifecycle,
    _folder: Option<TempDir>,
}

impl Kind {
    pub(super) async fn open(self) -> Store {
        let lifecycle = Lifecycle::default();
        let (queue, folder): (Arc<dyn Queue>, Option<TempDir>) = match self {
            Self::Redis | Self::Cluster => {
                let keyspace = match self {
                    Self::Cluster => ClusterServers::shared().keyspace().await,
                    _ => RedisServer::shared().keyspace().await,
                };
                let settings = Settings::default();
                let queue = RedisQueue::open(keyspace, &settings, &lifecycle).await;
                (Arc::new(queue.unwrap()), None)
            }
            Self::Embedded => {
                let folder = tempfile::tempdir().unwrap();
                let queue = EmbeddedQueue::open(folder.path(), Arc::new(SystemClock));
                (Arc::new(queue.unwrap()), Some(folder))
            }
        };
        Store { queue, _lifecycle: lifecycle, _folder: folder }
    }
}

impl Deref for Store {
    type Target = dyn Queue;

    fn deref(&self) -> &Self::Target {
        &*self.queue
    }
}

impl Store {
    /// The store, for a task of its own.
    pub(super) fn shared(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue)
    }

    /// Stores one job. How many wait in its line then.
    pub(super) async fn add(&self, job: &Job) -> u64 {
        match self.push(one(job)).await.unwrap() {
            Pushed::Stored { ahead, .. } => ahead.line + 1,
            other => panic!("not stored: {other:?}"),
        }
    }

    /// Leases one item for long; there must be one.
    pub(super) async fn take(&self, line: &Line) -> Lease {
        self.lease(line, 1, LONG).await.unwrap().pop().expect("something waits in the line")
    }

    /// Ids of everything that can be leased, in order.
    pub(super) async fn take_all(&self, line: &Line) -> Vec<String> {
        self.lease(line, 10_000, LONG).await.unwrap().into_iter().map(|l| l.token.id).collect()
    }

    /// Leases one item for long as soon as there is one.
    pub(super) async fn take_soon(&self, line: &Line) -> Lease {
        let mut found = None;
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while found.is_none() {
            assert!(std::time::Instant::now() < deadline, "nothing came into {line:?}");
            self.sweep(100).await.unwrap();
            found = self.lease(line, 1, LONG).await.unwrap().pop();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        found.unwrap()
    }

    /// Lets the holder of a lease vanish, and sweeps until that is noticed.
    pub(super) async fn lose(&self, token: &LeaseToken) {
        let lost = self.renew(std::slice::from_ref(token), Duration::from_millis(1)).await;
        assert_eq!(lost.unwrap(), [], "the lease was lost before");
        eventually("the lease runs out", || async {
            let swept = self.sweep(100).await.unwrap();
            swept.freed > 0 || swept.lost.iter().any(|id| id.as_str() == token.id)
        })
        .await;
    }

    /// Ends a lease with the job's end.
    pub(super) async fn finish(&self, token: &LeaseToken, ending: Ending) -> Settled {
        self.settle(token, Verdict::Finish(ending)).await.unwrap()
    }

    /// A job that must be there.
    pub(super) async fn record(&self, id: &JobId) -> Record {
        self.find(id).await.unwrap().expect("the job is there")
    }

    /// Where a job stands.
    pub(super) async fn stage(&self, id: &JobId) -> Stage {
        self.record(id).await.stage
    }

    /// How many items are ready in a line.
    pub(super) async fn ready(&self, line: &Line) -> u64 {
        let depths = self.depths().await.unwrap();
        depths.ready.iter().filter(|(name, _)| name == line).map(|(_, count)| count).sum()
    }
}

/// A batch of this one job.
pub(super) fn one(job: &Job) -> Batch {
    Batch { jobs: vec![job.clone()], group: None, dedup: None }
}

/// A plain job of this workflow.
pub(super) fn job_of(workflow: &str) -> Job {
    Job { workflow: Some(workflow.to_owned()), ..job() }
}

/// A group of so many plain jobs.
pub(super) fn group_of(count: usize) -> (Group, Vec<Job>) {
    let now = SystemClock.now();
    let id: GroupId = IDS.group(now);
    let jobs: Vec<Job> = (0..count).map(|_| Job { group: Some(id.clone()), ..job() }).collect();
    let group = Group {
        id,
        caller: "alice".to_owned(),
        callback: None,
        metadata: Some(raw(r#"{"row":0.10}"#)),
        jobs: jobs.iter().map(|job| job.id.clone()).collect(),
        created_at: now,
    };
    (group, jobs)
}

/// A job's end without a callback, to be kept for long.
pub(super) fn ending(job: &Job, status: Status) -> Ending {
    let result = JobResult::open(job, status).ended(status, SystemClock.now(), None);
    Ending {
        result: Bytes::from(serde_json::to_vec(&result).unwrap()),
        status,
        delivery: None,
        events: Vec::new(),
        group: None,
        keep: LONG,
    }
}

/// A job's good end with a callback that is due at once.
pub(super) fn ending_with_callback(job: &Job) -> Ending {
    Ending { delivery: Some(delivery()), ..ending(job, Status::Succeeded) }
}

/// A callback that is due at once.
pub(super) fn delivery() -> Delivery {
    Delivery { flow: Flow::of(&["example.com:443"]), after: Duration::ZERO }
}

/// An attempt to post a result, recognised by its length.
pub(super) fn attempt(ms: u64) -> DeliveryAttempt {
    DeliveryAttempt {
        at: SystemClock.now(),
        status: Some(503),
        ms,
        error: Some("the receiver is “down”".to_owned()),
        response: None,
        event: None,
    }
}

/// The job in somebody's hands.
pub(super) fn held_job(lease: &Lease) -> (&Job, Option<&JobResult>) {
    match &lease.item {
        Item::Job(job, result) => (job, result.as_deref()),
        other => panic!("no job is held: {other:?}"),
    }
}

/// The ids of jobs.
pub(super) fn ids<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Vec<String> {
    jobs.into_iter().map(|job| job.id.to_string()).collect()
}
