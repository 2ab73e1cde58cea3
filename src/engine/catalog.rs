//! Tasks, routes and accounts, joined so that running a job needs no search.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::limits::{Cost, LimitSettings, Pool};
use crate::domain::price::PriceTable;
use crate::domain::route::{Route, Step};
use crate::domain::task::Task;
use crate::provider::SharedProvider;

/// One API key at a provider.
pub struct Account {
    /// The vendor.
    pub vendor: String,
    /// The org whose limits it shares.
    pub org: String,
    /// Speaks to the vendor.
    pub provider: SharedProvider,
    /// The org's limits.
    pub limits: Vec<LimitSettings>,
}

/// A step made ready: whom to ask, and what a turn there takes.
#[derive(Clone)]
pub struct Target {
    /// The step.
    pub step: Step,
    /// Speaks to its vendor.
    pub provider: SharedProvider,
    /// The buckets a call is counted in.
    pub pools: Vec<Arc<Pool>>,
    /// Gates that must be open: the step's, the account's and the org's for this model.
    pub gates: [String; 3],
}

impl Target {
    /// Shut while the step keeps failing.
    pub fn step_gate(&self) -> &str {
        &self.gates[0]
    }

    /// Shut while the account's key is refused.
    pub fn account_gate(&self) -> &str {
        &self.gates[1]
    }

    /// Whether some limit as a whole is less than this call takes.
    pub fn too_small_for(&self, cost: &Cost) -> bool {
        self.pools.iter().any(|pool| pool.too_small_for(cost).is_some())
    }

    /// Every gate that must be open, the pools' own included.
    pub fn all_gates(&self) -> impl Iterator<Item = String> {
        self.gates.iter().cloned().chain(self.pools.iter().map(|pool| pool.id.clone()))
    }

    /// Shut after a 429: what counts the call, or the org's model when nothing does.
    pub fn limit_gates(&self) -> Vec<&str> {
        if self.pools.is_empty() {
            return vec![&self.gates[2]];
        }
        self.pools.iter().map(|pool| pool.id.as_str()).collect()
    }
}

/// Everything the settings declare.
pub struct Catalog {
    tasks: BTreeMap<String, Arc<Task>>,
    routes: BTreeMap<String, Route>,
    targets: BTreeMap<(String, String), Target>,
    prices: PriceTable,
}

impl Catalog {
    /// Joins routes with accounts. A step whose account is missing is left out; the settings'
    /// own check has refused it before.
    pub fn new(
        accounts: &BTreeMap<String, Account>,
        routes: BTreeMap<String, Route>,
        tasks: BTreeMap<String, Arc<Task>>,
        prices: PriceTable,
    ) -> Self {
        let targets = routes
            .values()
            .flat_map(|route| &route.steps)
            .filter_map(|step| {
                let account = accounts.get(&step.account)?;
                Some(((step.account.clone(), step.model.clone()), target(step, account)))
            })
            .collect();
        Self { tasks, routes, targets, prices }
    }

    /// A task by its name.
    pub fn task(&self, name: &str) -> Option<&Arc<Task>> {
        self.tasks.get(name)
    }

    /// All tasks, by name.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// A route by its name.
    pub fn route(&self, name: &str) -> Option<&Route> {
        self.routes.get(name)
    }

    /// All routes, by name.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    /// A step made ready.
    pub fn target(&self, step: &Step) -> Option<&Target> {
        self.targets.get(&(step.account.clone(), step.model.clone()))
    }

    /// All steps made ready, each once.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.values()
    }

    /// What calls cost.
    pub const fn prices(&self) -> &PriceTable {
        &self.prices
    }

    /// The known name nearest to a mistyped one, when one is near.
    pub fn nearest_task(&self, name: &str) -> Option<&str> {
        self.tasks
            .keys()
            .map(|known| (strsim::damerau_levenshtein(known, &name.to_lowercase()), known))
            .filter(|(distance, known)| *distance <= known.len().div_ceil(2).max(2))
            .min()
            .map(|(_, known)| known.as_str())
    }
}

fn target(step: &Step, account: &Account) -> Target {
    Target {
        step: step.clone(),
        provider: Arc::clone(&account.provider),
        pools: account
            .limits
            .iter()
            .filter(|limit| limit.counts(&step.model))
            .map(|limit| Arc::new(limit.pool(&account.org)))
            .collect(),
        gates: [
            format!("step/{}/{}", step.account, step.model),
            format!("account/{}", step.account),
            format!("org/{}/{}", account.org, step.model),
        ],
    }
}
