//! Where a job goes now: the first step of its route that has room, or back into its line.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::catalog::Target;
use super::circuit::{Admission, Probe};
use super::money::{Funds, OverBudget, Purse};
use super::next::Next;
use super::sessions::Homes;
use super::turn::Taken;
use super::work::Work;
use crate::domain::limits::Cost;
use crate::domain::result::JobError;
use crate::domain::route::Step;
use crate::limiter::{CONCURRENCY_PAUSE, LimiterError, Obstacle, Turn};

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
    /// Nowhere at all: its caller may not spend what is left.
    Spent(OverBudget),
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
    /// The turn taken, until the call begins: one that never does gives it back.
    pub(super) taken: Option<Taken>,
    /// How long to wait before departing.
    pub(super) wait: Duration,
    /// When the next job like it could depart from there.
    pub(super) next: Duration,
    /// Its place among the few calls that try a step which was shut.
    pub(super) probe: Option<Probe>,
    /// What is reserved for it, where its caller may not spend what it likes.
    pub(super) purse: Option<Purse>,
}

/// What a step has for some work.
enum Offer {
    Go(Box<Departure>),
    /// No turn before this wait, for this reason; and how long waiting for it is worth at least.
    NotBefore(Duration, Obstacle, Duration),
    /// Another call is writing the cache that this one will read.
    Warms(Duration),
    TooDear(JobError),
    Spent(OverBudget),
    /// Its caller's money is held for calls under way.
    Held,
    /// It cannot serve it.
    Nothing,
}

impl Offer {
    /// All places there are taken; nobody is sure when one comes free.
    fn busy(pause: Duration, step: String) -> Self {
        Self::NotBefore(pause, Obstacle::Concurrency(step), Duration::ZERO)
    }
}

/// How soon to ask again when what is left of a budget is held for calls under way.
const HELD_PAUSE: Duration = Duration::from_millis(100);

impl Departure {
    /// The call begins.
    pub(super) fn begin(&self) {
        if let Some(purse) = &self.purse {
            purse.begin();
        }
    }

    /// What the call did cost; `None` when nobody knows.
    pub(super) async fn pay(&self, cost_usd: Option<f64>) {
        if let Some(purse) = &self.purse {
            purse.settle(cost_usd).await;
        }
    }

    /// The same in the background.
    pub(super) fn pay_later(&self, cost_usd: Option<f64>) {
        if let Some(purse) = &self.purse {
            purse.settle_later(cost_usd);
        }
    }
}

impl Engine {
    /// Finds a step for a job, or for its repair turn; one that cannot be had is given up.
    pub(super) async fn place(
        self: &Arc<Self>,
        work: &mut Work,
        tried: &mut Vec<String>,
        patience: Duration,
    ) -> Result<Placement, LimiterError> {
        let now = self.clock.now();
        work.tie.since.get_or_insert(now);
        loop {
            let placement = self.seek(work, tried, patience).await?;
            let nowhere = !matches!(placement, Placement::Go(_) | Placement::Later(_));
            if !nowhere || work.repairing().is_none() {
                return Ok(placement);
            }
            if matches!(self.without_repair(work), Next::Escalate) {
                self.escalate(work);
                tried.clear();
            }
        }
    }

    /// Finds a step for a job. While the job's patience lasts it holds out for the best step that
    /// is open within it; after that it takes the first that has room. Steps in `tried` are left
    /// out.
    pub(super) async fn seek(
        self: &Arc<Self>,
        work: &Work,
        tried: &[String],
        patience: Duration,
    ) -> Result<Placement, LimiterError> {
        let route = &work.route;
        let (mut dear, mut spent) = (None, None);
        let mut later: Option<Later> = None;
        let only = work.repairing();
        let progress = &work.progress;
        let any_step = tried.is_empty()
            && work.job.provider.is_none()
            && only.is_none()
            && progress.unservable.is_empty()
            && !progress.escalated;
        let steps = self.steps(route, &work.wish());
        let (steps, homes) = self.at_home(work, steps).await;
        let any_step = any_step && !homes.any();
        let held = self.tokens_held(work, &steps);
        let last = steps.len().saturating_sub(1);
        for (index, step) in steps.into_iter().enumerate() {
            let name = step.name();
            let is_narrower = held.is_some_and(|tokens| self.is_narrower(step, tokens));
            if is_narrower || tried.contains(&name) || work.leaves_out(&name) {
                continue;
            }
            // One that goes on to the next step keeps nobody back here.
            let comes_back = index == last || !patience.is_zero() || homes.cached(&name) > 0;
            match self.offer(work, step, &homes, comes_back).await? {
                Offer::Go(departure) => return Ok(Placement::Go(departure)),
                Offer::Nothing => {}
                Offer::TooDear(error) => dear = Some(error),
                Offer::Spent(over) => spent = Some(over),
                Offer::Warms(wait) => {
                    return Ok(Placement::Later(Later { wait, for_all: false, crowded: false }));
                }
                // No end of a call's turn changes that, and giving back this one least of all.
                Offer::Held => {
                    let by = Obstacle::Gate(name);
                    later = Some(Later::and(later, HELD_PAUSE, &by, any_step));
                }
                // What keeps the step shut may last: an answer is not repaired at that price.
                Offer::NotBefore(_, Obstacle::Gate(_), _) if only.is_some() => {}
                Offer::NotBefore(wait, by, worth) => {
                    let asked = !matches!(by, Obstacle::Concurrency(ref of) if *of == name);
                    let holds_out = asked && wait <= patience.max(worth);
                    later = Some(Later::and(later, wait, &by, any_step));
                    if holds_out {
                        break;
                    }
                }
            }
        }
        Ok(match (later, spent, dear) {
            (Some(later), ..) => Placement::Later(later),
            (None, Some(over), _) => Placement::Spent(over),
            (None, None, Some(error)) => Placement::TooDear(error),
            (None, None, None) => Placement::Nowhere,
        })
    }

    /// What a step has for this work now.
    async fn offer(
        self: &Arc<Self>,
        work: &Work,
        step: &Step,
        homes: &Homes,
        comes_back: bool,
    ) -> Result<Offer, LimiterError> {
        let name = step.name();
        let Some(target) = self.catalog.target(step) else {
            return Ok(Offer::Nothing);
        };
        let cost = self.cost_at(&name, work, homes.cached(&name));
        if self.too_large(work, &target, &cost) {
            return Ok(Offer::Nothing);
        }
        if let Some(error) = self.too_dear(work, step) {
            return Ok(Offer::TooDear(error));
        }
        if let Some(wait) = self.held_back(work, step) {
            return Ok(Offer::Warms(wait));
        }
        let probe = match self.circuits.admit(&name) {
            Admission::Free => None,
            Admission::Probe(probe) => Some(probe),
            Admission::Full => {
                return Ok(Offer::busy(CONCURRENCY_PAUSE, name));
            }
        };
        let (taken, wait, next) = match self.turn(work, &target, cost, comes_back).await? {
            (taken, Turn::Granted { wait, next }) => (taken, wait, next),
            (_, Turn::NotBefore { wait, by }) => {
                if matches!(&by, Obstacle::Gate(gate) if gate == target.step_gate()) {
                    self.circuits.found_shut(&name, self.clock.now());
                }
                let worth = self.worth_waiting(work, &target, homes, &by);
                return Ok(Offer::NotBefore(wait, by, worth));
            }
        };
        let lacks = match self.fund(work, step).await {
            Ok(Funds::There(purse)) => {
                probe.iter().for_each(Probe::departs);
                let departure = Departure { target, taken: Some(taken), wait, next, probe, purse };
                return Ok(Offer::Go(Box::new(departure)));
            }
            Ok(Funds::Held) => Ok(Offer::Held),
            Ok(Funds::Spent(over)) => Ok(Offer::Spent(over)),
            Ok(Funds::Unpriced(error)) => Ok(Offer::TooDear(error)),
            Err(fault) => Err(fault),
        };
        // A turn that cannot be paid for.
        taken.give_back().await;
        lacks
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
        let message = match self.most_cost(work, step) {
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

impl Work {
    /// Whether a step is none for what is asked next: it cannot serve it, or another's answer is to
    /// be repaired.
    fn leaves_out(&self, step: &String) -> bool {
        self.progress.unservable.contains(step) || self.repairing().is_some_and(|only| only != step)
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
