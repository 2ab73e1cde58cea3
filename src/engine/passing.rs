//! Passes a streamed answer on to its caller, who may read slowly or not at all.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::sync::mpsc::{self, Sender};

use super::streamed::Streamed;
use crate::provider::ProviderError;
use crate::provider::stream::{Piece, Pieces};

/// Pieces that wait for their caller.
const WAITING: usize = 64;

/// How long a caller may read nothing. After that the call is cancelled: it holds one of our places
/// and one of the provider's.
const STALLED: Duration = Duration::from_secs(30);

impl Streamed {
    /// The pieces. They are taken from the provider in a task of their own, so that deadlines hold
    /// whether the caller reads or not. When the caller is gone the call is cancelled.
    pub fn passed_on(self) -> Pieces {
        let (to, from) = mpsc::channel(WAITING);
        self.lifecycle().spawn(pass_on(self, to));
        stream::unfold(from, |mut from| async move { Some((from.recv().await?, from)) }).boxed()
    }
}

async fn pass_on(mut streamed: Streamed, to: Sender<Result<Piece, ProviderError>>) {
    loop {
        let next = tokio::select! {
            () = to.closed() => return,
            next = streamed.next() => next,
        };
        let Some(piece) = next else { return };
        match tokio::time::timeout(STALLED, to.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_gone)) => return,
            Err(_stalled) => {
                tracing::warn!(job.id = %streamed.id(), "the caller does not read its answer");
                return;
            }
        }
    }
}
