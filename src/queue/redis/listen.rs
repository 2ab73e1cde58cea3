//! Says that something may have become ready: here, or at another replica.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::super::hints::Hints;
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::lifecycle::Lifecycle;

/// A silent subscription is made anew after this long: it may have died unnoticed.
const SILENCE: Duration = Duration::from_secs(60);

/// Pauses between attempts to subscribe, from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Listens to what other replicas make ready, until draining begins.
pub(super) fn start(keyspace: &Keyspace, lifecycle: &Lifecycle) -> Arc<Hints> {
    let hints = Arc::new(Hints::default());
    let (told, keyspace, stop) = (Arc::clone(&hints), keyspace.clone(), lifecycle.clone());
    lifecycle.spawn(async move {
        let listen = listen(&keyspace, &told, &stop);
        tokio::select! {
            () = stop.draining() => {}
            () = listen => {}
        }
    });
    hints
}

async fn listen(keyspace: &Keyspace, hints: &Hints, stop: &Lifecycle) {
    let (mut pause, mut moves) = (PAUSE.0, keyspace.moves());
    loop {
        moves.mark_unchanged();
        match follow(keyspace, hints, &mut pause).await {
            Ok(()) => {}
            Err(fault) => tracing::debug!(%fault, "no hints from other replicas for now"),
        }
        let goes_on = tokio::select! {
            goes_on = stop.sleep(pause) => goes_on,
            // Another Redis can be subscribed to at once.
            _ = moves.changed() => true,
        };
        if !goes_on {
            return;
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Passes hints on for as long as the subscription lasts.
async fn follow(
    keyspace: &Keyspace,
    hints: &Hints,
    pause: &mut Duration,
) -> Result<(), KeyspaceError> {
    let mut moves = keyspace.moves();
    let mut subscription = keyspace.subscribe().await?;
    subscription.subscribe(keyspace.key("hints")).await?;
    *pause = PAUSE.0;
    // What became ready meanwhile was not told.
    hints.tell_all();
    let mut messages = subscription.on_message();
    loop {
        tokio::select! {
            message = tokio::time::timeout(SILENCE, messages.next()) => match message {
                Ok(Some(message)) => match message.get_payload::<String>() {
                    Ok(line) => hints.tell(&line),
                    Err(_) => hints.tell_all(),
                },
                _ => return Ok(()),
            },
            _ = moves.changed() => return Ok(()),
        }
    }
}
