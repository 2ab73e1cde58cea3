//! Waits, after a push, until Redis has done more than append it to its file: synced the file, or
//! passed it on to a replica.
//!
//! Many pushes share one wait. A round writes `sync` on a connection of its own, asks whether what
//! the pushes wrote is there, and waits for that write: what was there before it has then come as
//! far. A server that is no longer the master refuses the write, and one that became it without the
//! jobs does not find them: neither counts as having come far enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::Pipeline;
use tokio::sync::{mpsc, oneshot};

use super::super::{Durability, QueueError};
use super::info::Wanted;
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::lifecycle::Lifecycle;

/// The most rounds under way at once; a round may last as long as a sync once a second.
const ROUNDS: usize = 8;

/// The most pushes that share a round.
const SHARE: usize = 1_024;

/// A push that waits: a key it wrote, and whom to tell.
type Waiting = (String, oneshot::Sender<bool>);

/// What a push passes before it is told as stored.
pub(super) struct Fence {
    waiting: mpsc::Sender<Waiting>,
    rounds: Rounds,
    patience: Duration,
}

impl Fence {
    /// Starts the task that waits, until draining begins.
    pub(super) fn start(keyspace: &Keyspace, wanted: Wanted, lifecycle: &Lifecycle) -> Self {
        let (waiting, queue) = mpsc::channel(SHARE);
        let patience = keyspace.timeouts().connect + keyspace.timeouts().response;
        let reached = Arc::new(AtomicBool::new(true));
        let rounds = Rounds { keyspace: keyspace.clone(), wanted, reached };
        let (serving, stop) = (rounds.clone(), lifecycle.clone());
        lifecycle.spawn(async move { serving.serve(queue, &stop).await });
        Self { waiting, rounds, patience }
    }

    /// Waits for the push that wrote this key, for these jobs or this group. Fails unless it came as
    /// far as wanted.
    pub(super) async fn pass(&self, key: &str, id: &str) -> Result<(), QueueError> {
        let (tell, told) = oneshot::channel();
        let wait = async {
            match self.waiting.send((key.to_owned(), tell)).await {
                Ok(()) => told.await.unwrap_or(false),
                // The service stops; what it has taken on is seen through.
                Err(mpsc::error::SendError(alone)) => {
                    self.rounds.round(vec![alone]).await;
                    told.await.unwrap_or(false)
                }
            }
        };
        if tokio::time::timeout(self.patience, wait).await.unwrap_or(false) {
            return Ok(());
        }
        Err(QueueError::Unconfirmed { id: id.to_owned(), wanted: self.level() })
    }

    /// How far every push comes that passes.
    pub(super) const fn level(&self) -> Durability {
        self.rounds.wanted.level()
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

/// The waiting itself.
#[derive(Clone)]
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
        let wanted = self.wanted.level().as_str();
        match (self.reached.swap(reached, Ordering::Relaxed), reached) {
            (true, false) => {
                let fault = answer.as_ref().err().map(ToString::to_string);
                tracing::warn!(wanted, fault, "no job is accepted: Redis does not do as much");
            }
            (false, true) => tracing::info!(wanted, "jobs are accepted again"),
            _ => {}
        }
    }

    /// For each push, whether what it wrote was there and came as far as wanted; none when the wait
    /// was in vain.
    async fn wait(&self, waiting: &[Waiting]) -> Result<Vec<bool>, KeyspaceError> {
        let limit = self.keyspace.timeouts().response;
        let mut ask = redis::pipe();
        ask.cmd("SET").arg(self.keyspace.key("sync")).arg(1).ignore();
        for (key, _) in waiting {
            ask.cmd("EXISTS").arg(self.keyspace.key(key));
        }
        self.wanted.add_wait(&mut ask, limit.mul_f64(0.75));
        let answers: Vec<redis::Value> = self.keyspace.ask_alone(&ask, limit).await?;
        let met = answers.last().is_some_and(|answer| self.wanted.is_met(answer));
        if !met {
            // Its replicas may have gone over to another master.
            self.keyspace.look_again();
            return Ok(Vec::new());
        }
        let there = |answer: &redis::Value| *answer == redis::Value::Int(1);
        Ok(answers.iter().take(waiting.len()).map(there).collect())
    }
}
