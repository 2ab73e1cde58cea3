//! What only the Redis queue has to bear: Redis set up badly, full, emptied, paused and killed.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::job::{Flow, Job, Line};
use spillway::domain::result::{DeliveryAttempt, JobResult, Status};
use spillway::keyspace::{Keyspace, Timeouts};
use spillway::lifecycle::Lifecycle;
use spillway::queue::redis::RedisQueue;
use spillway::queue::settings::Settings;
use spillway::queue::{
    Batch, Delivery, Durability, Ending, EventDelivery, Lease, Pushed, Queue, QueueError, Settled,
    Verdict,
};

use crate::support::job::{self as plain, IDS, line, raw};
use crate::support::redis::{RedisServer, unique_prefix};

mod outages;
mod remains;
mod setup;

const LONG: Duration = Duration::from_secs(600);

const SHORT: Duration = Duration::from_millis(50);

/// Timeouts short enough to be waited for.
const BRIEF: Timeouts =
    Timeouts { connect: Duration::from_millis(500), response: Duration::from_secs(1) };

pub(crate) struct Store {
    pub(crate) queue: RedisQueue,
    keyspace: Keyspace,
    pub(crate) lifecycle: Lifecycle,
}

pub(crate) async fn open_with(
    keyspace: Keyspace,
    settings: &Settings,
) -> Result<Store, QueueError> {
    let lifecycle = Lifecycle::default();
    let queue = RedisQueue::open(keyspace.clone(), settings, &lifecycle).await?;
    Ok(Store { queue, keyspace, lifecycle })
}

async fn open(server: &RedisServer) -> Store {
    open_with(server.keyspace().await, &Settings::default()).await.unwrap()
}

pub(crate) async fn open_brief(server: &RedisServer, settings: &Settings) -> Store {
    let keyspace = Keyspace::open(&server.url(), &unique_prefix(), BRIEF).await.unwrap();
    open_with(keyspace, settings).await.unwrap()
}

/// Why a queue does not open.
async fn refusal(server: &RedisServer, settings: &Settings) -> String {
    match open_with(server.keyspace().await, settings).await {
        Ok(_) => panic!("it opened"),
        Err(QueueError::Broken(why)) => why,
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn asking(durability: Durability) -> Settings {
    Settings { durability: Some(durability), ..Settings::default() }
}

impl Store {
    pub(crate) async fn push(&self, job: &Job) -> Result<Pushed, QueueError> {
        let jobs = vec![job.clone()];
        self.queue.push(Batch { jobs, group: None, dedup: None }).await
    }

    /// Stores a job; what it survives.
    pub(crate) async fn add(&self, job: &Job) -> Durability {
        match self.push(job).await.unwrap() {
            Pushed::Stored { durability, .. } => durability,
            other => panic!("{other:?}"),
        }
    }

    async fn take(&self, line: &Line, max: usize) -> Vec<Lease> {
        self.queue.lease(line, max, LONG).await.unwrap()
    }

    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, rest) = words.split_first().unwrap();
        let mut command = redis::cmd(name);
        for word in rest {
            command.arg(*word);
        }
        self.keyspace.ask(&command).await.unwrap()
    }

    async fn used_memory(&self) -> u64 {
        let text: String = self.command(&["INFO", "memory"]).await;
        let figure = text.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        figure.trim().parse().unwrap()
    }

    /// The names of all keys without the cell.
    async fn keys(&self) -> BTreeSet<String> {
        let pattern = format!("{}*", self.keyspace.prefix());
        let keys: Vec<String> = self.command(&["KEYS", &pattern]).await;
        let names = keys.iter().map(|key| key.strip_prefix(self.keyspace.prefix()).unwrap());
        // When it was swept last is known from the first sweep on.
        names.filter(|name| *name != "swept").map(str::to_owned).collect()
    }

    /// Runs everything in line and posts every result, to be forgotten at once.
    async fn work_off(&self) {
        for lease in self.take(&line(), 1_000).await {
            let ending = ending(&lease, Some(delivery()));
            self.queue.settle(&lease.token, Verdict::Finish(ending)).await.unwrap();
        }
        // A job has a callback and an event.
        for _ in 0..2 {
            for lease in self.take(&Line::Deliver, 1_000).await {
                let verdict = Verdict::Delivered { log: attempt() };
                assert_eq!(self.queue.settle(&lease.token, verdict).await.unwrap(), Settled::Done);
            }
        }
    }
}

pub(crate) fn job(input: &str, workflow: &str) -> Job {
    let job = plain::job();
    Job {
        input: raw(&format!("{input:?}")),
        workflow: Some(workflow.to_owned()),
        deliver_by: Some(job.created_at + chrono::Duration::hours(1)),
        ..job
    }
}

fn delivery() -> Delivery {
    Delivery { flow: Flow::of(&["example.com:443"]), after: Duration::ZERO }
}

/// The end of a leased job, kept for a millisecond.
fn ending(lease: &Lease, delivery: Option<Delivery>) -> Ending {
    let spillway::queue::Item::Job(job, _) = &lease.item else { panic!("{lease:?}") };
    ending_of(job, delivery)
}

/// The same with an event for somebody, due at once.
fn ending_of(job: &Job, delivery: Option<Delivery>) -> Ending {
    let now = SystemClock.now();
    let event = EventDelivery {
        id: IDS.event(now),
        subscription: IDS.subscription(now),
        delivery: Delivery { flow: Flow::of(&["one who asked"]), after: Duration::ZERO },
    };
    let status = Status::Succeeded;
    let result = JobResult::open(job, status).ended(status, SystemClock.now(), None);
    let result = Bytes::from(serde_json::to_vec(&result).unwrap());
    Ending {
        result,
        status,
        delivery,
        events: vec![event],
        group: None,
        keep: Duration::from_millis(1),
    }
}

fn attempt() -> DeliveryAttempt {
    DeliveryAttempt {
        at: SystemClock.now(),
        status: Some(200),
        ms: 5,
        error: None,
        response: None,
        event: None,
    }
}
