//! Takes a body's fields one by one: tolerant of how platforms write values, and telling every
//! fault at once.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::coerce::coerced;
use super::nested::{Fields, nest};
use super::problem::{Kind, Problem, summary};
use crate::domain::job::{Callback, CallbackBody};
use crate::domain::schema::Violation;
use crate::domain::units::Span;

/// The longest name of a workflow, a session, a subscription.
pub(super) const LONGEST_NAME: usize = 256;

/// The longest list of statuses.
const LONGEST_LIST: usize = 16;
/// Unknown fields that are told one by one, and how much of their names.
pub(super) const TOLD: usize = 20;
const LONGEST_SHOWN: usize = 64;

/// The longest a callback may be held back.
const LONGEST_DELAY: Span = Span::secs(86_400);

/// What a kind of request takes.
pub(super) struct Form {
    /// Its fields.
    pub(super) fields: &'static [&'static str],
    /// Other names under which platforms send a field, and the field.
    pub(super) aliases: &'static [(&'static str, &'static str)],
    /// What the fields are described as.
    pub(super) schema: &'static Value,
}

/// How fields are to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// What is not known is refused.
    pub(super) strict: bool,
    /// Every value is a text; objects and lists come as JSON within one.
    pub(super) is_form: bool,
}

/// `callback` in a body: what goes beyond the URL.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CallbackFields {
    url: Option<String>,
    headers: BTreeMap<String, String>,
    body: CallbackBody,
    min_delay: Option<Span>,
    success_statuses: Vec<u16>,
}

/// Takes fields one by one, collecting faults and warnings.
pub(super) struct Reader {
    form: &'static Form,
    pub(super) fields: Fields,
    pub(super) manner: Manner,
    faults: Vec<Violation>,
    /// Told to the caller in `warnings`, or as faults under `Prefer: handling=strict`.
    pub(super) warnings: Vec<String>,
}

impl Reader {
    pub(super) fn new(form: &'static Form, fields: Fields, manner: Manner) -> Self {
        let mut reader = Self { form, fields, manner, faults: Vec::new(), warnings: Vec::new() };
        reader.unwrap_item();
        let known = |name: &str| form.fields.contains(&name);
        let (fields, nested) = nest(std::mem::take(&mut reader.fields), known);
        reader.fields = fields;
        // In a form there is no other way to write them.
        if nested && !manner.is_form {
            reader
                .warnings
                .push("flat names such as `metadata__row` were read as nested".to_owned());
        }
        for (alias, name) in form.aliases {
            if !reader.fields.contains_key(*name)
                && let Some(value) = reader.fields.shift_remove(*alias)
            {
                reader.warnings.push(format!("`{alias}` was read as `{name}`"));
                reader.fields.insert((*name).to_owned(), value);
            }
        }
        reader
    }

    /// A whole n8n webhook item, posted as it is: the fields are in its `body`.
    fn unwrap_item(&mut self) {
        let is_item = self.fields.contains_key("headers")
            && self.form.fields.iter().all(|name| !self.fields.contains_key(*name));
        let inner = self.fields.get("body").filter(|_| is_item);
        if let Some(inner) = inner.and_then(|body| serde_json::from_str::<Fields>(body.get()).ok())
        {
            self.warnings
                .push("the fields were taken from `body` of a whole webhook item".to_owned());
            self.fields = inner;
        }
    }

    /// What goes beyond the URL from `callback`, with the URL if it stands there.
    pub(super) fn callback(&mut self, url: Option<String>) -> Option<Callback> {
        let more: Option<CallbackFields> = self.object("callback");
        let given = more.is_some();
        let more = more.unwrap_or_default();
        let Some(url) = url.or(more.url.clone()) else {
            if given {
                self.fault("callback", "needs an address beside it".to_owned());
            }
            return None;
        };
        if let Err(fault) = check_more(&more) {
            self.fault("callback", fault);
        }
        Some(Callback {
            url,
            headers: more.headers,
            body: more.body,
            min_delay: more.min_delay,
            success_statuses: more.success_statuses,
        })
    }

    pub(super) fn name(&mut self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        if text.chars().count() > LONGEST_NAME {
            self.fault(name, format!("may have {LONGEST_NAME} characters at the most"));
        }
        Some(text)
    }

    /// A text; numbers and booleans count as texts, an empty text and null as absent.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let raw = self.fields.shift_remove(name)?;
        match serde_json::from_str(raw.get()) {
            Ok(Value::Null) => None,
            Ok(Value::String(text)) => Some(text).filter(|text| !text.trim().is_empty()),
            Ok(Value::Number(_) | Value::Bool(_)) => Some(raw.get().to_owned()),
            _ => {
                self.fault(name, "must be a text".to_owned());
                None
            }
        }
    }

    /// A value as it came; null counts as absent.
    pub(super) fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.fields.shift_remove(name).filter(|raw| raw.get() != "null")
    }

    /// An object or list, or a text that holds one; what is in it as its schema wants it.
    pub(super) fn object<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let raw = self.raw(name)?;
        let wanted = self.form.schema.get("properties").and_then(|fields| fields.get(name));
        let raw = wanted.and_then(|wanted| as_wanted(&raw, wanted)).unwrap_or(raw);
        let inner: Option<String> = serde_json::from_str(raw.get()).ok();
        if inner.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return None;
        }
        let read = serde_json::from_str(inner.as_deref().unwrap_or_else(|| raw.get()));
        let told = |fault: serde_json::Error| {
            let text = fault.to_string();
            let what = text.split(" at line").next().unwrap_or_default();
            self.fault(name, format!("is not of the form this field takes: {what}"));
        };
        read.map_err(told).ok()
    }

    pub(super) fn reject(&mut self, name: &str, why: &str) {
        if self.fields.shift_remove(name).is_some() {
            self.fault(name, why.to_owned());
        }
    }

    pub(super) fn fault(&mut self, name: &str, detail: String) {
        self.faults.push(Violation { pointer: format!("#/{name}"), detail });
    }

    /// What is left is unknown: told, or refused when the caller wants it strict.
    pub(super) fn finish(mut self) -> Result<Vec<String>, Problem> {
        for name in self.fields.keys().take(TOLD) {
            self.warnings.push(unknown_field(name, self.form.fields));
        }
        if self.fields.len() > TOLD {
            self.warnings.push(format!("{} more fields are not known", self.fields.len() - TOLD));
        }
        if !self.faults.is_empty() {
            let detail = format!("The request has faults: {}.", summary(&self.faults));
            return Err(Problem::new(Kind::InvalidRequest, detail).with_errors(self.faults));
        }
        if self.manner.strict && !self.warnings.is_empty() {
            let detail = format!(
                "Refused because of `Prefer: handling=strict`: {}.",
                self.warnings.join("; ")
            );
            return Err(Problem::new(Kind::UnknownFields, detail));
        }
        Ok(self.warnings)
    }
}

fn as_wanted(raw: &RawValue, wanted: &Value) -> Option<Box<RawValue>> {
    let value = coerced(serde_json::from_str(raw.get()).ok()?, wanted);
    serde_json::value::to_raw_value(&value).ok()
}

fn unknown_field(name: &str, known: &[&str]) -> String {
    let shown: String = name.chars().take(LONGEST_SHOWN).collect();
    let near = (shown == name)
        .then(|| known.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min())
        .flatten()
        .filter(|(distance, _)| *distance <= 2);
    let hint = near.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"));
    format!("`{shown}` is not known and was ignored{hint}")
}

/// What a callback may ask for.
fn check_more(more: &CallbackFields) -> Result<(), String> {
    if more.min_delay.is_some_and(|delay| delay > LONGEST_DELAY) {
        return Err(format!("`min_delay` may be {LONGEST_DELAY} at the most"));
    }
    let statuses = &more.success_statuses;
    if statuses.len() > LONGEST_LIST || statuses.iter().any(|code| !(100..600).contains(code)) {
        return Err("`success_statuses` is a short list of HTTP statuses".to_owned());
    }
    Ok(())
}

/// A schema file; it is checked by a test, and an unreadable one would describe anything.
pub(super) fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Bool(true))
}
