//! What the settings mean together: accounts, routes and tasks that fit each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::auto::NOTHING_TO_ASK;
use super::check::{check_http_url, fits_a_header};
use super::document::Document;
use super::fault::{Faults, joined};
use super::settings::AccountSettings;
use crate::domain::limits::{CachedInput, LimitSettings};
use crate::domain::price::{Price, PriceTable};
use crate::domain::route::Route;
use crate::domain::task::Task;
use crate::http::hooks::Hooks;
use crate::provider::scripted;
use crate::provider::settings::{Api, Vendor};

mod hooks;
mod routes;
mod tasks;

/// What the service works with.
#[derive(Debug, Default)]
pub struct Plan {
    /// The accounts, in the order of the file.
    pub accounts: Vec<Account>,
    /// The routes, by name.
    pub routes: BTreeMap<String, Route>,
    /// The tasks, by name.
    pub tasks: BTreeMap<String, Arc<Task>>,
    /// Built-in tasks that have no route here.
    pub left_out: Vec<String>,
    /// The hooks, by name.
    pub hooks: Hooks,
    /// The operator's prices and the built-in ones.
    pub prices: PriceTable,
}

/// One API key at a provider.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Whose API it is for.
    pub vendor: Vendor,
    /// Whose limits it uses.
    pub org: String,
    /// Where the API is, up to and without the version; only a scripted one has none.
    pub base_url: Option<String>,
    /// Which of the vendor's APIs; `None` for the usual one.
    pub api: Option<Api>,
    /// The API key.
    pub api_key: Option<SecretString>,
    /// Its org's limits.
    pub limits: Vec<LimitSettings>,
    /// What a scripted provider does.
    pub scripted: Option<scripted::Settings>,
}

/// Makes a plan of the document and tells what does not fit. What the schema has refused is
/// passed over; names that stand there still count as known.
pub(super) fn resolve(document: &Document, faults: &mut Faults) -> Plan {
    let accounts = accounts(document, faults);
    let routes = routes::routes(document, faults);
    let (tasks, left_out) = tasks::tasks(document, &accounts, &routes, faults);
    let hooks = hooks::hooks(document, &tasks, &left_out, faults);
    let prices = prices(document, faults);
    Plan { accounts, routes, tasks, left_out, hooks, prices }
}

/// Names are parts of keys in the store, of metrics and of steps.
fn check_name(key: &str, name: &str, faults: &mut Faults) {
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !fits {
        let expected = "expected up to 64 letters, digits, `-`, `_` and `.`";
        faults.add(key, format!("is not a name: {expected}"));
    }
}

fn accounts(document: &Document, faults: &mut Faults) -> Vec<Account> {
    if document.entries("accounts").next().is_none()
        && document.root.get("accounts").is_none_or(Value::is_object)
    {
        faults.add("accounts", NOTHING_TO_ASK);
    }
    let mut found = Vec::new();
    for (name, entry) in document.entries("accounts") {
        let key = joined("accounts", name);
        check_name(&key, name, faults);
        check_limits(&key, entry, faults);
        match document.sound_entry::<AccountSettings>("accounts", name) {
            Some(settings) => found.push(account(&key, name, settings, faults)),
            None => {
                if let Some(url) = entry.get("base_url").and_then(Value::as_str) {
                    check_http_url(&format!("{key}.base_url"), url, faults);
                }
            }
        }
    }
    share_limits(&mut found, faults);
    found
}

fn account(key: &str, name: &str, settings: AccountSettings, faults: &mut Faults) -> Account {
    let vendor = settings.provider;
    let api_key = settings.api_key.map(|secret| secret.0);
    match (&api_key, vendor.env_key()) {
        (None, Some(variable)) if settings.api_key_file.is_none() => faults.add(
            format!("{key}.api_key"),
            format!("is missing: expected the key, such as \"${{{variable}}}\", or `api_key_file`"),
        ),
        (Some(text), _) if !fits_a_header(text.expose_secret()) => faults.add(
            format!("{key}.api_key"),
            "is not a key: expected letters, digits and signs without spaces",
        ),
        _ => {}
    }
    let base_url = settings.base_url.or_else(|| vendor.default_base_url().map(str::to_owned));
    let place = format!("{key}.base_url");
    match &base_url {
        Some(url) => check_http_url(&place, url, faults),
        None if vendor == Vendor::Scripted => {}
        None => faults.add(
            place,
            format!(
                "is missing: {} needs the server's address, such as http://127.0.0.1:11434",
                vendor.as_str()
            ),
        ),
    }
    if let Some(api) = settings.api.filter(|api| !vendor.has(*api)) {
        let whose = api.vendors().join(", ");
        let fault = format!("`{}` is only for `provider` {whose}", api.as_str());
        faults.add(format!("{key}.api"), fault);
    }
    if settings.scripted.is_some() && vendor != Vendor::Scripted {
        faults.add(format!("{key}.scripted"), "is only for `provider = \"scripted\"`");
    }
    Account {
        name: name.to_owned(),
        vendor,
        org: settings.org.unwrap_or_else(|| name.to_owned()),
        base_url: base_url.map(|url| url.trim_end_matches('/').to_owned()),
        api: settings.api,
        api_key,
        limits: settings.limits.into_iter().map(|limits| as_counted(vendor, limits)).collect(),
        scripted: settings.scripted,
    }
}

/// Cached input counts as the vendor counts it, unless the operator says otherwise.
fn as_counted(vendor: Vendor, limits: LimitSettings) -> LimitSettings {
    let counted = vendor.counts_cached_input();
    let usual = if counted { CachedInput::Counted } else { CachedInput::Free };
    LimitSettings { cached_input: limits.cached_input.or(Some(usual)), ..limits }
}

fn check_limits(key: &str, account: &Value, faults: &mut Faults) {
    let entries = account.get("limits").and_then(Value::as_array).into_iter().flatten();
    let mut limited: Vec<Vec<String>> = Vec::new();
    for (index, entry) in entries.enumerate() {
        let place = format!("{key}.limits[{index}]");
        let Ok(limit) = LimitSettings::deserialize(entry) else { continue };
        if limit.models.is_empty() {
            faults.add(format!("{place}.models"), "is empty: expected patterns such as [\"*\"]");
        }
        if limit.is_unlimited() {
            let axes = "`requests`, `input_tokens`, `output_tokens`, `tokens`, \
                        `requests_per_day`, `tokens_per_day` or `concurrency`";
            faults.add(&place, format!("limits nothing: expected {axes}"));
        }
        if let Some(axis) = limit.said_twice() {
            let axis = axis.as_str();
            let twice = format!("is said twice: expected `{axis}` by the minute or left out");
            faults.add(format!("{place}.{axis}_per_day"), twice);
        }
        if limited.contains(&limit.models) {
            faults.add(format!("{place}.models"), "are limited already, further up");
        }
        limited.push(limit.models);
    }
}

/// Accounts of one org have the same limits: those of the first that says them.
fn share_limits(accounts: &mut [Account], faults: &mut Faults) {
    let mut orgs: IndexMap<String, (String, Vec<LimitSettings>)> = IndexMap::new();
    for account in accounts.iter().filter(|account| !account.limits.is_empty()) {
        let said = (account.name.clone(), account.limits.clone());
        let (first, limits) = orgs.entry(account.org.clone()).or_insert(said);
        if *limits != account.limits {
            faults.add(
                format!("{}.limits", joined("accounts", &account.name)),
                format!(
                    "differ from those of `{first}`: accounts of one org (`{}`) share its limits, \
                     write them once",
                    account.org
                ),
            );
        }
    }
    for account in accounts.iter_mut() {
        if let Some((_, limits)) = orgs.get(&account.org) {
            account.limits.clone_from(limits);
        }
    }
}

fn prices(document: &Document, faults: &mut Faults) -> PriceTable {
    let own = document.root.get("prices").and_then(Value::as_array).into_iter().flatten();
    let own = own.filter_map(|price| Price::deserialize(price).ok()).collect();
    PriceTable::with_built_in(own).unwrap_or_else(|fault| {
        faults.add("prices", format!("the built-in ones cannot be read: {fault}"));
        PriceTable::default()
    })
}
