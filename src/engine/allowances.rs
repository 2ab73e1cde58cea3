//! Who may use up how much.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::budget::settings::{CallerSettings, PlanSettings};
use crate::domain::allowance::Allowance;

/// The plan of callers without one of their own.
const DEFAULT: &str = "default";

/// What a caller without a key is called, before its address.
pub const ANONYMOUS: &str = "anon:";

/// Who may use up how much.
#[derive(Default)]
pub struct Allowances {
    callers: BTreeMap<String, Arc<Allowance>>,
    others: Option<Arc<Allowance>>,
    anonymous: Option<Arc<Allowance>>,
}

impl Allowances {
    /// By the settings. `anonymous` is the plan of callers without a key. A plan that is not there
    /// allows everything; the settings' own check has refused it before.
    pub fn new(
        plans: &BTreeMap<String, PlanSettings>,
        callers: &BTreeMap<String, CallerSettings>,
        anonymous: Option<&str>,
    ) -> Self {
        let plan =
            |name: &str| plans.get(name).map(|settings| Arc::new(settings.allowance(Some(name))));
        let of = |settings: &CallerSettings| {
            let name = settings.plan.as_deref();
            let plan = name.and_then(|name| plans.get(name)).cloned().unwrap_or_default();
            Arc::new(settings.over(&plan).allowance(name))
        };
        Self {
            callers: callers.iter().map(|(name, caller)| (name.clone(), of(caller))).collect(),
            others: plan(DEFAULT),
            anonymous: anonymous.and_then(plan),
        }
    }

    /// What this caller may use up; `None` for as much as it likes.
    pub fn of(&self, caller: &str) -> Option<&Arc<Allowance>> {
        if caller.starts_with(ANONYMOUS) {
            return self.anonymous.as_ref();
        }
        self.callers.get(caller).or(self.others.as_ref())
    }
}
