//! Posts results to their callbacks, each host at the rate it bears, and again later when a
//! receiver is down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::held::For;
use crate::callback::http::{Reply, Verdict as Said, envelope};
use crate::domain::job::{Callback, Lane, Line};
use crate::domain::limits::Cost;
use crate::domain::result::DeliveryAttempt;
use crate::limiter::{Ask, End, Obstacle, Turn};
use crate::queue::{Item, Lease, LeaseToken, QueueError, Verdict};
use crate::telemetry::metrics;

/// How far ahead a post's turn is reserved. Nothing urgent waits behind it.
const HORIZON: Duration = Duration::from_secs(1);

/// How long a delivery waits when all posts to its host at the same time are taken.
const CROWDED: Duration = Duration::from_millis(250);

/// Deliveries taken out of the line at once.
const BATCH: usize = 16;

/// Deliveries put back one after another before the loop pauses.
const LOOK_PAST: usize = 64;

/// The longest the loop sleeps without looking.
const IDLE: Duration = Duration::from_millis(500);

/// One POST to be made.
struct Post {
    lease: LeaseToken,
    lost: CancellationToken,
    callback: Callback,
    id: String,
    body: Bytes,
    tries: u32,
}

/// Starts the loop.
pub(super) fn start(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    engine.lifecycle.clone().spawn(async move {
        let mut hints = engine.queue.hints(&Line::Deliver);
        while !engine.is_draining() {
            match engine.deliver_some().await {
                Ok(0) => {
                    tokio::select! {
                        () = engine.lifecycle.draining() => {}
                        () = tokio::time::sleep(IDLE) => {}
                        changed = hints.changed() => if changed.is_err() {
                            engine.lifecycle.sleep(IDLE).await;
                        }
                    }
                }
                Ok(_) => {}
                Err(fault) => {
                    metrics::store_error("lease");
                    tracing::warn!(%fault, "deliveries pause");
                    engine.lifecycle.sleep(IDLE).await;
                }
            }
        }
    });
}

impl Engine {
    /// Takes some deliveries out of the line and starts them. How many.
    async fn deliver_some(self: &Arc<Self>) -> Result<usize, QueueError> {
        let Ok(permit) = Arc::clone(&self.posting).acquire_owned().await else {
            return Ok(0);
        };
        let free = self.posting.available_permits() + 1;
        let term = self.settings.lease.0;
        let leases = self.queue.lease(&Line::Deliver, free.min(BATCH), term).await?;
        let taken = leases.len();
        let mut permit = Some(permit);
        let mut put_back = 0;
        let mut soonest = IDLE;
        for lease in leases {
            let own = match permit.take() {
                Some(permit) => permit,
                None => match Arc::clone(&self.posting).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => return Ok(taken),
                },
            };
            if let Some(wait) = self.deliver(lease, own).await {
                put_back += 1;
                soonest = soonest.min(wait);
            }
        }
        if put_back > 0 && put_back == taken && self.load.put_back(put_back) > LOOK_PAST {
            self.load.put_back_none();
            self.lifecycle.sleep(soonest).await;
        } else if put_back < taken {
            self.load.put_back_none();
        }
        Ok(taken)
    }

    /// Gets one delivery its turn and starts it, or puts it back; then the answer is for how long.
    async fn deliver(
        self: &Arc<Self>,
        lease: Lease,
        permit: OwnedSemaphorePermit,
    ) -> Option<Duration> {
        let token = lease.token.clone();
        let lost = self.held.add(&token, For::Post);
        let post = match self.post_of(lease, lost).await {
            Ok(Some(post)) => post,
            Ok(None) => {
                // Nobody wants the result; it should not have been in this line.
                self.settle_surely(&token, undeliverable(self, "there is no callback")).await;
                self.held.remove(&token);
                return None;
            }
            Err(fault) => {
                tracing::warn!(%fault, id = token.id, "a result could not be read");
                self.settle_surely(&token, Verdict::back(IDLE)).await;
                self.held.remove(&token);
                return Some(IDLE);
            }
        };
        let ask = self.host_ask(&post.callback);
        match self.limiter.take(&ask).await {
            Ok(Turn::Granted { wait, .. }) => {
                let engine = Arc::clone(self);
                self.lifecycle.spawn(async move {
                    tokio::time::sleep(wait).await;
                    engine.send(post, &ask).await;
                    drop(permit);
                });
                None
            }
            other => {
                let wait = match other {
                    Ok(Turn::NotBefore { by: Obstacle::Concurrency(_), .. }) => CROWDED,
                    Ok(Turn::NotBefore { wait, .. }) => wait.saturating_sub(HORIZON / 2),
                    Err(_) | Ok(Turn::Granted { .. }) => IDLE,
                };
                let wait = wait.clamp(Duration::from_millis(20), Duration::from_secs(60));
                self.settle_surely(&token, Verdict::back(wait)).await;
                self.held.remove(&token);
                Some(wait)
            }
        }
    }

    async fn send(&self, post: Post, ask: &Ask) {
        let reply = tokio::select! {
            reply = self.poster.post(&post.callback, &post.id, post.tries + 1, post.body.clone()) => {
                Some(reply)
            }
            () = post.lost.cancelled() => None,
        };
        self.settle_turn(ask, &End::default()).await;
        if let Some(reply) = reply {
            let verdict = self.verdict(&post, reply);
            self.settle_surely(&post.lease, verdict).await;
        }
        self.held.remove(&post.lease);
    }

    /// What a receiver's reply means for the delivery.
    fn verdict(&self, post: &Post, reply: Reply) -> Verdict {
        let Reply { verdict, log, retry_after } = reply;
        let host = post.callback.redacted();
        match verdict {
            Said::Taken => {
                metrics::delivered("taken");
                Verdict::Delivered { log }
            }
            Said::Gone => {
                metrics::delivered("gone");
                tracing::warn!(
                    id = post.lease.id,
                    url = host,
                    status = log.status,
                    "receiver is gone"
                );
                Verdict::Undeliverable { log }
            }
            Said::Again => {
                let chance = self.chance.share();
                let pause = self.callbacks.schedule.pause(post.tries + 1, chance, retry_after);
                let Some(after) = pause else {
                    metrics::delivered("dead");
                    tracing::warn!(id = post.lease.id, url = host, "given up, kept for replay");
                    return Verdict::Undeliverable { log };
                };
                metrics::delivered("retried");
                tracing::info!(
                    id = post.lease.id,
                    url = host,
                    status = log.status,
                    error = log.error,
                    retry_ms = after.as_millis(),
                    "not taken"
                );
                Verdict::Redeliver { after, log }
            }
        }
    }

    /// A turn at a callback's host.
    fn host_ask(&self, callback: &Callback) -> Ask {
        let pool = self.callbacks.per_host.pool(&format!("host/{}", callback.host()));
        Ask {
            id: self.turn_id(),
            pools: vec![Arc::new(pool)],
            gates: Vec::new(),
            cost: Cost::call(0, 0),
            horizon: HORIZON,
            lane: Lane::Standard,
            shares: [0.0; 3],
            comes_back: false,
            term: HORIZON + Duration::from_secs(30),
        }
    }

    /// What is to be posted; `None` when there is no callback.
    async fn post_of(
        &self,
        lease: Lease,
        lost: CancellationToken,
    ) -> Result<Option<Post>, QueueError> {
        let at = self.clock.now();
        let (callback, id, kind, data) = match lease.item {
            Item::Job(job, Some(result)) => {
                let id = match lease.replays {
                    0 => job.id.to_string(),
                    replays => format!("{}_r{replays}", job.id),
                };
                (job.callback, id, format!("job.{}", result.status.as_str()), json(&result))
            }
            Item::Job(_, None) => return Ok(None),
            Item::Group(group) => {
                let id = group.id.clone();
                let Some(result) = self.group_result(&id).await? else {
                    return Ok(None);
                };
                if result.counts.open > 0 {
                    // A job of it was replayed meanwhile: the group is posted once, and whole.
                    return Err(QueueError::Unavailable(
                        "a job of the group runs again".to_owned(),
                    ));
                }
                (group.callback, id.to_string(), "group.finished".to_owned(), json(&result))
            }
        };
        Ok(callback.map(|callback| {
            let body = if callback.bare { data } else { envelope(&kind, at, &data) };
            Post { lease: lease.token, lost, callback, id, body, tries: lease.tries }
        }))
    }
}

fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).map_or_else(|_| Bytes::new(), Bytes::from)
}

fn undeliverable(engine: &Engine, why: &str) -> Verdict {
    Verdict::Undeliverable {
        log: DeliveryAttempt {
            at: engine.clock.now(),
            status: None,
            ms: 0,
            error: Some(why.to_owned()),
            response: None,
        },
    }
}
