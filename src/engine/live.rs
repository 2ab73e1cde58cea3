//! Calls that somebody waits for on an open connection: the same steps, limits and judgement as a
//! job, but nothing is stored.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Engine;
use super::ask::{Called, Form};
use super::attempt::whole;
use super::judge::{backoff, cost_of_failure, end};
use super::money::{OverBudget, Unadmitted};
use super::named::Named;
use super::next::{Answer, Next};
use super::place::{Departure, Placement};
use super::run::Permit;
use super::streamed::{Begun, Streamed};
use super::unanswered::nobody;
use super::work::{Prepared, Progress, Work};
use crate::domain::completion::{Completion, Finish};
use crate::domain::job::{Job, Lane, ProviderChoice};
use crate::domain::prompt::Prompt;
use crate::domain::result::{JobError, JobResult, Outcome, Status};
use crate::domain::schema::Violation;
use crate::domain::task::Task;
use crate::limiter::LimiterError;
use crate::telemetry::metrics;

/// What is called for.
pub struct Call {
    /// Who calls.
    pub caller: String,
    /// The model, route or task.
    pub named: Named,
    /// What is asked.
    pub prompt: Prompt,
    /// The longest to wait for a turn.
    pub max_wait: Duration,
    /// The caller's automation.
    pub workflow: Option<String>,
    /// The conversation it belongs to.
    pub session: Option<String>,
    /// Which steps of the route may be used.
    pub provider: Option<ProviderChoice>,
    /// The most all attempts together may cost.
    pub max_cost_usd: Option<f64>,
    /// The caller's own data.
    pub metadata: Option<Box<RawValue>>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Done {
    /// In our one shape, with the receipt.
    pub result: JobResult,
    /// As the provider gave it.
    pub completion: Completion,
    /// What its caller is to be warned of: the end of its budget is near.
    pub warnings: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The input does not fit the task's schema.
    #[error("the input does not fit the task's schema")]
    InvalidInput(Vec<Violation>),
    /// No turn came in time.
    #[error("no turn within {waited:?}")]
    Busy {
        /// How long was waited.
        waited: Duration,
        /// When there will be room.
        retry_after: Duration,
    },
    /// Its caller's budget could not be kept.
    #[error("{0}")]
    Unpayable(String),
    /// The accounts that could serve it are shut: their providers do not accept them.
    #[error("{why}")]
    ShutOut {
        /// Which, and why.
        why: String,
        /// When the first is asked again.
        retry_after: Duration,
    },
    /// What the caller may use up is used up.
    #[error("{message}")]
    OverBudget {
        /// What is used up and when it comes back, for a person.
        message: String,
        /// When to come again.
        retry_after: Duration,
    },
    /// The prompt can be said in one language only, and no step speaks it.
    #[error("{by} can be sent to a provider that speaks {to}'s language only")]
    Unsayable {
        /// What no other language has words for.
        by: String,
        /// Whose language it is.
        to: &'static str,
    },
    /// The model or a filter declined in an answer of its own.
    #[error("the model declined")]
    Declined(Box<Done>),
    /// The limiter's store is away, or the service is stopping.
    #[error("{0}")]
    Unavailable(String),
    /// No turn came in time or what the caller may use up is used up, after calls were made.
    #[error("{fault}")]
    After {
        /// Why it goes no further.
        fault: Box<Self>,
        /// What was tried.
        receipt: Box<JobResult>,
    },
    /// The cascade has ended without an answer; the receipt says why.
    #[error("{}", .0.error.as_ref().map_or("failed", |error| error.message.as_str()))]
    Failed(Box<JobResult>),
}

impl From<LimiterError> for LiveError {
    fn from(fault: LimiterError) -> Self {
        metrics::store_error("turn");
        tracing::warn!(%fault, "no turn could be asked for");
        Self::Unavailable("The limits' store cannot be reached.".to_owned())
    }
}

impl From<OverBudget> for LiveError {
    fn from(OverBudget { message, retry_after }: OverBudget) -> Self {
        Self::OverBudget { message, retry_after: retry_after.max(SOONEST) }
    }
}

impl From<Unadmitted> for LiveError {
    fn from(fault: Unadmitted) -> Self {
        match fault {
            Unadmitted::OverBudget(over) => over.into(),
            Unadmitted::Unpriced => Self::Unpayable(
                "No step has a known price, so your budget could not be kept. Add the model to \
                 [[prices]], or name another."
                    .to_owned(),
            ),
            Unadmitted::Budget(fault) => {
                metrics::store_error("count");
                tracing::warn!(%fault, "a live call could not be counted");
                Self::Unavailable("The budgets' store cannot be reached.".to_owned())
            }
        }
    }
}

/// The shortest `Retry-After`.
const SOONEST: Duration = Duration::from_secs(1);

impl Engine {
    /// The whole answer. Dropped, the call to the provider is cancelled.
    pub async fn call(self: &Arc<Self>, call: Call) -> Result<Done, LiveError> {
        let mut live = Live::new(self, call)?;
        live.admit().await?;
        match live.answered().await {
            Ok(done) => Ok(done),
            Err(fault) => Err(live.over(fault).await),
        }
    }

    /// The answer as a stream, once its first piece is there. Until then the cascade may go on to
    /// another step; afterwards not. An answer that must fit a schema is made whole first, so that
    /// it can still be repaired, and comes as one piece.
    pub async fn call_streamed(self: &Arc<Self>, call: Call) -> Result<Streamed, LiveError> {
        let mut live = Live::new(self, call)?;
        live.admit().await?;
        let (begun, permit) = match live.begun().await {
            Ok(begun) => begun,
            Err(fault) => return Err(live.over(fault).await),
        };
        let made = if live.work.task.output.is_some() { Streamed::of_whole } else { Streamed::new };
        Ok(made(live.engine, live.work, begun, permit).warn(live.warnings))
    }
}

/// A live call on its way.
struct Live {
    engine: Arc<Engine>,
    work: Work,
    /// How long it has waited for turns, but for the wait under way, and since when that is.
    waited: Duration,
    waits_since: Instant,
    max_wait: Duration,
    tried: Vec<String>,
    warnings: Vec<String>,
}

impl Live {
    fn new(engine: &Arc<Engine>, call: Call) -> Result<Self, LiveError> {
        let max_wait = call.max_wait;
        let work = engine.live_work(call)?;
        let (tried, warnings) = (Vec::new(), Vec::new());
        let (engine, waited, waits_since) = (Arc::clone(engine), Duration::ZERO, Instant::now());
        Ok(Self { engine, work, waited, waits_since, max_wait, tried, warnings })
    }

    /// Counts the call, or refuses it.
    async fn admit(&mut self) -> Result<(), LiveError> {
        self.engine.keeps_its_price(&self.work)?;
        let least = self.engine.least_cost_of(&self.work);
        self.warnings = self.engine.admit(&self.work.job.caller, 1, least).await?;
        Ok(())
    }

    /// The whole answer.
    async fn answered(&mut self) -> Result<Done, LiveError> {
        let _permit = self.permit().await?;
        self.whole().await.map(|(done, _)| done)
    }

    /// The answer up to its first piece; all of one that must fit a schema.
    async fn begun(&mut self) -> Result<(Begun, Permit), LiveError> {
        let permit = self.permit().await?;
        let engine = Arc::clone(&self.engine);
        if self.work.task.output.is_some() {
            let (done, departure) = self.whole().await?;
            return Ok((Begun::whole(&engine, done.completion, &departure), permit));
        }
        loop {
            let mut departure = self.departure().await?;
            match engine.attempt_streamed(&mut self.work, &mut departure, &mut self.tried).await {
                Ok(begun) => return Ok((begun, permit)),
                Err(next) => self.after(&departure, next)?,
            }
        }
    }

    /// What its end without an answer comes to: with a receipt when calls were made; one for which
    /// there was no turn at all does not count.
    async fn over(&self, fault: LiveError) -> LiveError {
        let code = match &fault {
            LiveError::Busy { .. } => "no_turn",
            LiveError::OverBudget { .. } => "budget_exhausted",
            LiveError::Unavailable(_) => "store_unavailable",
            _ => return fault,
        };
        if self.work.progress.attempts.is_empty() {
            self.engine.dismiss(&self.work.job.caller, 1).await;
            return fault;
        }
        let (code, message) = (code.to_owned(), fault.to_string());
        let error = JobError { code, message, retryable: true, hint: None };
        LiveError::After { fault: Box::new(fault), receipt: Box::new(self.ended(error)) }
    }

    async fn permit(&self) -> Result<Permit, LiveError> {
        let permit = self.engine.permit(Lane::Interactive);
        match tokio::time::timeout(self.max_wait, permit).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(LiveError::Unavailable("The service is stopping.".to_owned())),
            Err(_late) => Err(self.busy(SOONEST)),
        }
    }

    /// The whole answer, and where it came from.
    async fn whole(&mut self) -> Result<(Done, Departure), LiveError> {
        let engine = Arc::clone(&self.engine);
        loop {
            let mut departure = self.departure().await?;
            match engine.attempt_live(&mut self.work, &mut departure, &mut self.tried).await {
                (Next::End(answer), _) => return Ok((self.done(*answer), departure)),
                (Next::Fail(error), Some(completion)) => {
                    let (result, warnings) = (self.ended(error), self.warnings.clone());
                    return Err(LiveError::Declined(Box::new(Done {
                        result,
                        completion,
                        warnings,
                    })));
                }
                (next, _) => self.after(&departure, next)?,
            }
        }
    }

    /// A turn at some step, waited for as long as may be. What a provider took before does not
    /// count as waiting.
    async fn departure(&mut self) -> Result<Departure, LiveError> {
        if self.work.progress.made > 0 {
            self.waits_since = Instant::now();
        }
        let found = self.turn().await;
        self.waited = self.has_waited();
        found
    }

    fn has_waited(&self) -> Duration {
        self.waited + self.waits_since.elapsed()
    }

    async fn turn(&mut self) -> Result<Departure, LiveError> {
        loop {
            let waited = self.has_waited();
            self.work.tie.may_wait = Some(self.max_wait.saturating_sub(waited));
            let patience = self.work.route.patience(Lane::Interactive).saturating_sub(waited);
            let wait = match self.engine.place(&mut self.work, &mut self.tried, patience).await? {
                Placement::Go(departure) => return Ok(*departure),
                Placement::TooDear(error) => return Err(self.failed(error)),
                Placement::Spent(over) => return Err(over.into()),
                Placement::Nowhere => self.round()?,
                Placement::Later(later) => {
                    let left = self.max_wait.saturating_sub(waited);
                    if later.wait > left {
                        return Err(self.too_late(later.wait).await);
                    }
                    tokio::select! {
                        () = self.engine.freed.notified(), if later.crowded => continue,
                        () = tokio::time::sleep(later.wait) => continue,
                    }
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Every step was tried: how long to wait for another round.
    fn round(&mut self) -> Result<Duration, LiveError> {
        let work = &self.work;
        if self.tried.is_empty() || self.engine.is_hopeless(work) {
            return Err(self.failed(nobody(work)));
        }
        let failures = work.progress.failures.saturating_add(work.progress.unreachable);
        let chance = self.engine.chance.share();
        let pause = backoff(self.engine.settings.cooldown.0, failures / 2, chance);
        if self.has_waited() + pause > self.max_wait {
            return Err(self.failed(work.all_failed()));
        }
        self.tried.clear();
        Ok(pause)
    }

    /// What an attempt without an answer leads to.
    fn after(&mut self, departure: &Departure, next: Next) -> Result<(), LiveError> {
        match next {
            Next::Fail(error) => return Err(self.failed(error)),
            Next::Expire => return Err(self.failed(self.work.all_failed())),
            Next::Again => {}
            Next::Escalate => {
                self.engine.escalate(&mut self.work);
                self.tried.clear();
            }
            Next::End(_) | Next::Dropped | Next::Step => {
                self.tried.push(departure.target.step.name());
            }
        }
        self.work.next_turn();
        match self.work.given_up(self.engine.settings.max_attempts) {
            Some(error) => Err(self.failed(error)),
            None => Ok(()),
        }
    }

    /// No turn comes in time: for want of room, unless providers have failed before.
    async fn too_late(&self, wait: Duration) -> LiveError {
        let attempts = &self.work.progress.attempts;
        if attempts.iter().all(|attempt| attempt.outcome == Outcome::RateLimited) {
            let why = self.engine.shut_out(&self.work, wait).await;
            return why.map_or_else(
                || self.busy(wait),
                |why| LiveError::ShutOut { why, retry_after: wait.max(SOONEST) },
            );
        }
        self.failed(self.work.all_failed())
    }

    fn busy(&self, wait: Duration) -> LiveError {
        LiveError::Busy { waited: self.max_wait, retry_after: wait.max(SOONEST) }
    }

    fn failed(&self, error: JobError) -> LiveError {
        LiveError::Failed(Box::new(self.ended(error)))
    }

    fn ended(&self, error: JobError) -> JobResult {
        let result = self.engine.result_without(&self.work, Status::Failed, error);
        self.engine.told(&self.work.job, &result);
        result
    }

    fn done(&self, answer: Answer) -> Done {
        let completion = answer.completion.clone();
        let result = self.engine.result_with(&self.work, answer);
        self.engine.told(&self.work.job, &result);
        Done { result, completion, warnings: self.warnings.clone() }
    }
}

impl Engine {
    /// One call to a provider whose caller may hang up, which cancels it.
    /// With the answer when the model declined in one.
    async fn attempt_live(
        self: &Arc<Self>,
        work: &mut Work,
        departure: &mut Departure,
        tried: &mut Vec<String>,
    ) -> (Next, Option<Completion>) {
        let called = self.ask(work, departure, tried, Form::Whole).await;
        let Called { mut taken, started, answer } = called;
        let (target, took) = (&departure.target, self.took(started));
        let answer = whole(answer).await;
        taken.settle(target, end(&answer, departure.wait, took));
        match answer {
            Ok(completion) => {
                let declined = matches!(completion.finish, Finish::Refusal | Finish::ContentFilter);
                let said = declined.then(|| completion.clone());
                let next = self.answered(work, target, completion, took);
                departure.pay_later(work.last_cost());
                (next, said)
            }
            Err(error) => {
                departure.pay_later(cost_of_failure(&error));
                (self.failed(work, target, &error, (started, took)), None)
            }
        }
    }

    /// What a live call asks of the providers.
    fn live_work(&self, call: Call) -> Result<Work, LiveError> {
        let (task, route, prompt) = match call.named {
            Named::Route(route) => (self.plain_task(&call.prompt), route, call.prompt),
            Named::Task(task) => {
                let route = self.catalog.route(task.route(Lane::Interactive)).cloned();
                let missing = || LiveError::Unavailable("The task's route is gone.".to_owned());
                let prompt = task.asked_live(call.prompt).map_err(LiveError::InvalidInput)?;
                (task, route.ok_or_else(missing)?, prompt)
            }
        };
        let now = self.clock.now();
        let job = Job {
            id: self.ids.job(now),
            caller: call.caller,
            task: task.name.clone(),
            input: RawValue::NULL.to_owned(),
            route: route.name.clone(),
            lane: Lane::Interactive,
            created_at: now,
            workflow: call.workflow,
            session: call.session,
            callback: None,
            deliver_by: None,
            max_cost_usd: call.max_cost_usd,
            provider: call.provider,
            metadata: call.metadata,
            group: None,
            traceparent: call.traceparent,
            share: None,
            prefix: None,
        };
        let prepared = Prepared { task, route, prompt };
        let work = self.work(Box::new(job), prepared, Progress::default());
        self.sayable(&work)?;
        Ok(work)
    }

    /// Whether some step has words for the prompt. A task has a prompt of its own making.
    fn sayable(&self, work: &Work) -> Result<(), LiveError> {
        let Some(bound) = &work.prompt.bound else { return Ok(()) };
        if work.prompt.native.is_some() && !self.steps(&work.route, &work.wish()).is_empty() {
            return Ok(());
        }
        Err(LiveError::Unsayable { by: bound.by.clone(), to: bound.to.as_str() })
    }

    /// A call without a task of its own: whatever comes is the answer.
    fn plain_task(&self, prompt: &Prompt) -> Arc<Task> {
        Arc::new(Task::plain(prompt.max_output_tokens, self.settings.live.timeout.0))
    }
}
