//! From an event to the input of a task.

use serde_json::Value;

use super::event::{Event, nested};
use crate::domain::schema::{Schema, Violation};
use crate::domain::task::Task;
use crate::engine::intake::IntakeError;
use crate::http::coerce::{coerced, fit};
use crate::http::problem::Problem;

/// What the settings' template came to, as the task wants it.
pub(super) fn templated(made: Option<Value>, task: &Task) -> Value {
    let value = made.unwrap_or_default();
    fit(value.clone(), task).unwrap_or(value)
}

/// The body, as the task wants it: as it came, with its flat names nested, without what the task does
/// not know, or as text.
pub(super) fn whole(event: &Event, task: &Task, hook: &str, warnings: &mut Vec<String>) -> Value {
    let schema = task.input.as_ref().map(Schema::source);
    let known = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let is_known = |name: &str| known.is_some_and(|known| known.contains_key(name));
    let own = event.plain.as_object().and_then(|table| nested(table, is_known));
    let bodies = || [own.as_ref(), Some(&event.plain), event.nested.as_ref()].into_iter().flatten();
    for body in bodies() {
        if let Some(input) = fit(body.clone(), task) {
            return input;
        }
    }
    for body in bodies() {
        let Some(table) = body.as_object() else { continue };
        if table.keys().all(|name| is_known(name)) {
            continue;
        }
        let own = table.iter().filter(|(name, _)| is_known(name));
        let own: Value = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(input) = fit(own, task) {
            warnings.push("fields that the task does not know were left out".to_owned());
            return input;
        }
    }
    // What has one of the task's fields was meant to fit: it is refused for what is wrong with it.
    let meant =
        bodies().filter_map(Value::as_object).any(|table| table.keys().any(|name| is_known(name)));
    // Nothing, or a list within a list, is no text by accident.
    let is_event = match &event.plain {
        Value::Null | Value::Array(_) => false,
        Value::Object(table) => !table.is_empty(),
        _ => true,
    };
    if !meant && is_event {
        let text = Value::String(event.plain.to_string());
        if task.fits(&text) {
            warnings.push(format!(
                "the whole body went to the task as text: `input` in [hooks.{hook}] takes out what matters"
            ));
            return text;
        }
    }
    let body = event.nested.as_ref().unwrap_or(&event.plain).clone();
    match schema {
        Some(schema) => coerced(body, schema),
        None => body,
    }
}

/// The input fits the task.
pub(super) fn check(input: &Value, task: &Task) -> Result<(), Problem> {
    let mut violations = task.unfit(input);
    for violation in &mut violations {
        let inside = violation.pointer.trim_start_matches('#').to_owned();
        violation.pointer = format!("#/input{inside}");
    }
    if violations.is_empty()
        && task.template.is_none()
        && let Err(detail) = task.prompt(input)
    {
        violations.push(Violation { pointer: "#/input".to_owned(), detail });
    }
    if violations.is_empty() {
        return Ok(());
    }
    Err(IntakeError::InvalidInput { task: task.name.clone(), violations }.into())
}
