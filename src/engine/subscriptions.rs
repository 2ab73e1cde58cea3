//! Who is told of jobs' ends beside their callbacks. All of it is kept at hand, for a job's end must not
//! wait for a look.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::Engine;
use super::intake::Submitter;
use crate::callback::http::check_headers;
use crate::callback::sign::{self, Secret};
use crate::domain::id::SubscriptionId;
use crate::domain::job::{Callback, Flow, Job, Owner};
use crate::domain::result::Status;
use crate::queue::{Dedup, Delivery, EventDelivery};
use crate::subscriptions::{
    Added, JobFilter, Request, SharedSubscriptionStore, Snapshot, StoreError, Subscription, Version,
};
use crate::telemetry::metrics;

use super::refusal::IntakeError;

/// The most subscriptions of one caller.
pub const MOST: usize = 100;

/// How soon what another replica was told counts here.
const LOOK: Duration = Duration::from_millis(500);

/// What a caller asks for.
pub struct Asked {
    /// What the caller calls it.
    pub name: Option<String>,
    /// Where events are posted.
    pub callback: Callback,
    /// Which jobs.
    pub filter: JobFilter,
}

/// A subscription that was asked for.
pub struct Subscribed {
    /// It as it stands.
    pub subscription: Subscription,
    /// Whether the same request made it before.
    pub repeated: bool,
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The callback is refused.
    #[error(transparent)]
    Callback(IntakeError),
    /// The caller has as many as it may.
    #[error("too many subscriptions")]
    Full,
    /// The idempotency key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A subscription, ready to be told.
pub(super) struct Subscriber {
    pub(super) subscription: Subscription,
    pub(super) secrets: Arc<[Secret]>,
    flow: Flow,
}

/// What is known of subscriptions.
pub(super) struct Subscribers {
    store: SharedSubscriptionStore,
    known: ArcSwap<Known>,
    looking: Mutex<()>,
}

#[derive(Default)]
struct Known {
    version: Option<Version>,
    by_caller: HashMap<String, Vec<Arc<Subscriber>>>,
    by_id: HashMap<SubscriptionId, Arc<Subscriber>>,
}

impl Subscribers {
    pub(super) fn new(store: SharedSubscriptionStore) -> Self {
        Self { store, known: ArcSwap::default(), looking: Mutex::default() }
    }

    /// Reads what has changed. One at a time: an older state must not replace a newer one.
    async fn look(&self) -> Result<(), StoreError> {
        let turn = self.looking.lock().await;
        let version = self.known.load().version.clone();
        if let Some(snapshot) = self.store.changed(version.as_ref()).await? {
            self.known.store(Arc::new(Known::of(snapshot)));
        }
        drop(turn);
        Ok(())
    }

    /// Whose subscription it is, as far as is known here.
    pub(super) fn owner(&self, id: &SubscriptionId) -> Owner {
        let known = self.known.load();
        known.by_id.get(id).map(|one| Owner::of(&one.subscription.caller)).unwrap_or_default()
    }

    /// The subscription of this name, which another replica may have been told of just now.
    pub(super) async fn find(
        &self,
        id: &SubscriptionId,
    ) -> Result<Option<Arc<Subscriber>>, StoreError> {
        if let Some(known) = self.known.load().by_id.get(id) {
            return Ok(Some(Arc::clone(known)));
        }
        self.look().await?;
        Ok(self.known.load().by_id.get(id).cloned())
    }
}

impl Known {
    fn of(snapshot: Snapshot) -> Self {
        let mut known = Self { version: Some(snapshot.version), ..Self::default() };
        for subscription in snapshot.all {
            let Ok(secret) = Secret::parse(&subscription.secret) else {
                tracing::error!(subscription.id = %subscription.id, "its secret is damaged");
                continue;
            };
            // Not by host: one that is down must not stand before another at the same host.
            let flow = Flow::of_owner(&Owner::of(&subscription.caller), subscription.id.as_str());
            let id = subscription.id.clone();
            let caller = subscription.caller.clone();
            let one = Arc::new(Subscriber { subscription, secrets: [secret].into(), flow });
            known.by_caller.entry(caller).or_default().push(Arc::clone(&one));
            known.by_id.insert(id, one);
        }
        known
    }
}

/// Looks from time to time for what other replicas were told.
pub(super) fn start(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    engine.lifecycle.clone().spawn(async move {
        let mut failing = false;
        while engine.lifecycle.sleep(LOOK).await {
            let looked = engine.subscribers.look().await;
            if let Err(fault) = &looked
                && !failing
            {
                metrics::store_error("subscriptions");
                tracing::warn!(%fault, "subscriptions stay as they are known");
            }
            failing = looked.is_err();
        }
    });
}

impl Engine {
    /// Reads the subscriptions there are, before the first job ends.
    pub async fn read_subscriptions(&self) -> Result<(), StoreError> {
        self.subscribers.look().await
    }

    /// Makes a subscription. It counts for jobs that end from now on; on other replicas, in a moment.
    pub async fn subscribe(
        &self,
        from: Submitter,
        asked: Asked,
    ) -> Result<Subscribed, SubscribeError> {
        check_headers(&asked.callback.headers)
            .map_err(|why| SubscribeError::Callback(IntakeError::CallbackHeaders(why)))?;
        let admitted = self.poster.guard().admit_resolved(&asked.callback.url).await;
        admitted.map_err(|why| SubscribeError::Callback(IntakeError::Callback(why)))?;
        let now = self.clock.now();
        let subscription = Subscription {
            id: self.ids.subscription(now),
            caller: from.caller,
            name: asked.name,
            callback: asked.callback,
            filter: asked.filter,
            secret: sign::generate(&mut rand::rng()),
            created_at: now,
            request: from.dedup.map(|Dedup { key, fingerprint, .. }| Request { key, fingerprint }),
        };
        match self.subscribers.store.add(subscription.clone(), MOST).await? {
            Added::Stored => {}
            Added::Known(known) if known.request == subscription.request => {
                return Ok(Subscribed { subscription: *known, repeated: true });
            }
            Added::Known(_) => return Err(SubscribeError::KeyReused),
            Added::Full => return Err(SubscribeError::Full),
        }
        self.looked_again().await;
        let (id, url) = (&subscription.id, subscription.callback.redacted());
        tracing::info!(subscription.id = %id, caller = subscription.caller, url, "subscribed");
        Ok(Subscribed { subscription, repeated: false })
    }

    /// Ends a caller's subscription. `false` when there is none of this name. What it was not told
    /// yet it is told no more.
    pub async fn unsubscribe(&self, caller: &str, id: &SubscriptionId) -> Result<bool, StoreError> {
        let removed = self.subscribers.store.remove(caller, id).await?;
        self.looked_again().await;
        if removed {
            tracing::info!(subscription.id = %id, caller, "unsubscribed");
        }
        Ok(removed)
    }

    /// A caller's subscriptions, the oldest first, as they stand now.
    pub async fn subscriptions(&self, caller: &str) -> Result<Vec<Subscription>, StoreError> {
        self.subscribers.look().await?;
        let known = self.subscribers.known.load();
        let own = known.by_caller.get(caller).map(Vec::as_slice).unwrap_or_default();
        Ok(own.iter().map(|one| one.subscription.clone()).collect())
    }

    /// Ends a subscription whose receiver is gone.
    pub(super) async fn end_subscription(&self, subscription: &Subscription) {
        let (id, url) = (&subscription.id, subscription.callback.redacted());
        match self.subscribers.store.remove(&subscription.caller, id).await {
            Ok(_) => {
                tracing::warn!(subscription.id = %id, url, "the receiver is gone (410): its subscription is ended");
                self.looked_again().await;
            }
            // Its next event is answered 410, too.
            Err(fault) => tracing::warn!(%fault, subscription.id = %id, "could not be ended"),
        }
    }

    /// The events that follow when a job ends like this.
    pub(super) fn events(&self, job: &Job, status: Status) -> Vec<EventDelivery> {
        let known = self.subscribers.known.load();
        let Some(own) = known.by_caller.get(&job.caller) else {
            return Vec::new();
        };
        let now = self.clock.now();
        own.iter()
            .filter(|one| one.subscription.filter.fits(job, status))
            .map(|one| EventDelivery {
                id: self.ids.event(now),
                subscription: one.subscription.id.clone(),
                delivery: Delivery {
                    flow: one.flow.clone(),
                    after: one
                        .subscription
                        .callback
                        .min_delay
                        .map_or(Duration::ZERO, |pause| pause.0),
                },
            })
            .collect()
    }

    /// What was changed here counts here at once; if it cannot be read now, soon.
    async fn looked_again(&self) {
        if let Err(fault) = self.subscribers.look().await {
            tracing::warn!(%fault, "a change of the subscriptions counts a moment later");
        }
    }
}
