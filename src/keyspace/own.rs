//! Connections that one user has for himself.

use std::sync::Arc;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError};

use super::master::Masters;

/// Makes connections to the master.
pub(super) struct Maker {
    pub(super) masters: Arc<Masters>,
    pub(super) config: AsyncConnectionConfig,
}

/// A connection and to which master it leads.
pub(super) struct Own {
    pub(super) connection: MultiplexedConnection,
    pub(super) generation: u64,
}

impl Manager for Maker {
    type Type = Own;
    type Error = RedisError;

    async fn create(&self) -> Result<Own, RedisError> {
        let (client, generation) = {
            let master = self.masters.now();
            (master.client.clone(), master.generation)
        };
        let connection = client.get_multiplexed_async_connection_with_config(&self.config).await?;
        Ok(Own { connection, generation })
    }

    async fn recycle(&self, own: &mut Own, _metrics: &Metrics) -> RecycleResult<RedisError> {
        if own.generation != self.masters.now().generation {
            return Err(RecycleError::message("it leads to a former master"));
        }
        redis::cmd("PING").query_async::<()>(&mut own.connection).await?;
        Ok(())
    }
}
