//! The operator's settings: one file, the environment over it, and what they mean together.
//!
//! The document is read ([`load`](mod@load)), completed (`document`, `overrides`, [`auto`]), held against
//! the JSON Schema of [`Config`] ([`schema`]), and turned into what the service works with
//! ([`resolve`]). Every step collects its [`Fault`]s; all are told at once.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::price::Price;
use crate::{budget, callback, engine, http, queue};

pub mod auto;
pub mod builtin;
mod check;
mod document;
pub mod fault;
mod form;
pub mod load;
mod overrides;
pub mod resolve;
pub mod routes;
pub mod schema;
pub mod settings;
pub mod show;

pub use fault::{Fault, Faults};
pub use load::{Loaded, environment, load, load_config, load_rehearsal};
pub use resolve::{Account, Plan};

use routes::RouteSettings;
use settings::{AccountSettings, AuthSettings, LogSettings, TaskSettings};

/// What the environment holds, by name.
pub type Environment = BTreeMap<String, String>;

/// A settings file with every default in it and an example of everything else.
pub const TEMPLATE: &str = include_str!("defaults.toml");

/// `spillway.toml`. Everything can be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The HTTP entrance.
    pub server: http::settings::Settings,
    /// Where jobs are kept.
    pub store: queue::settings::Settings,
    /// How jobs are run.
    pub engine: engine::settings::Settings,
    /// How results are posted.
    pub callbacks: callback::settings::Settings,
    /// Who may call.
    pub auth: AuthSettings,
    /// What is logged.
    pub log: LogSettings,
    /// API keys at providers. Without any, one for each provider key in the environment.
    pub accounts: IndexMap<String, AccountSettings>,
    /// Ordered lists of accounts and models. Without any, `cheap` and `premium` over the
    /// accounts.
    pub routes: IndexMap<String, RouteSettings>,
    /// Kinds of work, beside the built-in ones or changing them.
    pub tasks: IndexMap<String, TaskSettings>,
    /// Addresses for other services' webhooks.
    pub hooks: IndexMap<String, http::hooks::settings::HookSettings>,
    /// What single workflows may have; `*` stands for all others.
    pub workflows: BTreeMap<String, engine::settings::WorkflowSettings>,
    /// What each caller of a plan may use up; `default` is for callers without one.
    pub plans: BTreeMap<String, budget::settings::PlanSettings>,
    /// Callers' plans, or what single callers may use up.
    pub callers: BTreeMap<String, budget::settings::CallerSettings>,
    /// Prices, before the built-in ones.
    pub prices: Vec<Price>,
}
