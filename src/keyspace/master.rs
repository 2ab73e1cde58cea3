//! Whom we take for the master, and the search for another when it seems to be none any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use redis::{Client, ConnectionInfo};
use tokio::sync::watch;
use tokio::time::Instant;

use super::fault::{Doubt, KeyspaceError};
use super::locate::Locator;

/// Pauses between attempts to find the master, from the first to the longest; no search begins
/// sooner after the last than the first of them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The server that serves our keys and takes writes, as far as we know.
pub(super) struct Master {
    pub(super) client: Client,
    /// Grows whenever connections must be made anew.
    pub(super) generation: u64,
}

/// Follows the master.
pub(super) struct Masters {
    locator: Locator,
    now: ArcSwap<Master>,
    moves: watch::Sender<u64>,
    search: Mutex<Search>,
}

#[derive(Default)]
struct Search {
    is_under_way: bool,
    ended: Option<Instant>,
}

impl Masters {
    /// Finds the master for the first time.
    pub(super) async fn open(locator: Locator) -> Result<Arc<Self>, KeyspaceError> {
        let client = client(locator.find().await?)?;
        Ok(Arc::new(Self {
            locator,
            now: ArcSwap::from_pointee(Master { client, generation: 0 }),
            moves: watch::Sender::new(0),
            search: Mutex::default(),
        }))
    }

    pub(super) fn now(&self) -> Guard<Arc<Master>> {
        self.now.load()
    }

    /// Changes whenever connections must be made anew.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Looks for the master, unless that is under way or the doubt is about an earlier one.
    pub(super) fn doubt(self: &Arc<Self>, generation: u64, doubt: Doubt) {
        if generation != self.now().generation {
            return;
        }
        // Connections to an address that is always the same mend themselves; but its name may lead
        // to another server by now, while the one that was demoted keeps ours open.
        if self.locator.is_direct() && doubt != Doubt::Demoted {
            return;
        }
        let begin = {
            let mut search = self.search();
            if search.is_under_way {
                return;
            }
            search.is_under_way = true;
            search.ended.map(|ended| ended + PAUSE.0)
        };
        let under_way = UnderWay(Arc::downgrade(self));
        #[expect(
            clippy::disallowed_methods,
            reason = "it holds nothing and ends with the keyspace"
        )]
        drop(tokio::spawn(async move {
            if let Some(begin) = begin {
                tokio::time::sleep_until(begin).await;
            }
            under_way.search().await;
        }));
    }

    fn take(&self, found: ConnectionInfo) -> Result<(), KeyspaceError> {
        let before = self.now();
        let (from, to) = (before.client.get_connection_info().addr(), found.addr().clone());
        if *from == to && !self.locator.is_direct() {
            tracing::debug!(master = %to, "Redis' master is the same as before");
            return Ok(());
        }
        if *from == to {
            tracing::debug!(master = %to, "connections to Redis are made anew");
        } else {
            tracing::warn!(%from, %to, "Redis' master has changed");
        }
        let generation = before.generation + 1;
        self.now.store(Arc::new(Master { client: client(found)?, generation }));
        self.moves.send_replace(generation);
        Ok(())
    }

    fn search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A search; it is over when this is dropped, in whatever way.
struct UnderWay(Weak<Masters>);

impl UnderWay {
    /// Asks until somebody is the master, or nobody wants to know any more.
    async fn search(&self) {
        let mut pause = PAUSE.0;
        while let Some(masters) = self.0.upgrade() {
            let found = masters.locator.find().await.and_then(|found| masters.take(found));
            drop(masters);
            let Err(fault) = found else { return };
            tracing::debug!(%fault, "Redis has no master for now");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(masters) = self.0.upgrade() {
            *masters.search() = Search { is_under_way: false, ended: Some(Instant::now()) };
        }
    }
}

fn client(at: ConnectionInfo) -> Result<Client, KeyspaceError> {
    #[expect(clippy::disallowed_methods, reason = "this is where connections are made")]
    let client = Client::open(at)?;
    Ok(client)
}
