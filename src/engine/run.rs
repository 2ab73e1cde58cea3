//! A job in this replica's hands, and the leave to make its call.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::work::Work;
use crate::domain::job::Lane;
use crate::queue::LeaseToken;

/// A job in this replica's hands.
pub(super) struct Run {
    pub(super) work: Work,
    pub(super) lease: LeaseToken,
    pub(super) lost: CancellationToken,
}

/// Leave to make one call.
pub(super) struct Permit {
    _lane: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Engine {
    /// Leave to make one more call; `None` when draining. Some places are kept for calls that
    /// somebody waits for.
    pub(super) async fn permit(&self, lane: Lane) -> Option<Permit> {
        let urgent = lane == Lane::Interactive;
        let own = self.lanes.get(lane.index()).map(Arc::clone)?;
        let of_lane = tokio::select! {
            biased;
            () = self.lifecycle.draining() => None,
            permit = own.acquire_owned() => permit.ok(),
        }?;
        let of_all = tokio::select! {
            biased;
            () = self.lifecycle.draining() => None,
            permit = Arc::clone(&self.running).acquire_owned() => permit.ok(),
            permit = Arc::clone(&self.reserved).acquire_owned(), if urgent => permit.ok(),
        }?;
        Some(Permit { _lane: of_lane, _all: of_all })
    }
}
