//! What a caller asks to be told, out of a body's fields.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::job::Callback;
use crate::domain::result::Status;
use crate::domain::schema::Violation;
use crate::domain::units::Span;
use crate::engine::subscriptions::Asked;
use crate::http::body::Fields;
use crate::http::problem::{Kind, Problem, summary};
use crate::subscriptions::JobFilter;

/// The longest name of a subscription, a task or a workflow.
const LONGEST_NAME: usize = 256;
/// The most names in one list.
const LONGEST_LIST: usize = 100;
/// The most statuses that count as taken.
const MOST_STATUSES: usize = 16;
/// The longest an event may be held back.
const LONGEST_DELAY: Span = Span::secs(86_400);
/// Unknown fields that are told.
const TOLD: usize = 20;

/// `callback` in a body, as a job's.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct More {
    headers: BTreeMap<String, String>,
    body: Form,
    min_delay: Option<Span>,
    success_statuses: Vec<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Envelope,
    Bare,
}

struct Reader {
    fields: Fields,
    faults: Vec<Violation>,
}

/// What is asked for, and what is to be told of fields that mean nothing.
pub(super) fn asked(fields: Fields, strict: bool) -> Result<(Asked, Vec<String>), Problem> {
    let mut reader = Reader { fields, faults: Vec::new() };
    let asked = Asked {
        name: reader.text("name"),
        callback: reader.callback(),
        filter: JobFilter {
            statuses: reader.statuses(),
            tasks: reader.list("tasks"),
            workflows: reader.list("workflows"),
        },
    };
    Ok((asked, reader.finish(strict)?))
}

impl Reader {
    fn callback(&mut self) -> Callback {
        let url =
            ["url", "callback_url", "target_url"].into_iter().find_map(|name| self.word(name));
        if url.is_none() {
            self.fault("url", "is missing: where are events to be posted?");
        }
        let more: More = self.value("callback").unwrap_or_default();
        if more.min_delay.is_some_and(|delay| delay > LONGEST_DELAY) {
            self.fault("callback", &format!("`min_delay` may be {LONGEST_DELAY} at the most"));
        }
        let statuses = &more.success_statuses;
        if statuses.len() > MOST_STATUSES || statuses.iter().any(|code| !(100..600).contains(code))
        {
            self.fault("callback", "`success_statuses` is a short list of HTTP statuses");
        }
        Callback {
            url: url.unwrap_or_default(),
            headers: more.headers,
            bare: matches!(more.body, Form::Bare),
            min_delay: more.min_delay,
            success_statuses: more.success_statuses,
        }
    }

    fn statuses(&mut self) -> Vec<Status> {
        let final_ones = || Status::ALL.into_iter().filter(|status| status.is_final());
        let (mut statuses, mut wrong) = (Vec::new(), false);
        for name in self.list("statuses") {
            match final_ones().find(|status| status.as_str() == name.to_lowercase()) {
                Some(status) if !statuses.contains(&status) => statuses.push(status),
                Some(_) => {}
                None => wrong = true,
            }
        }
        if wrong {
            let names: Vec<&str> = final_ones().map(Status::as_str).collect();
            self.fault("statuses", &format!("is a list of {}", names.join(", ")));
        }
        statuses
    }

    /// A list of names; as text: JSON, or with commas between them.
    fn list(&mut self, name: &str) -> Vec<String> {
        let list = match self.value::<Value>(name) {
            None => return Vec::new(),
            Some(Value::String(text)) => text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect(),
            Some(Value::Array(values)) => match values.into_iter().map(word_of).collect() {
                Some(list) => list,
                None => return self.not_a_list(name),
            },
            Some(_) => return self.not_a_list(name),
        };
        let list: Vec<String> = list;
        if list.len() > LONGEST_LIST || list.iter().any(|one| one.chars().count() > LONGEST_NAME) {
            return self.not_a_list(name);
        }
        list
    }

    fn not_a_list(&mut self, name: &str) -> Vec<String> {
        let detail = format!("is a list of up to {LONGEST_LIST} names");
        self.fault(name, &detail);
        Vec::new()
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let text = self.word(name)?;
        if text.chars().count() > LONGEST_NAME {
            self.fault(name, &format!("may have {LONGEST_NAME} characters at the most"));
        }
        Some(text)
    }

    fn word(&mut self, name: &str) -> Option<String> {
        let raw = self.fields.shift_remove(name).filter(|raw| raw.get() != "null")?;
        let word = serde_json::from_str(raw.get()).ok().and_then(word_of);
        if word.is_none() {
            self.fault(name, "must be a text");
        }
        word.filter(|text| !text.trim().is_empty())
    }

    /// A value, or a text that holds one; null and an empty text count as absent.
    fn value<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let raw = self.fields.shift_remove(name).filter(|raw| raw.get() != "null")?;
        let inner: Option<String> = serde_json::from_str(raw.get()).ok();
        if inner.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return None;
        }
        let within = inner.as_deref().map(serde_json::from_str);
        let read = match within {
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) | None => serde_json::from_str(raw.get()),
        };
        let told = |fault: serde_json::Error| {
            let text = fault.to_string();
            let what = text.split(" at line").next().unwrap_or_default();
            self.fault(name, &format!("is not of the form this field takes: {what}"));
        };
        read.map_err(told).ok()
    }

    fn fault(&mut self, name: &str, detail: &str) {
        self.faults.push(Violation { pointer: format!("#/{name}"), detail: detail.to_owned() });
    }

    fn finish(self, strict: bool) -> Result<Vec<String>, Problem> {
        if !self.faults.is_empty() {
            let detail = format!("The request has faults: {}.", summary(&self.faults));
            return Err(Problem::new(Kind::InvalidRequest, detail).with_errors(self.faults));
        }
        let short = |name: &String| name.chars().take(64).collect::<String>();
        let unknown = self.fields.keys().take(TOLD).map(short);
        let warnings: Vec<String> =
            unknown.map(|name| format!("`{name}` is not known and was ignored")).collect();
        if strict && !warnings.is_empty() {
            let why = warnings.join("; ");
            let detail = format!("Refused because of `Prefer: handling=strict`: {why}.");
            return Err(Problem::new(Kind::UnknownFields, detail));
        }
        Ok(warnings)
    }
}

/// A text; numbers and booleans count as texts.
fn word_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Asked, Vec<String>), Problem> {
        asked(serde_json::from_str(text).unwrap(), false)
    }

    #[test]
    fn values_are_taken_as_platforms_write_them() {
        let (asked, warnings) = read(
            r#"{"url":"https://a.example/x?y=1","name":"","statuses":"[\"failed\",\"Expired\"]",
                "tasks":"tag, plan","workflows":[17,"w"],"events":["job"],
                "callback":"{\"body\":\"bare\",\"min_delay\":\"250ms\"}"}"#,
        )
        .unwrap();
        assert_eq!(asked.callback.url, "https://a.example/x?y=1");
        assert!(asked.callback.bare && asked.name.is_none());
        assert_eq!(asked.callback.min_delay, Some(Span::millis(250)));
        assert_eq!(asked.filter.statuses, [Status::Failed, Status::Expired]);
        assert_eq!(asked.filter.tasks, ["tag", "plan"]);
        assert_eq!(asked.filter.workflows, ["17", "w"]);
        assert_eq!(warnings, ["`events` is not known and was ignored"]);
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let long = "x".repeat(LONGEST_NAME + 1);
        let problem = read(&format!(
            r#"{{"name":"{long}","statuses":["running"],"tasks":{{}},"workflows":["{long}"],
                "callback":{{"success_statuses":[7]}}}}"#
        ));
        let told = format!("{:?}", problem.map(|_| ()).unwrap_err());
        for name in ["url", "name", "statuses", "tasks", "workflows", "callback"] {
            assert!(told.contains(&format!("#/{name}")), "{name}: {told}");
        }
        let strict =
            asked(serde_json::from_str(r#"{"url":"https://a.example","x":1}"#).unwrap(), true);
        assert!(strict.is_err());
    }
}
