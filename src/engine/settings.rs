//! The operator's settings for running jobs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::job::{Lane, Share};
use crate::domain::units::Span;

/// One lane's part.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LaneSettings {
    /// Calls of this lane that this replica makes at the same time. Default: as many as of all
    /// lanes together.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// The part of each limit's departures the lane gets while it has jobs waiting, however busy
    /// the more urgent lanes are. Default: 0.1 for `standard`, 0.05 for `batch`.
    #[schemars(range(min = 0.0, max = 0.5))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// `[engine.lanes]` in the settings.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lanes {
    /// Somebody waits: goes before the others.
    pub interactive: LaneSettings,
    /// The ordinary background job.
    pub standard: LaneSettings,
    /// By the deadline is fine.
    pub batch: LaneSettings,
}

/// What each lane is sure to get when the operator does not say.
const SHARES: [(Lane, f64); 3] =
    [(Lane::Interactive, 0.0), (Lane::Standard, 0.1), (Lane::Batch, 0.05)];

impl Lanes {
    /// One lane's part.
    pub const fn of(&self, lane: Lane) -> &LaneSettings {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Standard => &self.standard,
            Lane::Batch => &self.batch,
        }
    }

    /// Each lane's share, in the order of [`Lane::ALL`].
    pub fn shares(&self) -> [f64; 3] {
        SHARES.map(|(lane, share)| self.of(lane).share.unwrap_or(share))
    }
}

/// `[engine]` in the settings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Calls to providers this replica makes at the same time.
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// What each lane may use and is sure to get.
    pub lanes: Lanes,
    /// Posts this replica makes at the same time. One caller has three quarters of them at the most.
    #[schemars(range(min = 1))]
    pub delivery_concurrency: usize,
    /// How long a worker holds a job without renewing; a vanished worker's jobs run again after
    /// this long.
    pub lease: Span,
    /// How long an ended job and its result are kept.
    pub retention: Span,
    /// Open jobs beyond which new ones are refused with 503.
    #[schemars(range(min = 1))]
    pub max_backlog: u64,
    /// Used part of the store's memory limit beyond which new jobs are refused with 503.
    #[schemars(range(min = 0.1, max = 1.0))]
    pub max_memory: f64,
    /// How long a step that keeps failing is not asked again; doubled with every failure in a row.
    pub cooldown: Span,
    /// Failed calls (rate limits not counted) after which a job is given up.
    #[schemars(range(min = 1))]
    pub max_attempts: u32,
    /// How long an account whose key was refused is not asked again.
    pub disabled: Span,
    /// Calls on an open connection: the dialects of OpenAI and Anthropic, and `/chat`.
    pub live: LiveSettings,
    /// Conversations and the prompt caches they live on.
    pub sessions: SessionSettings,
}

/// `[engine.sessions]` in the settings.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// How long a prompt is taken to stay in a provider's cache after it was used last. One whose
    /// caller marks it for an hour stays an hour.
    pub ttl: Span,
    /// What an hour of waiting is taken to cost, in USD, by lane. A job waits for the account that
    /// has its prompt cached as long as that is cheaper than to send the prompt anew to another.
    pub hour_usd: HourUsd,
}

/// What an hour of waiting is taken to cost, by lane.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HourUsd {
    /// Somebody sits there.
    #[schemars(range(min = 0.01))]
    pub interactive: f64,
    /// The ordinary background job.
    #[schemars(range(min = 0.01))]
    pub standard: f64,
    /// By the deadline is fine.
    #[schemars(range(min = 0.01))]
    pub batch: f64,
}

impl HourUsd {
    /// In this lane.
    pub const fn of(&self, lane: Lane) -> f64 {
        match lane {
            Lane::Interactive => self.interactive,
            Lane::Standard => self.standard,
            Lane::Batch => self.batch,
        }
    }
}

impl Default for HourUsd {
    fn default() -> Self {
        Self { interactive: 60.0, standard: 6.0, batch: 1.0 }
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { ttl: Span::secs(300), hour_usd: HourUsd::default() }
    }
}

/// `[engine.live]` in the settings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LiveSettings {
    /// The longest a call waits for its turn; then it is answered 429.
    pub max_wait: Span,
    /// The longest one attempt may take, unless a task says otherwise.
    pub timeout: Span,
    /// The most tokens an answer may have when the caller does not say.
    #[schemars(range(min = 1))]
    pub max_output_tokens: u32,
}

impl Default for LiveSettings {
    fn default() -> Self {
        let (max_wait, timeout) = (Span::secs(30), Span::secs(300));
        Self { max_wait, timeout, max_output_tokens: 4_096 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 256,
            lanes: Lanes::default(),
            delivery_concurrency: 86,
            lease: Span::secs(30),
            retention: Span::secs(72 * 3_600),
            max_backlog: 1_000_000,
            max_memory: 0.8,
            cooldown: Span::secs(2),
            max_attempts: 12,
            disabled: Span::secs(600),
            live: LiveSettings::default(),
            sessions: SessionSettings::default(),
        }
    }
}

/// `[workflows.NAME]` in the settings: what one workflow of each caller may have. `[workflows."*"]`
/// is for every workflow without a table of its own; what it limits, it limits for each of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkflowSettings {
    /// Turns it gets for every turn of a workflow of weight 1.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub weight: f64,
    /// Its open jobs beyond which new ones are refused with 429. Default: no limit of its own.
    #[schemars(range(min = 1))]
    pub max_queued: Option<u64>,
    /// Its jobs that run at the same time, on all replicas together. Default: no limit of its own.
    #[schemars(range(min = 1))]
    pub max_running: Option<u64>,
}

impl Default for WorkflowSettings {
    fn default() -> Self {
        Self { weight: Share::default().weight, max_queued: None, max_running: None }
    }
}

impl WorkflowSettings {
    /// As it goes with a job.
    pub const fn share(&self) -> Share {
        let Self { weight, max_queued, max_running } = *self;
        Share { weight, max_queued, max_running }
    }
}
