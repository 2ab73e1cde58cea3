//! Pushes that come while another is under way share the next call: a call costs Redis and us more
//! than what a job adds to it. A push that finds none under way goes at once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::ScriptInvocation;
use tokio::sync::oneshot;

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
    batch: Batch,
    tell: Tell,
}

impl Pushes {
    pub(super) fn new(keyspace: &Keyspace, scripts: &Scripts, lifecycle: &Lifecycle) -> Self {
        Self {
            keyspace: keyspace.clone(),
            script: scripts.push.clone(),
            lifecycle: lifecycle.clone(),
            gathered: PerRuntime::default(),
        }
    }

    /// Stores a batch, and tells what the script says of it.
    pub(super) async fn push(self: &Arc<Self>, batch: Batch) -> Result<Told, QueueError> {
        let (tell, told) = oneshot::channel();
        let Ok(gathered) = self.gathered.get(|| Ok::<_, Infallible>(Gathered::default()));
        if gathered.add(Waiting { batch, tell }) {
            // In a task, because a caller that goes away must not stop the pushes of others.
            let pushes = Arc::clone(self);
            self.lifecycle.spawn(async move { pushes.serve(&gathered).await });
        }
        let timeouts = self.keyspace.timeouts();
        let limit = timeouts.connect + timeouts.response;
        let unavailable = |why: String| Err(QueueError::Unavailable(why));
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => unavailable("the push was given up".to_owned()),
            Err(_) => unavailable(format!("no answer within {limit:?}")),
        }
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
        while let Some(Waiting { batch, tell }) = next {
            // Nobody waits for it any more: what was not sent need not be.
            if !tell.is_closed() {
                match add(&mut push, &batch) {
                    Ok(length) => {
                        bytes += length;
                        told.push(tell);
                    }
                    Err(fault) => answered(tell, Err(fault)),
                }
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

/// Adds a batch to a call; tells how many bytes of text that was. Adds nothing if it fails.
fn add(push: &mut ScriptInvocation<'_>, batch: &Batch) -> Result<usize, QueueError> {
    let texts: Vec<Vec<u8>> = batch.jobs.iter().map(codec::write).collect::<Result<_, _>>()?;
    let group = batch.group.as_ref().map(codec::write).transpose()?.unwrap_or_default();
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
    push.arg(batch.group.as_ref().map_or("", |group| group.id.as_str())).arg(&group);
    for (job, text) in batch.jobs.iter().zip(&texts) {
        push.arg(job.id.as_str()).arg(text);
        push.arg(job.line().name()).arg(job.flow().as_str()).arg(index_of(job));
        push.arg(codec::asked(job));
    }
    Ok(group.len() + texts.iter().map(Vec::len).sum::<usize>())
}
