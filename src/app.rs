//! Config in, running service out. The only file that picks adapters.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret;

use crate::budget::SharedBudget;
use crate::budget::local::LocalBudget;
use crate::budget::redis::RedisBudget;
use crate::callback::http::Poster;
use crate::callback::sign::{self, Secret};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, Config, Loaded, Plan};
use crate::domain::limits::LimitSettings;
use crate::domain::retry::Schedule;
use crate::engine::allowances::Allowances;
use crate::engine::catalog::{Account, Catalog};
use crate::engine::{Callbacks, Engine, Parts, SharedEngine};
use crate::http::auth::Authenticator;
use crate::http::{self, State};
use crate::keys::file::FileKeyStore;
use crate::keys::redis::RedisKeyStore;
use crate::keys::{KeyRecord, SharedKeyStore, secret};
use crate::keyspace::{Keyspace, Timeouts};
use crate::lifecycle::Lifecycle;
use crate::limiter::SharedLimiter;
use crate::limiter::local::LocalLimiter;
use crate::limiter::redis::RedisLimiter;
use crate::memory::SharedBindings;
use crate::memory::local::LocalMemory;
use crate::memory::redis::RedisMemory;
use crate::memory::speeds::SharedSpeeds;
use crate::memory::speeds::local::LocalSpeeds;
use crate::memory::speeds::redis::RedisSpeeds;
use crate::provider::scripted::Scripted;
use crate::provider::settings::{AccountSettings, Vendor};
use crate::provider::{self, SharedProvider};
use crate::queue::SharedQueue;
use crate::queue::embedded::EmbeddedQueue;
use crate::queue::redis::RedisQueue;
use crate::queue::settings::Settings as StoreSettings;
use crate::subscriptions::SharedSubscriptionStore;
use crate::subscriptions::file::FileSubscriptions;
use crate::subscriptions::redis::RedisSubscriptions;

/// What is kept outside the process, and who keeps it.
pub struct Stores {
    /// Jobs.
    pub queue: SharedQueue,
    /// Buckets.
    pub limiter: SharedLimiter,
    /// Where what is cached is.
    pub bindings: SharedBindings,
    /// How fast steps are.
    pub speeds: SharedSpeeds,
    /// Callers' keys.
    pub keys: SharedKeyStore,
    /// What callers have used up.
    pub budget: SharedBudget,
    /// Who is told of jobs' ends.
    pub subscriptions: SharedSubscriptionStore,
}

/// A running service.
pub struct Service {
    /// Does the work.
    pub engine: SharedEngine,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// A key made at this start because there was none; it is shown once.
    pub first_key: Option<String>,
    /// The configured address, when another is listened on for want of a key.
    pub held_back: Option<String>,
    lifecycle: Lifecycle,
    server: actix_web::dev::ServerHandle,
    patience: Duration,
}

impl Service {
    /// Starts everything. Once this answers, jobs are taken.
    pub async fn start(config: &Config, plan: Plan) -> Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let lifecycle = Lifecycle::default();
        let stores = open(&config.store, &clock, &lifecycle).await?;
        let configured = configured_keys(config);
        let keyless = configured.is_empty() && stores.keys.list().await?.is_empty();
        let wanted = config.server.listen.as_str();
        let listen = if keyless { loopback(wanted) } else { wanted.to_owned() };
        // Only once the port is ours: a key that is made but never shown would be lost.
        let listeners = bind(&listen)?;
        let first_key = if keyless { Some(first_key(&stores.keys, &clock).await?) } else { None };
        let addresses: Vec<SocketAddr> =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let parts = Parts {
            poster: poster(config, &stores.keys, &clock).await?,
            callbacks: callbacks(config),
            catalog: catalog(plan, |account| provider(account, &clock))?
                .with_workflows(config.workflows.clone())
                .with_allowances(allowances(config)),
            queue: stores.queue,
            limiter: stores.limiter,
            budget: stores.budget,
            bindings: stores.bindings,
            speeds: stores.speeds,
            subscriptions: stores.subscriptions,
            clock,
            lifecycle: lifecycle.clone(),
            settings: config.engine.clone(),
            seed: rand::random(),
        };
        let engine = Engine::new(parts);
        engine.read_subscriptions().await?;
        let state = State {
            engine: Arc::clone(&engine),
            auth: Authenticator::new(configured, stores.keys).letting_in(
                config.auth.anonymous.as_ref().map(|_| config.server.trusted_proxies.clone()),
            ),
            settings: config.server.clone(),
            metrics: metrics(),
        };
        let server = http::serve(listeners, state)?;
        let handle = server.handle();
        lifecycle.spawn(async move {
            if let Err(fault) = server.await {
                tracing::error!(%fault, "the HTTP server failed");
            }
        });
        engine.start();
        Ok(Self {
            engine,
            addresses,
            first_key,
            held_back: (listen != wanted).then(|| wanted.to_owned()),
            lifecycle,
            server: handle,
            patience: config.server.drain_timeout.0,
        })
    }

    /// Takes nothing new, finishes what is held, gives back what takes too long, and stops.
    /// Whether all of it was finished.
    pub async fn stop(&self) -> bool {
        self.lifecycle.drain();
        self.server.stop(true).await;
        let finished = self.lifecycle.finish(self.patience).await;
        self.stop_now().await;
        finished
    }

    /// Gives back what is held and stops.
    pub async fn stop_now(&self) {
        self.lifecycle.drain();
        if tokio::time::timeout(GIVE_BACK, self.engine.give_back_all()).await.is_err() {
            tracing::warn!("not everything held could be given back; its leases run out");
        }
        self.lifecycle.drop_all().await;
    }
}

/// How long giving back what is held may take.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Opens the store the settings name.
pub async fn open(
    settings: &StoreSettings,
    clock: &SharedClock,
    lifecycle: &Lifecycle,
) -> Result<Stores> {
    if let Some(folder) = settings.url.strip_prefix("embedded:") {
        let folder = PathBuf::from(folder);
        let queue = EmbeddedQueue::open(&folder, Arc::clone(clock))?;
        return Ok(Stores {
            queue: Arc::new(queue),
            limiter: Arc::new(LocalLimiter::new(Arc::clone(clock))),
            budget: Arc::new(LocalBudget::open(&folder, Arc::clone(clock))?),
            bindings: Arc::new(LocalMemory::new(Arc::clone(clock))),
            speeds: Arc::new(LocalSpeeds::new(Arc::clone(clock))),
            keys: Arc::new(FileKeyStore::new(&folder)),
            subscriptions: Arc::new(FileSubscriptions::new(&folder)),
        });
    }
    let keyspace = keyspace(settings).await?;
    Ok(Stores {
        queue: Arc::new(RedisQueue::open(keyspace.clone(), settings, lifecycle).await?),
        limiter: Arc::new(RedisLimiter::new(keyspace.clone())),
        budget: Arc::new(RedisBudget::new(keyspace.clone(), Arc::clone(clock))),
        bindings: Arc::new(RedisMemory::new(keyspace.clone(), Arc::clone(clock))),
        speeds: Arc::new(RedisSpeeds::new(keyspace.clone(), Arc::clone(clock))),
        subscriptions: Arc::new(RedisSubscriptions::new(keyspace.clone())),
        keys: Arc::new(RedisKeyStore::new(keyspace)),
    })
}

/// Opens the keys alone: `spillway keys` works while the service runs.
pub async fn open_keys(settings: &StoreSettings) -> Result<SharedKeyStore> {
    match settings.url.strip_prefix("embedded:") {
        Some(folder) => Ok(Arc::new(FileKeyStore::new(folder))),
        None => Ok(Arc::new(RedisKeyStore::new(keyspace(settings).await?))),
    }
}

async fn keyspace(settings: &StoreSettings) -> Result<Keyspace> {
    let timeouts =
        Timeouts { connect: settings.connect_timeout.0, response: settings.response_timeout.0 };
    Keyspace::open(&settings.url, &settings.prefix, timeouts)
        .await
        .with_context(|| format!("store.url = \"{}\" cannot be opened", settings.redacted_url()))
}

/// Speaks to an account's vendor.
pub fn provider(account: &config::Account, clock: &SharedClock) -> Result<SharedProvider> {
    if account.vendor == Vendor::Scripted {
        let settings = account.scripted.clone().unwrap_or_default();
        return Ok(Arc::new(Scripted::new(settings, Arc::clone(clock))));
    }
    let settings = AccountSettings {
        vendor: account.vendor,
        base_url: account.base_url.clone(),
        api_key: account.api_key.clone(),
        api: account.api,
    };
    provider::connect_account(settings, Arc::clone(clock))
        .map_err(|fault| anyhow!("account `{}`: {fault}", account.name))
}

/// An engine over a store and buckets in memory that asks other providers than the configured
/// ones: for rehearsals.
pub fn rehearsal(
    loaded: Loaded,
    clock: &SharedClock,
    lifecycle: &Lifecycle,
    seed: u64,
    provider: impl Fn(&config::Account) -> SharedProvider,
) -> Result<SharedEngine> {
    let config = loaded.config;
    // Nothing is posted, but an engine has what to post with.
    let signing = Secret::parse(&sign::generate(&mut rand::rng()));
    let signing = signing.map_err(|fault| anyhow!("{fault}"))?;
    let poster = Poster::new(&config.callbacks, vec![signing], Arc::clone(clock));
    Ok(Engine::new(Parts {
        queue: Arc::new(EmbeddedQueue::in_memory(Arc::clone(clock))?),
        limiter: Arc::new(LocalLimiter::new(Arc::clone(clock))),
        budget: Arc::new(LocalBudget::in_memory(Arc::clone(clock))),
        bindings: Arc::new(LocalMemory::new(Arc::clone(clock))),
        speeds: Arc::new(LocalSpeeds::new(Arc::clone(clock))),
        subscriptions: Arc::new(FileSubscriptions::in_memory()),
        clock: Arc::clone(clock),
        lifecycle: lifecycle.clone(),
        catalog: catalog(loaded.plan, |account| Ok(provider(account)))?
            .with_workflows(config.workflows.clone())
            .with_allowances(allowances(&config)),
        poster: poster.map_err(|fault| anyhow!(fault))?,
        callbacks: callbacks(&config),
        settings: config.engine,
        seed,
    }))
}

fn allowances(config: &Config) -> Allowances {
    Allowances::new(&config.plans, &config.callers, config.auth.anonymous.as_deref())
}

fn catalog(
    plan: Plan,
    provider: impl Fn(&config::Account) -> Result<SharedProvider>,
) -> Result<Catalog> {
    let mut accounts = BTreeMap::new();
    for account in plan.accounts {
        let ready = Account {
            provider: provider(&account)?,
            vendor: account.vendor.as_str().to_owned(),
            org: account.org,
            limits: account.limits,
        };
        accounts.insert(account.name, ready);
    }
    Ok(Catalog::new(accounts, plan.routes, plan.tasks, plan.prices))
}

/// The signing secret of the settings, or the one kept in the store.
async fn poster(config: &Config, keys: &SharedKeyStore, clock: &SharedClock) -> Result<Poster> {
    let settings = &config.callbacks;
    let secret = match &settings.secret {
        Some(secret) => secret.clone(),
        None => keys.signing_secret(&sign::generate(&mut rand::rng())).await?,
    };
    let secrets = std::iter::once(&secret).chain(&settings.old_secrets);
    let signing: Result<Vec<Secret>, _> = secrets.map(|text| Secret::parse(text)).collect();
    let signing = signing.map_err(|fault| anyhow!("callbacks.secret: {fault}"))?;
    Poster::new(settings, signing, Arc::clone(clock)).map_err(|fault| anyhow!(fault))
}

fn callbacks(config: &Config) -> Callbacks {
    let settings = &config.callbacks;
    Callbacks {
        schedule: settings.schedule.clone().map_or_else(Schedule::default, Schedule),
        per_host: LimitSettings {
            requests: Some(settings.per_host_rate),
            concurrency: Some(settings.per_host_concurrency),
            burst: settings.per_host_burst,
            ..LimitSettings::default()
        },
    }
}

fn configured_keys(config: &Config) -> Vec<KeyRecord> {
    let keys = config.auth.keys.iter().enumerate();
    keys.map(|(index, entry)| {
        secret::configured(index + 1, entry.caller(), entry.key().expose_secret())
    })
    .collect()
}

/// Makes a key.
async fn first_key(keys: &SharedKeyStore, clock: &SharedClock) -> Result<String> {
    let (key, record) = secret::generate("default", clock.now(), &mut rand::rng());
    keys.add(record).await?;
    Ok(key)
}

/// The same port on loopback alone.
fn loopback(listen: &str) -> String {
    let port = listen.rsplit(':').next().unwrap_or("8080");
    let local = ["127.", "localhost:", "[::1]"].iter().any(|start| listen.starts_with(start));
    if local { listen.to_owned() } else { format!("127.0.0.1:{port}") }
}

/// How many connections may wait to be accepted: a burst comes all at once.
const BACKLOG: i32 = 4_096;

fn bind(listen: &str) -> Result<Vec<TcpListener>> {
    let addresses: Vec<SocketAddr> = listen
        .to_socket_addrs()
        .with_context(|| format!("server.listen = \"{listen}\" is not an address and port"))?
        .collect();
    let Some(first) = addresses.first() else {
        bail!("server.listen = \"{listen}\" names no address");
    };
    let open = || -> std::io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(*first);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&(*first).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let listener = open().with_context(|| {
        format!("cannot listen on {listen}; is another service on it? Set server.listen")
    })?;
    Ok(vec![listener])
}

/// One recorder for the process, whoever asks first.
fn metrics() -> Option<PrometheusHandle> {
    use std::sync::OnceLock;
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE.get_or_init(crate::telemetry::metrics::install).clone()
}
