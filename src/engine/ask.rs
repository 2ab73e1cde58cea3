//! Asking a provider, within its deadlines.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout};

use super::Engine;
use super::catalog::Target;
use super::place::Departure;
use super::turn::Taken;
use super::work::Work;
use crate::domain::completion::Completion;
use crate::domain::prompt::Prompt;
use crate::domain::result::millis_between;
use crate::domain::route::Step;
use crate::domain::speed::Measure;
use crate::provider::stream::{Pieces, whole};
use crate::provider::{ErrorClass, ProviderError, Timeouts, codes};

/// In what form an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Whole.
    Whole,
    /// Piece by piece, as it comes.
    Pieces,
}

/// What a provider gave.
pub(super) enum Reply {
    /// All of it.
    Whole(Box<Completion>),
    /// What begins with its first piece.
    Pieces(Pieces),
}

/// How long a call may take, and how it is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) form: Form,
    /// Until the first piece; a call that has no such deadline need not be streamed.
    pub(super) first: Option<Duration>,
    pub(super) total: Duration,
}

impl Plan {
    /// A call takes no longer than its task, its step and its own deadline allow.
    pub(super) fn of(work: &Work, step: &Step, started: DateTime<Utc>, form: Form) -> Self {
        let left = work.job.deliver_by.map(|by| (by - started).to_std().unwrap_or_default());
        let terms = work.route.terms(step);
        let total = [terms.timeout, left].into_iter().flatten().fold(work.task.timeout, Ord::min);
        Self { form, first: terms.first_token.map(|first| first.min(total)), total }
    }
}

/// A call that was made.
pub(super) struct Called {
    pub(super) taken: Taken,
    pub(super) started: DateTime<Utc>,
    pub(super) answer: Result<Reply, ProviderError>,
}

impl Engine {
    /// One call at a step, and another beside it where the route hedges: then the departure is
    /// that of the call which is answered, and what became of the other stands on the receipt and
    /// among the steps tried.
    pub(super) async fn ask(
        self: &Arc<Self>,
        work: &mut Work,
        departure: &mut Departure,
        tried: &mut Vec<String>,
        form: Form,
    ) -> Called {
        let mut taken = departure.taken.take().unwrap_or_else(|| Taken::over(self));
        // Timers are no finer than a millisecond, which is longer than all the rest takes here.
        if !departure.wait.is_zero() {
            tokio::time::sleep(departure.wait).await;
        }
        taken.departs();
        departure.begin();
        let started = self.begin(work);
        self.lead(work, &departure.target);
        let plan = Plan::of(work, &departure.target.step, started, form);
        if let Some(after) = self.hedges_after(work, departure, form) {
            let called = Called { taken, started, answer: Err(cancelled()) };
            return Box::pin(self.hedged(work, (departure, tried), called, (plan, after))).await;
        }
        let answer = self.one(&departure.target, &work.prompt, plan).await;
        Called { taken, started, answer }
    }

    /// One call to a provider.
    pub(super) async fn one(
        &self,
        target: &Target,
        prompt: &Prompt,
        plan: Plan,
    ) -> Result<Reply, ProviderError> {
        let (model, provider) = (&target.step.model, &target.provider);
        if plan.form == Form::Whole && plan.first.is_none() {
            let answer = provider.complete(model, prompt, plan.total).await?;
            return Ok(Reply::Whole(Box::new(answer)));
        }
        let timeouts = Timeouts { first: plan.first.unwrap_or(plan.total), total: plan.total };
        let asked = Instant::now();
        // An answer that is not streamed begins with its end.
        let begun = timeout(timeouts.first, provider.stream(model, prompt, timeouts)).await;
        let pieces = begun.map_err(|_late| late(timeouts.first))??;
        let first = (Measure::FirstToken, asked.elapsed().as_secs_f64());
        self.paces.note(&target.step.name(), first, self.clock.now());
        if plan.form == Form::Pieces {
            return Ok(Reply::Pieces(pieces));
        }
        let left = plan.total.saturating_sub(asked.elapsed());
        let answer = timeout(left, whole(pieces)).await.map_err(|_late| late(plan.total))??;
        Ok(Reply::Whole(Box::new(answer)))
    }

    /// How long a call has taken until now.
    pub(super) fn took(&self, started: DateTime<Utc>) -> Duration {
        Duration::from_millis(millis_between(started, self.clock.now()))
    }
}

/// Nothing came in time.
fn late(time: Duration) -> ProviderError {
    let message = format!("no answer began within {time:?}");
    ProviderError::new(ErrorClass::FailoverProvider, codes::TIMED_OUT, message)
}

/// Nobody waits for it any more.
pub(super) fn cancelled() -> ProviderError {
    ProviderError::new(ErrorClass::FailoverProvider, codes::UNREACHABLE, "the call was cancelled")
}
