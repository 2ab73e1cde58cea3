//! A durable store of jobs. Every method is one atomic step.
//!
//! Work waits in *lines* (one for each lane and route, one for callbacks). Within a line every
//! *flow* (a caller's workflow; a callback's host; a subscription) gets its share by start-time fair queueing,
//! whatever it has queued. An item leaves a line under a *lease*, and a lease ends by
//! [`Queue::settle`] or, when its holder vanished, in [`Queue::sweep`].
//!
//! A job may say what [`Share`] its flow has; what the latest job pushed says holds for the whole
//! flow, until none of its jobs is open. A flow's weight is how many turns it gets for one of an
//! ordinary flow. A flow of which as many jobs run as may is passed over. A ready job whose
//! `deliver_by` is nearer than [`NEAR`] is pulled forward, the earliest first, but never twice in a
//! row, and its flow pays for the turn: it may be ahead by [`MOST_AHEAD`] turns of its own and then
//! waits for them like any other.
//!
//! Within a flow the oldest job leaves first, but for those whose prompts begin as that of the one
//! that was answered last ([`Job::prefix`]): while that is cached they go before, so that they leave
//! together, [`MOST_ALIKE`] in a row at most. Whose turn it is among flows is not touched by that.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::domain::id::{GroupId, JobId};
use crate::domain::job::{Group, Job, Line, Owner, Share};
use crate::domain::result::{DeliveryAttempt, JobResult};

pub mod embedded;
mod ending;
mod hints;
pub mod redis;
pub mod settings;
mod view;

pub use self::ending::{Delivery, Ending, Event, EventDelivery, GroupDelivery};
pub use self::view::{Filter, GroupRecord, PAGE_BYTES, Page, Record};

/// A durable store of jobs.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Stores jobs (and the group that holds them), all or none, or finds what was stored under
    /// the same idempotency key, or under the same ids by a step whose answer was lost. It answers
    /// only once the jobs have come as far as the settings ask ([`QueueError::Unconfirmed`]).
    async fn push(&self, batch: Batch) -> Result<Pushed, QueueError>;

    /// What an idempotency key says of this request, without storing anything: `Repeated`,
    /// `KeyReused`, or `None` when the key is new.
    async fn recall(&self, dedup: &Dedup) -> Result<Option<Pushed>, QueueError>;

    /// Hands out up to `max` items of a line, in fair order. Each belongs to the caller until
    /// `term` has passed. A lease that ran out is given to others only after a sweep noticed it.
    async fn lease(
        &self,
        line: &Line,
        max: usize,
        term: Duration,
    ) -> Result<Vec<Lease>, QueueError> {
        self.lease_past(line, max, term, &[]).await
    }

    /// The same, but what is these owners' stays where it is. Of their flows no more than
    /// [`MOST_PAST`] are looked past.
    async fn lease_past(
        &self,
        line: &Line,
        max: usize,
        term: Duration,
        past: &[Owner],
    ) -> Result<Vec<Lease>, QueueError>;

    /// Keeps leases alive for another `term` from now. Answers those that are lost: they were
    /// settled, the item has ended, or a sweep put it back in line for others.
    async fn renew(
        &self,
        leases: &[LeaseToken],
        term: Duration,
    ) -> Result<Vec<LeaseToken>, QueueError>;

    /// Ends a lease, once. A late call still counts as long as nobody else has leased the item
    /// since: a paid answer is not thrown away.
    async fn settle(&self, lease: &LeaseToken, verdict: Verdict) -> Result<Settled, QueueError>;

    /// Ends a job that has not ended, whoever holds it: to cancel it, to let it expire, or to
    /// bury it.
    async fn end(&self, id: &JobId, ending: Ending) -> Result<Ended, QueueError>;

    /// Brings an ended job back: to be run again, or to be posted again. Whoever posts its
    /// result at the moment loses it. Losses and tries count from here; a group that is still
    /// open waits for a job that is run again, one that has ended does not.
    async fn replay(&self, id: &JobId, what: Replay) -> Result<Replayed, QueueError>;

    /// Brings an ended group back to be posted again, at once. `false` when it has not ended, is
    /// not known or never had a callback.
    async fn replay_group(&self, id: &GroupId) -> Result<bool, QueueError>;

    /// Does what the passing of time asks for, up to `max` items of each kind: makes due what
    /// has come due, frees what its holder has lost (but not at once after nobody was answered for
    /// longer than [`AWAY`]), purges what is kept no longer. Jobs of a
    /// group are kept until the group is over, too, and then for their whole time.
    async fn sweep(&self, max: usize) -> Result<Swept, QueueError>;

    /// A job as it stands.
    async fn find(&self, id: &JobId) -> Result<Option<Record>, QueueError>;

    /// Several jobs as they stand, in the order asked for; those not known are left out.
    async fn find_all(&self, ids: &[JobId]) -> Result<Vec<Record>, QueueError>;

    /// A group as it stands.
    async fn find_group(&self, id: &GroupId) -> Result<Option<GroupRecord>, QueueError>;

    /// One page of a caller's jobs, the newest first.
    async fn page(&self, filter: &Filter) -> Result<Page, QueueError>;

    /// How many jobs ready in this line have their `deliver_by` before this moment.
    async fn due_before(&self, line: &Line, moment: DateTime<Utc>) -> Result<u64, QueueError>;

    /// How much waits where.
    async fn depths(&self) -> Result<Depths, QueueError>;

    /// What an accepted job survives at least, as the store is set up now.
    fn durability(&self) -> Durability;

    /// Changes whenever something may have become ready in a line. A hint: it may be lost or idle.
    fn hints(&self, line: &Line) -> watch::Receiver<u64>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), QueueError>;
}

/// A queue many hold.
pub type SharedQueue = Arc<dyn Queue>;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// It cannot be reached or did not answer in time; the step may or may not have happened.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It did not confirm in time that a push has come as far as the settings ask; the job or
    /// group may have been stored all the same.
    #[error("the store did not confirm in time that {id} is {}", wanted.as_str())]
    Unconfirmed {
        /// The job or group.
        id: String,
        /// How far it was to come.
        wanted: Durability,
    },
    /// It has no room.
    #[error("the store is full")]
    Full,
    /// Another process has it.
    #[error("another spillway uses this folder")]
    InUse,
    /// It answers, but not as it should.
    #[error("the store is broken: {0}")]
    Broken(String),
}

/// Jobs to be stored together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The jobs, in order. Their ids sort in that order.
    pub jobs: Vec<Job>,
    /// The group that holds them.
    pub group: Option<Group>,
    /// Under which key a repetition is recognised.
    pub dedup: Option<Dedup>,
}

/// An idempotency key's digest and what was asked under it.
#[derive(Clone, Debug)]
pub struct Dedup {
    /// Digest of caller and key, in hexadecimal.
    pub key: String,
    /// Digest of the request, in hexadecimal.
    pub fingerprint: String,
    /// How long a repetition is recognised.
    pub keep: Duration,
}

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Stored.
    Stored {
        /// What is before the first job in its line.
        ahead: Ahead,
        /// What these jobs survive.
        durability: Durability,
    },
    /// The same request came before: the id (a job's or a group's) it was given then.
    Repeated {
        /// The id given then.
        id: String,
    },
    /// Another request came before under the same key.
    KeyReused,
    /// Nothing was stored: a workflow would have more open jobs than it may.
    WorkflowFull {
        /// The workflow.
        workflow: Option<String>,
        /// How many of its jobs are open.
        open: u64,
        /// How many may be.
        most: u64,
    },
}

impl Pushed {
    /// The answer to a job that is one too many for its workflow.
    fn workflow_full(workflow: Option<&str>, share: Option<Share>, open: u64) -> Self {
        let most = share.and_then(|share| share.max_queued).unwrap_or_default();
        Self::WorkflowFull { workflow: workflow.map(str::to_owned), open, most }
    }
}

/// What is before a job in its line when it is stored, the rest of its batch not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Items ready in the line.
    pub line: u64,
    /// Those of them that are of the job's own flow.
    pub own: u64,
    /// Flows with something ready in the line, the job's own among them.
    pub flows: u64,
}

impl Ahead {
    /// The job's place in the line, itself included, when every flow gets its turns: by the time
    /// its own flow's turn comes to it, the others have had as many.
    pub fn rank(&self) -> u64 {
        let turns = self.own.saturating_add(1).saturating_mul(self.flows.max(1));
        self.line.saturating_add(1).min(turns)
    }
}

/// An item in somebody's hands for a while.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What proves the hold.
    pub token: LeaseToken,
    /// What is held.
    pub item: Item,
    /// How often a holder of this item vanished since it was stored, ended or replayed.
    pub losses: u32,
    /// For a delivery: how many tries went before since its job ended or it was replayed.
    pub tries: u32,
    /// How often the item was replayed to be run again.
    pub replays: u32,
    /// What the last holder noted when it put the item back.
    pub progress: Option<Bytes>,
}

/// Proof of a hold. The epoch fences off a holder that is too late: it grows when the item is
/// leased, settled, ended or replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseToken {
    /// The item: a job's or a group's id.
    pub id: String,
    /// The item's epoch when this lease began.
    pub epoch: u64,
}

/// What is leased.
#[derive(Clone, Debug)]
pub enum Item {
    /// A job, with its result once it has one (then its callback is due).
    Job(Box<Job>, Option<Box<JobResult>>),
    /// A group whose jobs have all ended: its callback is due.
    Group(Box<Group>),
    /// An event that a subscription is to be told, with the result of the job that ended.
    Event(Box<Event>, Box<JobResult>),
}

/// How a lease ends. Zero for a pause means at once, without a sweep in between.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The job ended.
    Finish(Ending),
    /// Back to its place in line, the oldest of a flow first, after a pause. Counts neither as a
    /// loss nor as a try.
    Back {
        /// Not before this long from now.
        after: Duration,
        /// What the next holder is to know; replaces what was noted before.
        progress: Option<Bytes>,
    },
    /// The callback was taken; nothing is left to do.
    Delivered {
        /// The attempt.
        log: DeliveryAttempt,
    },
    /// The callback was not taken; try again after a pause.
    Redeliver {
        /// Not before this long from now.
        after: Duration,
        /// The attempt.
        log: DeliveryAttempt,
    },
    /// The callback is given up and kept for replay.
    Undeliverable {
        /// The last attempt.
        log: DeliveryAttempt,
    },
}

impl Verdict {
    /// Back after a pause, with nothing new to know.
    pub const fn back(after: Duration) -> Self {
        Self::Back { after, progress: None }
    }
}

/// What came of a settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It counts.
    Done,
    /// It does not: the lease was settled before, the item was leased again, ended or is gone,
    /// or the verdict does not fit it (a run is not delivered, a delivery does not finish).
    Stale,
}

/// What came of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The job ended now.
    Now,
    /// It had ended before.
    Before,
    /// There is no such job.
    Unknown,
}

/// What to do again with an ended job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Run it again; the old result and its delivery attempts are dropped.
    Run,
    /// Post its result again; the old attempts stay known.
    Post(Delivery),
}

/// What came of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is under way.
    Done,
    /// The job has not ended.
    NotEnded,
    /// There is no such job.
    Unknown,
}

/// What a sweep did and what it leaves to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Items that came due.
    pub due: usize,
    /// Items whose holder vanished, back in line.
    pub freed: usize,
    /// Jobs lost so often that they are to be ended as failed. Told again until they are, and
    /// not handed out; a late settle still counts.
    pub lost: Vec<JobId>,
    /// Jobs whose `deliver_by` passed before they ended, held or not. Told again until they have.
    pub expired: Vec<JobId>,
    /// Jobs and groups purged.
    pub purged: usize,
}

/// How much waits where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Depths {
    /// Items ready in each line.
    pub ready: Vec<(Line, u64)>,
    /// Flows with something ready in each line, in the same order.
    pub flows: Vec<(Line, u64)>,
    /// Items in somebody's hands.
    pub leased: u64,
    /// Items waiting for their time to come.
    pub delayed: u64,
    /// Jobs that have not ended.
    pub open: u64,
    /// Callbacks given up.
    pub dead: u64,
    /// How long the oldest item that is due has been due without being handed out.
    pub oldest_due: Duration,
    /// Used part of the store's memory limit, when it has one.
    pub memory: Option<f64>,
}

/// What an accepted job survives.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Not even a restart of the store.
    Volatile,
    /// A crash of the store's process; a power cut may cost the last second.
    Appended,
    /// A power cut.
    Fsynced,
    /// The loss of the store's primary machine.
    Replicated,
}

impl Durability {
    /// The level's name in the `Spillway-Durability` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::Appended => "appended",
            Self::Fsynced => "fsynced",
            Self::Replicated => "replicated",
        }
    }
}

/// How often a job's worker may vanish before the job is given up. A delivery is not given up
/// for it.
pub const MOST_LOSSES: u32 = 3;

/// How long without a sweep means that nobody was answered: the store or all of us were away, or the
/// machine slept. Sweeps come 20 times a second.
pub const AWAY: Duration = Duration::from_secs(3);

/// How long leases that ran out meanwhile are left to their holders, who could neither renew nor settle
/// them: a callback that was posted must not be posted again because that could not be written down.
pub const GRACE: Duration = Duration::from_secs(10);

/// How near a job's `deliver_by` must be to be pulled forward: what the usual call's timeout (30 to
/// 60 s) lets go by, twice, so that another step can still answer in time. Much sooner, jobs in no
/// hurry yet would only take turns from those in more of a hurry.
pub const NEAR: Duration = Duration::from_secs(120);

/// How many turns of its own a flow may be ahead by jobs that were pulled forward: enough for the
/// odd job in a hurry, and no way to get more than one's share by calling all jobs urgent.
pub const MOST_AHEAD: u32 = 16;

/// How many jobs of a flow may leave in a row before older ones for what they begin with: enough for nearly
/// all of them to find it cached, and few enough that nobody waits long.
pub const MOST_ALIKE: u32 = 16;

/// How many flows a lease looks past at the most: Redis does nothing else meanwhile.
pub const MOST_PAST: usize = 4_096;

/// How many delivery attempts are kept.
pub const KEPT_ATTEMPTS: usize = 20;
