//! Accepting jobs: checked in full before anything is stored, stored before anything is promised.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, value::RawValue};

use super::Engine;
use super::beginnings::Made;
use super::estimate::{Asked, Estimate};
use super::order::Wish;
pub use super::refusal::IntakeError;
use crate::callback::http::check_headers;
use crate::domain::job::{Callback, Group, Job, Lane, ProviderChoice};
use crate::domain::prompt::Prompt;
use crate::domain::schema::Violation;
use crate::domain::task::Task;
use crate::queue::{Batch, Dedup, Durability, Pushed, QueueError};
use crate::telemetry::metrics;

/// What a caller submits.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The declared kind of work.
    pub task: String,
    /// What the task works on.
    pub input: Box<RawValue>,
    /// Where the result goes.
    pub callback: Option<Callback>,
    /// The caller's automation.
    pub workflow: Option<String>,
    /// The conversation it belongs to.
    pub session: Option<String>,
    /// How soon somebody wants the answer; default the task's.
    pub lane: Option<Lane>,
    /// After this moment nobody wants the answer.
    pub deliver_by: Option<DateTime<Utc>>,
    /// The most all attempts together may cost.
    pub max_cost_usd: Option<f64>,
    /// Which steps of the route may be used.
    pub provider: Option<ProviderChoice>,
    /// The caller's own data.
    pub metadata: Option<Box<RawValue>>,
}

/// Who submits, and under which idempotency key.
#[derive(Clone, Debug)]
pub struct Submitter {
    /// The caller.
    pub caller: String,
    /// Recognises a repetition.
    pub dedup: Option<Dedup>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// A group as it is submitted.
#[derive(Clone, Debug)]
pub struct GroupSubmission {
    /// The jobs, in order.
    pub jobs: Vec<Submission>,
    /// Where the results go together.
    pub callback: Option<Callback>,
    /// The caller's own data.
    pub metadata: Option<Box<RawValue>>,
}

/// What came of a submit.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The job's or group's id.
    pub id: String,
    /// Whether the same request came before.
    pub repeated: bool,
    /// Where it stands in its line; `None` for a repetition.
    pub position: Option<u64>,
    /// When it will start and what it will cost; `None` for a repetition.
    pub estimate: Option<Estimate>,
    /// What the job survives from now on.
    pub durability: Durability,
    /// What its caller is to be warned of: the end of its budget is near.
    pub warnings: Vec<String>,
}

/// When to come again if the backlog or the workflow is full.
const BUSY_PAUSE: Duration = Duration::from_secs(10);

impl Engine {
    /// Accepts a job: once this answers, it is stored.
    pub async fn submit(
        &self,
        from: Submitter,
        submission: Submission,
    ) -> Result<Accepted, IntakeError> {
        let checked = match self.check_load(1) {
            Ok(()) => self.job(&from, submission).await,
            Err(full) => Err(full),
        };
        let (job, task) = match checked {
            Ok(checked) => checked,
            Err(fault) => return self.recalled(&from, fault).await,
        };
        let least = self.least_cost(&asked(&job, &task));
        let warnings = match self.admit(&from.caller, 1, least).await {
            Ok(warnings) => warnings,
            Err(fault) => return self.recalled(&from, fault.into()).await,
        };
        let id = job.id.to_string();
        let names = [(task.name.as_str(), job.lane)];
        let batch = Batch { jobs: vec![job.clone()], group: None, dedup: from.dedup };
        let pushed = self.push(batch, &from.caller).await?;
        let estimate = |position| self.estimate(&asked(&job, &task), position);
        Ok(self.accepted(pushed, id, &names, estimate)?.warned(warnings))
    }

    /// Accepts a group: all of its jobs or none.
    pub async fn submit_group(
        &self,
        from: Submitter,
        submission: GroupSubmission,
    ) -> Result<Accepted, IntakeError> {
        let (batch, tasks) = match self.group(&from, submission).await {
            Ok(made) => made,
            Err(fault) => return self.recalled(&from, fault).await,
        };
        let jobs = batch.jobs.clone();
        let leasts = jobs.iter().zip(&tasks).map(|(job, task)| self.least_cost(&asked(job, task)));
        let least = leasts.flatten().min_by(f64::total_cmp);
        let warnings = match self.admit(&from.caller, count_of(&jobs), least).await {
            Ok(warnings) => warnings,
            Err(fault) => return self.recalled(&from, fault.into()).await,
        };
        let id = batch.group.as_ref().map(|group| group.id.to_string()).unwrap_or_default();
        let names: Vec<(&str, Lane)> =
            jobs.iter().map(|job| (job.task.as_str(), job.lane)).collect();
        let pushed = self.push(batch, &from.caller).await?;
        let accepted = self.accepted(pushed, id, &names, |position| {
            let now = self.clock.now();
            let each = |((job, task), behind): ((&Job, &Arc<Task>), u64)| {
                self.estimate(&asked(job, task), position + behind)
            };
            let estimates: Vec<Estimate> = jobs.iter().zip(&tasks).zip(0..).map(each).collect();
            Estimate {
                start_at: estimates.first().map_or(now, |first| first.start_at),
                finish_at: estimates.iter().map(|one| one.finish_at).max().unwrap_or(now),
                cost_usd: estimates.iter().map(|one| one.cost_usd).sum(),
            }
        });
        Ok(accepted?.warned(warnings))
    }

    /// Stores jobs that were counted; those that are not stored are taken back.
    async fn push(&self, batch: Batch, caller: &str) -> Result<Pushed, IntakeError> {
        let jobs = count_of(&batch.jobs);
        let pushed = self.queue.push(batch).await;
        // What is not confirmed may have been stored: it stays counted.
        let is_stored =
            matches!(pushed, Ok(Pushed::Stored { .. }) | Err(QueueError::Unconfirmed { .. }));
        if !is_stored {
            self.dismiss(caller, jobs).await;
        }
        Ok(pushed?)
    }

    /// Checks a group in full and makes its jobs.
    async fn group(
        &self,
        from: &Submitter,
        submission: GroupSubmission,
    ) -> Result<(Batch, Vec<Arc<Task>>), IntakeError> {
        self.check_load(u64::try_from(submission.jobs.len()).unwrap_or(u64::MAX))?;
        if let Some(callback) = &submission.callback {
            self.check_callback(callback).await?;
        }
        let id = self.ids.group(self.clock.now());
        let mut jobs = Vec::with_capacity(submission.jobs.len());
        let mut tasks = Vec::with_capacity(submission.jobs.len());
        for (index, submission) in submission.jobs.into_iter().enumerate() {
            let made = self.job(from, submission).await;
            let (job, task) =
                made.map_err(|fault| IntakeError::InGroup { index, fault: Box::new(fault) })?;
            jobs.push(Job { group: Some(id.clone()), ..job });
            tasks.push(task);
        }
        let group = Group {
            id,
            caller: from.caller.clone(),
            callback: submission.callback,
            metadata: submission.metadata,
            jobs: jobs.iter().map(|job| job.id.clone()).collect(),
            created_at: self.clock.now(),
        };
        Ok((Batch { jobs, group: Some(group), dedup: from.dedup.clone() }, tasks))
    }

    /// A request that does not pass now may be the repetition of one that did.
    async fn recalled(
        &self,
        from: &Submitter,
        fault: IntakeError,
    ) -> Result<Accepted, IntakeError> {
        let Some(dedup) = &from.dedup else {
            return Err(fault);
        };
        match self.queue.recall(dedup).await? {
            Some(pushed) => self.accepted(pushed, String::new(), &[], |_| {
                let now = self.clock.now();
                Estimate { start_at: now, finish_at: now, cost_usd: None }
            }),
            None => Err(fault),
        }
    }

    fn accepted(
        &self,
        pushed: Pushed,
        id: String,
        jobs: &[(&str, Lane)],
        estimate: impl FnOnce(u64) -> Estimate,
    ) -> Result<Accepted, IntakeError> {
        match pushed {
            Pushed::Stored { ahead, durability } => {
                let position = ahead.rank();
                for (task, lane) in jobs {
                    metrics::accepted(task, lane.as_str());
                }
                let estimate = Some(estimate(position));
                let position = Some(position);
                let warnings = Vec::new();
                Ok(Accepted { id, repeated: false, position, estimate, durability, warnings })
            }
            Pushed::Repeated { id } => {
                let durability = self.queue.durability();
                let (position, estimate, warnings) = (None, None, Vec::new());
                Ok(Accepted { id, repeated: true, position, estimate, durability, warnings })
            }
            Pushed::KeyReused => Err(IntakeError::KeyReused),
            Pushed::WorkflowFull { workflow, open, most } => {
                Err(IntakeError::WorkflowFull { workflow, open, most, retry_after: BUSY_PAUSE })
            }
        }
    }

    /// Checks a submission and makes a job of it.
    async fn job(
        &self,
        from: &Submitter,
        submission: Submission,
    ) -> Result<(Job, Arc<Task>), IntakeError> {
        let now = self.clock.now();
        let task = self.catalog.task_for(&from.caller, &submission.task)?;
        let conversation = check_input(task, &submission.input)?;
        if let Some(callback) = &submission.callback {
            self.check_callback(callback).await?;
        }
        if submission.deliver_by.is_some_and(|by| by <= now) {
            return Err(IntakeError::PastDeadline);
        }
        let lane = submission.lane.unwrap_or(task.lane);
        let route = task.route(lane);
        self.check_steps(task, route, &submission)?;
        let job = Job {
            id: self.ids.job(now),
            prefix: self.cached_prefix(&Made {
                caller: &from.caller,
                task,
                session: submission.session.as_deref(),
                input: &submission.input,
                conversation: conversation.as_ref(),
            }),
            caller: from.caller.clone(),
            task: submission.task,
            input: submission.input,
            route: route.to_owned(),
            lane,
            created_at: now,
            share: self.catalog.share(submission.workflow.as_deref()),
            workflow: submission.workflow,
            session: submission.session,
            callback: submission.callback,
            deliver_by: submission.deliver_by,
            max_cost_usd: submission.max_cost_usd,
            provider: submission.provider,
            metadata: submission.metadata,
            group: None,
            traceparent: from.traceparent.clone(),
        };
        self.check_budget(&job, task)?;
        if let Some(why) = self.too_small(&asked(&job, task)) {
            return Err(IntakeError::LargerThanLimit { why });
        }
        self.check_deadline(&job, task).await?;
        Ok((job, Arc::clone(task)))
    }

    fn check_load(&self, more: u64) -> Result<(), IntakeError> {
        let full = self.load.open().saturating_add(more) > self.settings.max_backlog
            || self.load.memory().is_some_and(|used| used >= self.settings.max_memory);
        if full { Err(IntakeError::Busy { retry_after: BUSY_PAUSE }) } else { Ok(()) }
    }

    async fn check_callback(&self, callback: &Callback) -> Result<(), IntakeError> {
        check_headers(&callback.headers).map_err(IntakeError::CallbackHeaders)?;
        self.poster.guard().admit_resolved(&callback.url).await.map_err(IntakeError::Callback)?;
        Ok(())
    }

    /// A deadline is refused that would pass although the job went before all others. What waits in the
    /// line says little: a job is pulled forward as its deadline nears.
    async fn check_deadline(&self, job: &Job, task: &Task) -> Result<(), IntakeError> {
        let Some(by) = job.deliver_by else {
            return Ok(());
        };
        // Those with a nearer deadline are pulled forward before it, one in two departures.
        let sooner = self.queue.due_before(&job.line(), by).await?;
        let end_at = self.soonest_end(&asked(job, task), sooner.saturating_mul(2)).await;
        if by < end_at { Err(IntakeError::UnreachableDeadline { end_at }) } else { Ok(()) }
    }

    /// Some step must be sure to stay within what the job may cost.
    fn check_budget(&self, job: &Job, task: &Task) -> Result<(), IntakeError> {
        let Some(most) = job.max_cost_usd else {
            return Ok(());
        };
        match self.least_cost(&asked(job, task)) {
            Some(estimate) if estimate <= most => Ok(()),
            estimate => Err(IntakeError::OverBudget { estimate }),
        }
    }

    fn check_steps(
        &self,
        task: &Task,
        route: &str,
        submission: &Submission,
    ) -> Result<(), IntakeError> {
        let Some(found) = self.catalog.route(route) else {
            return Err(IntakeError::NoStep { route: route.to_owned(), steps: Vec::new() });
        };
        let choice = submission.provider.as_ref();
        // Only then it matters here what the prompt is made of.
        let strict = choice.is_some_and(|choice| choice.require_parameters == Some(true));
        let prompt =
            strict.then(|| task.prompt(&serde_json::from_str(submission.input.get()).ok()?).ok());
        let input_tokens = u64::try_from(submission.input.get().len() / 4).unwrap_or(u64::MAX);
        let prompt = prompt.flatten();
        let wish = Wish { choice, prompt: prompt.as_ref(), lot: None, input_tokens };
        if !self.steps(found, &wish).is_empty() {
            return Ok(());
        }
        let steps = self.described(found, &wish);
        Err(IntakeError::NoStep { route: route.to_owned(), steps })
    }
}

impl Accepted {
    fn warned(self, warnings: Vec<String>) -> Self {
        if self.repeated { self } else { Self { warnings, ..self } }
    }
}

fn count_of(jobs: &[Job]) -> u64 {
    u64::try_from(jobs.len()).unwrap_or(u64::MAX)
}

/// What a job is estimated by.
fn asked<'a>(job: &'a Job, task: &'a Task) -> Asked<'a> {
    Asked {
        task,
        lane: job.lane,
        route: &job.route,
        provider: job.provider.as_ref(),
        input_bytes: job.input.get().len(),
    }
}

/// The input fits the task's schema, and a prompt can be made of it: that of a conversation.
fn check_input(task: &Task, input: &RawValue) -> Result<Option<Prompt>, IntakeError> {
    let invalid = |violations| IntakeError::InvalidInput { task: task.name.clone(), violations };
    let whole = |detail: String| vec![Violation { pointer: "#/input".to_owned(), detail }];
    let value: Value =
        serde_json::from_str(input.get()).map_err(|fault| invalid(whole(fault.to_string())))?;
    let mut violations = task.unfit(&value);
    for violation in &mut violations {
        // Pointers are told from the request's own root.
        let inside = violation.pointer.trim_start_matches('#').to_owned();
        violation.pointer = format!("#/input{inside}");
    }
    if !violations.is_empty() {
        return Err(invalid(violations));
    }
    // A conversation's messages have rules that its schema cannot tell.
    if task.template.is_none() {
        return task.prompt(&value).map(Some).map_err(|fault| invalid(whole(fault)));
    }
    Ok(None)
}
