//! Connections that many calls share at once, each runtime its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};

use super::master::Master;

/// Multiplexed connections of each runtime; each is opened when it is used first. While Redis syncs
/// each write, it reads one connection's commands a few at a time and syncs in between.
const CONNECTIONS: usize = 4;

/// One runtime's connections, used in turn.
pub(super) struct Connections {
    slots: Vec<ArcSwap<Connection>>,
    turn: AtomicUsize,
}

/// A connection and to which master it leads.
pub(super) struct Connection {
    manager: ConnectionManager,
    pub(super) generation: u64,
}

impl Connections {
    pub(super) fn new(
        master: &Master,
        config: &ConnectionManagerConfig,
    ) -> Result<Self, RedisError> {
        let slot = |_| Connection::new(master, config).map(ArcSwap::from_pointee);
        let slots = (0..CONNECTIONS).map(slot).collect::<Result<_, _>>()?;
        Ok(Self { slots, turn: AtomicUsize::new(0) })
    }

    /// The connection whose turn it is, and its place.
    pub(super) fn next(
        &self,
        master: &Master,
        config: &ConnectionManagerConfig,
    ) -> Result<(&ArcSwap<Connection>, Arc<Connection>), RedisError> {
        let index = self.turn.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
        let slot = &self.slots[index];
        let found = slot.load_full();
        if found.generation == master.generation {
            return Ok((slot, found));
        }
        let fresh = Arc::new(Connection::new(master, config)?);
        drop(slot.compare_and_swap(&found, Arc::clone(&fresh)));
        Ok((slot, fresh))
    }
}

impl Connection {
    /// One that is made by its first use.
    pub(super) fn new(
        master: &Master,
        config: &ConnectionManagerConfig,
    ) -> Result<Self, RedisError> {
        let (client, config) = (master.client.clone(), config.clone());
        let manager = ConnectionManager::new_lazy_with_config(client, config)?;
        Ok(Self { manager, generation: master.generation })
    }

    pub(super) fn share(&self) -> Shared {
        Shared(self.manager.clone())
    }
}

/// A shared connection. When it tells that it could not be made, nothing was sent and the news may
/// be old: it is made anew, once.
pub(super) struct Shared(ConnectionManager);

impl ConnectionLike for Shared {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            match self.0.req_packed_command(command).await {
                Err(fault) if fault.is_connection_refusal() => {
                    self.0.req_packed_command(command).await
                }
                answer => answer,
            }
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            match self.0.req_packed_commands(commands, offset, count).await {
                Err(fault) if fault.is_connection_refusal() => {
                    self.0.req_packed_commands(commands, offset, count).await
                }
                answer => answer,
            }
        })
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}
