//! Routes whose steps are at accounts there are.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use super::check_name;
use crate::config::document::Document;
use crate::config::fault::{Faults, instead, joined};
use crate::config::routes::{RouteSettings, StepForm};
use crate::domain::choice::Sort;
use crate::domain::route::{Route, Rules, Step, Terms};
use crate::domain::units::Span;
use crate::provider::settings::Vendor;

/// The steps of a route, and what single ones say of themselves.
type Steps = (Vec<Step>, BTreeMap<Step, Terms>);

pub(super) fn routes(document: &Document, faults: &mut Faults) -> BTreeMap<String, Route> {
    let vendors: IndexMap<&str, Option<Vendor>> = document
        .entries("accounts")
        .map(|(name, entry)| {
            let vendor = entry.get("provider").and_then(|text| Vendor::deserialize(text).ok());
            (name.as_str(), vendor)
        })
        .collect();
    let mut found = BTreeMap::new();
    for (name, entry) in document.entries("routes") {
        let key = joined("routes", name);
        check_name(&key, name, faults);
        let steps = steps(&key, entry, &vendors, faults);
        if let Some(settings) = document.sound_entry::<RouteSettings>("routes", name) {
            let all = [("first_token", settings.first_token), ("timeout", settings.timeout)];
            check_spans(&key, all, faults);
            found.insert(name.clone(), route(name, &settings, steps));
        }
    }
    if document.root.get("routes").is_none() && !vendors.is_empty() {
        let expected = "expected one such as routes.main = { steps = [\"account/model\"] }";
        faults.add("routes", format!("are missing: {expected}"));
    }
    found
}

fn route(name: &str, settings: &RouteSettings, (steps, of_steps): Steps) -> Route {
    Route {
        name: name.to_owned(),
        steps,
        patience: settings.patience.by_lane().map(|span| span.0),
        rules: Rules {
            sort: settings.sort.map(Sort::all),
            terms: terms(None, settings.first_token, settings.timeout),
            of_steps,
            hedge: settings.hedge.rule(),
        },
    }
}

fn terms(weight: Option<u32>, first_token: Option<Span>, timeout: Option<Span>) -> Terms {
    let time = |span: Option<Span>| span.map(|span| span.0);
    Terms { weight, first_token: time(first_token), timeout: time(timeout) }
}

fn steps(
    key: &str,
    route: &Value,
    vendors: &IndexMap<&str, Option<Vendor>>,
    faults: &mut Faults,
) -> Steps {
    let (mut steps, mut of_steps) = (Vec::new(), BTreeMap::new());
    let entries = route.get("steps").and_then(Value::as_array).into_iter().flatten();
    for (index, entry) in entries.enumerate() {
        let place = format!("{key}.steps[{index}]");
        let Ok(form) = StepForm::deserialize(entry) else { continue };
        let name = form.name();
        let Some(vendor) = vendors.get(name.account.as_str()) else {
            let hint = instead(&name.account, vendors.keys().copied());
            faults.add(place, format!("there is no account `{}`{hint}", name.account));
            continue;
        };
        let step = Step {
            account: name.account.clone(),
            provider: vendor.map_or_else(String::new, |vendor| vendor.as_str().to_owned()),
            model: name.model.clone(),
        };
        if let StepForm::Table(table) = &form {
            let all = [("first_token", table.first_token), ("timeout", table.timeout)];
            check_spans(&place, all, faults);
            let own = terms(table.weight, table.first_token, table.timeout);
            of_steps.insert(step.clone(), own);
        }
        if steps.contains(&step) {
            faults.add(place, format!("`{}` stands in this route already", step.name()));
        } else {
            steps.push(step);
        }
    }
    (steps, of_steps)
}

fn check_spans(place: &str, spans: [(&str, Option<Span>); 2], faults: &mut Faults) {
    for (name, span) in spans {
        if span.is_some_and(|span| span.0.is_zero()) {
            faults.add(format!("{place}.{name}"), "`0s` is too short: nobody answers in no time");
        }
    }
}
