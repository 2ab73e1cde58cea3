//! Where a job goes now: the first step of its route that has room, or back into its line.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::catalog::Target;
use super::circuit::{Admission, Probe};
use super::work::Work;
use crate::domain::limits::Cost;
use crate::domain::result::JobError;
use crate::domain::route::Step;
use crate::limiter::{Ask, CONCURRENCY_PAUSE, LimiterError, Obstacle, Turn};

/// Where a job goes now.
pub(super) enum Placement {
    /// To this step.
    Go(Box<Departure>),
    /// Nowhere yet.
    Later(Later),
    /// Nowhere at all: no step is left that could serve it.
    Nowhere,
    /// Nowhere at all: what is left may cost more than the job allows.
    TooDear(JobError),
}

/// When it makes sense to ask again, and what stands in the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later {
    /// Not before this long from now.
    pub(super) wait: Duration,
    /// The rates of all steps of the route stand in the way: whoever comes next in the line would
    /// have to wait as well.
    pub(super) for_all: bool,
    /// Some step's concurrent calls are all taken: the end of any of them changes that.
    pub(super) crowded: bool,
}

/// A turn at a step.
pub(super) struct Departure {
    /// Whom to ask.
    pub(super) target: Arc<Target>,
    /// The turn taken.
    pub(super) ask: Ask,
    /// How long to wait before departing.
    pub(super) wait: Duration,
    /// When the next job like it could depart from there.
    pub(super) next: Duration,
    /// Its place among the few calls that try a step which was shut.
    pub(super) probe: Option<Probe>,
}

impl Engine {
    /// Finds a step for a job. While the job's patience lasts it holds out for the best step that
    /// is open within it; after that it takes the first that has room. Steps in `tried` are left
    /// out.
    pub(super) async fn place(
        &self,
        work: &Work,
        tried: &[String],
        patience: Duration,
    ) -> Result<Placement, LimiterError> {
        let route = &work.route;
        let mut dear = None;
        let mut later: Option<Later> = None;
        let steps = self.steps(route, &work.wish());
        let (steps, homes) = self.at_home(work, steps).await;
        let any_step = tried.is_empty() && work.job.provider.is_none() && !homes.any();
        let held = self.tokens_held(work, &steps);
        let last = steps.len().saturating_sub(1);
        for (index, step) in steps.into_iter().enumerate() {
            let name = step.name();
            let is_narrower = held.is_some_and(|tokens| self.is_narrower(step, tokens));
            if is_narrower || tried.contains(&name) || work.progress.unservable.contains(&name) {
                continue;
            }
            let Some(target) = self.catalog.target(step) else {
                continue;
            };
            let cost = self.cost_at(&name, work, homes.cached(&name));
            if self.too_large(work, &target, &cost) {
                continue;
            }
            if let Some(error) = self.too_dear(work, step) {
                dear = Some(error);
                continue;
            }
            if let Some(wait) = self.held_back(work, step) {
                return Ok(Placement::Later(Later { wait, for_all: false, crowded: false }));
            }
            let probe = match self.circuits.admit(&name) {
                Admission::Free => None,
                Admission::Probe(probe) => Some(probe),
                Admission::Full => {
                    let by = Obstacle::Concurrency(name);
                    later = Some(Later::and(later, CONCURRENCY_PAUSE, &by, any_step));
                    continue;
                }
            };
            // One that goes on to the next step keeps nobody back here.
            let comes_back = index == last || !patience.is_zero() || homes.cached(&name) > 0;
            match self.turn(work, &target, cost, comes_back).await? {
                (ask, Turn::Granted { wait, next }) => {
                    probe.iter().for_each(Probe::departs);
                    let departure = Departure { target, ask, wait, next, probe };
                    return Ok(Placement::Go(Box::new(departure)));
                }
                (_, Turn::NotBefore { wait, by }) => {
                    if matches!(&by, Obstacle::Gate(gate) if gate == target.step_gate()) {
                        self.circuits.found_shut(&name, self.clock.now());
                    }
                    let worth = self.worth_waiting(work, &target, &homes, &by);
                    let holds_out = wait <= patience.max(worth);
                    later = Some(Later::and(later, wait, &by, any_step));
                    if holds_out {
                        break;
                    }
                }
            }
        }
        Ok(Placement::not_now(later, dear))
    }

    /// Whether a limit as a whole is less than the call takes: only when it is sure to be.
    fn too_large(&self, work: &Work, target: &Target, cost: &Cost) -> bool {
        let output = self.learned.least_output_tokens(&work.task.name);
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let (input, output) = (work.input_tokens as f64, output as f64);
        target.too_small_for(&Cost { input: cost.input.min(input), output, ..*cost })
    }

    /// What a job's call is charged at a step, before it is known.
    fn cost_at(&self, step: &str, work: &Work, cached: u64) -> Cost {
        let input = self.learned.input_tokens(step, work.input_tokens);
        let cached = self.learned.input_tokens(step, cached).min(input);
        let cost = Cost::call(input, work.output_tokens);
        if cached == 0 { cost } else { Cost { cached: tokens(cached), ..cost } }
    }

    /// Whether a call at this step may cost more than the job allows. A price that is not known
    /// may be any.
    fn too_dear(&self, work: &Work, step: &Step) -> Option<JobError> {
        let most = work.job.max_cost_usd?;
        let spent = work.progress.cost_usd;
        let message = match self.price(step, work.input_tokens, work.output_tokens) {
            Some(next) if spent + next <= most => return None,
            Some(next) => format!(
                "The next call may cost {next:.6} USD; {spent:.6} of at most {most} USD are spent."
            ),
            None => {
                format!("The price of {} is not known, so max_cost_usd may not hold.", step.name())
            }
        };
        Some(JobError {
            code: "max_cost_reached".to_owned(),
            message,
            retryable: false,
            hint: Some("Raise max_cost_usd, or choose a cheaper task or route.".to_owned()),
        })
    }
}

impl Placement {
    /// No step has room at the moment.
    fn not_now(later: Option<Later>, dear: Option<JobError>) -> Self {
        match (later, dear) {
            (Some(later), _) => Self::Later(later),
            (None, Some(error)) => Self::TooDear(error),
            (None, None) => Self::Nowhere,
        }
    }
}

impl Later {
    /// What is known after one more step was asked.
    fn and(before: Option<Self>, wait: Duration, by: &Obstacle, any_step: bool) -> Self {
        let rate = matches!(by, Obstacle::Bucket(_) | Obstacle::Ahead(_));
        let crowded = matches!(by, Obstacle::Concurrency(_));
        let this = Self { wait, for_all: rate && any_step, crowded };
        before.map_or(this, |before| Self {
            wait: before.wait.min(wait),
            for_all: before.for_all && this.for_all,
            crowded: before.crowded || crowded,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
fn tokens(count: u64) -> f64 {
    count as f64
}
