//! Hooks whose tasks there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::check_name;
use crate::callback;
use crate::callback::guard::Guard;
use crate::config::check::check_least;
use crate::config::document::Document;
use crate::config::fault::{Faults, instead, joined};
use crate::domain::task::Task;
use crate::domain::units::Span;
use crate::http::hooks::settings::HookSettings;
use crate::http::hooks::{Hook, Hooks};

/// All hooks by name.
pub(super) fn hooks(
    document: &Document,
    tasks: &BTreeMap<String, Arc<Task>>,
    left_out: &[String],
    faults: &mut Faults,
) -> Hooks {
    let guard = guard(document);
    let mut found = Hooks::new();
    for (name, entry) in document.entries("hooks") {
        let key = joined("hooks", name);
        check_name(&key, name, faults);
        if let Some(task) = entry.get("task").and_then(Value::as_str) {
            check_task(&format!("{key}.task"), task, (document, tasks, left_out), faults);
        }
        let Some(settings) = document.sound_entry::<HookSettings>("hooks", name) else { continue };
        for (name, span) in [
            ("deliver_within", settings.deliver_within),
            ("auth.tolerance", settings.auth.tolerance),
        ] {
            if let Some(span) = span {
                check_least(&format!("{key}.{name}"), span, Span::secs(1), faults);
            }
        }
        let mut own = Faults::default();
        let hook = Hook::new(name, settings, &mut |below, problem| {
            own.add(format!("{key}.{below}"), problem);
        });
        if let Some(Err(refusal)) = hook.fixed_callback_url().map(|url| guard.admit(url)) {
            own.add(format!("{key}.callback_url"), refusal.to_string());
        }
        faults.append(own);
        found.insert(name.clone(), Arc::new(hook));
    }
    found
}

fn check_task(
    key: &str,
    task: &str,
    (document, tasks, left_out): (&Document, &BTreeMap<String, Arc<Task>>, &[String]),
    faults: &mut Faults,
) {
    // A task with faults of its own is told of where it stands.
    let is_faulty = document.entries("tasks").any(|(name, _)| name == task);
    if left_out.iter().any(|name| name == task) {
        faults.add(key, format!("`{task}` is not offered, for want of a route"));
    } else if !tasks.contains_key(task) && !is_faulty {
        let hint = instead(task, tasks.keys().map(String::as_str));
        faults.add(key, format!("there is no task `{task}`{hint}"));
    }
}

/// Judges callbacks as it will when the service runs.
fn guard(document: &Document) -> Guard {
    let empty = Value::Object(Map::new());
    let section = document.sound.get("callbacks").unwrap_or(&empty);
    let settings = callback::settings::Settings::deserialize(section).unwrap_or_default();
    Guard::new(settings.allow_networks, settings.allow_http)
}
