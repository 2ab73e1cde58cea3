//! What a model's name in a live call stands for: a task, a route, or a model at whoever has it.

use std::sync::Arc;
use std::time::Duration;

use super::allowances::ANONYMOUS;
use super::catalog::Catalog;
use super::intake::IntakeError;
use crate::domain::limits::glob;
use crate::domain::route::{Route, Rules, Step};
use crate::domain::task::Task;

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Named {
    /// `task:NAME`: the task's prompt, schema and route.
    Task(Arc<Task>),
    /// A route of the settings, or one made of everybody who has the model.
    Route(Arc<Route>),
}

/// Whose models begin so.
const FAMILIES: [(&str, &str); 8] = [
    ("anthropic", "claude-*"),
    ("openai", "gpt-*"),
    ("openai", "chatgpt-*"),
    ("openai", "o1*"),
    ("openai", "o3*"),
    ("openai", "o4*"),
    ("gemini", "gemini-*"),
    ("gemini", "gemma-*"),
];

impl Catalog {
    /// What a name stands for; `None` when nobody has such a model.
    pub fn named(&self, name: &str) -> Option<Named> {
        if let Some(task) = name.strip_prefix("task:") {
            return self.task(task).cloned().map(Named::Task);
        }
        if let Some(route) = self.route(name) {
            return Some(Named::Route(Arc::clone(route)));
        }
        let steps = self.steps_of(name);
        (!steps.is_empty()).then(|| Named::Route(Arc::new(self.made_up(name, steps))))
    }

    /// Whether a caller may ask for what this name stands for. Callers without a key may not name
    /// any model there is at our expense, unless their plan says so.
    pub fn may_use(&self, caller: &str, name: &str) -> bool {
        match self.allowance(caller).and_then(|allowed| allowed.models.as_ref()) {
            Some(patterns) => patterns.iter().any(|pattern| glob(pattern, name)),
            None if caller.starts_with(ANONYMOUS) => {
                name.starts_with("task:") || self.route(name).is_some()
            }
            None => true,
        }
    }

    /// Everything a name may be that this caller may ask for.
    pub fn names_for(&self, caller: &str) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| self.may_use(caller, name));
        names
    }

    /// The task that a caller's job is for.
    pub(super) fn task_for(&self, caller: &str, name: &str) -> Result<&Arc<Task>, IntakeError> {
        let may = |name: &str| self.may_use(caller, &format!("task:{name}"));
        let known = || self.tasks().map(|task| task.name.clone()).filter(|name| may(name));
        let Some(task) = self.task(name) else {
            return Err(IntakeError::UnknownTask {
                nearest: self.nearest_task(name).filter(|near| may(near)).map(str::to_owned),
                known: known().collect(),
                name: name.to_owned(),
            });
        };
        if may(name) {
            return Ok(task);
        }
        Err(IntakeError::NotAllowed { task: name.to_owned(), allowed: known().collect() })
    }

    /// What counts of a route are kept under.
    pub(super) fn counted_as<'a>(&self, route: &'a str) -> &'a str {
        if self.route(route).is_some() { route } else { LIVE }
    }

    /// Everything a name may be: tasks, routes, and the models of the routes' steps.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.routes().map(|route| route.name.clone()).collect();
        names.extend(self.tasks().map(|task| format!("task:{}", task.name)));
        for step in self.routes().flat_map(|route| &route.steps) {
            for name in [step.model.clone(), step.name()] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Who has a model: the account or provider named before the slash, else all whose steps name
    /// the model, else all accounts of its vendor.
    fn steps_of(&self, name: &str) -> Vec<Step> {
        if let Some((first, model)) = name.split_once('/') {
            let named = self.at(model, |account, vendor| account == first || vendor == first);
            if !named.is_empty() {
                return named;
            }
        }
        let mut declared: Vec<Step> = Vec::new();
        for step in self.routes().flat_map(|route| &route.steps) {
            if step.model == name && !declared.contains(step) {
                declared.push(step.clone());
            }
        }
        if !declared.is_empty() {
            return declared;
        }
        let family = FAMILIES.iter().find(|(_, pattern)| glob(pattern, name));
        // OpenRouter's names are `vendor/model`.
        let vendor = family.map(|(vendor, _)| *vendor);
        let vendor = vendor.or_else(|| name.contains('/').then_some("openrouter"));
        vendor.map(|vendor| self.at(name, |_, of| of == vendor)).unwrap_or_default()
    }

    /// A route of these steps. What the settings' routes say of a step holds here too.
    fn made_up(&self, name: &str, steps: Vec<Step>) -> Route {
        let terms = |step: &Step| {
            let at = self.routes().find(|route| route.steps.contains(step))?;
            Some((step.clone(), at.terms(step)))
        };
        let of_steps = steps.iter().filter_map(terms).collect();
        let rules = Rules { of_steps, ..Rules::default() };
        Route { name: name.to_owned(), steps, patience: [PATIENCE; 3], rules }
    }

    fn at(&self, model: &str, wanted: impl Fn(&str, &str) -> bool) -> Vec<Step> {
        if !is_model(model) {
            return Vec::new();
        }
        let accounts = self.accounts().filter(|(name, account)| wanted(name, &account.vendor));
        let step = |(name, account): (&str, &super::catalog::Account)| Step {
            account: name.to_owned(),
            provider: account.vendor.clone(),
            model: model.to_owned(),
        };
        accounts.map(step).collect()
    }
}

/// Whether a caller may call a model so: names go into paths, headers and keys.
fn is_model(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The longest name of a model, in bytes.
const LONGEST: usize = 256;

/// What counts of all made-up routes are kept under: callers make up as many as they like.
const LIVE: &str = "live";

/// How long a live call holds out for a better account.
const PATIENCE: Duration = Duration::ZERO;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_is_short_and_printable() {
        for (name, good) in [
            ("gpt-4.1", true),
            ("meta-llama/llama-4:free", true),
            ("", false),
            ("a b", false),
            ("a\nb", false),
            ("gpt-\u{e4}", false),
        ] {
            assert_eq!(is_model(name), good, "{name}");
        }
        assert!(is_model(&"x".repeat(256)) && !is_model(&"x".repeat(257)));
    }
}
