//! Our corner of Redis: connections with deadlines, the key prefix, and Lua scripts.
//!
//! Hot paths share multiplexed connections, each runtime its own. A connection of one's own (`WAIT`,
//! subscriptions) comes from [`Keyspace::ask_alone`] or [`Keyspace::subscribe`].
//!
//! All keys share one hash tag, so one server has all of them: every connection leads to the master
//! of our slot, or to the one the sentinels name. When that one fails or denies that it is the
//! master, it is looked for anew (`locate.rs`), and every connection with it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool::Runtime;
use deadpool::managed::{Object, Pool};
use redis::aio::{ConnectionManagerConfig, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisError};
use tokio::sync::watch;

pub use self::address::{Address, AddressFault, FORMS, hidden};
pub use self::fault::KeyspaceError;
pub use self::per_runtime::PerRuntime;
pub use redis::Script;

use self::fault::{Doubt, Late};
use self::locate::Locator;
use self::master::Masters;
use self::own::Maker;
use self::shared::{Connection, Connections, Shared};

mod address;
mod fault;
mod locate;
mod master;
mod own;
mod per_runtime;
mod shared;

/// How long Redis may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// To answer one command.
    pub response: Duration,
}

/// The most connections that have one user each.
const OWN: usize = 16;

/// A prefix in a Redis and the connections to it.
#[derive(Clone)]
pub struct Keyspace {
    masters: Arc<Masters>,
    config: ConnectionManagerConfig,
    shared: Arc<PerRuntime<Connections>>,
    own: Pool<Maker>,
    prefix: Arc<str>,
    timeouts: Timeouts,
}

impl Keyspace {
    /// Connects to whom the URL leads. Every key will begin with `<prefix>:{0}:`; the braces keep
    /// all of them in one slot of a cluster.
    pub async fn open(url: &str, prefix: &str, timeouts: Timeouts) -> Result<Self, KeyspaceError> {
        let address = Address::parse(url)
            .map_err(|fault| KeyspaceError::Refused(format!("the URL {fault}")))?;
        let prefix: Arc<str> = format!("{prefix}:{{0}}:").into();
        let connecting = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response));
        let locator = Locator::new(address, connecting.clone(), format!("{prefix}sync"));
        // Connections are made later: whether Redis can be reached is to be known now.
        let masters = Masters::open(locator).await?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(200));
        // Whoever has a connection of his own waits on it for as long as he likes.
        let patient = connecting.set_response_timeout(None);
        let own = Pool::builder(Maker { masters: Arc::clone(&masters), config: patient })
            .max_size(OWN)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(timeouts.connect))
            .create_timeout(Some(timeouts.connect))
            .recycle_timeout(Some(timeouts.response))
            .build()
            .map_err(|fault| KeyspaceError::Refused(fault.to_string()))?;
        Ok(Self { masters, config, shared: Arc::default(), own, prefix, timeouts })
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

    /// Changes whenever another Redis has become the master.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.masters.moves()
    }

    /// Looks whether another Redis is the master by now: one that is cut off from those who replaced
    /// it goes on answering.
    pub fn look_again(&self) {
        let generation = self.masters.now().generation;
        self.masters.doubt(generation, Doubt::Silent);
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

    /// Sends several commands on a connection nobody else uses meanwhile; they may take this long.
    pub async fn ask_alone<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<T, KeyspaceError> {
        self.alone(limit, async |mut own| commands.query_async(&mut own).await).await
    }

    /// Runs a script in the same way: one that carries much must not hold up what others ask.
    pub async fn run_alone<T: FromRedisValue>(
        &self,
        invocation: &redis::ScriptInvocation<'_>,
        limit: Duration,
    ) -> Result<T, KeyspaceError> {
        self.alone(limit, async |mut own| invocation.invoke_async(&mut own).await).await
    }

    async fn alone<T>(
        &self,
        limit: Duration,
        ask: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, KeyspaceError> {
        let generation = self.masters.now().generation;
        let own = self.own.get().await;
        let own = own.map_err(|fault| {
            self.doubt(generation, &Late::All(self.timeouts.connect));
            KeyspaceError::Unreachable(fault.to_string())
        })?;
        let answer = tokio::time::timeout(limit, ask(own.connection.clone())).await;
        let late = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(fault)) => Late::Redis(fault),
            Err(_) => Late::All(limit),
        };
        self.doubt(own.generation, &late);
        // It may still be busy with what it was asked.
        drop(Object::take(own));
        Err(late.into())
    }

    /// A connection for subscriptions.
    pub async fn subscribe(&self) -> Result<PubSub, KeyspaceError> {
        let (client, generation) = {
            let master = self.masters.now();
            (master.client.clone(), master.generation)
        };
        let made = self.in_time(client.get_async_pubsub()).await;
        Ok(made.inspect_err(|late| self.doubt(generation, late))?)
    }

    /// Uses one of the runtime's shared connections.
    async fn with<T>(
        &self,
        ask: impl AsyncFnOnce(Shared) -> Result<T, RedisError>,
    ) -> Result<T, KeyspaceError> {
        let shared = self.connections()?;
        let (slot, used) = shared.next(&self.masters.now(), &self.config)?;
        let answer = self.in_time(ask(used.share())).await;
        if let Err(late) = &answer {
            self.doubt(used.generation, late);
            if late.is_silence() {
                self.replace(slot, &used);
            }
        }
        Ok(answer?)
    }

    /// Looks for the master when a fault says that it may be another by now.
    fn doubt(&self, generation: u64, late: &Late) {
        if let Some(doubt) = late.doubt() {
            self.masters.doubt(generation, doubt);
        }
    }

    /// A connection that gave no answer may be dead without a sign: the next call makes a new
    /// one. Calls that still wait on it keep it until they are done.
    fn replace(&self, slot: &ArcSwap<Connection>, used: &Arc<Connection>) {
        match Connection::new(&self.masters.now(), &self.config) {
            Ok(fresh) => drop(slot.compare_and_swap(used, Arc::new(fresh))),
            Err(fault) => tracing::warn!(%fault, "cannot prepare a connection to Redis"),
        }
    }

    fn connections(&self) -> Result<Arc<Connections>, RedisError> {
        self.shared.get(|| Connections::new(&self.masters.now(), &self.config))
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

/// A script out of a `.lua` file.
#[expect(clippy::disallowed_methods, reason = "this is where scripts are loaded")]
pub fn script(source: &str) -> Script {
    Script::new(source)
}
