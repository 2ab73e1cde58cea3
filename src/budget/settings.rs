//! The operator's settings for what callers may use up.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::allowance::{Allowance, Money};

/// `[plans.NAME]` in the settings: what each caller of this plan may use up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanSettings {
    /// US dollars in a day (UTC). Default: as many as it likes.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub usd_per_day: Option<f64>,
    /// US dollars in a month (UTC). Default: as many as it likes.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub usd_per_month: Option<f64>,
    /// Submitted jobs and live calls in a day (UTC). Default: as many as it likes.
    pub calls_per_day: Option<u64>,
    /// What it may ask for: names a live call may give as its model, and `task:NAME` for tasks, of
    /// jobs too; `*` stands for any text. Default: everything; without a key all routes and tasks
    /// of the settings.
    pub models: Option<Vec<String>>,
    /// The part of these at which it is warned. Default: 0.8.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub soft: Option<f64>,
    /// Whether more than that is refused; otherwise it is only warned. Default: true.
    pub hard: Option<bool>,
}

/// `[callers.NAME]` in the settings: a caller's plan, or what it may use up by itself. What is said
/// here comes before the plan's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallerSettings {
    /// The name of one of `[plans]`.
    pub plan: Option<String>,
    /// US dollars in a day (UTC).
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub usd_per_day: Option<f64>,
    /// US dollars in a month (UTC).
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub usd_per_month: Option<f64>,
    /// Submitted jobs and live calls in a day (UTC).
    pub calls_per_day: Option<u64>,
    /// What it may ask for.
    pub models: Option<Vec<String>>,
    /// The part of these at which it is warned.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub soft: Option<f64>,
    /// Whether more than that is refused.
    pub hard: Option<bool>,
}

/// The part at which a caller is warned when nobody says.
const SOFT: f64 = 0.8;

impl PlanSettings {
    /// What it allows.
    pub fn allowance(&self, plan: Option<&str>) -> Allowance {
        Allowance {
            plan: plan.map(str::to_owned),
            day: self.usd_per_day.map(Money::from_usd),
            month: self.usd_per_month.map(Money::from_usd),
            calls: self.calls_per_day,
            models: self.models.clone(),
            soft: self.soft.unwrap_or(SOFT),
            hard: self.hard.unwrap_or(true),
        }
    }
}

impl CallerSettings {
    /// What is said here, and of the plan what is not.
    #[must_use]
    pub fn over(&self, plan: &PlanSettings) -> PlanSettings {
        PlanSettings {
            usd_per_day: self.usd_per_day.or(plan.usd_per_day),
            usd_per_month: self.usd_per_month.or(plan.usd_per_month),
            calls_per_day: self.calls_per_day.or(plan.calls_per_day),
            models: self.models.as_ref().or(plan.models.as_ref()).cloned(),
            soft: self.soft.or(plan.soft),
            hard: self.hard.or(plan.hard),
        }
    }
}
