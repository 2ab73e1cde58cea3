//! Our corner of Redis: connections with deadlines, the key prefix, and Lua scripts.
//!
//! Hot paths share multiplexed connections, each runtime its own. A connection of one's own (blocking commands, `WAIT`,
//! subscriptions) comes from [`Keyspace::own`] or [`Keyspace::subscribe`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_redis::{Manager, Pool, Runtime};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, PubSub};
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, Value,
};

pub use self::per_runtime::PerRuntime;
pub use redis::Script;

mod per_runtime;

/// How long Redis may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// To answer one command.
    pub response: Duration,
}

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeyspaceError {
    /// No connection, or no answer in time. Waiting may help.
    #[error("Redis is not reachable: {0}")]
    Unreachable(String),
    /// Redis is out of memory (`maxmemory`).
    #[error("Redis is out of memory")]
    OutOfMemory,
    /// Redis refused the command or answered what we do not understand.
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// Refusals that pass: Redis is loading, busy, has just lost its role or cannot write for now.
const PASSING: [&str; 8] = [
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "READONLY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "NOREPLICAS",
];

impl From<RedisError> for KeyspaceError {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        // Redis before 7 wraps what stopped a script into an error of its own.
        if code == "OOM" || error.detail().is_some_and(|text| text.contains("-OOM ")) {
            return Self::OutOfMemory;
        }
        if error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_connection_refusal()
            || error.is_unrecoverable_error()
            || PASSING.contains(&code)
        {
            return Self::Unreachable(error.to_string());
        }
        Self::Refused(error.to_string())
    }
}

/// Multiplexed connections of each runtime; each is opened when it is used first. While Redis syncs
/// each write, it reads one connection's commands a few at a time and syncs in between.
const CONNECTIONS: usize = 4;

/// One runtime's connections, used in turn.
struct Connections {
    slots: Vec<ArcSwap<ConnectionManager>>,
    turn: AtomicUsize,
}

/// A prefix in a Redis and the connections to it.
#[derive(Clone)]
pub struct Keyspace {
    client: Client,
    config: ConnectionManagerConfig,
    shared: Arc<PerRuntime<Connections>>,
    own: Pool,
    prefix: Arc<str>,
    timeouts: Timeouts,
}

impl Keyspace {
    /// Connects. Every key will begin with `<prefix>:{0}:`; the braces keep all of them in one
    /// slot of a cluster.
    pub async fn open(url: &str, prefix: &str, timeouts: Timeouts) -> Result<Self, KeyspaceError> {
        #[expect(clippy::disallowed_methods, reason = "this is where connections are made")]
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(200));
        // The others are made later: whether Redis can be reached is to be known now.
        ConnectionManager::new_with_config(client.clone(), config.clone()).await?;
        // Whoever has a connection of his own waits on it for as long as he likes.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(None);
        let manager = Manager::new_with_config(url, patient)?;
        let own = Pool::builder(manager)
            .max_size(16)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(timeouts.connect))
            .create_timeout(Some(timeouts.connect))
            .recycle_timeout(Some(timeouts.response))
            .build()
            .map_err(|fault| KeyspaceError::Refused(fault.to_string()))?;
        Ok(Self {
            client,
            config,
            shared: Arc::default(),
            own,
            prefix: format!("{prefix}:{{0}}:").into(),
            timeouts,
        })
    }

    /// What every key begins with. Scripts get it as `KEYS[1]` where they must find keys
    /// themselves.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The full key of this name.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// How long Redis may take.
    pub const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Runs a script that `prepare` has given its keys and arguments.
    pub async fn run<T: FromRedisValue>(
        &self,
        invocation: &redis::ScriptInvocation<'_>,
    ) -> Result<T, KeyspaceError> {
        self.with(async |mut shared| invocation.invoke_async(&mut shared).await).await
    }

    /// Loads a script, so that its first run needs no second round trip.
    pub async fn load(&self, script: &Script) -> Result<(), KeyspaceError> {
        self.with(async |mut shared| script.load_async(&mut shared).await.map(drop)).await
    }

    /// Sends one command.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, KeyspaceError> {
        self.with(async |mut shared| command.query_async(&mut shared).await).await
    }

    /// Sends several commands in one round trip.
    pub async fn ask_all<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<T, KeyspaceError> {
        self.with(async |mut shared| commands.query_async(&mut shared).await).await
    }

    /// A connection nobody else uses until it is dropped. The caller bounds what it waits for.
    pub async fn own(&self) -> Result<deadpool_redis::Connection, KeyspaceError> {
        self.own.get().await.map_err(|fault| KeyspaceError::Unreachable(fault.to_string()))
    }

    /// A connection for subscriptions.
    pub async fn subscribe(&self) -> Result<PubSub, KeyspaceError> {
        Ok(self.in_time(self.client.get_async_pubsub()).await?)
    }

    /// Uses one of the runtime's shared connections.
    async fn with<T>(
        &self,
        ask: impl AsyncFnOnce(Shared) -> Result<T, RedisError>,
    ) -> Result<T, KeyspaceError> {
        let shared = self.shared.get(|| self.connections())?;
        let index = shared.turn.fetch_add(1, Ordering::Relaxed) % shared.slots.len();
        #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
        let slot = &shared.slots[index];
        let used = slot.load_full();
        let answer = self.in_time(ask(Shared(ConnectionManager::clone(&used)))).await;
        if answer.as_ref().is_err_and(Late::is_silence) {
            self.replace(slot, &used);
        }
        Ok(answer?)
    }

    /// A connection that gave no answer may be dead without a sign: the next call makes a new
    /// one. Calls that still wait on it keep it until they are done.
    fn replace(&self, slot: &ArcSwap<ConnectionManager>, used: &Arc<ConnectionManager>) {
        match self.lazy() {
            Ok(fresh) => drop(slot.compare_and_swap(used, Arc::new(fresh))),
            Err(fault) => tracing::warn!(%fault, "cannot prepare a connection to Redis"),
        }
    }

    fn connections(&self) -> Result<Connections, RedisError> {
        let slots = (0..CONNECTIONS).map(|_| self.lazy().map(ArcSwap::from_pointee));
        Ok(Connections { slots: slots.collect::<Result<_, _>>()?, turn: AtomicUsize::new(0) })
    }

    /// A connection made by its first use.
    fn lazy(&self) -> Result<ConnectionManager, RedisError> {
        ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone())
    }

    /// The connection's own deadlines cover connecting and answering; this one covers both
    /// together with the reconnecting in between.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Late> {
        let limit = self.timeouts.connect + self.timeouts.response;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(Late::Redis),
            Err(_) => Err(Late::All(limit)),
        }
    }
}

/// A shared connection. When it tells that it could not be made, nothing was sent and the news may
/// be old: it is made anew, once.
struct Shared(ConnectionManager);

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

/// Why an answer did not come.
enum Late {
    Redis(RedisError),
    All(Duration),
}

impl Late {
    /// Whether Redis kept silent, rather than said no.
    fn is_silence(&self) -> bool {
        match self {
            Self::Redis(fault) => fault.is_timeout(),
            Self::All(_) => true,
        }
    }
}

impl From<Late> for KeyspaceError {
    fn from(late: Late) -> Self {
        match late {
            Late::Redis(fault) => fault.into(),
            Late::All(limit) => Self::Unreachable(format!("no answer within {limit:?}")),
        }
    }
}

/// A script out of a `.lua` file.
#[expect(clippy::disallowed_methods, reason = "this is where scripts are loaded")]
pub fn script(source: &str) -> Script {
    Script::new(source)
}
