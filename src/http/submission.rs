//! From a body's fields to a submission: tolerant of how platforms write values, and telling
//! every fault at once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::Fields;
use super::coerce::{coerced, json_within};
use super::nested::nest;
use super::problem::{Kind, Problem, summary};
use super::{choice, openapi};
use crate::domain::job::{Callback, Lane, ProviderChoice};
use crate::domain::schema::Violation;
use crate::domain::units::Span;
use crate::engine::intake::{GroupSubmission, Submission};

/// Fields of a job.
const JOB: [&str; 12] = [
    "task",
    "input",
    "callback_url",
    "callback",
    "workflow",
    "session",
    "lane",
    "deliver_by",
    "max_cost_usd",
    "provider",
    "metadata",
    "jobs",
];

/// Fields that the jobs of a group take over from the group.
const SHARED: [&str; 7] =
    ["task", "workflow", "session", "lane", "deliver_by", "max_cost_usd", "provider"];

/// Other names under which platforms send a field.
const ALIASES: [(&str, &str); 9] = [
    ("callbackUrl", "callback_url"),
    ("callbackURL", "callback_url"),
    ("resume_url", "callback_url"),
    ("resumeUrl", "callback_url"),
    ("webhook_url", "callback_url"),
    ("webhookUrl", "callback_url"),
    ("deliverBy", "deliver_by"),
    ("maxCostUsd", "max_cost_usd"),
    ("sessionId", "session"),
];

/// The longest workflow or session name.
const LONGEST_NAME: usize = 256;

/// The longest list of statuses.
const LONGEST_LIST: usize = 16;
/// Unknown fields that are told one by one, and how much of their names.
const TOLD: usize = 20;
const LONGEST_SHOWN: usize = 64;

/// The longest a callback may be held back.
const LONGEST_DELAY: Span = Span::secs(86_400);

/// `callback` in a body: what goes beyond the URL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallbackFields {
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: CallbackBody,
    #[serde(default)]
    min_delay: Option<Span>,
    #[serde(default)]
    success_statuses: Vec<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CallbackBody {
    #[default]
    Envelope,
    Bare,
}

/// Takes fields one by one, collecting faults and warnings.
#[derive(Default)]
pub(super) struct Reader {
    fields: Fields,
    is_form: bool,
    faults: Vec<Violation>,
    /// Told to the caller in `warnings`, or as faults under `Prefer: handling=strict`.
    pub(super) warnings: Vec<String>,
}

/// How fields are to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// What is not known is refused.
    pub(super) strict: bool,
    /// Every value is a text; objects and lists come as JSON within one.
    pub(super) is_form: bool,
}

/// What the fields of a job are described as.
static SCHEMA: LazyLock<Value> = LazyLock::new(openapi::submission);

/// A job out of a body's fields.
pub(super) fn job(fields: Fields, manner: Manner) -> Result<(Submission, Vec<String>), Problem> {
    let mut reader = Reader::new(fields, manner);
    let submission = reader.job();
    reader.reject("jobs", "is for POST /v1/groups");
    let warnings = reader.finish(manner.strict)?;
    Ok((submission, warnings))
}

/// A group out of a body's fields.
pub(super) fn group(
    fields: Fields,
    manner: Manner,
    most: usize,
) -> Result<(GroupSubmission, Vec<String>), Problem> {
    let mut reader = Reader::new(fields, manner);
    let jobs = reader.jobs();
    if jobs.is_empty() || jobs.len() > most {
        let detail = format!("must be a list of 1 to {most} jobs");
        reader.fault("jobs", detail);
    }
    let callback = reader.callback();
    let metadata = reader.metadata();
    let shared: Fields = SHARED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), reader.fields.shift_remove(*name)?)))
        .collect();
    let mut warnings = reader.finish(manner.strict)?;
    let mut submissions = Vec::with_capacity(jobs.len());
    for (index, own) in jobs.into_iter().enumerate() {
        let mut fields = shared.clone();
        fields.extend(own);
        let (submission, told) = job(fields, manner).map_err(|problem| problem.in_group(index))?;
        if warnings.len() < TOLD {
            warnings.extend(told.into_iter().map(|warning| format!("job {index}: {warning}")));
        }
        submissions.push(submission);
    }
    Ok((GroupSubmission { jobs: submissions, callback, metadata }, warnings))
}

impl Reader {
    fn new(fields: Fields, manner: Manner) -> Self {
        let mut reader = Self { fields, is_form: manner.is_form, ..Self::default() };
        reader.unwrap_item();
        let (fields, nested) = nest(std::mem::take(&mut reader.fields), |name| JOB.contains(&name));
        reader.fields = fields;
        // In a form there is no other way to write them.
        if nested && !manner.is_form {
            reader
                .warnings
                .push("flat names such as `metadata__row` were read as nested".to_owned());
        }
        for (alias, name) in ALIASES {
            if !reader.fields.contains_key(name)
                && let Some(value) = reader.fields.shift_remove(alias)
            {
                reader.warnings.push(format!("`{alias}` was read as `{name}`"));
                reader.fields.insert(name.to_owned(), value);
            }
        }
        reader
    }

    /// A whole n8n webhook item, posted as it is: the fields are in its `body`.
    fn unwrap_item(&mut self) {
        let lacks = |name| !self.fields.contains_key(name);
        let is_item = lacks("task") && lacks("jobs") && !lacks("headers");
        let inner = self.fields.get("body").filter(|_| is_item);
        if let Some(inner) = inner.and_then(|body| serde_json::from_str::<Fields>(body.get()).ok())
        {
            self.warnings
                .push("the fields were taken from `body` of a whole webhook item".to_owned());
            self.fields = inner;
        }
    }

    fn job(&mut self) -> Submission {
        let task = self.name("task").unwrap_or_default();
        if task.is_empty() {
            self.fault("task", "is missing: name the kind of work, such as `tag`".to_owned());
        }
        let input = self.raw("input").unwrap_or_else(|| {
            self.fault("input", "is missing: what should the task work on?".to_owned());
            Box::default()
        });
        Submission {
            task,
            input,
            callback: self.callback(),
            workflow: self.name("workflow"),
            session: self.name("session"),
            lane: self.lane(),
            deliver_by: self.time("deliver_by"),
            max_cost_usd: self.positive("max_cost_usd"),
            provider: self.choice(),
            metadata: self.metadata(),
        }
    }

    /// The callback from `callback_url` and `callback`.
    fn callback(&mut self) -> Option<Callback> {
        let url = self.text("callback_url");
        let more: Option<CallbackFields> = self.object("callback");
        let Some(url) = url.or_else(|| more.as_ref().and_then(|more| more.url.clone())) else {
            if more.is_some() {
                self.fault("callback", "needs `callback_url` beside it".to_owned());
            }
            return None;
        };
        let plain = Callback {
            url,
            headers: BTreeMap::new(),
            bare: false,
            min_delay: None,
            success_statuses: Vec::new(),
        };
        if let Some(Err(fault)) = more.as_ref().map(check_more) {
            self.fault("callback", fault);
        }
        Some(match more {
            None => plain,
            Some(more) => Callback {
                headers: more.headers,
                bare: matches!(more.body, CallbackBody::Bare),
                min_delay: more.min_delay,
                success_statuses: more.success_statuses,
                ..plain
            },
        })
    }

    fn choice(&mut self) -> Option<ProviderChoice> {
        match choice::read(self.object("provider")?) {
            Ok((choice, warnings)) => {
                self.warnings.extend(warnings);
                Some(choice)
            }
            Err(fault) => {
                self.fault("provider", fault);
                None
            }
        }
    }

    fn lane(&mut self) -> Option<Lane> {
        let text = self.text("lane")?;
        let lane = Lane::parse(&text.to_lowercase());
        if lane.is_none() {
            self.fault("lane", "must be `interactive`, `standard` or `batch`".to_owned());
        }
        lane
    }

    fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        let text = self.text(name)?;
        let time = DateTime::parse_from_rfc3339(&text).ok();
        if time.is_none() {
            self.fault(name, "must be a time such as 2026-11-20T18:00:00Z".to_owned());
        }
        time.map(|time| time.to_utc())
    }

    fn positive(&mut self, name: &str) -> Option<f64> {
        let text = self.text(name)?;
        let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
        if number.is_none() {
            self.fault(name, "must be a number above 0".to_owned());
        }
        number
    }

    fn name(&mut self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        if text.chars().count() > LONGEST_NAME {
            self.fault(name, format!("may have {LONGEST_NAME} characters at the most"));
        }
        Some(text)
    }

    /// A text; numbers and booleans count as texts, an empty text and null as absent.
    fn text(&mut self, name: &str) -> Option<String> {
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
    fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.fields.shift_remove(name).filter(|raw| raw.get() != "null")
    }

    /// Anything; in a form, an object or list within a text is meant as such.
    fn metadata(&mut self) -> Option<Box<RawValue>> {
        let raw = self.raw("metadata")?;
        let text: Option<String> = serde_json::from_str(raw.get()).ok();
        let meant = text.filter(|text| self.is_form && json_within(text).is_some());
        Some(meant.and_then(|text| RawValue::from_string(text).ok()).unwrap_or(raw))
    }

    /// The jobs of a group; one alone need not stand in a list.
    fn jobs(&mut self) -> Vec<Fields> {
        if self.fields.get("jobs").is_some_and(|raw| raw.get().starts_with('{')) {
            return self.object("jobs").into_iter().collect();
        }
        self.object("jobs").unwrap_or_default()
    }

    /// An object or list, or a text that holds one; what is in it as its schema wants it.
    fn object<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let raw = self.raw(name)?;
        let wanted = SCHEMA.get("properties").and_then(|fields| fields.get(name));
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

    fn reject(&mut self, name: &str, why: &str) {
        if self.fields.shift_remove(name).is_some() {
            self.fault(name, why.to_owned());
        }
    }

    fn fault(&mut self, name: &str, detail: String) {
        self.faults.push(Violation { pointer: format!("#/{name}"), detail });
    }

    /// What is left is unknown: told, or refused when the caller wants it strict.
    fn finish(mut self, strict: bool) -> Result<Vec<String>, Problem> {
        for name in self.fields.keys().take(TOLD) {
            self.warnings.push(unknown_field(name));
        }
        if self.fields.len() > TOLD {
            self.warnings.push(format!("{} more fields are not known", self.fields.len() - TOLD));
        }
        if !self.faults.is_empty() {
            let detail = format!("The request has faults: {}.", summary(&self.faults));
            return Err(Problem::new(Kind::InvalidRequest, detail).with_errors(self.faults));
        }
        if strict && !self.warnings.is_empty() {
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

fn unknown_field(name: &str) -> String {
    let shown: String = name.chars().take(LONGEST_SHOWN).collect();
    let near = (shown == name)
        .then(|| JOB.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min())
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

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Manner = Manner { strict: true, is_form: false };
    const FORM: Manner = Manner { strict: false, is_form: true };

    fn fields(text: &str) -> Fields {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn flat_names_of_known_fields_are_nested_and_others_left_alone() {
        let flat = r#"{"task":"tag","input__text":"x","provider__order[0]":"groq",
            "provider.allow_fallbacks":"false","metadata.row":1.10,"callback[body]":"bare",
            "callback[success_statuses]":"409, 410","webhook_url":"https://a.example/"}"#;
        let (job, warnings) = job(fields(flat), FORM).unwrap();
        assert_eq!(job.input.get(), r#"{"text":"x"}"#);
        assert_eq!(job.metadata.unwrap().get(), r#"{"row":1.10}"#);
        let provider = job.provider.unwrap();
        assert_eq!(
            (provider.order, provider.allow_fallbacks),
            (vec!["groq".to_owned()], Some(false))
        );
        let callback = job.callback.unwrap();
        assert_eq!((callback.bare, callback.success_statuses), (true, vec![409, 410]));
        assert_eq!(warnings.len(), 1, "{warnings:?}");

        let kept = r#"{"task":"tag","input":{"a.b":1,"c__d":2},"input__text":"y","e.f":1,
            "metadata":{"g__h":1}}"#;
        let (job, warnings) = super::job(fields(kept), Manner::default()).unwrap();
        assert_eq!(job.input.get(), r#"{"a.b":1,"c__d":2}"#);
        assert_eq!(job.metadata.unwrap().get(), r#"{"g__h":1}"#);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn in_a_form_json_within_a_text_is_meant() {
        let form = r#"{"task":"tag","input":"x","metadata":"{\"row\":5}"}"#;
        let metadata = |manner| job(fields(form), manner).unwrap().0.metadata.unwrap();
        assert_eq!(metadata(FORM).get(), r#"{"row":5}"#);
        assert_eq!(metadata(Manner::default()).get(), r#""{\"row\":5}""#);
        let jobs = r#"{"jobs":{"task":"tag","input":"x"},"callback[url]":"https://a.example/"}"#;
        let (group, _) = group(fields(jobs), FORM, 9).unwrap();
        assert_eq!((group.jobs.len(), group.callback.unwrap().url.len()), (1, 18));
    }

    #[test]
    fn values_are_taken_as_platforms_write_them() {
        let (job, warnings) = job(
            fields(
                r#"{"task":"tag","input":"x","max_cost_usd":"0.05","workflow":17,"lane":"Batch",
                    "session":"","metadata":{"b": 1.10,"a":1},"callbackUrl":"https://a.example/x",
                    "provider":"{\"only\":[\"groq\"]}","taks":1}"#,
            ),
            Manner::default(),
        )
        .unwrap();
        assert_eq!(job.max_cost_usd, Some(0.05));
        assert_eq!(job.workflow.as_deref(), Some("17"));
        assert_eq!((job.lane, job.session), (Some(Lane::Batch), None));
        assert_eq!(job.metadata.unwrap().get(), r#"{"b": 1.10,"a":1}"#);
        assert_eq!(job.provider.unwrap().only, ["groq"]);
        assert_eq!(job.callback.unwrap().url, "https://a.example/x");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[1].contains("did you mean `task`"), "{warnings:?}");
    }

    #[test]
    fn every_fault_is_told_at_once_and_strict_refuses_the_unknown() {
        let bad = r#"{"lane":"fast","deliver_by":"soon","max_cost_usd":-1}"#;
        let problem = job(fields(bad), Manner::default()).unwrap_err();
        for name in ["task", "input", "lane", "deliver_by", "max_cost_usd"] {
            assert!(format!("{problem:?}").contains(&format!("#/{name}")), "{name}");
        }
        assert!(job(fields(r#"{"task":"tag","input":"x","foo":1}"#), STRICT).is_err());
    }

    #[test]
    fn a_whole_webhook_item_is_unwrapped() {
        let item = r#"{"headers":{},"params":{},"query":{},"body":{"task":"tag","input":"x"}}"#;
        let (job, warnings) = job(fields(item), Manner::default()).unwrap();
        assert_eq!((job.task.as_str(), warnings.len()), ("tag", 1));
    }

    #[test]
    fn jobs_of_a_group_take_over_what_they_share() {
        let body =
            r#"{"task":"tag","workflow":"w","jobs":[{"input":"a"},{"input":"b","task":"plan"}]}"#;
        let (group, _) = group(fields(body), STRICT, 10).unwrap();
        let tasks: Vec<_> = group.jobs.iter().map(|job| job.task.as_str()).collect();
        assert_eq!(tasks, ["tag", "plan"]);
        assert!(super::group(fields(r#"{"jobs":[]}"#), Manner::default(), 10).is_err());
    }
}
