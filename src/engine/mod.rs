//! What happens to a job, from accept to its callback. Read in file order: `intake` accepts it,
//! `pump` takes it out of its line and gets its turn, `cascade` walks its route, `finish` records
//! its end, `deliver` posts its result, to `subscriptions` too, and `upkeep` does what the passing of time asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, Semaphore};

use crate::budget::SharedBudget;
use crate::callback::http::Poster;
use crate::clock::SharedClock;
use crate::domain::id::IdSource;
use crate::domain::job::Lane;
use crate::domain::retry::Schedule;
use crate::lifecycle::Lifecycle;
use crate::limiter::SharedLimiter;
use crate::memory::SharedBindings;
use crate::memory::speeds::SharedSpeeds;
use crate::queue::SharedQueue;
use crate::subscriptions::SharedSubscriptionStore;

pub mod allowances;
mod ask;
mod attempt;
mod beginnings;
mod breaker;
mod cascade;
pub mod catalog;
mod chance;
pub mod circuit;
mod contract;
mod deliver;
pub mod estimate;
mod finish;
pub mod groups;
mod guard;
mod hedge;
mod held;
pub mod intake;
mod judge;
mod learned;
pub mod live;
mod load;
pub mod money;
pub mod named;
mod next;
mod order;
mod pace;
mod passing;
mod place;
mod pump;
mod refusal;
mod run;
mod sessions;
pub mod settings;
mod slots;
pub mod streamed;
pub mod subscriptions;
mod tie;
mod turn;
mod unanswered;
mod unfit;
mod upkeep;
pub mod view;
mod wait;
mod warm;
mod window;
mod work;

use catalog::Catalog;
use chance::Chance;
use circuit::Circuits;
use hedge::Hedges;
use held::Held;
use learned::Learned;
use load::Load;
use pace::Paces;
use settings::Settings;
use slots::Slots;
use subscriptions::Subscribers;
use wait::Waiters;
use warm::Warmth;

/// What an engine is made of. `app` picks the parts.
pub struct Parts {
    /// Where jobs are kept.
    pub queue: SharedQueue,
    /// Who says whose turn it is.
    pub limiter: SharedLimiter,
    /// What callers have used up.
    pub budget: SharedBudget,
    /// Where what was said lately is cached.
    pub bindings: SharedBindings,
    /// How fast steps are.
    pub speeds: SharedSpeeds,
    /// Who is told of jobs' ends.
    pub subscriptions: SharedSubscriptionStore,
    /// The time.
    pub clock: SharedClock,
    /// Starts and stops tasks.
    pub lifecycle: Lifecycle,
    /// Tasks, routes and accounts.
    pub catalog: Catalog,
    /// Posts results.
    pub poster: Poster,
    /// How callbacks are retried and shaped.
    pub callbacks: Callbacks,
    /// The operator's settings.
    pub settings: Settings,
    /// What chance begins with.
    pub seed: u64,
}

/// How callbacks are retried and shaped.
pub struct Callbacks {
    /// Pauses between tries.
    pub schedule: Schedule,
    /// What one host takes; made into a pool for each host.
    pub per_host: crate::domain::limits::LimitSettings,
}

/// Runs jobs. One for each replica.
pub struct Engine {
    queue: SharedQueue,
    limiter: SharedLimiter,
    budget: SharedBudget,
    bindings: SharedBindings,
    speeds: SharedSpeeds,
    subscribers: Subscribers,
    clock: SharedClock,
    lifecycle: Lifecycle,
    catalog: Catalog,
    poster: Poster,
    callbacks: Callbacks,
    settings: Settings,
    ids: IdSource,
    running: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    lanes: [Arc<Semaphore>; 3],
    freed: Notify,
    slots: Slots,
    held: Held,
    waiters: Waiters,
    waiting: Semaphore,
    learned: Learned,
    paces: Paces,
    circuits: Arc<Circuits>,
    hedges: Hedges,
    load: Load,
    warmth: Arc<Warmth>,
    calls: AtomicU64,
    chance: Chance,
}

/// An engine many hold.
pub type SharedEngine = Arc<Engine>;

impl Engine {
    /// An engine that does nothing yet.
    pub fn new(parts: Parts) -> SharedEngine {
        Arc::new(Self {
            running: Arc::new(Semaphore::new(parts.settings.concurrency)),
            // Background calls cannot take the last places from one that somebody waits for.
            reserved: Arc::new(Semaphore::new(parts.settings.concurrency.div_ceil(8))),
            lanes: Lane::ALL.map(|lane| {
                let most = parts.settings.lanes.of(lane).concurrency;
                Arc::new(Semaphore::new(most.unwrap_or(Semaphore::MAX_PERMITS)))
            }),
            freed: Notify::new(),
            slots: Slots::new(parts.settings.delivery_concurrency),
            held: Held::default(),
            waiters: Waiters::default(),
            waiting: Semaphore::new(wait::MOST),
            learned: Learned::default(),
            paces: Paces::default(),
            circuits: Arc::default(),
            hedges: Hedges::default(),
            load: Load::default(),
            warmth: Arc::default(),
            ids: IdSource::default(),
            calls: AtomicU64::new(0),
            chance: Chance::new(parts.seed),
            queue: parts.queue,
            limiter: parts.limiter,
            budget: parts.budget,
            bindings: parts.bindings,
            speeds: parts.speeds,
            subscribers: Subscribers::new(parts.subscriptions),
            clock: parts.clock,
            lifecycle: parts.lifecycle,
            catalog: parts.catalog,
            poster: parts.poster,
            callbacks: parts.callbacks,
            settings: parts.settings,
        })
    }

    /// Starts the loops: one pump for each line, deliveries, upkeep.
    pub fn start(self: &Arc<Self>) {
        pump::start(self);
        deliver::start(self);
        subscriptions::start(self);
        upkeep::start(self);
        pace::start(self);
        held::start(self);
    }

    /// Where jobs are kept.
    pub fn queue(&self) -> &SharedQueue {
        &self.queue
    }

    /// Who says whose turn it is.
    pub fn limiter(&self) -> &SharedLimiter {
        &self.limiter
    }

    /// Tasks, routes and accounts.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// How calls on an open connection are served.
    pub const fn live(&self) -> &settings::LiveSettings {
        &self.settings.live
    }

    /// The time.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Whether the service is stopping.
    pub fn is_draining(&self) -> bool {
        self.lifecycle.is_draining()
    }

    /// Names a turn; unique among replicas.
    fn turn_id(&self) -> String {
        let count = self.calls.fetch_add(1, Ordering::Relaxed);
        format!("{}{count:x}", self.ids.plain(self.clock.now()))
    }
}
