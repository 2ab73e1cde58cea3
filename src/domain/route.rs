//! The cascade as data: an ordered list of steps and the rules to walk it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::choice::{After, Sort};
use super::job::Lane;

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
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The steps, the preferred one first.
    pub steps: Vec<Step>,
    /// How long after its accept a job holds out for a better step, by lane in the order of
    /// [`Lane::ALL`]; after that it takes the first step that has room.
    pub patience: [Duration; 3],
    /// How else it is walked.
    pub rules: Rules,
}

/// How a route is walked, beside its order and its patience.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// What the steps are ordered by; `None` keeps the order they are written in.
    pub sort: Option<Sort>,
    /// What holds for steps that say nothing else.
    pub terms: Terms,
    /// What single steps say of themselves.
    pub of_steps: BTreeMap<Step, Terms>,
    /// Whether and when a second step is asked beside the first, when somebody waits.
    pub hedge: Option<Hedge>,
}

/// What holds for a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Its part of the jobs among neighbours that have a weight too.
    pub weight: Option<u32>,
    /// How long its answer's first piece may take; asked for as a stream then.
    pub first_token: Option<Duration>,
    /// How long its whole answer may take.
    pub timeout: Option<Duration>,
}

/// A second step is asked when the first is slow to answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedge {
    /// When.
    pub after: After,
    /// The part of all calls that may be hedged, at the most.
    pub most: f64,
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

    /// What holds for a step of this route.
    pub fn terms(&self, step: &Step) -> Terms {
        let own = self.rules.of_steps.get(step).copied().unwrap_or_default();
        let all = self.rules.terms;
        Terms {
            weight: own.weight,
            first_token: own.first_token.or(all.first_token),
            timeout: own.timeout.or(all.timeout),
        }
    }
}
