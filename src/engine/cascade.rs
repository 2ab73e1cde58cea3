//! Walking a job's route: one attempt after another until one answers.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::catalog::Target;
use super::finish::Answer;
use super::judge::{
    Judged, another_may_serve, attempt, backoff, end, falls_through, judge, metered, no_step,
    outcome_of, refused, rejected, told,
};
use super::learned::Lesson;
use super::place::{Departure, Placement};
use super::pump::Permit;
use super::upkeep::expired;
use crate::domain::completion::{Completion, Prompt, Usage};
use crate::domain::job::Job;
use crate::domain::limits::Cost;
use crate::domain::result::{Attempt, JobError, Outcome, Status, millis_between};
use crate::domain::route::Step;
use crate::domain::task::Task;
use crate::limiter::End;
use crate::provider::{ProviderError, codes};
use crate::queue::{LeaseToken, Verdict};
use crate::telemetry::metrics;

/// A job in this replica's hands.
pub(super) struct Run {
    pub(super) job: Box<Job>,
    pub(super) lease: LeaseToken,
    pub(super) lost: CancellationToken,
    pub(super) task: Arc<Task>,
    pub(super) prompt: Prompt,
    /// Names the turn it asks for next.
    pub(super) turn: String,
    /// As estimated from the prompt's size.
    pub(super) input_tokens: u64,
    /// As the task's answers usually have.
    pub(super) output_tokens: u64,
    pub(super) progress: Progress,
}

/// What a job has been through. Kept with it when it goes back into its line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Every call so far.
    pub(super) attempts: Vec<Attempt>,
    /// What they used together.
    pub(super) usage: Option<Usage>,
    /// What they cost together, as far as known.
    pub(super) cost_usd: f64,
    /// Whether some call's cost is not known.
    pub(super) unknown_cost: bool,
    /// Failed calls that waiting does not excuse.
    pub(super) failures: u32,
    /// Calls for which there was no connection: a line that is down for a while is no reason to
    /// give a job up.
    #[serde(default)]
    pub(super) unreachable: u32,
    /// From accept to the first attempt.
    pub(super) queued_ms: Option<u64>,
    /// Steps that can never serve this job.
    pub(super) unservable: Vec<String>,
    /// The best answer so far that did not fit the schema.
    pub(super) best: Option<String>,
}

/// Attempts kept on a receipt; rate-limited ones beyond this are dropped, the oldest first.
const KEPT_ATTEMPTS: usize = 50;

/// The longest pause before a job that every step has failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest hold a provider's hint can cause. A longer hint is asked about again then.
const LONGEST_HOLD: Duration = Duration::from_secs(3_600);

/// Added to a provider's hint: some cut it to whole seconds.
const HINT_SLACK: Duration = Duration::from_millis(250);

/// So many times more calls may find no connection before a job is given up: about an hour.
const UNREACHABLE_MORE: u32 = 5;

/// Failures of a step in a row that are forgiven before it is cooled.
const FORGIVEN: u32 = 2;

/// What an attempt means for the job.
enum Next {
    End(Box<Answer>),
    Fail(JobError),
    Expire,
    Step,
    Dropped,
}

/// Walks the route from this departure on. The permit is held until the job leaves our hands.
pub(super) async fn walk(engine: Arc<Engine>, mut run: Run, departure: Departure, permit: Permit) {
    let mut tried = Vec::new();
    let mut departure = departure;
    loop {
        match engine.attempt(&mut run, &departure).await {
            Next::End(answer) => break engine.finish_answered(&run, *answer).await,
            Next::Fail(error) => break engine.finish_without(&run, Status::Failed, error).await,
            Next::Expire => {
                break engine.finish_without(&run, Status::Expired, expired()).await;
            }
            Next::Dropped => break,
            Next::Step => {}
        }
        run.turn = turn_of(&run.job, &run.progress);
        tried.push(departure.target.step.name());
        if let Some(error) = run.given_up(engine.settings.max_attempts) {
            break engine.finish_without(&run, Status::Failed, error).await;
        }
        match engine.place(&run, &tried, Duration::ZERO).await {
            Ok(Placement::Go(next)) => departure = *next,
            Ok(Placement::Later(later)) => break engine.put_back(&run, later.wait).await,
            Ok(Placement::Nowhere) => break engine.after_last_step(&run).await,
            Ok(Placement::TooDear(error)) => {
                break engine.finish_without(&run, Status::Failed, error).await;
            }
            Err(fault) => {
                tracing::warn!(%fault, job.id = %run.job.id, "no turn could be asked for");
                break engine.put_back(&run, engine.settings.cooldown.0).await;
            }
        }
    }
    engine.held.remove(&run.lease);
    drop(permit);
}

/// Names the turn a job asks for next. The same whoever asks for it and however often, so that a
/// job waits at the limiter once.
pub(super) fn turn_of(job: &Job, progress: &Progress) -> String {
    format!("{}/{}", job.id, progress.attempts.len())
}

impl Run {
    /// Failed too often?
    fn given_up(&self, most: u32) -> Option<JobError> {
        let progress = &self.progress;
        let enough = progress.failures >= most
            || progress.unreachable >= most.saturating_mul(UNREACHABLE_MORE);
        enough.then(|| JobError {
            code: "providers_failed".to_owned(),
            message: format!(
                "All {} attempts failed; the last: {}",
                self.progress.attempts.len(),
                self.last()
            ),
            retryable: true,
            hint: Some("Replay the job once the providers are well again.".to_owned()),
        })
    }

    /// The last attempt in words.
    pub(super) fn last(&self) -> String {
        self.progress.attempts.last().map_or_else(
            || "there was none".to_owned(),
            |last| {
                let said = last.message.as_deref().unwrap_or(last.outcome.as_str());
                format!("{}/{} said: {said}", last.account, last.model)
            },
        )
    }

    /// Adds a call to the receipt.
    fn charge(&mut self, usage: Option<Usage>, cost_usd: Option<f64>) {
        let progress = &mut self.progress;
        if let Some(usage) = usage {
            progress.usage = Some(progress.usage.unwrap_or_default().plus(usage));
        }
        match cost_usd {
            Some(cost) => progress.cost_usd += cost,
            None => progress.unknown_cost = true,
        }
    }

    /// Puts a failed call on the receipt.
    fn failed(&mut self, target: &Target, error: &ProviderError, took: Duration) -> Outcome {
        let (step, outcome) = (&target.step, outcome_of(error));
        metrics::attempted(&step.account, &step.model, outcome.as_str(), took);
        tracing::info!(
            job.id = %self.job.id, account = step.account, model = step.model,
            outcome = outcome.as_str(), status = error.status, code = error.code,
            duration_ms = took.as_millis(), "attempt failed: {}", error.message
        );
        self.note(Attempt {
            retry_after_ms: error
                .retry_after
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            message: Some(error.message.clone()),
            ..attempt(step, outcome, error.status, took)
        });
        outcome
    }

    fn note(&mut self, attempt: Attempt) {
        self.progress.attempts.push(attempt);
        while self.progress.attempts.len() > KEPT_ATTEMPTS {
            let limited = |attempt: &Attempt| attempt.outcome == Outcome::RateLimited;
            let oldest = self.progress.attempts.iter().position(limited).unwrap_or(0);
            self.progress.attempts.remove(oldest);
        }
    }
}

impl Engine {
    /// One call to a provider.
    async fn attempt(&self, run: &mut Run, departure: &Departure) -> Next {
        let Departure { target, ask, wait, .. } = departure;
        tokio::select! {
            () = tokio::time::sleep(*wait) => {}
            () = run.lost.cancelled() => {
                self.settle_turn(ask, &End::used(Cost::default())).await;
                return Next::Dropped;
            }
        }
        let started = self.clock.now();
        if run.progress.queued_ms.is_none() {
            let queued = millis_between(run.job.created_at, started);
            run.progress.queued_ms = Some(queued);
            metrics::started(run.job.lane.as_str(), Duration::from_millis(queued));
        }
        self.learned.departed(&run.job.route, run.input_tokens, run.output_tokens);
        let left = run.job.deliver_by.map(|by| (by - started).to_std().unwrap_or_default());
        let timeout = left.map_or(run.task.timeout, |left| left.min(run.task.timeout));
        let call = target.provider.complete(&target.step.model, &run.prompt, timeout);
        let answer = tokio::select! {
            answer = call => answer,
            () = run.lost.cancelled() => {
                tracing::info!(job.id = %run.job.id, "lease lost, call cancelled");
                self.settle_turn(ask, &End::default()).await;
                return Next::Dropped;
            }
        };
        let took = Duration::from_millis(millis_between(started, self.clock.now()));
        self.settle_turn(ask, &end(&answer, *wait, took)).await;
        self.heed(target, told(&answer)).await;
        let error = match answer {
            Ok(completion) => return self.answered(run, target, completion, took),
            Err(error) => error,
        };
        if error.code == codes::TIMED_OUT && timeout < run.task.timeout {
            // The job's own deadline cut the call short: no fault of the step's.
            run.failed(target, &error, took);
            return Next::Expire;
        }
        self.failed(run, target, &error, (started, took)).await
    }

    /// What to make of an answer.
    fn answered(&self, run: &mut Run, target: &Target, answer: Completion, took: Duration) -> Next {
        let step = &target.step;
        self.learned.answered(&Lesson {
            step: &step.name(),
            task: &run.task.name,
            cap: run.task.max_output_tokens,
            estimated_input: run.input_tokens,
            usage: answer.usage.as_ref(),
            took,
        });
        let names = (step.provider.as_str(), step.model.as_str());
        let priced = |usage| self.catalog.prices().cost(names, usage, self.clock.now());
        let cost_usd = answer.cost_usd.or_else(|| answer.usage.as_ref().and_then(priced));
        run.charge(answer.usage, cost_usd);
        metered(step, answer.usage.as_ref(), cost_usd);
        let judged = judge(run, &answer);
        let (outcome, message) = match &judged {
            Judged::Good(_) => (Outcome::Answered, None),
            Judged::Refused(why) => (Outcome::Refused, Some(why.clone())),
            Judged::Unfit(why) => (Outcome::InvalidOutput, Some(why.clone())),
        };
        metrics::attempted(&step.account, &step.model, outcome.as_str(), took);
        let attempt = Attempt { cost_usd, message, ..attempt(step, outcome, Some(200), took) };
        run.note(attempt);
        match judged {
            Judged::Good(data) => {
                let fell_back = self.is_fallback(run, step);
                Next::End(Box::new(Answer {
                    step: step.clone(),
                    completion: answer,
                    data,
                    fell_back,
                }))
            }
            Judged::Refused(why) => Next::Fail(refused(why)),
            Judged::Unfit(_) => {
                run.progress.best = Some(answer.text);
                run.progress.failures += 1;
                Next::Step
            }
        }
    }

    /// What to make of an error.
    async fn failed(
        &self,
        run: &mut Run,
        target: &Target,
        error: &ProviderError,
        (started, took): (DateTime<Utc>, Duration),
    ) -> Next {
        let step = &target.step;
        let outcome = run.failed(target, error, took);
        self.cool(target, error, outcome, started).await;
        match outcome {
            Outcome::RateLimited => {}
            Outcome::Unreachable => run.progress.unreachable += 1,
            Outcome::Answered
            | Outcome::InvalidOutput
            | Outcome::Overloaded
            | Outcome::TimedOut
            | Outcome::Garbled
            | Outcome::Unauthorized
            | Outcome::Rejected
            | Outcome::Refused => run.progress.failures += 1,
        }
        if falls_through(outcome) {
            return Next::Step;
        }
        if outcome == Outcome::Rejected && another_may_serve(error) {
            run.progress.unservable.push(step.name());
            return Next::Step;
        }
        Next::Fail(match outcome {
            Outcome::Refused => refused(error.message.clone()),
            _ => rejected(error),
        })
    }

    /// Keeps everybody off a step that cannot serve now.
    async fn cool(
        &self,
        target: &Target,
        error: &ProviderError,
        outcome: Outcome,
        started: DateTime<Utc>,
    ) {
        let name = target.step.name();
        let failed = || self.learned.failed(&name, started, self.clock.now());
        match outcome {
            Outcome::RateLimited => {
                // A hint is cut to whole seconds by some providers: come a little later.
                let hinted = error.retry_after.map(|wait| wait.min(LONGEST_HOLD) + HINT_SLACK);
                let unhinted = || {
                    failed()
                        .map(|count| backoff(Duration::from_secs(1), count, self.chance.share()))
                };
                if let Some(hold) = hinted.or_else(unhinted) {
                    self.shut(&target.limit_gates(), hold, "the provider answered 429").await;
                }
            }
            Outcome::Unauthorized => {
                tracing::error!(
                    account = target.step.account,
                    status = error.status,
                    "account disabled: {}",
                    error.message
                );
                let time = self.settings.disabled.0;
                self.shut(&[target.account_gate()], time, "the provider refused the key").await;
            }
            Outcome::Overloaded | Outcome::TimedOut | Outcome::Unreachable | Outcome::Garbled => {
                let hinted = error.retry_after.map(|wait| wait.min(LONGEST_PAUSE));
                let cooled = failed()
                    .and_then(|failures| failures.checked_sub(FORGIVEN))
                    .filter(|beyond| *beyond > 0)
                    .map(|beyond| backoff(self.settings.cooldown.0, beyond, self.chance.share()));
                if let Some(time) = hinted.max(cooled) {
                    self.shut(&[target.step_gate()], time, outcome.as_str()).await;
                }
            }
            Outcome::Answered | Outcome::InvalidOutput | Outcome::Rejected | Outcome::Refused => {}
        }
    }

    /// Every step was tried or cannot serve: pause, or fail when none ever can.
    async fn after_last_step(&self, run: &Run) {
        let route = self.catalog.route(&run.job.route);
        let steps = route.map(|route| self.steps(route, run.job.provider.as_ref()));
        let hopeless = steps.is_none_or(|steps| {
            steps.iter().all(|step| run.progress.unservable.contains(&step.name()))
        });
        if hopeless {
            let error = no_step(run);
            self.finish_without(run, Status::Failed, error).await;
        } else {
            let failures = run.progress.failures.saturating_add(run.progress.unreachable);
            let pause = backoff(self.settings.cooldown.0, failures / 2, self.chance.share());
            self.put_back(run, pause).await;
        }
    }

    /// Back into its line, with what it has been through.
    pub(super) async fn put_back(&self, run: &Run, after: Duration) {
        // A little apart, so that those put back together do not come back together.
        let spread = after.mul_f64(0.1 * self.chance.share());
        let after = (after + spread).clamp(Duration::from_millis(5), LONGEST_PAUSE);
        let progress = serde_json::to_vec(&run.progress).ok().map(Into::into);
        self.settle_surely(&run.lease, Verdict::Back { after, progress }).await;
    }

    /// Whether another than the first step the job could have had answered.
    fn is_fallback(&self, run: &Run, step: &Step) -> bool {
        let first = self.catalog.route(&run.job.route).and_then(|route| {
            self.steps(route, run.job.provider.as_ref()).first().map(|s| s.name())
        });
        first.is_some_and(|first| first != step.name())
    }
}
