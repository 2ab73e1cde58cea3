//! One call to a provider, and what its answer or error means for the work.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::ask::{Called, Form, Reply};
use super::catalog::Target;
use super::contract::{Judged, judge};
use super::judge::{
    another_may_serve, attempt, cost_of_failure, end, falls_through, metered, refused, rejected,
};
use super::learned::Lesson;
use super::money::label;
use super::next::{Answer, Next};
use super::place::Departure;
use super::tie::alike;
use super::work::Work;
use crate::domain::completion::{Completion, Usage};
use crate::domain::result::{Attempt, Outcome, millis_between};
use crate::domain::route::Step;
use crate::domain::speed::Measure;
use crate::provider::{ProviderError, codes, stream};
use crate::telemetry::metrics;

/// A call that times out so shortly before the job's deadline was cut short by it.
const CUT: TimeDelta = TimeDelta::milliseconds(5);

/// The whole of an answer.
pub(super) async fn whole(
    answer: Result<Reply, ProviderError>,
) -> Result<Completion, ProviderError> {
    match answer? {
        Reply::Whole(completion) => Ok(*completion),
        Reply::Pieces(pieces) => stream::whole(pieces).await,
    }
}

impl Engine {
    /// One call to a provider, and another beside it where the route hedges. Those of its steps
    /// that failed meanwhile are added to the ones tried.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        work: &mut Work,
        departure: &mut Departure,
        tried: &mut Vec<String>,
        lost: &CancellationToken,
    ) -> Next {
        let called = tokio::select! {
            called = self.ask(work, departure, tried, Form::Whole) => called,
            () = lost.cancelled() => {
                tracing::info!(job.id = %work.job.id, "lease lost, call cancelled");
                return Next::Dropped;
            }
        };
        let Called { mut taken, started, answer } = called;
        let (target, waited, took) = (&departure.target, departure.wait, self.took(started));
        let answer = whole(answer).await;
        let ended = end(&answer, waited, took);
        let error = match answer {
            Ok(completion) => {
                taken.settled(target, ended).await;
                let next = self.answered(work, target, completion, took);
                departure.pay(work.last_cost()).await;
                return next;
            }
            Err(error) => error,
        };
        // The next step need not wait for this.
        taken.settle(target, ended);
        departure.pay_later(cost_of_failure(&error));
        let over = work.job.deliver_by.is_some_and(|by| self.clock.now() + CUT >= by);
        if error.code == codes::TIMED_OUT && over {
            // The job's own deadline cut the call short: no fault of the step's.
            work.failed(target, &error, took);
            return Next::Expire;
        }
        self.failed(work, target, &error, (started, took))
    }

    /// The call begins.
    pub(super) fn begin(&self, work: &mut Work) -> DateTime<Utc> {
        let started = self.clock.now();
        if work.progress.queued_ms.is_none() {
            let queued = millis_between(work.job.created_at, started);
            work.progress.queued_ms = Some(queued);
            metrics::started(work.job.lane.as_str(), Duration::from_millis(queued));
        }
        let route = self.catalog.counted_as(&work.route.name);
        self.learned.departed(route, work.input_tokens, work.output_tokens);
        started
    }

    /// What to make of an answer.
    pub(super) fn answered(
        &self,
        work: &mut Work,
        target: &Target,
        mut answer: Completion,
        took: Duration,
    ) -> Next {
        match self.account(work, target, &answer, took) {
            Judged::Good(data) => {
                if let Some(data) = &data
                    && serde_json::from_str::<Value>(&answer.text).is_err()
                {
                    // Who asked for JSON gets it without what stood around it.
                    answer.text = data.to_string();
                }
                Next::End(Box::new(self.answer(work, &target.step, answer, data)))
            }
            Judged::Refused(why) => Next::Fail(refused(why)),
            Judged::Unfit(unfit) => self.unfit(work, &target.step, unfit),
        }
    }

    /// Learns from an answer and puts it on the receipt, with what it is worth.
    pub(super) fn account(
        &self,
        work: &mut Work,
        target: &Target,
        answer: &Completion,
        took: Duration,
    ) -> Judged {
        let step = &target.step;
        self.learned.answered(&Lesson {
            step: &step.name(),
            task: &work.task.name,
            cap: work.task.max_output_tokens,
            estimated_input: work.input_tokens,
            usage: answer.usage.as_ref(),
            took,
        });
        self.well(step, answer.usage.as_ref(), took);
        let names = (step.provider.as_str(), step.model.as_str());
        let priced = |usage| self.catalog.prices().cost(names, usage, self.clock.now());
        let cost_usd = answer.cost_usd.or_else(|| answer.usage.as_ref().and_then(priced));
        work.charge(answer.usage, cost_usd);
        metrics::spent(label(&work.job.caller), cost_usd.unwrap_or_default());
        metered(step, answer.usage.as_ref(), cost_usd);
        self.saved(step, answer.usage.as_ref());
        let judged = judge(work, answer);
        let (outcome, message) = match &judged {
            Judged::Good(_) => (Outcome::Answered, None),
            Judged::Refused(why) => (Outcome::Refused, Some(why.clone())),
            Judged::Unfit(unfit) => (Outcome::InvalidOutput, Some(unfit.told())),
        };
        metrics::attempted(&step.account, &step.model, outcome.as_str(), took);
        if outcome == Outcome::Answered {
            self.bind(work, target);
        }
        work.tie.lead = None;
        work.note(Attempt { cost_usd, message, ..attempt(step, outcome, Some(200), took) });
        judged
    }

    /// A step has answered: how fast it was.
    fn well(&self, step: &Step, usage: Option<&Usage>, took: Duration) {
        let (name, now, seconds) = (step.name(), self.clock.now(), took.as_secs_f64());
        self.circuits.succeeded(&name, now);
        self.paces.note(&name, (Measure::Latency, seconds), now);
        if let Some(usage) = usage.filter(|usage| usage.output_tokens > 0 && seconds > 0.0) {
            #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
            let speed = usage.output_tokens as f64 / seconds;
            self.paces.note(&name, (Measure::Throughput, speed), now);
        }
    }

    /// An answer that is to be given.
    pub(super) fn answer(
        &self,
        work: &Work,
        step: &Step,
        completion: Completion,
        data: Option<Value>,
    ) -> Answer {
        let fell_back = self.is_fallback(work, step);
        Answer { step: step.clone(), completion, data, fell_back }
    }

    /// What to make of an error.
    pub(super) fn failed(
        self: &Arc<Self>,
        work: &mut Work,
        target: &Target,
        error: &ProviderError,
        (started, took): (DateTime<Utc>, Duration),
    ) -> Next {
        let step = &target.step;
        let outcome = work.failed(target, error, took);
        self.cool(target, error, outcome, started);
        match outcome {
            Outcome::RateLimited | Outcome::Hedged => {}
            Outcome::Unreachable => work.progress.unreachable += 1,
            Outcome::Answered
            | Outcome::InvalidOutput
            | Outcome::Overloaded
            | Outcome::TimedOut
            | Outcome::Garbled
            | Outcome::Unauthorized
            | Outcome::Rejected
            | Outcome::Refused => work.progress.failures += 1,
        }
        if outcome == Outcome::InvalidOutput {
            return self.onward(work);
        }
        if falls_through(outcome) {
            return Next::Step;
        }
        if outcome == Outcome::Rejected && another_may_serve(error) {
            work.progress.unservable.push(step.name());
            if error.code == codes::CONTEXT_LENGTH {
                self.too_long_for(work, step);
            }
            return Next::Step;
        }
        if work.repairing().is_some() {
            // It took the same request without the repair turn.
            return self.without_repair(work);
        }
        Next::Fail(match outcome {
            Outcome::Refused => refused(error.message.clone()),
            _ => rejected(error),
        })
    }

    /// Whether another than the first step it could have had answered.
    pub(super) fn is_fallback(&self, work: &Work, step: &Step) -> bool {
        let steps = self.steps(&work.route, &work.wish());
        // Which account of a group answers is no matter of better or worse.
        let alike = |first: &Step| work.tie.has_choice() && alike(first, step);
        steps.first().is_some_and(|first| first.name() != step.name() && !alike(first))
    }
}
