//! Who is told of the ends of a caller's jobs.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::id::SubscriptionId;
use crate::domain::job::{Callback, Job};
use crate::domain::result::Status;

pub mod file;
pub mod redis;

/// Keeps subscriptions.
#[async_trait]
pub trait SubscriptionStore: Send + Sync + 'static {
    /// All there are, in the order they were made, or `None` when nothing has changed since this
    /// version was told.
    async fn changed(&self, since: Option<&Version>) -> Result<Option<Snapshot>, StoreError>;

    /// Stores one, unless its caller has it already (under the same key) or has `most` of them.
    async fn add(&self, subscription: Subscription, most: usize) -> Result<Added, StoreError>;

    /// Removes one of a caller's. `false` when there is none.
    async fn remove(&self, caller: &str, id: &SubscriptionId) -> Result<bool, StoreError>;
}

/// A store many hold.
pub type SharedSubscriptionStore = Arc<dyn SubscriptionStore>;

/// What came of adding one.
#[derive(Clone, Debug, PartialEq)]
pub enum Added {
    /// It is stored.
    Stored,
    /// Its caller has this one under the same key.
    Known(Box<Subscription>),
    /// Its caller has as many as it may.
    Full,
}

/// All subscriptions at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Tells this state from others, for the store that told it.
    pub version: Version,
    /// The subscriptions.
    pub all: Vec<Subscription>,
}

/// Tells one state of a store from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// Who is to be told of which of a caller's jobs, and how.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its name.
    pub id: SubscriptionId,
    /// Whose jobs.
    pub caller: String,
    /// What its caller calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where events are posted.
    pub callback: Callback,
    /// Which jobs.
    #[serde(default)]
    pub filter: JobFilter,
    /// What events are signed with (`whsec_…`).
    pub secret: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Recognises a repetition of the request that made it, for as long as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

/// A request that came with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Digest of caller and key, in hexadecimal.
    pub key: String,
    /// Digest of the request, in hexadecimal.
    pub fingerprint: String,
}

impl Subscription {
    /// The key it was made under.
    pub fn key(&self) -> Option<&str> {
        self.request.as_ref().map(|request| request.key.as_str())
    }
}

/// Which of a caller's jobs. An empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobFilter {
    /// How they ended.
    pub statuses: Vec<Status>,
    /// Their tasks.
    pub tasks: Vec<String>,
    /// Their workflows.
    pub workflows: Vec<String>,
}

impl JobFilter {
    /// Whether it lets through a job that ended like this.
    pub fn fits(&self, job: &Job, status: Status) -> bool {
        let of = |names: &[String], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|one| one == name))
        };
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && of(&self.tasks, Some(&job.task))
            && of(&self.workflows, job.workflow.as_deref())
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id)
            .field("caller", &self.caller)
            .field("url", &self.callback.redacted())
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// Why subscriptions could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached.
    #[error("the store of subscriptions is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood.
    #[error("the store of subscriptions is broken: {0}")]
    Broken(String),
}
