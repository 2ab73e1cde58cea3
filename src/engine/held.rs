//! The leases this replica holds: kept alive together, and dropped when they are lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::queue::LeaseToken;
use crate::telemetry::metrics;

/// The most leases renewed in one call.
const BATCH: usize = 256;

/// Leases by their item's id.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<String, (LeaseToken, CancellationToken)>>);

impl Held {
    /// Keeps a lease alive from now on. The answer is cancelled when the lease is lost.
    pub(super) fn add(&self, lease: &LeaseToken) -> CancellationToken {
        let lost = CancellationToken::new();
        self.lock().insert(lease.id.clone(), (lease.clone(), lost.clone()));
        lost
    }

    /// Stops keeping a lease alive.
    pub(super) fn remove(&self, lease: &LeaseToken) {
        let mut held = self.lock();
        if held.get(&lease.id).is_some_and(|(own, _)| own.epoch == lease.epoch) {
            held.remove(&lease.id);
        }
    }

    /// Tells the holder of an item that it holds it no more.
    pub(super) fn lose(&self, id: &str) {
        if let Some((_, lost)) = self.lock().get(id) {
            lost.cancel();
        }
    }

    fn all(&self) -> Vec<LeaseToken> {
        self.lock().values().map(|(lease, _)| lease.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (LeaseToken, CancellationToken)>> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// Starts keeping leases alive. Goes on while draining: what is held is finished.
pub(super) fn start(engine: &Arc<Engine>) {
    let engine = Arc::clone(engine);
    engine.lifecycle.clone().spawn(async move {
        let pause = engine.settings.lease.0 / 3;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => renew(&engine).await,
                () = engine.lifecycle.draining() => {
                    // From here on the loop ends once nothing is held.
                    if engine.held.all().is_empty() {
                        return;
                    }
                    tokio::time::sleep(pause.min(std::time::Duration::from_millis(100))).await;
                    renew(&engine).await;
                }
            }
        }
    });
}

async fn renew(engine: &Engine) {
    for leases in engine.held.all().chunks(BATCH) {
        match engine.queue.renew(leases, engine.settings.lease.0).await {
            Ok(lost) => lost.iter().for_each(|lease| engine.held.lose(&lease.id)),
            Err(fault) => {
                metrics::store_error("renew");
                tracing::warn!(%fault, leases = leases.len(), "leases could not be renewed");
            }
        }
    }
}
