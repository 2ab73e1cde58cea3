//! Waits, after a push, until Redis has done more than append it to its file: synced the file, or
//! passed it on to a replica.
//!
//! Many pushes share one wait. A round writes `sync` on a connection of its own, asks whether the
//! jobs are there, and waits for that write: what was there before it has then come as far. Were
//! the jobs gone (Redis restarted without its last second, or another took over), a push would
//! not be reported as more than it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::Pipeline;
use tokio::sync::{mpsc, oneshot};

use super::super::Durability;
use super::info::{Level, Wanted};
use crate::domain::id::JobId;
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::lifecycle::Lifecycle;

/// The most rounds under way at once; a round may last as long as a sync once a second.
const ROUNDS: usize = 8;

/// The most pushes that share a round.
const SHARE: usize = 1_024;

/// A push that waits: its first job, and whom to tell.
type Waiting = (JobId, oneshot::Sender<bool>);

/// What a push passes before it is told as stored.
pub(super) struct Fence {
    waiting: mpsc::Sender<Waiting>,
    wanted: Wanted,
    own: Arc<Level>,
    reached: Arc<AtomicBool>,
    patience: Duration,
}

impl Fence {
    /// Starts the task that waits, until draining begins.
    pub(super) fn start(
        keyspace: &Keyspace,
        wanted: Wanted,
        own: Arc<Level>,
        lifecycle: &Lifecycle,
    ) -> Self {
        let (waiting, queue) = mpsc::channel(SHARE);
        let reached = Arc::new(AtomicBool::new(true));
        let patience = keyspace.timeouts().connect + keyspace.timeouts().response;
        let rounds = Rounds { keyspace: keyspace.clone(), wanted, reached: Arc::clone(&reached) };
        let stop = lifecycle.clone();
        lifecycle.spawn(async move { rounds.serve(queue, &stop).await });
        Self { waiting, wanted, own, reached, patience }
    }

    /// Waits for the push whose first job this is, and tells how far it came.
    pub(super) async fn pass(&self, job: &JobId) -> Durability {
        let (tell, told) = oneshot::channel();
        let wait = async {
            self.waiting.send((job.clone(), tell)).await.is_ok() && told.await.unwrap_or(false)
        };
        let reached = tokio::time::timeout(self.patience, wait).await.unwrap_or(false);
        self.level(reached)
    }

    /// What a push can expect, going by the latest round.
    pub(super) fn durability(&self) -> Durability {
        self.level(self.reached.load(Ordering::Relaxed))
    }

    fn level(&self, reached: bool) -> Durability {
        let own = self.own.get();
        if reached { own.max(self.wanted.level()) } else { own }
    }
}

impl Wanted {
    const fn level(self) -> Durability {
        match self {
            Self::Fsync => Durability::Fsynced,
            Self::Replica => Durability::Replicated,
        }
    }

    fn add_wait(self, ask: &mut Pipeline, patience: Duration) {
        match self {
            Self::Fsync => ask.cmd("WAITAOF").arg(1).arg(0),
            Self::Replica => ask.cmd("WAIT").arg(1),
        };
        ask.arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1));
    }

    /// Whether what `WAIT` or `WAITAOF` answered is enough.
    fn is_met(self, answer: &redis::Value) -> bool {
        let count = match (self, answer) {
            (Self::Fsync, redis::Value::Array(both)) => both.first(),
            (Self::Fsync, _) => None,
            (Self::Replica, count) => Some(count),
        };
        matches!(count, Some(redis::Value::Int(1..)))
    }
}

/// The task's side.
struct Rounds {
    keyspace: Keyspace,
    wanted: Wanted,
    reached: Arc<AtomicBool>,
}

impl Rounds {
    async fn serve(&self, mut queue: mpsc::Receiver<Waiting>, stop: &Lifecycle) {
        let mut rounds = FuturesUnordered::new();
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                () = stop.draining() => break,
                Some(()) = rounds.next() => {}
                count = queue.recv_many(&mut waiting, SHARE), if rounds.len() < ROUNDS => {
                    if count == 0 {
                        break;
                    }
                    rounds.push(self.round(std::mem::take(&mut waiting)));
                }
            }
        }
        queue.close();
        while queue.recv_many(&mut waiting, SHARE).await > 0 {
            rounds.push(self.round(std::mem::take(&mut waiting)));
        }
        while rounds.next().await.is_some() {}
    }

    async fn round(&self, waiting: Vec<Waiting>) {
        let answer = self.wait(&waiting).await;
        self.note(&answer);
        let there = answer.unwrap_or_default().into_iter().chain(std::iter::repeat(false));
        for ((_, tell), there) in waiting.into_iter().zip(there) {
            if tell.send(there).is_err() {
                tracing::debug!("a push was given up while it waited for its level");
            }
        }
    }

    /// Keeps in mind whether a round was in vain, and says so when that is new.
    fn note(&self, answer: &Result<Vec<bool>, KeyspaceError>) {
        let reached = answer.as_ref().is_ok_and(|there| !there.is_empty());
        let reached_before = self.reached.swap(reached, Ordering::Relaxed);
        if reached_before && !reached {
            let wanted = self.wanted.level().as_str();
            let fault = answer.as_ref().err().map(ToString::to_string);
            tracing::warn!(wanted, fault, "jobs are stored, but Redis does no more for them");
        }
    }

    /// For each push, whether its job was there and came as far as wanted; none when the wait was
    /// in vain.
    async fn wait(&self, waiting: &[Waiting]) -> Result<Vec<bool>, KeyspaceError> {
        let timeouts = self.keyspace.timeouts();
        let mut ask = redis::pipe();
        ask.cmd("SET").arg(self.keyspace.key("sync")).arg(1).ignore();
        for (job, _) in waiting {
            ask.cmd("EXISTS").arg(self.keyspace.key(&format!("j:{job}")));
        }
        self.wanted.add_wait(&mut ask, timeouts.response.mul_f64(0.75));
        let mut connection = self.keyspace.own().await?;
        let answers = ask.query_async::<Vec<redis::Value>>(&mut connection);
        let answers = tokio::time::timeout(timeouts.response, answers)
            .await
            .map_err(|late| KeyspaceError::Unreachable(late.to_string()))??;
        let met = answers.last().is_some_and(|answer| self.wanted.is_met(answer));
        let there = |answer: &redis::Value| *answer == redis::Value::Int(1);
        Ok(if met { answers.iter().take(waiting.len()).map(there).collect() } else { Vec::new() })
    }
}
