//! Tasks, routes and accounts, joined so that running a job needs no search.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use super::allowances::Allowances;
use super::settings::WorkflowSettings;
use crate::domain::allowance::Allowance;
use crate::domain::job::Share;
use crate::domain::limits::{Cost, LimitSettings, Pool};
use crate::domain::price::PriceTable;
use crate::domain::prompt::{CacheUse, Dialect, Prompt};
use crate::domain::route::{Route, Step};
use crate::domain::task::Task;
use crate::provider::SharedProvider;
use crate::telemetry::metrics;

/// Steps kept ready that no route declares.
const MOST_FURTHER: usize = 1_000;

/// The name that stands for all workflows without settings of their own.
const OTHERS: &str = "*";

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
    /// The most tokens that prompt and answer may have together, where it is known.
    pub window: Option<u64>,
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

    /// Shut after a 429 when nothing counts the call; names the org and the model.
    pub fn org_gate(&self) -> &str {
        &self.gates[2]
    }

    /// Whether some limit as a whole is less than this call takes.
    pub fn too_small_for(&self, cost: &Cost) -> bool {
        self.pools.iter().any(|pool| pool.too_small_for(cost).is_some())
    }

    /// Every gate that must be open, the pools' own included.
    pub fn all_gates(&self) -> impl Iterator<Item = String> {
        self.gates.iter().cloned().chain(self.pools.iter().map(|pool| pool.id.clone()))
    }

    /// Whether a call there leaves any of its prompt in the cache: always, unless the provider waits
    /// to be told by marks.
    pub fn writes(&self, prompt: &Prompt) -> bool {
        let waits = self.provider.speaks() == Some(Dialect::Anthropic);
        !waits || prompt.is_marked() || prompt.cache != CacheUse::None
    }

    /// Shut after a 429: what counts the call, or the org's model when nothing does.
    pub fn limit_gates(&self) -> Vec<&str> {
        if self.pools.is_empty() {
            return vec![self.org_gate()];
        }
        self.pools.iter().map(|pool| pool.id.as_str()).collect()
    }
}

/// Everything the settings declare.
pub struct Catalog {
    tasks: BTreeMap<String, Arc<Task>>,
    routes: BTreeMap<String, Arc<Route>>,
    accounts: BTreeMap<String, Account>,
    targets: BTreeMap<(String, String), Arc<Target>>,
    /// Of steps that no route declares: models that live calls name.
    further: RwLock<HashMap<(String, String), Arc<Target>>>,
    prices: PriceTable,
    workflows: BTreeMap<String, WorkflowSettings>,
    allowances: Allowances,
}

impl Catalog {
    /// Joins routes with accounts. A step whose account is missing is left out; the settings'
    /// own check has refused it before.
    pub fn new(
        accounts: BTreeMap<String, Account>,
        routes: BTreeMap<String, Route>,
        tasks: BTreeMap<String, Arc<Task>>,
        prices: PriceTable,
    ) -> Self {
        let targets = routes
            .values()
            .flat_map(|route| &route.steps)
            .filter_map(|step| {
                let account = accounts.get(&step.account)?;
                Some((names(step), Arc::new(target(step, account, &prices))))
            })
            .collect();
        metrics::know_models(
            routes.values().flat_map(|route| &route.steps).map(|step| &step.model),
        );
        metrics::know_models(prices.models());
        let routes = routes.into_iter().map(|(name, route)| (name, Arc::new(route))).collect();
        let (further, workflows) = (RwLock::default(), BTreeMap::new());
        let allowances = Allowances::default();
        Self { tasks, routes, accounts, targets, further, prices, workflows, allowances }
    }

    /// The same with what callers may use up.
    #[must_use]
    pub fn with_allowances(mut self, allowances: Allowances) -> Self {
        self.allowances = allowances;
        self
    }

    /// What a caller may use up; `None` for as much as it likes.
    pub fn allowance(&self, caller: &str) -> Option<&Arc<Allowance>> {
        self.allowances.of(caller)
    }

    /// The same with what workflows may have.
    #[must_use]
    pub fn with_workflows(self, workflows: BTreeMap<String, WorkflowSettings>) -> Self {
        Self { workflows, ..self }
    }

    /// What a workflow may have: what is said of it, else what is said of all others; `None` when
    /// that is no more than the ordinary.
    pub fn share(&self, workflow: Option<&str>) -> Option<Share> {
        let own = workflow.and_then(|name| self.workflows.get(name));
        let share = own.or_else(|| self.workflows.get(OTHERS))?.share();
        (share != Share::default()).then_some(share)
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
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.get(name)
    }

    /// All routes, by name.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// A step made ready.
    pub fn target(&self, step: &Step) -> Option<Arc<Target>> {
        let names = names(step);
        if let Some(target) = self.targets.get(&names) {
            return Some(Arc::clone(target));
        }
        if let Some(target) = self.further.read().ok()?.get(&names) {
            return Some(Arc::clone(target));
        }
        let made = Arc::new(target(step, self.accounts.get(&step.account)?, &self.prices));
        let mut further = self.further.write().ok()?;
        // Callers name these: they are not kept without end.
        if further.len() >= MOST_FURTHER {
            further.clear();
        }
        further.insert(names, Arc::clone(&made));
        Some(made)
    }

    /// All accounts, by name.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.accounts.iter().map(|(name, account)| (name.as_str(), account))
    }

    /// All steps made ready, each once.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
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

fn names(step: &Step) -> (String, String) {
    (step.account.clone(), step.model.clone())
}

fn target(step: &Step, account: &Account, prices: &PriceTable) -> Target {
    Target {
        step: step.clone(),
        provider: Arc::clone(&account.provider),
        window: prices.context(&step.provider, &step.model),
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
