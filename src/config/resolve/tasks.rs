//! Tasks: the operator's over the built-in ones, each complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::{Account, check_name};
use crate::config::auto::ROUTES;
use crate::config::builtin;
use crate::config::check::check_least;
use crate::config::document::Document;
use crate::config::fault::{Faults, instead, joined};
use crate::config::settings::{EscalateTo, InputSchema, OutputSchema, TaskRoute, TaskSettings};
use crate::domain::route::{Route, Step};
use crate::domain::schema::Schema;
use crate::domain::task::{Task, check_template};
use crate::domain::units::Span;

/// All tasks by name, and the built-in ones no route is there for.
pub(super) fn tasks<'a>(
    document: &'a Document,
    accounts: &'a [Account],
    routes: &'a BTreeMap<String, Route>,
    faults: &'a mut Faults,
) -> (BTreeMap<String, Arc<Task>>, Vec<String>) {
    let mut built_in = builtin::tasks();
    let mut given: IndexMap<&str, Option<TaskSettings>> = IndexMap::new();
    for (name, _) in document.entries("tasks") {
        check_name(&joined("tasks", name), name, faults);
        given.insert(name, document.sound_entry("tasks", name));
    }
    let mut names: Vec<String> = built_in.keys().cloned().collect();
    names.extend(given.keys().filter(|name| !built_in.contains_key(**name)).map(|n| (*n).into()));
    let known = document.entries("routes").map(|(name, _)| name.as_str()).collect();
    let mut work = Work { known, accounts, routes, faults };
    let (mut found, mut left_out) = (BTreeMap::new(), Vec::new());
    for name in names {
        let preset = built_in.shift_remove(&name);
        let own = match given.shift_remove(name.as_str()) {
            Some(Some(own)) => own,
            Some(None) => continue,
            None => TaskSettings::default(),
        };
        match work.task(&name, own, preset) {
            Made::Task(task) => _ = found.insert(name, Arc::new(*task)),
            Made::LeftOut => left_out.push(name),
            Made::Faulty => {}
        }
    }
    (found, left_out)
}

/// What became of a task's settings.
enum Made {
    Task(Box<Task>),
    LeftOut,
    Faulty,
}

/// What tasks are made with.
struct Work<'a> {
    /// Names of routes, also of those that are faulty themselves.
    known: Vec<&'a str>,
    accounts: &'a [Account],
    routes: &'a BTreeMap<String, Route>,
    faults: &'a mut Faults,
}

impl Work<'_> {
    fn task(&mut self, name: &str, own: TaskSettings, preset: Option<TaskSettings>) -> Made {
        let key = joined("tasks", name);
        let is_built_in = preset.is_some();
        let preset = preset.unwrap_or_else(|| plain_preset(&own));
        let own_cap = own.max_output_tokens;
        let own_route = own.route.is_some();
        let own_escalation = own.escalate_to.is_some();
        let settings = own.over(preset);
        let routes = match (&settings.route, own_route) {
            (Some(route), true) => self.named_routes(&key, route),
            (Some(route), false) => self.preset_routes(route),
            (None, _) => self.no_route(&key),
        };
        let input = self.input(&key, name, &settings, is_built_in);
        let output = self.output(&key, name, &settings, is_built_in);
        self.check_texts(&key, &settings);
        let escalate_to = settings.escalate_to.as_ref();
        let escalate_to = self.escalation(&key, escalate_to, routes.as_ref(), own_escalation);
        let (Some(input), Ok(output)) = (input, output) else { return Made::Faulty };
        let Some(routes) = routes else {
            return if is_built_in && !own_route { Made::LeftOut } else { Made::Faulty };
        };
        if let Some(cap) = own_cap {
            self.check_cap(&key, cap, &routes);
        }
        let timeout = settings.timeout.map_or(Duration::from_secs(60), |span| span.0);
        Made::Task(Box::new(Task {
            name: name.to_owned(),
            description: settings.description.unwrap_or_default(),
            routes,
            escalate_to,
            lane: settings.lane.unwrap_or_default(),
            system: settings.system,
            template: settings.template,
            text: settings.text,
            input: Some(input),
            output,
            max_output_tokens: settings.max_output_tokens.unwrap_or(1_024),
            temperature: settings.temperature,
            timeout,
        }))
    }

    /// The routes an operator named; each must be there.
    fn named_routes(&mut self, key: &str, route: &TaskRoute) -> Option<[String; 3]> {
        let lanes = route.by_lane();
        let mut unknown: Vec<&str> =
            lanes.into_iter().filter(|name| !self.known.contains(name)).collect();
        unknown.dedup();
        for name in &unknown {
            let hint = instead(name, self.known.iter().copied());
            self.faults.add(format!("{key}.route"), format!("there is no route `{name}`{hint}"));
        }
        unknown.is_empty().then(|| lanes.map(str::to_owned))
    }

    /// A built-in task's routes. An operator may have only one of them, or one of another name.
    fn preset_routes(&self, route: &TaskRoute) -> Option<[String; 3]> {
        let [a, b, c] = route.by_lane().map(|wanted| self.nearest_route(wanted));
        Some([a?, b?, c?])
    }

    fn nearest_route(&self, wanted: &str) -> Option<String> {
        let only = if let [only] = self.known.as_slice() { Some(*only) } else { None };
        let known = |name: &&str| self.known.contains(name);
        let found = std::iter::once(wanted).chain(ROUTES).find(known).or(only);
        found.map(str::to_owned)
    }

    /// Where answers that do not fit lead. A built-in task's leads nowhere where there is no such
    /// route, or where its jobs take it anyway.
    fn escalation(
        &mut self,
        key: &str,
        wanted: Option<&EscalateTo>,
        routes: Option<&[String; 3]>,
        own: bool,
    ) -> Option<String> {
        let Some(EscalateTo::Route(name)) = wanted else { return None };
        let place = format!("{key}.escalate_to");
        let is_known = self.known.contains(&name.as_str());
        let is_same = routes.is_some_and(|routes| routes.iter().all(|route| route == name));
        if own && !is_known {
            let hint = instead(name, self.known.iter().copied());
            self.faults.add(&place, format!("there is no route `{name}`{hint}"));
        } else if own && is_same {
            let problem = format!("`{name}` is the task's own route: expected another, or `false`");
            self.faults.add(&place, problem);
        }
        (is_known && !is_same).then(|| name.clone())
    }

    fn no_route(&mut self, key: &str) -> Option<[String; 3]> {
        let hint = instead("", self.known.iter().copied());
        self.faults
            .add(format!("{key}.route"), format!("is missing: expected a route's name{hint}"));
        None
    }

    fn input(
        &mut self,
        key: &str,
        name: &str,
        settings: &TaskSettings,
        is_built_in: bool,
    ) -> Option<Schema> {
        let source = match &settings.input_schema {
            Some(InputSchema::Inline(schema)) => schema.clone(),
            // The loader has told that the file cannot be used.
            Some(InputSchema::File(_)) => return None,
            None if is_built_in => builtin::input_schema(name).unwrap_or_else(text_input),
            None => text_input(),
        };
        let is_conversation = source.pointer("/properties/messages").is_some();
        if settings.template.is_none() && !is_conversation {
            self.faults.add(
                format!("{key}.template"),
                "is missing: expected how the input becomes a message, such as \"{{ text }}\" \
                 (only a conversation, whose input has `messages`, needs none)",
            );
        }
        self.compiled(&format!("{key}.input_schema"), source)
    }

    /// The answer's schema, `None` for free text; an error when it is of no use.
    fn output(
        &mut self,
        key: &str,
        name: &str,
        settings: &TaskSettings,
        is_built_in: bool,
    ) -> Result<Option<Schema>, ()> {
        let source = match &settings.output_schema {
            Some(OutputSchema::Inline(schema)) => schema.clone(),
            Some(OutputSchema::File(_)) => return Err(()),
            Some(OutputSchema::Free) => return Ok(None),
            None => match builtin::output_schema(name).filter(|_| is_built_in) {
                Some(schema) => schema,
                None => return Ok(None),
            },
        };
        self.compiled(&format!("{key}.output_schema"), source).map(Some).ok_or(())
    }

    fn compiled(&mut self, key: &str, source: Value) -> Option<Schema> {
        match Schema::compile(source) {
            Ok(schema) => Some(schema),
            Err(fault) => {
                self.faults.add(key, format!("is not a JSON Schema: {fault}"));
                None
            }
        }
    }

    fn check_texts(&mut self, key: &str, settings: &TaskSettings) {
        let templates = [("template", &settings.template), ("text", &settings.text)];
        for (name, template) in templates {
            if let Some(Err(fault)) = template.as_deref().map(check_template) {
                let problem = format!("is not a template: {fault}");
                self.faults.add(format!("{key}.{name}"), problem);
            }
        }
        if let Some(timeout) = settings.timeout {
            check_least(&format!("{key}.timeout"), timeout, Span::secs(1), self.faults);
        }
    }

    /// A cap the operator chose must fit into a minute of some step's output limit: providers
    /// refuse a call that is larger than the whole limit.
    fn check_cap(&mut self, key: &str, cap: u32, routes: &[String; 3]) {
        let mut names: Vec<&String> = routes.iter().collect();
        names.dedup();
        for name in names {
            let Some(route) = self.routes.get(name) else { continue };
            let largest = route.steps.iter().map(|step| self.a_minute_of(step)).reduce(f64::max);
            if let Some(largest) = largest.filter(|largest| f64::from(cap) > *largest) {
                self.faults.add(
                    format!("{key}.max_output_tokens"),
                    format!(
                        "`{cap}` can never pass: no step of route `{name}` lets out more than \
                         {largest:.0} output tokens a minute"
                    ),
                );
            }
        }
    }

    /// The output tokens a step lets out in its limit's period, or in a minute if that is more.
    fn a_minute_of(&self, step: &Step) -> f64 {
        let account = self.accounts.iter().find(|account| account.name == step.account);
        account
            .into_iter()
            .flat_map(|account| &account.limits)
            .filter(|limits| limits.counts(&step.model))
            .filter_map(|limits| limits.output_tokens)
            .map(|rate| rate.per_second() * rate.per.as_secs_f64().max(60.0))
            .fold(f64::INFINITY, f64::min)
    }
}

/// What a task of the operator's own has without saying so: text in, as the message.
fn plain_preset(own: &TaskSettings) -> TaskSettings {
    let template = own.input_schema.is_none().then(|| "{{ text }}".to_owned());
    TaskSettings { template, ..TaskSettings::default() }
}

fn text_input() -> Value {
    json!({
        "type": ["string", "object"],
        "minLength": 1,
        "properties": { "text": { "type": "string", "minLength": 1 } },
        "required": ["text"],
    })
}

impl TaskSettings {
    /// These settings, with a preset's where nothing is said. Another form of the answer makes
    /// the preset's way to read it useless.
    fn over(self, preset: Self) -> Self {
        let text = preset.text.filter(|_| self.output_schema.is_none());
        Self {
            description: self.description.or(preset.description),
            route: self.route.or(preset.route),
            escalate_to: self.escalate_to.or(preset.escalate_to),
            lane: self.lane.or(preset.lane),
            system: self.system.or(preset.system),
            template: self.template.or(preset.template),
            text: self.text.or(text),
            input_schema: self.input_schema.or(preset.input_schema),
            output_schema: self.output_schema.or(preset.output_schema),
            max_output_tokens: self.max_output_tokens.or(preset.max_output_tokens),
            temperature: self.temperature.or(preset.temperature),
            timeout: self.timeout.or(preset.timeout),
        }
    }
}
