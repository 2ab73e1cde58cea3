//! A hook ready for use: its settings read once, and what it makes of an event.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::event::{self, Event, Request, Told};
use super::input;
use super::settings::{HookCallback, HookSettings, Scheme};
use super::template::{Template, Tree};
use super::verify::{Refused, Verifier};
use crate::callback::http::check_headers;
use crate::domain::id::{digest, hex};
use crate::domain::job::{Callback, Lane};
use crate::domain::task::Task;
use crate::engine::intake::{GroupSubmission, Submission};
use crate::http::coerce;
use crate::http::jobs::idempotency_key;
use crate::http::problem::{Kind, Problem};
use crate::http::settings::Settings;

/// The longest workflow or session made of an event; what is longer is cut.
const LONGEST_NAME: usize = 256;

/// Why an event, or every one of a list, makes no job.
const NOT_HELD: &str = "the hook's condition (`when`) does not hold";

/// An address for the webhooks of a service.
#[derive(Debug)]
pub struct Hook {
    /// Its name, the last part of its address.
    pub name: String,
    /// The task of its jobs.
    pub task: String,
    /// Whose jobs these are; `None` for those of the API key's caller.
    pub caller: Option<String>,
    pub(super) verifier: Verifier,
    when: Option<Template>,
    input: Option<Tree>,
    key: Option<Template>,
    callback_url: Option<Template>,
    callback: HookCallback,
    workflow: Option<Template>,
    session: Option<Template>,
    metadata: Option<Tree>,
    lane: Option<Lane>,
    deliver_within: Option<Duration>,
    max_cost_usd: Option<f64>,
    pub(super) answer: u16,
    pub(super) wait: Option<Duration>,
}

/// What a hook makes of a request.
#[derive(Debug)]
pub struct Prepared {
    /// What is to be submitted.
    pub taken: Taken,
    /// What tells a repetition.
    pub key: Option<String>,
    /// What was read differently.
    pub warnings: Vec<String>,
}

/// What is to be submitted.
#[derive(Debug)]
pub enum Taken {
    /// Nothing, and why.
    Nothing(&'static str),
    /// A job.
    One(Box<Submission>),
    /// A job for each item of a list.
    Many(Box<GroupSubmission>),
}

impl Hook {
    /// Reads a hook's settings; every fault is told with the key below the hook.
    pub fn new(name: &str, settings: HookSettings, told: &mut dyn FnMut(String, String)) -> Self {
        let verifier =
            Verifier::new(&settings.auth, &mut |key, fault| told(format!("auth.{key}"), fault));
        let mut reader = Reader { told };
        let hook = Self {
            name: name.to_owned(),
            caller: reader.caller(name, &settings),
            when: reader.condition(settings.when.as_deref()),
            input: settings.input.as_ref().map(|input| reader.tree("input", &input.0)),
            key: reader.template("idempotency_key", settings.idempotency_key.as_deref()),
            callback_url: reader.template("callback_url", settings.callback_url.as_deref()),
            workflow: reader.template("workflow", settings.workflow.as_deref()),
            session: reader.template("session", settings.session.as_deref()),
            metadata: (!settings.metadata.is_empty()).then(|| {
                let table = settings.metadata.into_iter().collect();
                reader.tree("metadata", &Value::Object(table))
            }),
            task: settings.task,
            callback: settings.callback,
            lane: settings.lane,
            deliver_within: settings.deliver_within.map(|span| span.0),
            max_cost_usd: settings.max_cost_usd,
            answer: settings.answer.0,
            wait: settings.wait.map(|span| span.0),
            verifier,
        };
        hook.check(told);
        hook
    }

    fn check(&self, told: &mut dyn FnMut(String, String)) {
        let fixed = self.callback_url.as_ref().map(|url| url.fixed().is_some());
        if fixed == Some(false) && self.verifier.scheme == Scheme::Open {
            let fault = "may not be made of what anybody sends: with `scheme = \"open\"` it is a fixed \
                         address";
            told("callback_url".to_owned(), fault.to_owned());
        }
        let beyond = !self.callback.headers.is_empty() || self.callback.min_delay.is_some();
        if self.callback_url.is_none() && beyond {
            told("callback".to_owned(), "needs `callback_url` beside it".to_owned());
        }
        let headers = self.callback.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.clone(), value.0.expose_secret().to_owned()));
        if let Err(fault) = check_headers(&headers.collect()) {
            told("callback.headers".to_owned(), fault);
        }
        if self.wait.is_some() && self.answer == 204 {
            let fault = "is in vain: an answer of 204 has no body for the result";
            told("wait".to_owned(), fault.to_owned());
        }
    }

    /// A callback address that is the same for every event.
    pub fn fixed_callback_url(&self) -> Option<&str> {
        self.callback_url.as_ref()?.fixed()
    }

    /// How its senders are known.
    pub const fn scheme(&self) -> Scheme {
        self.verifier.scheme
    }

    /// Whether a request comes from whom it should; an API key is looked at elsewhere.
    pub fn check_sender(&self, request: &Request, now: DateTime<Utc>) -> Result<(), Refused> {
        self.verifier.check(request, now)
    }

    /// What is to be submitted for a request whose sender is known.
    pub async fn prepare(
        &self,
        request: &Request,
        task: &Task,
        settings: &Settings,
        now: DateTime<Utc>,
    ) -> Result<Prepared, Problem> {
        let secret = self.verifier.secret_place();
        // A task for lists gets them as they are; templates are over single events.
        let lists_stay = self.input.is_none() && coerce::wants_lists(task);
        let told = event::read(request, secret, settings, lists_stay).await?;
        let Told { whole, each, mut warnings } = told;
        if let Some(why) = nothing_in(&whole.plain) {
            return Ok(Prepared { taken: Taken::Nothing(why), key: None, warnings });
        }
        let Some(events) = each else {
            let scene = scene(&whole);
            if !self.holds(&scene)? {
                return Ok(Prepared { taken: Taken::Nothing(NOT_HELD), key: None, warnings });
            }
            let mut submission = self.submission((&whole, &scene), task, now, &mut warnings)?;
            submission.callback = self.callback(&scene)?;
            let key = self.key(request, &whole, &scene)?;
            return Ok(Prepared { taken: Taken::One(Box::new(submission)), key, warnings });
        };
        let (mut jobs, mut keys) = (Vec::new(), Vec::new());
        for (index, event) in events.iter().enumerate() {
            let scene = scene(event);
            if !self.holds(&scene)? {
                continue;
            }
            let made = self.submission((event, &scene), task, now, &mut warnings);
            jobs.push(made.map_err(|fault| fault.in_group(index))?);
            keys.push(self.own_key(&scene)?);
        }
        warnings.dedup();
        if jobs.is_empty() {
            return Ok(Prepared { taken: Taken::Nothing(NOT_HELD), key: None, warnings });
        }
        let callback = self.callback(&scene(&whole))?;
        let group = GroupSubmission { jobs, callback, metadata: None };
        let key = if self.key.is_some() { together(keys) } else { self.sent_key(request, &whole)? };
        Ok(Prepared { taken: Taken::Many(Box::new(group)), key, warnings })
    }

    fn holds(&self, scene: &minijinja::Value) -> Result<bool, Problem> {
        let Some(when) = &self.when else { return Ok(true) };
        when.holds(scene).map_err(|fault| self.unusable("when", &fault))
    }

    /// The job of one event, without where its result goes.
    fn submission(
        &self,
        (event, scene): (&Event, &minijinja::Value),
        task: &Task,
        now: DateTime<Utc>,
        warnings: &mut Vec<String>,
    ) -> Result<Submission, Problem> {
        let made = self.input.as_ref().map(|tree| self.tree("input", tree, scene)).transpose()?;
        let input = match made {
            Some(value) => input::templated(value, task),
            None => input::whole(event, task, &self.name, warnings),
        };
        input::check(&input, task)?;
        let raw = |value: &Value| {
            to_raw_value(value).map_err(|fault| self.unusable("input", &fault.to_string()))
        };
        let metadata = match &self.metadata {
            Some(tree) => self.tree("metadata", tree, scene)?,
            None => None,
        };
        let within = self.deliver_within.and_then(|time| chrono::TimeDelta::from_std(time).ok());
        Ok(Submission {
            task: self.task.clone(),
            input: raw(&input)?,
            callback: None,
            workflow: self
                .name_of("workflow", self.workflow.as_ref(), scene)?
                .or_else(|| Some(self.name.clone())),
            session: self.name_of("session", self.session.as_ref(), scene)?,
            lane: self.lane,
            deliver_by: within.and_then(|within| now.checked_add_signed(within)),
            max_cost_usd: self.max_cost_usd,
            provider: None,
            metadata: metadata.as_ref().map(raw).transpose()?,
        })
    }

    fn callback(&self, scene: &minijinja::Value) -> Result<Option<Callback>, Problem> {
        let url = self.text("callback_url", self.callback_url.as_ref(), scene)?;
        let more = &self.callback;
        let headers = more.headers.iter();
        Ok(url.map(|url| Callback {
            url,
            headers: headers
                .map(|(name, value)| (name.clone(), value.0.expose_secret().to_owned()))
                .collect(),
            body: more.body,
            min_delay: more.min_delay,
            success_statuses: more.success_statuses.clone(),
        }))
    }

    fn key(
        &self,
        request: &Request,
        event: &Event,
        scene: &minijinja::Value,
    ) -> Result<Option<String>, Problem> {
        if self.key.is_some() { self.own_key(scene) } else { self.sent_key(request, event) }
    }

    fn own_key(&self, scene: &minijinja::Value) -> Result<Option<String>, Problem> {
        self.text("idempotency_key", self.key.as_ref(), scene)
    }

    /// What the sender's scheme has to tell a repetition by.
    fn sent_key(&self, request: &Request, event: &Event) -> Result<Option<String>, Problem> {
        let header = |name: &str| request.header(name).map(str::to_owned);
        let field = |name: &str| event.plain.get(name).and_then(Value::as_str).map(str::to_owned);
        let own = match self.verifier.scheme {
            Scheme::StandardWebhooks => header("webhook-id").or_else(|| header("svix-id")),
            Scheme::Github => header("x-github-delivery"),
            Scheme::Stripe => field("id"),
            Scheme::Slack => field("event_id"),
            _ => None,
        };
        // What a service writes by itself is no fault of the sender's, and is hashed anyway.
        if let Some(key) = own.filter(|key| !key.trim().is_empty()) {
            return Ok(Some(key));
        }
        let given = header("idempotency-key");
        given.map(|key| idempotency_key(&key).map(str::to_owned)).transpose()
    }

    fn name_of(
        &self,
        setting: &str,
        template: Option<&Template>,
        scene: &minijinja::Value,
    ) -> Result<Option<String>, Problem> {
        let text = self.text(setting, template, scene)?;
        Ok(text.map(|text| text.chars().take(LONGEST_NAME).collect()))
    }

    fn text(
        &self,
        setting: &str,
        template: Option<&Template>,
        scene: &minijinja::Value,
    ) -> Result<Option<String>, Problem> {
        let text = template.map(|template| template.text(scene)).transpose();
        text.map(Option::flatten).map_err(|fault| self.unusable(setting, &fault))
    }

    fn tree(
        &self,
        setting: &str,
        tree: &Tree,
        scene: &minijinja::Value,
    ) -> Result<Option<Value>, Problem> {
        tree.value(scene).map_err(|fault| self.unusable(setting, &fault))
    }

    fn unusable(&self, setting: &str, fault: &str) -> Problem {
        let detail = format!(
            "`{setting}` in [hooks.{}] cannot be made of this event: {fault}. `spillway hooks test {} \
             --body FILE` shows it.",
            self.name, self.name
        );
        Problem::new(Kind::InvalidRequest, detail)
    }
}

/// A body in which nothing is told.
fn nothing_in(body: &Value) -> Option<&'static str> {
    match body {
        Value::Null => Some("the body is `null`: there is no event in it"),
        Value::Array(items) if items.is_empty() => {
            Some("the body is an empty list: there is no event in it")
        }
        _ => None,
    }
}

fn scene(event: &Event) -> minijinja::Value {
    minijinja::Value::from_serialize(event)
}

/// One key for all events of a list; none when one of them has none.
fn together(keys: Vec<Option<String>>) -> Option<String> {
    let keys: Option<Vec<String>> = keys.into_iter().collect();
    let keys = keys?;
    let parts: Vec<&str> = keys.iter().map(String::as_str).collect();
    Some(hex(&digest(&parts)))
}

/// Reads templates, telling what is wrong with each.
struct Reader<'a> {
    told: &'a mut dyn FnMut(String, String),
}

impl Reader<'_> {
    fn template(&mut self, key: &str, source: Option<&str>) -> Option<Template> {
        let read = Template::parse(source?);
        read.map_err(|fault| (self.told)(key.to_owned(), format!("is not a template: {fault}")))
            .ok()
    }

    fn condition(&mut self, source: Option<&str>) -> Option<Template> {
        let read = Template::expression(source?);
        let told = |fault| {
            let example = "expected one such as \"body.type == 'order.paid'\"";
            (self.told)("when".to_owned(), format!("is not an expression: {fault}; {example}"));
        };
        read.map_err(told).ok()
    }

    fn tree(&mut self, key: &str, source: &Value) -> Tree {
        let told = &mut *self.told;
        Tree::parse(key, source, &mut |key, fault| told(key, format!("is not a template: {fault}")))
    }

    fn caller(&mut self, name: &str, settings: &HookSettings) -> Option<String> {
        if settings.auth.scheme == Scheme::Bearer {
            if settings.caller.is_some() {
                let fault = "means nothing here: the API key says whose jobs these are";
                (self.told)("caller".to_owned(), fault.to_owned());
            }
            return None;
        }
        Some(settings.caller.clone().unwrap_or_else(|| format!("hook-{name}")))
    }
}
