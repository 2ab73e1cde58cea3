//! The cascade as data: an ordered list of steps and the rules to walk it.

use std::time::Duration;

use super::job::{Lane, ProviderChoice};

/// One account and model a job may be sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// The account, by its name in the settings.
    pub account: String,
    /// The account's vendor.
    pub provider: String,
    /// The model, as the provider names it.
    pub model: String,
}

impl Step {
    /// The step's name: `account/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.account, self.model)
    }
}

/// An ordered list of steps and how long to wait for a better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The steps, the preferred one first.
    pub steps: Vec<Step>,
    /// How long after its accept a job holds out for a better step, by lane in the order of
    /// [`Lane::ALL`]; after that it takes the first step that has room.
    pub patience: [Duration; 3],
}

impl Route {
    /// How long a job in this lane holds out for a better step.
    pub const fn patience(&self, lane: Lane) -> Duration {
        let [interactive, standard, batch] = self.patience;
        match lane {
            Lane::Interactive => interactive,
            Lane::Standard => standard,
            Lane::Batch => batch,
        }
    }

    /// The steps a job may use, in the order it wants them.
    pub fn walk(&self, choice: Option<&ProviderChoice>) -> Vec<&Step> {
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        let Some(choice) = choice else {
            return steps;
        };
        let named = |names: &[String], step: &Step| {
            names.iter().any(|name| *name == step.provider || *name == step.account)
        };
        steps.retain(|step| {
            (choice.only.is_empty() || named(&choice.only, step)) && !named(&choice.ignore, step)
        });
        let rank = |step: &Step| {
            choice
                .order
                .iter()
                .position(|name| *name == step.provider || *name == step.account)
                .unwrap_or(usize::MAX)
        };
        steps.sort_by_key(|step| rank(step));
        if choice.allow_fallbacks == Some(false) {
            steps.truncate(1);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        let step = |name: &str| Step {
            account: format!("{name}-main"),
            provider: name.to_owned(),
            model: "m".to_owned(),
        };
        Route {
            name: "r".to_owned(),
            steps: vec![step("a"), step("b"), step("c")],
            patience: [Duration::ZERO; 3],
        }
    }

    fn walked(choice: &ProviderChoice) -> Vec<String> {
        route().walk(Some(choice)).into_iter().map(|step| step.provider.clone()).collect()
    }

    #[test]
    fn a_job_may_reorder_and_narrow_its_route() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let order = ProviderChoice { order: names("c b-main"), ..Default::default() };
        assert_eq!(walked(&order), ["c", "b", "a"]);
        let only = ProviderChoice { only: names("b c"), ignore: names("c"), ..Default::default() };
        assert_eq!(walked(&only), ["b"]);
        let first = ProviderChoice { allow_fallbacks: Some(false), ..Default::default() };
        assert_eq!(walked(&first), ["a"]);
        assert_eq!(route().walk(None).len(), 3);
    }
}
