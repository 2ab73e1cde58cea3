//! One call to a provider, and what its answer or error means for the work.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::catalog::Target;
use super::finish::Answer;
use super::judge::{
    Judged, another_may_serve, attempt, end, falls_through, judge, metered, refused, rejected, told,
};
use super::learned::Lesson;
use super::place::Departure;
use super::sessions::alike;
use super::work::Work;
use crate::domain::completion::Completion;
use crate::domain::limits::Cost;
use crate::domain::result::{Attempt, JobError, Outcome, millis_between};
use crate::domain::route::Step;
use crate::limiter::End;
use crate::provider::{ProviderError, codes};
use crate::telemetry::metrics;

/// What an attempt means for the job.
pub(super) enum Next {
    End(Box<Answer>),
    Fail(JobError),
    Expire,
    Step,
    Dropped,
}

impl Engine {
    /// One call to a provider.
    pub(super) async fn attempt(
        &self,
        work: &mut Work,
        departure: &Departure,
        lost: &CancellationToken,
    ) -> Next {
        let Departure { target, ask, wait, .. } = departure;
        tokio::select! {
            () = tokio::time::sleep(*wait) => {}
            () = lost.cancelled() => {
                self.settle_turn(ask, &End::used(Cost::default())).await;
                return Next::Dropped;
            }
        }
        let started = self.begin(work);
        self.lead(work, target);
        let left = work.job.deliver_by.map(|by| (by - started).to_std().unwrap_or_default());
        let timeout = left.map_or(work.task.timeout, |left| left.min(work.task.timeout));
        let call = target.provider.complete(&target.step.model, &work.prompt, timeout);
        let answer = tokio::select! {
            answer = call => answer,
            () = lost.cancelled() => {
                tracing::info!(job.id = %work.job.id, "lease lost, call cancelled");
                self.settle_turn(ask, &End::default()).await;
                return Next::Dropped;
            }
        };
        let took = Duration::from_millis(millis_between(started, self.clock.now()));
        self.settle_turn(ask, &end(&answer, *wait, took)).await;
        self.heed(target, told(&answer)).await;
        let error = match answer {
            Ok(completion) => return self.answered(work, target, completion, took),
            Err(error) => error,
        };
        if error.code == codes::TIMED_OUT && timeout < work.task.timeout {
            // The job's own deadline cut the call short: no fault of the step's.
            work.failed(target, &error, took);
            return Next::Expire;
        }
        self.failed(work, target, &error, (started, took)).await
    }

    /// The call begins.
    pub(super) fn begin(&self, work: &mut Work) -> DateTime<Utc> {
        let started = self.clock.now();
        if work.progress.queued_ms.is_none() {
            let queued = millis_between(work.job.created_at, started);
            work.progress.queued_ms = Some(queued);
            metrics::started(work.job.lane.as_str(), Duration::from_millis(queued));
        }
        self.learned.departed(&work.route.name, work.input_tokens, work.output_tokens);
        started
    }

    /// What to make of an answer.
    pub(super) fn answered(
        &self,
        work: &mut Work,
        target: &Target,
        answer: Completion,
        took: Duration,
    ) -> Next {
        match self.account(work, target, &answer, took) {
            Judged::Good(data) => {
                Next::End(Box::new(self.answer(work, &target.step, answer, data)))
            }
            Judged::Refused(why) => Next::Fail(refused(why)),
            Judged::Unfit(_) => {
                work.progress.best = Some(answer.text);
                work.progress.failures += 1;
                Next::Step
            }
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
        let names = (step.provider.as_str(), step.model.as_str());
        let priced = |usage| self.catalog.prices().cost(names, usage, self.clock.now());
        let cost_usd = answer.cost_usd.or_else(|| answer.usage.as_ref().and_then(priced));
        work.charge(answer.usage, cost_usd);
        metered(step, answer.usage.as_ref(), cost_usd);
        self.saved(step, answer.usage.as_ref());
        let judged = judge(work, answer);
        let (outcome, message) = match &judged {
            Judged::Good(_) => (Outcome::Answered, None),
            Judged::Refused(why) => (Outcome::Refused, Some(why.clone())),
            Judged::Unfit(why) => (Outcome::InvalidOutput, Some(why.clone())),
        };
        metrics::attempted(&step.account, &step.model, outcome.as_str(), took);
        if outcome == Outcome::Answered {
            self.bind(work, step);
        }
        work.tie.lead = None;
        work.note(Attempt { cost_usd, message, ..attempt(step, outcome, Some(200), took) });
        judged
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
    pub(super) async fn failed(
        &self,
        work: &mut Work,
        target: &Target,
        error: &ProviderError,
        (started, took): (DateTime<Utc>, Duration),
    ) -> Next {
        let step = &target.step;
        let outcome = work.failed(target, error, took);
        self.cool(target, error, outcome, started).await;
        match outcome {
            Outcome::RateLimited => {}
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
        if falls_through(outcome) {
            return Next::Step;
        }
        if outcome == Outcome::Rejected && another_may_serve(error) {
            work.progress.unservable.push(step.name());
            return Next::Step;
        }
        Next::Fail(match outcome {
            Outcome::Refused => refused(error.message.clone()),
            _ => rejected(error),
        })
    }

    /// Whether another than the first step it could have had answered.
    pub(super) fn is_fallback(&self, work: &Work, step: &Step) -> bool {
        let steps = self.steps(&work.route, work.job.provider.as_ref());
        // Which account of a group answers is no matter of better or worse.
        let alike = |first: &Step| work.tie.has_choice() && alike(first, step);
        steps.first().is_some_and(|first| first.name() != step.name() && !alike(first))
    }
}
