//! Posts results to their callbacks, each host at the rate it bears, and again later when a
//! receiver is down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::held::For;
use super::slots::{Place, Room};
use super::subscriptions::Subscriber;
use crate::callback::http::{Reply, Verdict as Said, envelope};
use crate::domain::id::{EventId, SubscriptionId};
use crate::domain::job::{Callback, CallbackBody, Lane, Line, Owner};
use crate::domain::limits::Cost;
use crate::domain::result::{DeliveryAttempt, JobResult, PostedEvent};
use crate::limiter::{Ask, End, Obstacle, Turn};
use crate::queue::{Event, Item, Lease, LeaseToken, QueueError, Verdict};
use crate::telemetry::metrics;

/// How far ahead a post's turn is reserved. Nothing urgent waits behind it.
const HORIZON: Duration = Duration::from_secs(1);

/// How long a delivery waits when all posts to its host at the same time are taken.
const CROWDED: Duration = Duration::from_millis(250);

/// The status that says that nobody will ever listen there again.
const GONE: u16 = 410;

/// Deliveries taken out of the line at once.
const BATCH: usize = 16;

/// Deliveries put back one after another before the loop pauses.
const LOOK_PAST: usize = 64;

/// The longest the loop sleeps without looking.
const IDLE: Duration = Duration::from_millis(500);

/// The same while somebody is looked past: the store tells of nothing that comes to a line that is
/// not empty.
const SOON: Duration = Duration::from_millis(50);

/// How many times as long as a receiver took to fail it is left alone at least: one that hangs costs
/// a slot each time, one that refuses costs nothing.
const HANGS: u32 = 2;

/// One POST to be made.
struct Post {
    lease: LeaseToken,
    lost: CancellationToken,
    callback: Callback,
    id: String,
    body: Bytes,
    tries: u32,
    /// Who is told, when it is a subscription's event.
    subscriber: Option<Arc<Subscriber>>,
}

/// What is to be done with what was leased.
enum Task {
    /// It is to be posted.
    Post(Post),
    /// Nobody wants it: why.
    Drop(DeliveryAttempt),
}

/// Starts the loop.
pub(super) fn start(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    engine.lifecycle.clone().spawn(async move {
        let mut hints = engine.queue.hints(&Line::Deliver);
        while !engine.is_draining() {
            let room = engine.slots.room();
            match engine.deliver_some(&room).await {
                Ok(0) => {
                    let pause = if room.is_tight() { SOON } else { IDLE };
                    tokio::select! {
                        () = engine.lifecycle.draining() => {}
                        () = engine.slots.freed(), if room.is_tight() => {}
                        () = tokio::time::sleep(pause) => {}
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
    async fn deliver_some(self: &Arc<Self>, room: &Room) -> Result<usize, QueueError> {
        let (most, term) = (room.most.min(BATCH), self.settings.lease.0);
        if most == 0 {
            return Ok(0);
        }
        let leases = self.queue.lease_past(&Line::Deliver, most, term, &room.past).await?;
        let taken = leases.len();
        let mut put_back = 0;
        let mut soonest = IDLE;
        for lease in leases {
            let place = self.slots.take(self.whose(&lease.item));
            if let Some(wait) = self.deliver(lease, place).await {
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
    async fn deliver(self: &Arc<Self>, lease: Lease, place: Place) -> Option<Duration> {
        let token = lease.token.clone();
        let lost = self.held.add(&token, For::Post);
        let post = match self.task_of(lease, lost).await {
            Ok(Task::Post(post)) => post,
            Ok(Task::Drop(log)) => {
                self.settle_surely(&token, Verdict::Undeliverable { log }).await;
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
                    drop(place);
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

    /// Who has a delivery's slot.
    fn whose(&self, item: &Item) -> Owner {
        match item {
            Item::Job(job, _) => Owner::of(&job.caller),
            Item::Group(group) => Owner::of(&group.caller),
            Item::Event(event, _) => self.subscribers.owner(&event.subscription),
        }
    }

    async fn send(&self, post: Post, ask: &Ask) {
        let own =
            post.subscriber.as_ref().map(|one| self.poster.signing_with(Arc::clone(&one.secrets)));
        let poster = own.as_ref().unwrap_or(&self.poster);
        let reply = tokio::select! {
            reply = poster.post(&post.callback, &post.id, post.tries + 1, post.body.clone()) => {
                Some(reply)
            }
            () = post.lost.cancelled() => None,
        };
        self.settle_turn(ask, &End::default()).await;
        if let Some(mut reply) = reply {
            if let Some(one) = &post.subscriber {
                reply.log.event = posted(&post.lease.id, &one.subscription.id);
                if reply.log.status == Some(GONE) {
                    self.end_subscription(&one.subscription).await;
                }
            }
            let verdict = self.verdict(&post, reply);
            self.settle_surely(&post.lease, verdict).await;
        }
        self.held.remove(&post.lease);
    }

    /// What a receiver's reply means for the delivery.
    fn verdict(&self, post: &Post, reply: Reply) -> Verdict {
        let Reply { verdict, log, retry_after } = reply;
        let (id, url) = (post.lease.id.as_str(), post.callback.redacted());
        let kind = if post.subscriber.is_some() { "event" } else { "callback" };
        match verdict {
            Said::Taken => {
                metrics::delivered(kind, "taken");
                Verdict::Delivered { log }
            }
            Said::Gone => {
                metrics::delivered(kind, "gone");
                tracing::warn!(id, url, status = log.status, "receiver is gone");
                Verdict::Undeliverable { log }
            }
            Said::Again => {
                let chance = self.chance.share();
                let pause = self.callbacks.schedule.pause(post.tries + 1, chance, retry_after);
                let (status, error) = (log.status, log.error.as_deref());
                let hung = Duration::from_millis(log.ms).saturating_mul(HANGS);
                let Some(after) = pause.map(|pause| pause.max(hung)) else {
                    metrics::delivered(kind, "dead");
                    let kept =
                        if kind == "event" { "given up" } else { "given up, kept for replay" };
                    tracing::warn!(id, url, status, error, "{kept}");
                    return Verdict::Undeliverable { log };
                };
                metrics::delivered(kind, "retried");
                tracing::info!(id, url, status, error, retry_ms = after.as_millis(), "not taken");
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

    /// What is to be done with a lease.
    async fn task_of(&self, lease: Lease, lost: CancellationToken) -> Result<Task, QueueError> {
        match &lease.item {
            Item::Job(job, Some(result)) => {
                let id = match lease.replays {
                    0 => job.id.to_string(),
                    replays => format!("{}_r{replays}", job.id),
                };
                let message = Message { id, kind: kind_of(result), data: json(result) };
                Ok(self.task(&lease, lost, job.callback.clone(), message))
            }
            Item::Job(_, None) => Ok(Task::Drop(self.nobody("there is no result"))),
            Item::Group(group) => {
                let Some(result) = self.group_result(&group.id).await? else {
                    return Ok(Task::Drop(self.nobody("the group is gone")));
                };
                if result.counts.open > 0 {
                    // A job of it was replayed meanwhile: the group is posted once, and whole.
                    return Err(QueueError::Unavailable(
                        "a job of the group runs again".to_owned(),
                    ));
                }
                let (id, kind) = (group.id.to_string(), "group.finished".to_owned());
                let message = Message { id, kind, data: json(&result) };
                Ok(self.task(&lease, lost, group.callback.clone(), message))
            }
            Item::Event(event, result) => self.event_task(&lease, lost, (event, result)).await,
        }
    }

    /// What is to be done with an event.
    async fn event_task(
        &self,
        lease: &Lease,
        lost: CancellationToken,
        (event, result): (&Event, &JobResult),
    ) -> Result<Task, QueueError> {
        let found = self.subscribers.find(&event.subscription).await;
        let Some(one) = found.map_err(|fault| QueueError::Unavailable(fault.to_string()))? else {
            metrics::delivered("event", "dropped");
            let log = self.nobody("the subscription was ended before it was told");
            let event = posted(event.id.as_str(), &event.subscription);
            return Ok(Task::Drop(DeliveryAttempt { event, ..log }));
        };
        let id = event.id.to_string();
        let message = Message { id, kind: kind_of(result), data: json(result) };
        let task = self.task(lease, lost, Some(one.subscription.callback.clone()), message);
        Ok(match task {
            Task::Post(post) => Task::Post(Post { subscriber: Some(one), ..post }),
            dropped @ Task::Drop(_) => dropped,
        })
    }

    fn task(
        &self,
        lease: &Lease,
        lost: CancellationToken,
        callback: Option<Callback>,
        message: Message,
    ) -> Task {
        let Some(callback) = callback else {
            // It should not have been in this line.
            return Task::Drop(self.nobody("there is no callback"));
        };
        let Message { id, kind, data } = message;
        let now = self.clock.now();
        let body = match callback.body {
            CallbackBody::Envelope => envelope(&kind, now, &data),
            CallbackBody::Bare => data,
            CallbackBody::Thin => envelope(&kind, now, &thin(&data)),
        };
        let (lease, tries) = (lease.token.clone(), lease.tries);
        Task::Post(Post { lease, lost, callback, id, body, tries, subscriber: None })
    }

    /// What is noted when nobody wants what was to be posted.
    fn nobody(&self, why: &str) -> DeliveryAttempt {
        DeliveryAttempt {
            at: self.clock.now(),
            status: None,
            ms: 0,
            error: Some(why.to_owned()),
            response: None,
            event: None,
        }
    }
}

/// What is posted, before it is put into the form its receiver wants.
struct Message {
    id: String,
    kind: String,
    data: Bytes,
}

fn kind_of(result: &JobResult) -> String {
    format!("job.{}", result.status.as_str())
}

/// An event as attempts to post it name it.
fn posted(id: &str, subscription: &SubscriptionId) -> Option<PostedEvent> {
    Some(PostedEvent { id: EventId::parse(id)?, subscription: subscription.clone() })
}

/// What a thin callback tells of a job or a group.
const THIN: [&str; 9] =
    ["id", "object", "status", "ok", "task", "workflow", "counts", "metadata", "finished_at"];

/// What ended and how.
fn thin(data: &[u8]) -> Bytes {
    let all: serde_json::Map<String, Value> = serde_json::from_slice(data).unwrap_or_default();
    let kept = all.into_iter().filter(|(key, _)| THIN.contains(&key.as_str()));
    json(&kept.collect::<serde_json::Map<_, _>>())
}

fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).map_or_else(|_| Bytes::new(), Bytes::from)
}
