//! The leases this replica holds: kept alive together, and dropped when they are lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::queue::{LeaseToken, Verdict};
use crate::telemetry::metrics;

/// The most leases renewed in one call.
const BATCH: usize = 256;

/// How soon leases are renewed again when the store did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Leases by item and epoch: a job's run and the delivery that follows it can overlap.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<(String, u64), Hold>>);

/// What a lease is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// To run the job.
    Run,
    /// To post the result.
    Post,
}

struct Hold {
    purpose: For,
    lost: CancellationToken,
    /// When the store last said that it is ours.
    said: Instant,
}

impl Held {
    /// Keeps a lease alive from now on. The answer is cancelled when the lease is lost.
    pub(super) fn add(&self, lease: &LeaseToken, purpose: For) -> CancellationToken {
        let lost = CancellationToken::new();
        let hold = Hold { purpose, lost: lost.clone(), said: Instant::now() };
        self.lock().insert((lease.id.clone(), lease.epoch), hold);
        lost
    }

    /// Stops keeping a lease alive.
    pub(super) fn remove(&self, lease: &LeaseToken) {
        self.lock().remove(&(lease.id.clone(), lease.epoch));
    }

    /// Tells who runs a job that it has ended.
    pub(super) fn ended(&self, id: &str) {
        for ((item, _), hold) in self.lock().iter() {
            if item == id && hold.purpose == For::Run {
                hold.lost.cancel();
            }
        }
    }

    fn lose(&self, lease: &LeaseToken) {
        if let Some(hold) = self.lock().get(&(lease.id.clone(), lease.epoch)) {
            hold.lost.cancel();
        }
    }

    /// The store has said that these are ours, but for those that are lost.
    fn keep(&self, leases: &[LeaseToken]) {
        let mut holds = self.lock();
        for lease in leases {
            if let Some(hold) = holds.get_mut(&(lease.id.clone(), lease.epoch)) {
                hold.said = Instant::now();
            }
        }
    }

    /// Stops posts whose lease has run out by our own clock: somebody else may post them by now. A
    /// run goes on, for an answer that comes late may still count.
    fn lose_posts_older_than(&self, term: Duration) {
        for hold in self.lock().values() {
            if hold.purpose == For::Post && hold.said.elapsed() >= term {
                hold.lost.cancel();
            }
        }
    }

    fn all(&self) -> Vec<LeaseToken> {
        let token = |(id, epoch): &(String, u64)| LeaseToken { id: id.clone(), epoch: *epoch };
        self.lock().keys().map(token).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u64), Hold>> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Engine {
    /// Gives everything held back to its line: a service that stops leaves nothing to wait for a
    /// lease to run out, and nobody counts it as lost.
    pub async fn give_back_all(&self) {
        for lease in self.held.all() {
            let back = Verdict::back(Duration::ZERO);
            if let Err(fault) = self.queue.settle(&lease, back).await {
                tracing::warn!(%fault, id = lease.id, "could not be given back");
            }
            self.lose_held(&lease);
        }
    }

    fn lose_held(&self, lease: &LeaseToken) {
        self.held.lose(lease);
        self.held.remove(lease);
    }
}

/// Starts keeping leases alive. Goes on while draining: what is held is finished.
pub(super) fn start(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    engine.lifecycle.clone().spawn(async move {
        let usual = engine.settings.lease.0 / 3;
        let mut pause = usual;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {
                    // Those that could not be renewed do not wait for their turn.
                    pause = if renew(&engine).await { usual } else { usual.min(AGAIN) };
                }
                () = engine.lifecycle.draining() => {
                    // From here on the loop ends once nothing is held.
                    if engine.held.all().is_empty() {
                        return;
                    }
                    tokio::time::sleep(usual.min(Duration::from_millis(100))).await;
                    renew(&engine).await;
                }
            }
        }
    });
}

/// Whether all could be renewed that are not lost.
async fn renew(engine: &Engine) -> bool {
    let mut reached = true;
    for leases in engine.held.all().chunks(BATCH) {
        match engine.queue.renew(leases, engine.settings.lease.0).await {
            Ok(lost) => {
                engine.held.keep(leases);
                for lease in &lost {
                    engine.held.lose(lease);
                }
            }
            Err(fault) => {
                reached = false;
                engine.held.lose_posts_older_than(engine.settings.lease.0);
                metrics::store_error("renew");
                tracing::warn!(%fault, leases = leases.len(), "leases could not be renewed");
            }
        }
    }
    reached
}
