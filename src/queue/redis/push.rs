//! Pushes that come while another is under way share the next call: a call costs Redis and us more
//! than what a job adds to it. A push that finds none under way goes at once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::ScriptInvocation;
use tokio::sync::{Semaphore, oneshot};

use super::super::{Batch, QueueError};
use super::codec;
use super::scripts::{Scripts, call};
use super::write::index_of;
use crate::keyspace::{Keyspace, PerRuntime, Script};
use crate::lifecycle::Lifecycle;

/// The most pushes in one call: Redis does nothing else meanwhile.
const MOST_PUSHES: usize = 64;

/// A call takes no further push once it has this many bytes.
const MANY_BYTES: usize = 256 * 1_024;

/// A push with more than this goes alone: others would wait behind it, in our line and in the
/// connection's.
const LARGE: usize = 1_024 * 1_024;

/// What a slow link carries in a second. Redis has so much more time for a large push.
const BYTES_A_SECOND: usize = 2 * 1_024 * 1_024;

/// Large pushes at the same time: they leave connections of their own to others.
const MOST_LARGE: usize = 4;

/// What the script tells of a batch: a code, and figures or an id.
pub(super) type Told = Vec<redis::Value>;

/// Whom to tell it.
type Tell = oneshot::Sender<Result<Told, QueueError>>;

/// Sends pushes, together where they come together.
pub(super) struct Pushes {
    keyspace: Keyspace,
    script: Script,
    lifecycle: Lifecycle,
    gathered: PerRuntime<Gathered>,
    large: Semaphore,
}

/// The pushes of one runtime that were not sent yet.
#[derive(Default)]
struct Gathered(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// Whether a task sends what waits.
    is_served: bool,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    parcel: Parcel,
    tell: Tell,
}

/// A batch and its texts as they are stored.
struct Parcel {
    batch: Batch,
    jobs: Vec<Vec<u8>>,
    group: Vec<u8>,
}

impl Pushes {
    pub(super) fn new(keyspace: &Keyspace, scripts: &Scripts, lifecycle: &Lifecycle) -> Self {
        Self {
            keyspace: keyspace.clone(),
            script: scripts.push.clone(),
            lifecycle: lifecycle.clone(),
            gathered: PerRuntime::default(),
            large: Semaphore::new(MOST_LARGE),
        }
    }

    /// Stores a batch, and tells what the script says of it.
    pub(super) async fn push(self: &Arc<Self>, batch: Batch) -> Result<Told, QueueError> {
        let (tell, told) = oneshot::channel();
        let waiting = Waiting { parcel: Parcel::pack(batch)?, tell };
        let Ok(gathered) = self.gathered.get(|| Ok::<_, Infallible>(Gathered::default()));
        let timeouts = self.keyspace.timeouts();
        let mut response = timeouts.response;
        // In tasks, because a caller that goes away must not stop a push, or those of others.
        let pushes = Arc::clone(self);
        let bytes = waiting.parcel.bytes();
        if bytes > LARGE {
            response += Duration::from_secs((bytes / BYTES_A_SECOND) as u64 + 1);
            self.lifecycle.spawn(async move { pushes.send_alone(waiting, response).await });
        } else if gathered.add(waiting) {
            self.lifecycle.spawn(async move { pushes.serve(&gathered).await });
        }
        let limit = timeouts.connect + response;
        let unavailable = |why: String| Err(QueueError::Unavailable(why));
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => unavailable("the push was given up".to_owned()),
            Err(_) => unavailable(format!("no answer within {limit:?}")),
        }
    }

    /// Sends a large push on a connection of its own.
    async fn send_alone(&self, Waiting { parcel, tell }: Waiting, limit: Duration) {
        let Ok(_turn) = self.large.acquire().await else { return };
        // Whoever waited for it may have been told that it did not come to it.
        if tell.is_closed() {
            return;
        }
        let mut push = call(&self.script, &self.keyspace);
        parcel.add_to(&mut push);
        let answer = self.keyspace.run_alone::<Vec<Told>>(&push, limit).await;
        let answer = answer.map_err(QueueError::from);
        answered(tell, answer.and_then(|told| told.into_iter().next().ok_or_else(too_few)));
    }

    /// Sends what waits, until nothing does.
    async fn serve(&self, gathered: &Gathered) {
        while let Some(first) = gathered.next() {
            let (push, told) = self.call(first, gathered);
            if told.is_empty() {
                continue;
            }
            let answer = self.keyspace.run::<Vec<Told>>(&push).await.map_err(QueueError::from);
            let mut answers = answer.as_ref().map_or_else(|_| [].iter(), |told| told.iter());
            for tell in told {
                let answer = match &answer {
                    Ok(_) => answers.next().cloned().ok_or_else(too_few),
                    Err(fault) => Err(fault.clone()),
                };
                answered(tell, answer);
            }
        }
    }

    /// Makes a call of this push and those behind it.
    fn call(&self, first: Waiting, gathered: &Gathered) -> (ScriptInvocation<'_>, Vec<Tell>) {
        let mut push = call(&self.script, &self.keyspace);
        let (mut told, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(Waiting { parcel, tell }) = next {
            // Nobody waits for it any more: what was not sent need not be.
            if !tell.is_closed() {
                parcel.add_to(&mut push);
                bytes += parcel.bytes();
                told.push(tell);
            }
            let more = told.len() < MOST_PUSHES && bytes < MANY_BYTES;
            next = if more { gathered.pop() } else { None };
        }
        (push, told)
    }
}

fn answered(tell: Tell, answer: Result<Told, QueueError>) {
    if tell.send(answer).is_err() {
        tracing::debug!("a push was given up while it was under way");
    }
}

fn too_few() -> QueueError {
    QueueError::Broken("the push script told too little".to_owned())
}

impl Gathered {
    /// Whether somebody must start sending.
    fn add(&self, waiting: Waiting) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(waiting);
        !std::mem::replace(&mut queue.is_served, true)
    }

    /// The next push; with none left, whoever comes next must start sending.
    fn next(&self) -> Option<Waiting> {
        let mut queue = self.lock();
        let next = queue.waiting.pop_front();
        queue.is_served = next.is_some();
        next
    }

    fn pop(&self) -> Option<Waiting> {
        self.lock().waiting.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parcel {
    /// Packs a batch, before and not while others wait for what is sent.
    fn pack(batch: Batch) -> Result<Self, QueueError> {
        let jobs = batch.jobs.iter().map(codec::write).collect::<Result<_, _>>()?;
        let group = batch.group.as_ref().map(codec::write).transpose()?.unwrap_or_default();
        Ok(Self { batch, jobs, group })
    }

    /// How many bytes of text that are.
    fn bytes(&self) -> usize {
        self.group.len() + self.jobs.iter().map(Vec::len).sum::<usize>()
    }

    /// Adds it to a call.
    fn add_to(&self, push: &mut ScriptInvocation<'_>) {
        let batch = &self.batch;
        push.arg(batch.jobs.len());
        match &batch.dedup {
            Some(dedup) => {
                let keep = codec::millis(dedup.keep).max(1);
                push.arg(&dedup.key).arg(&dedup.fingerprint).arg(keep);
            }
            None => {
                push.arg("").arg("").arg(0);
            }
        }
        push.arg(batch.group.as_ref().map_or("", |group| group.id.as_str())).arg(&self.group);
        for (job, text) in batch.jobs.iter().zip(&self.jobs) {
            push.arg(job.id.as_str()).arg(text);
            push.arg(job.line().name()).arg(job.flow().as_str()).arg(index_of(job));
            push.arg(codec::asked(job));
        }
    }
}
