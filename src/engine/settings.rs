//! The operator's settings for running jobs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::job::Share;
use crate::domain::units::Span;

/// `[engine]` in the settings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Calls to providers this replica makes at the same time.
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// Callbacks this replica makes at the same time.
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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 256,
            delivery_concurrency: 64,
            lease: Span::secs(30),
            retention: Span::secs(72 * 3_600),
            max_backlog: 1_000_000,
            max_memory: 0.8,
            cooldown: Span::secs(2),
            max_attempts: 12,
            disabled: Span::secs(600),
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
