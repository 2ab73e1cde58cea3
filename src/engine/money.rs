//! What callers may use up: counted at the door, reserved before each call, settled after it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::Engine;
use super::allowances::ANONYMOUS;
use super::work::Work;
use crate::budget::{Ask, BudgetError, Hold, Reserved, SharedBudget, Standing};
use crate::domain::allowance::{Allowance, Money, Period};
use crate::domain::result::JobError;
use crate::domain::route::Step;
use crate::lifecycle::Lifecycle;
use crate::limiter::{FARTHEST, LimiterError};
use crate::telemetry::metrics;

/// How much longer than its call money is held.
const SLACK: Duration = Duration::from_secs(30);

/// What a caller may use up is used up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OverBudget {
    /// What is used up and when it comes back, for a person.
    pub message: String,
    /// When to come again.
    pub retry_after: Duration,
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Unadmitted {
    /// What it may use up is used up.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// What is asked for has no known price, and the caller's money is limited.
    #[error("the price is not known")]
    Unpriced,
    /// The count cannot be asked.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

/// What a caller may use up, and what it has.
pub struct Used {
    /// What it may.
    pub allowance: Arc<Allowance>,
    /// What it has.
    pub standing: Standing,
}

/// What came of asking for money.
pub(super) enum Funds {
    /// Reserved; nothing needs to be for callers without limits.
    There(Option<Purse>),
    /// What is left is held for calls under way: it may come back.
    Held,
    /// It is not left at all.
    Spent(OverBudget),
    /// Nobody knows whether it would be enough.
    Unpriced(JobError),
}

impl OverBudget {
    /// Why a job has no answer.
    pub(super) fn error(&self) -> JobError {
        JobError {
            code: "budget_exhausted".to_owned(),
            message: self.message.clone(),
            retryable: true,
            hint: Some("Replay the job after that, or raise the caller's budget.".to_owned()),
        }
    }

    fn of_money(
        allowance: &Allowance,
        period: Period,
        standing: &Standing,
        (cost, now): (Money, DateTime<Utc>),
    ) -> Self {
        let (level, name) = (standing.of(period), period.as_str());
        let most = allowance.most(period).unwrap_or_default().usd();
        Self::until(
            &format!(
                "The caller's budget of this {name} is used up: {:.4} of {most} USD are spent, and \
                 the call may cost {:.4} USD.",
                level.spent.usd(),
                cost.usd()
            ),
            level.resets_at,
            now,
        )
    }

    fn of_calls(most: u64, standing: &Standing, now: DateTime<Utc>) -> Self {
        let told = format!(
            "The caller's plan has {most} calls a day, {} were made, and these would be too many.",
            standing.calls
        );
        Self::until(&told, standing.day.resets_at, now)
    }

    fn until(told: &str, resets_at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let at = resets_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        Self {
            message: format!("{told} It comes back at {at}."),
            retry_after: (resets_at - now).to_std().unwrap_or_default(),
        }
    }
}

/// Money reserved for a call. However the call ends, it is settled.
pub(super) struct Purse {
    budget: SharedBudget,
    lifecycle: Lifecycle,
    hold: Mutex<Option<Hold>>,
    begun: AtomicBool,
}

impl Purse {
    /// The call begins: from now on it may cost.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Settles it at what the call did cost; `None` when nobody knows.
    pub(super) async fn settle(&self, cost_usd: Option<f64>) {
        if let Some(hold) = self.take() {
            settle(&self.budget, &hold, cost_usd.map(Money::from_usd)).await;
        }
    }

    /// The same in the background.
    pub(super) fn settle_later(&self, cost_usd: Option<f64>) {
        if let Some(hold) = self.take() {
            let budget = Arc::clone(&self.budget);
            self.lifecycle.spawn(async move {
                settle(&budget, &hold, cost_usd.map(Money::from_usd)).await;
            });
        }
    }

    fn take(&self) -> Option<Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a call cost that was given up on its way nobody knows: it counts as the most it can have.
impl Drop for Purse {
    fn drop(&mut self) {
        let begun = self.begun.load(Ordering::Relaxed);
        self.settle_later(if begun { None } else { Some(0.0) });
    }
}

/// What cannot be settled comes free when its term is over.
async fn settle(budget: &SharedBudget, hold: &Hold, cost: Option<Money>) {
    if let Err(fault) = budget.settle(hold, cost).await {
        metrics::store_error("settle_budget");
        tracing::warn!(%fault, caller = hold.caller, "what a call cost could not be counted");
    }
}

/// How a caller is called in metrics: addresses are too many.
pub(super) fn label(caller: &str) -> &str {
    if caller.starts_with(ANONYMOUS) { "anonymous" } else { caller }
}

impl Engine {
    /// What a caller may use up, and what it has; `None` for as much as it likes.
    pub async fn used(&self, caller: &str) -> Result<Option<Used>, BudgetError> {
        let Some(allowance) = self.catalog.allowance(caller) else {
            return Ok(None);
        };
        let standing = self.budget.standing(caller).await?;
        Ok(Some(Used { allowance: Arc::clone(allowance), standing }))
    }

    /// Lets a caller in: counts its calls, and refuses it when what it may use up is used up. `least`
    /// is the most the cheapest of the calls can cost, `None` when that is not known. Answers what
    /// it is to be warned of.
    pub(super) async fn admit(
        &self,
        caller: &str,
        calls: u64,
        least: Option<f64>,
    ) -> Result<Vec<String>, Unadmitted> {
        let Some(allowance) = self.catalog.allowance(caller) else {
            return Ok(Vec::new());
        };
        let now = self.clock.now();
        let most = allowance.calls.filter(|_| allowance.hard);
        let counted = self.budget.count(caller, calls, most).await?;
        let standing = counted.standing;
        if !counted.granted {
            metrics::over_budget(label(caller), "calls");
            return Err(OverBudget::of_calls(most.unwrap_or_default(), &standing, now).into());
        }
        let cost = least.map(Money::at_most);
        if allowance.hard
            && allowance.limits_money()
            && let Some(refused) = refused(caller, allowance, &standing, (cost, now))
        {
            self.dismiss(caller, calls).await;
            return Err(refused);
        }
        Ok(warnings(caller, allowance, &standing))
    }

    /// Takes back calls that were counted and came to nothing.
    pub(super) async fn dismiss(&self, caller: &str, calls: u64) {
        if self.catalog.allowance(caller).is_none() {
            return;
        }
        if let Err(fault) = self.budget.uncount(caller, calls).await {
            metrics::store_error("uncount");
            tracing::warn!(%fault, caller, "calls could not be taken back");
        }
    }

    /// The most that work costs at the step where that is the least.
    pub(super) fn least_cost_of(&self, work: &Work) -> Option<f64> {
        let steps = self.steps(&work.route, &work.wish());
        steps.into_iter().filter_map(|step| self.most_cost(work, step)).min_by(f64::total_cmp)
    }

    /// The most that a call can cost at a step: its input as estimated, at the dearest that the
    /// prompt cache makes it, and its whole output cap.
    pub(super) fn most_cost(&self, work: &Work, step: &Step) -> Option<f64> {
        let learned = self.learned.input_tokens(&step.name(), work.input_tokens);
        let input = work.input_tokens.max(learned);
        let hour = work.prompt.is_marked_for_an_hour();
        self.most_price(step, (input, u64::from(work.prompt.max_output_tokens)), hour)
    }

    /// Reserves what a call at this step can cost at the most.
    pub(super) async fn fund(&self, work: &Work, step: &Step) -> Result<Funds, LimiterError> {
        let caller = work.job.caller.as_str();
        let allowance = self.catalog.allowance(caller).filter(|allowed| allowed.limits_money());
        let Some(allowance) = allowance else {
            return Ok(Funds::There(None));
        };
        let cost = match self.most_cost(work, step) {
            Some(cost) => Money::at_most(cost),
            None if allowance.hard => return Ok(Funds::Unpriced(unpriced(step))),
            None => Money(0),
        };
        let hard = |most: Option<Money>| most.filter(|_| allowance.hard);
        let ask = Ask {
            id: self.turn_id(),
            caller: caller.to_owned(),
            cost,
            day: hard(allowance.day),
            month: hard(allowance.month),
            term: work.task.timeout + FARTHEST + SLACK,
        };
        let reserved = self.budget.reserve(&ask).await;
        match reserved.map_err(|fault| LimiterError::Unavailable(fault.to_string()))? {
            Reserved::Granted(hold, standing) => {
                warnings(caller, allowance, &standing);
                Ok(Funds::There(Some(Purse {
                    budget: Arc::clone(&self.budget),
                    lifecycle: self.lifecycle.clone(),
                    hold: Mutex::new(Some(hold)),
                    begun: AtomicBool::new(false),
                })))
            }
            Reserved::Refused(period, standing) => {
                let most = allowance.most(period).unwrap_or_default();
                if standing.of(period).spent.plus(cost) <= most {
                    return Ok(Funds::Held);
                }
                metrics::over_budget(label(caller), period.as_str());
                let at = (cost, self.clock.now());
                Ok(Funds::Spent(OverBudget::of_money(allowance, period, &standing, at)))
            }
        }
    }
}

/// Why a call of this cost is refused, if it is.
fn refused(
    caller: &str,
    allowance: &Allowance,
    standing: &Standing,
    (cost, now): (Option<Money>, DateTime<Utc>),
) -> Option<Unadmitted> {
    let Some(cost) = cost else {
        return Some(Unadmitted::Unpriced);
    };
    let over = |period: &Period| {
        let most = allowance.most(*period);
        most.is_some_and(|most| standing.of(*period).spent.plus(cost) > most)
    };
    // What comes back later decides when to come again.
    let period = [Period::Month, Period::Day].into_iter().find(over)?;
    metrics::over_budget(label(caller), period.as_str());
    Some(OverBudget::of_money(allowance, period, standing, (cost, now)).into())
}

fn unpriced(step: &Step) -> JobError {
    JobError {
        code: "budget_unpriced".to_owned(),
        message: format!(
            "The price of {} is not known, so the caller's budget may not hold.",
            step.name()
        ),
        retryable: true,
        hint: Some("Add the model to [[prices]], or use another task or route.".to_owned()),
    }
}

/// What a caller is to be warned of: it comes near to what it may use up, or is beyond.
fn warnings(caller: &str, allowance: &Allowance, standing: &Standing) -> Vec<String> {
    let mut told = Vec::new();
    for period in [Period::Day, Period::Month] {
        let Some(most) = allowance.most(period) else { continue };
        let used = standing.of(period).used().usd();
        let share = if most.usd() > 0.0 { used / most.usd() } else { 1.0 };
        metrics::budget_used(label(caller), period.as_str(), share);
        if share >= allowance.soft {
            told.push(format!(
                "{used:.4} of {} USD of this {} are spent or reserved.",
                most.usd(),
                period.as_str()
            ));
        }
    }
    if let Some(most) = allowance.calls {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let share = standing.calls as f64 / most.max(1) as f64;
        metrics::budget_used(label(caller), "calls", share);
        if share >= allowance.soft {
            told.push(format!("{} of {most} calls of this day are made.", standing.calls));
        }
    }
    for told in &told {
        tracing::warn!(caller, "near the end of the budget: {told}");
    }
    told
}
