//! From a body's fields to a submission.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde_json::Value;
use serde_json::value::RawValue;

use super::choice;
use super::coerce::json_within;
use super::nested::Fields;
use super::problem::Problem;
use super::reader::{Form, Manner, Reader, TOLD, schema};
use crate::domain::job::{Callback, Lane, ProviderChoice};
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

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| schema(include_str!("../../schemas/submission.json")));

static FORM: LazyLock<Form> =
    LazyLock::new(|| Form { fields: &JOB, aliases: &ALIASES, schema: &SCHEMA });

/// What the fields of a job are described as.
pub(super) fn described() -> Value {
    SCHEMA.clone()
}

/// A job out of a body's fields.
pub(super) fn job(fields: Fields, manner: Manner) -> Result<(Submission, Vec<String>), Problem> {
    let mut reader = Reader::new(&FORM, fields, manner);
    let submission = reader.job();
    reader.reject("jobs", "is for POST /v1/groups");
    let warnings = reader.finish()?;
    Ok((submission, warnings))
}

/// A group out of a body's fields.
pub(super) fn group(
    fields: Fields,
    manner: Manner,
    most: usize,
) -> Result<(GroupSubmission, Vec<String>), Problem> {
    let mut reader = Reader::new(&FORM, fields, manner);
    let jobs = reader.jobs();
    if jobs.is_empty() || jobs.len() > most {
        let detail = format!("must be a list of 1 to {most} jobs");
        reader.fault("jobs", detail);
    }
    let callback = reader.job_callback();
    let metadata = reader.metadata();
    let shared: Fields = SHARED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), reader.fields.shift_remove(*name)?)))
        .collect();
    let mut warnings = reader.finish()?;
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
            callback: self.job_callback(),
            workflow: self.name("workflow"),
            session: self.name("session"),
            lane: self.lane(),
            deliver_by: self.time("deliver_by"),
            max_cost_usd: self.positive("max_cost_usd"),
            provider: self.choice(),
            metadata: self.metadata(),
        }
    }

    fn job_callback(&mut self) -> Option<Callback> {
        let url = self.text("callback_url");
        self.callback(url)
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

    /// Anything; in a form, an object or list within a text is meant as such.
    fn metadata(&mut self) -> Option<Box<RawValue>> {
        let raw = self.raw("metadata")?;
        let text: Option<String> = serde_json::from_str(raw.get()).ok();
        let meant = text.filter(|text| self.manner.is_form && json_within(text).is_some());
        Some(meant.and_then(|text| RawValue::from_string(text).ok()).unwrap_or(raw))
    }

    /// The jobs of a group; one alone need not stand in a list.
    fn jobs(&mut self) -> Vec<Fields> {
        if self.fields.get("jobs").is_some_and(|raw| raw.get().starts_with('{')) {
            return self.object("jobs").into_iter().collect();
        }
        self.object("jobs").unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::CallbackBody;

    const STRICT: Manner = Manner { strict: true, is_form: false };
    const FORM_MANNER: Manner = Manner { strict: false, is_form: true };

    fn fields(text: &str) -> Fields {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn flat_names_of_known_fields_are_nested_and_others_left_alone() {
        let flat = r#"{"task":"tag","input__text":"x","provider__order[0]":"groq",
            "provider.allow_fallbacks":"false","metadata.row":1.10,"callback[body]":"bare",
            "callback[success_statuses]":"409, 410","webhook_url":"https://a.example/"}"#;
        let (job, warnings) = job(fields(flat), FORM_MANNER).unwrap();
        assert_eq!(job.input.get(), r#"{"text":"x"}"#);
        assert_eq!(job.metadata.unwrap().get(), r#"{"row":1.10}"#);
        let provider = job.provider.unwrap();
        assert_eq!(
            (provider.order, provider.allow_fallbacks),
            (vec!["groq".to_owned()], Some(false))
        );
        let callback = job.callback.unwrap();
        assert_eq!(
            (callback.body, callback.success_statuses),
            (CallbackBody::Bare, vec![409, 410])
        );
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
        assert_eq!(metadata(FORM_MANNER).get(), r#"{"row":5}"#);
        assert_eq!(metadata(Manner::default()).get(), r#""{\"row\":5}""#);
        let jobs = r#"{"jobs":{"task":"tag","input":"x"},"callback[url]":"https://a.example/"}"#;
        let (group, _) = group(fields(jobs), FORM_MANNER, 9).unwrap();
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
