//! The settings in force as text, for `spillway check`. No secret is in it.

use std::fmt::{self, Write};

use super::load::Loaded;
use super::resolve::{Account, Plan};
use crate::domain::job::Lane;
use crate::domain::limits::{Axis, Learn, LimitSettings};
use crate::domain::route::Route;
use crate::domain::task::Task;
use crate::domain::units::Span;

/// What stands for a secret.
const HIDDEN: &str = "[hidden]";

/// The settings in force, for a person to read.
pub fn resolved(loaded: &Loaded) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if write_all(&mut text, loaded).is_err() {
        text.push_str("…\n");
    }
    text
}

fn write_all(out: &mut String, loaded: &Loaded) -> fmt::Result {
    let config = &loaded.config;
    match &loaded.file {
        Some(file) => writeln!(out, "settings   {}", file.display())?,
        None => writeln!(out, "settings   no file: the environment and the defaults")?,
    }
    writeln!(out, "listen     {}", config.server.listen)?;
    writeln!(out, "store      {}", config.store.redacted_url())?;
    let signing = match (&config.callbacks.secret, config.callbacks.old_secrets.len()) {
        (None, _) => "made and kept in the store".to_owned(),
        (Some(_), 0) => HIDDEN.to_owned(),
        (Some(_), old) => format!("{HIDDEN} and {old} being retired"),
    };
    writeln!(out, "callbacks  signing secret {signing}, timeout {}", config.callbacks.timeout)?;
    if !config.callbacks.allow_networks.is_empty() {
        let networks: Vec<String> =
            config.callbacks.allow_networks.iter().map(ToString::to_string).collect();
        writeln!(out, "           may reach {}", networks.join(", "))?;
    }
    let callers: Vec<&str> =
        config.auth.keys.iter().map(super::settings::AuthKey::caller).collect();
    match callers.as_slice() {
        [] => writeln!(out, "keys       those made by `spillway keys create`")?,
        callers => writeln!(out, "keys       {HIDDEN} for {}", callers.join(", "))?,
    }
    writeln!(out, "log        {} ({:?})", config.log.level, config.log.format)?;
    write_plan(out, &loaded.plan)?;
    if !config.workflows.is_empty() {
        writeln!(out, "\nworkflows")?;
    }
    for (name, workflow) in &config.workflows {
        write!(out, "  {name}  weight {}", workflow.weight)?;
        if let Some(most) = workflow.max_queued {
            write!(out, ", at most {most} open")?;
        }
        if let Some(most) = workflow.max_running {
            write!(out, ", at most {most} at the same time")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_plan(out: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(out, "\naccounts")?;
    for account in &plan.accounts {
        write_account(out, account)?;
    }
    writeln!(out, "\nroutes")?;
    for route in plan.routes.values() {
        write_route(out, route)?;
    }
    write_tasks(out, plan)?;
    if !plan.hooks.is_empty() {
        writeln!(out, "\nhooks")?;
    }
    for hook in plan.hooks.values() {
        let caller = hook.caller.as_deref().unwrap_or("the key's caller");
        let (name, task, auth) = (&hook.name, &hook.task, hook.scheme().as_str());
        writeln!(out, "  {name}  task {task}; auth {auth}; jobs of {caller}")?;
    }
    Ok(())
}

fn write_tasks(out: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(out, "\ntasks")?;
    for task in plan.tasks.values() {
        write_task(out, task)?;
    }
    if !plan.left_out.is_empty() {
        let names = plan.left_out.join(", ");
        writeln!(out, "  not offered, for want of a route: {names}")?;
    }
    Ok(())
}

fn write_account(out: &mut String, account: &Account) -> fmt::Result {
    write!(out, "  {}  {}", account.name, account.vendor.as_str())?;
    if let Some(url) = &account.base_url {
        write!(out, " at {}", hidden_password(url))?;
    }
    if let Some(api) = account.api {
        write!(out, ", API {}", api.as_str())?;
    }
    let key = if account.api_key.is_some() { HIDDEN } else { "none" };
    writeln!(out, ", key {key}, org {}", account.org)?;
    if account.limits.is_empty() {
        writeln!(out, "    no limits but what the provider says")?;
    }
    for limits in &account.limits {
        writeln!(out, "    {}: {}", limits.models.join(", "), limits_in_words(limits))?;
    }
    Ok(())
}

fn limits_in_words(limits: &LimitSettings) -> String {
    let named = |axis: Axis| axis.as_str().replace('_', " ");
    let rates = limits.rates().into_iter();
    let mut words: Vec<String> =
        rates.filter_map(|(axis, rate)| Some(format!("{} {}", rate?, named(axis)))).collect();
    let days = limits.days().into_iter();
    words
        .extend(days.filter_map(|(axis, amount)| Some(format!("{}/day {}", amount?, named(axis)))));
    words.extend(limits.day_resets.map(|at| format!("days begin at {at} UTC")));
    words.extend(limits.concurrency.map(|calls| format!("{calls} at the same time")));
    words.push(format!("burst {}", limits.burst));
    words.extend(limits.ramp.map(|ramp| format!("ramp {ramp}")));
    words.extend(match limits.learn.unwrap_or_default() {
        Learn::Off => Some("pinned".to_owned()),
        Learn::Down => None,
        Learn::Both => Some("guessed, corrected by what the provider says".to_owned()),
    });
    words.join(", ")
}

fn write_route(out: &mut String, route: &Route) -> fmt::Result {
    let patience =
        Lane::ALL.map(|lane| format!("{} {}", lane.as_str(), Span(route.patience(lane))));
    writeln!(out, "  {}  patience {}", route.name, patience.join(", "))?;
    for (index, step) in route.steps.iter().enumerate() {
        writeln!(out, "    {}. {}", index + 1, step.name())?;
    }
    Ok(())
}

fn write_task(out: &mut String, task: &Task) -> fmt::Result {
    let [first, rest @ ..] = &task.routes;
    let route = if rest.iter().all(|route| route == first) {
        first.clone()
    } else {
        Lane::ALL.map(|lane| format!("{} {}", lane.as_str(), task.route(lane))).join(", ")
    };
    let form = if task.output.is_some() { "checked JSON" } else { "free text" };
    write!(out, "  {}  route {route}; lane {}; ", task.name, task.lane.as_str())?;
    write!(out, "{form}, at most {} tokens", task.max_output_tokens)?;
    if let Some(temperature) = task.temperature {
        write!(out, ", temperature {temperature}")?;
    }
    writeln!(out, ", timeout {}", Span(task.timeout))
}

/// An address with its password and query hidden.
fn hidden_password(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else { return text.to_owned() };
    if url.password().is_none() && url.query().is_none() {
        return text.to_owned();
    }
    let had_password = url.password().is_some();
    if had_password && url.set_password(Some("hidden")).is_err() {
        return format!("{}://{HIDDEN}", url.scheme());
    }
    if url.query().is_some() {
        url.set_query(Some("hidden"));
    }
    url.to_string().replacen(":hidden@", &format!(":{HIDDEN}@"), 1)
}
