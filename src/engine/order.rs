//! Which steps of a route serve what is asked, and in which order.

use super::Engine;
use super::work::Work;
use crate::domain::choice::{MaxPrice, ProviderChoice};
use crate::domain::prompt::Prompt;
use crate::domain::route::{Route, Step};
use crate::domain::walk::{Known, by_chance, is, walk};

/// What is wanted of a route.
#[derive(Clone, Copy, Default)]
pub(super) struct Wish<'a> {
    /// Which steps may be used.
    pub(super) choice: Option<&'a ProviderChoice>,
    /// What is asked, once it is known.
    pub(super) prompt: Option<&'a Prompt>,
    /// What chance has dealt the job.
    pub(super) lot: Option<u64>,
    pub(super) input_tokens: u64,
}

impl Work {
    /// What it wants of its route.
    pub(super) fn wish(&self) -> Wish<'_> {
        Wish {
            choice: self.job.provider.as_ref(),
            prompt: Some(&self.prompt),
            lot: self.progress.lot,
            input_tokens: self.input_tokens,
        }
    }
}

impl Engine {
    /// A route's steps that serve a wish, in the order it wants them.
    pub(super) fn steps<'a>(&self, route: &'a Route, wish: &Wish<'_>) -> Vec<&'a Step> {
        let known = |step: &Step| Known {
            price: self.price_of_thousand(step),
            pace: self.paces.of(&step.name()),
        };
        let fits = |step: &Step| self.left_out(step, wish).is_none();
        walk(route, (wish.choice, wish.lot), known, fits)
    }

    /// Why a step is left out for what it costs or cannot do; in words.
    fn left_out(&self, step: &Step, wish: &Wish<'_>) -> Option<String> {
        let choice = wish.choice?;
        if let Some(most) = choice.max_price.filter(|most| *most != MaxPrice::default()) {
            let names = (step.provider.as_str(), step.model.as_str());
            let now = self.clock.now();
            match self.catalog.prices().rates(names, wish.input_tokens, now) {
                Some(rates) if most.holds(rates) => {}
                Some((input, output)) => {
                    return Some(format!("costs {input} in and {output} out per million tokens"));
                }
                None => return Some("has no known price".to_owned()),
            }
        }
        if choice.require_parameters != Some(true) {
            return None;
        }
        let target = self.catalog.target(step)?;
        let lacks = target.provider.lacks(&step.model, wish.prompt?)?;
        Some(format!("does not support {lacks}"))
    }

    /// Each step of a route, with why it does not serve a wish.
    pub(super) fn described(&self, route: &Route, wish: &Wish<'_>) -> Vec<String> {
        let told = |step: &Step| {
            let whose = format!("{} ({})", step.name(), step.provider);
            match self.left_out(step, wish) {
                Some(why) => format!("{whose}, which {why}"),
                None => whose,
            }
        };
        route.steps.iter().map(told).collect()
    }

    /// What a job is dealt when chance has a say in its route.
    pub(super) fn lot(&self, route: &Route, choice: Option<&ProviderChoice>) -> Option<u64> {
        by_chance(route, choice).then(|| self.chance.lot())
    }

    /// Names in a job's choice that no account and no provider of the settings has.
    pub fn unknown_providers(&self, choice: Option<&ProviderChoice>) -> Vec<String> {
        let known = |name: &str| {
            self.catalog.accounts().any(|(account, settings)| {
                let (account, provider) = (account.to_owned(), settings.vendor.clone());
                is(name, &Step { account, provider, model: String::new() })
            })
        };
        let mut names: Vec<String> = Vec::new();
        for name in choice.into_iter().flat_map(ProviderChoice::names) {
            if !known(name) && !names.iter().any(|told| told == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}
