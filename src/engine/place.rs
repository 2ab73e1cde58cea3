//! Where a job goes now: the first step of its route that has room, or back into its line.

use std::time::Duration;

use super::Engine;
use super::cascade::Run;
use super::catalog::Target;
use crate::domain::job::{ProviderChoice, SortBy};
use crate::domain::limits::Cost;
use crate::domain::route::{Route, Step};
use crate::limiter::{Ask, LimiterError, Turn};

/// Where a job goes now.
pub(super) enum Placement {
    /// To this step.
    Go(Box<Departure>),
    /// Nowhere yet: it makes no sense to ask again before this.
    Later(Duration),
    /// Nowhere at all: no step is left that could serve it.
    Nowhere,
}

/// A turn at a step.
pub(super) struct Departure {
    /// Whom to ask.
    pub(super) target: Target,
    /// The turn taken.
    pub(super) ask: Ask,
    /// How long to wait before departing.
    pub(super) wait: Duration,
}

impl Engine {
    /// Finds a step for a job. While the job's patience lasts it holds out for the best step that
    /// is open within it; after that it takes the first that has room. Steps in `tried` are left
    /// out.
    pub(super) async fn place(
        &self,
        run: &Run,
        tried: &[String],
        patience: Duration,
    ) -> Result<Placement, LimiterError> {
        let Some(route) = self.catalog.route(&run.job.route) else {
            return Ok(Placement::Nowhere);
        };
        let mut soonest: Option<Duration> = None;
        for step in self.steps(route, run.job.provider.as_ref()) {
            let name = step.name();
            if tried.contains(&name) || run.progress.unservable.contains(&name) {
                continue;
            }
            let Some(target) = self.catalog.target(step) else {
                continue;
            };
            let cost = Cost::call(run.input_tokens, run.output_tokens);
            let term = run.task.timeout + Duration::from_secs(5);
            match self.turn(target, run.job.lane, cost, term).await? {
                (ask, Turn::Granted { wait }) => {
                    let target = target.clone();
                    return Ok(Placement::Go(Box::new(Departure { target, ask, wait })));
                }
                (_, Turn::NotBefore { wait, .. }) => {
                    soonest = Some(soonest.map_or(wait, |least| least.min(wait)));
                    if wait <= patience {
                        break;
                    }
                }
            }
        }
        Ok(soonest.map_or(Placement::Nowhere, Placement::Later))
    }

    /// A route's steps in the order a job wants them.
    pub(super) fn steps<'a>(
        &self,
        route: &'a Route,
        choice: Option<&ProviderChoice>,
    ) -> Vec<&'a Step> {
        let mut steps = route.walk(choice);
        let Some(choice) = choice else {
            return steps;
        };
        if let Some(sort) = choice.sort {
            steps.sort_by(|a, b| self.rank(a, sort).total_cmp(&self.rank(b, sort)));
        }
        if let Some(most) = choice.preferred_max_latency {
            steps.sort_by_key(|step| {
                self.learned.speed(&step.name()).0.is_some_and(|usual| usual > most)
            });
        }
        steps
    }

    /// What steps are sorted by, the smaller the better. What is not known comes last.
    fn rank(&self, step: &Step, sort: SortBy) -> f64 {
        let (latency, speed) = self.learned.speed(&step.name());
        match sort {
            SortBy::Price => self.price_of_thousand(step).unwrap_or(f64::MAX),
            SortBy::Latency => latency.unwrap_or(f64::MAX),
            SortBy::Throughput => speed.map_or(f64::MAX, |speed| -speed),
        }
    }
}
