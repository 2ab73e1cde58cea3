//! Accepting jobs: checked in full before anything is stored, stored before anything is promised.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, value::RawValue};

use super::Engine;
use super::estimate::{Asked, Estimate};
use crate::callback::guard::Refusal;
use crate::callback::http::check_headers;
use crate::domain::id::GroupId;
use crate::domain::job::{Callback, Group, Job, Lane, ProviderChoice};
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
}

/// Why a submit is refused. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// No such task.
    #[error("there is no task `{name}`")]
    UnknownTask {
        /// The name given.
        name: String,
        /// The nearest name there is.
        nearest: Option<String>,
        /// All names.
        known: Vec<String>,
    },
    /// The input does not fit the task's schema.
    #[error("the input does not fit the schema of task `{task}`")]
    InvalidInput {
        /// The task.
        task: String,
        /// Every violation.
        violations: Vec<Violation>,
    },
    /// The callback's address is refused.
    #[error("{0}")]
    Callback(Refusal),
    /// A header for the callback is refused.
    #[error("{0}")]
    CallbackHeaders(String),
    /// `deliver_by` has passed.
    #[error("deliver_by has passed")]
    PastDeadline,
    /// `deliver_by` cannot be met.
    #[error("deliver_by cannot be met")]
    UnreachableDeadline {
        /// When the job would start.
        start_at: DateTime<Utc>,
    },
    /// The job's `provider` object leaves no step of the route.
    #[error("no step of route `{route}` is left")]
    NoStep {
        /// The route.
        route: String,
        /// Providers and accounts of the route.
        steps: Vec<String>,
    },
    /// The cheapest call costs more than the job allows.
    #[error("the job would cost about {estimate} USD")]
    OverBudget {
        /// What it would cost.
        estimate: f64,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used with another request")]
    KeyReused,
    /// The group's job with this index is refused.
    #[error("job {index}: {fault}")]
    InGroup {
        /// Its index.
        index: usize,
        /// Why.
        fault: Box<IntakeError>,
    },
    /// Too much waits already.
    #[error("the backlog is full")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// The store.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// When to come again if the backlog is full.
const BUSY_PAUSE: Duration = Duration::from_secs(10);

impl Engine {
    /// Accepts a job: once this answers, it is stored.
    pub async fn submit(
        &self,
        from: Submitter,
        submission: Submission,
    ) -> Result<Accepted, IntakeError> {
        self.check_load()?;
        let (job, task) = self.job(&from, submission).await?;
        let (id, lane) = (job.id.to_string(), job.lane);
        let (route, provider) = (job.route.clone(), job.provider.clone());
        let asked = Asked {
            task: &task,
            lane,
            route: &route,
            provider: provider.as_ref(),
            input_bytes: job.input.get().len(),
        };
        self.check_promise(&job, &asked)?;
        let batch = Batch { jobs: vec![job], group: None, dedup: from.dedup };
        let pushed = self.queue.push(batch).await?;
        self.accepted(pushed, id, &[(&task.name, lane)], |position| {
            self.estimate(&asked, Some(position))
        })
    }

    /// Accepts a group: all of its jobs or none.
    pub async fn submit_group(
        &self,
        from: Submitter,
        submission: GroupSubmission,
    ) -> Result<Accepted, IntakeError> {
        self.check_load()?;
        if let Some(callback) = &submission.callback {
            self.check_callback(callback).await?;
        }
        let group = self.ids.group(self.clock.now());
        let mut jobs = Vec::with_capacity(submission.jobs.len());
        for (index, submission) in submission.jobs.into_iter().enumerate() {
            let made = self.job(&from, submission).await;
            let (job, _) =
                made.map_err(|fault| IntakeError::InGroup { index, fault: Box::new(fault) })?;
            jobs.push(Job { group: Some(group.clone()), ..job });
        }
        let group = self.group(&from, group, submission.callback, submission.metadata, &jobs);
        let id = group.id.to_string();
        let names: Vec<(String, Lane)> =
            jobs.iter().map(|job| (job.task.clone(), job.lane)).collect();
        let names: Vec<(&str, Lane)> =
            names.iter().map(|(task, lane)| (task.as_str(), *lane)).collect();
        let batch = Batch { jobs, group: Some(group), dedup: from.dedup };
        let pushed = self.queue.push(batch).await?;
        let start_at = self.clock.now();
        self.accepted(pushed, id, &names, |_| Estimate { start_at, cost_usd: None })
    }

    fn group(
        &self,
        from: &Submitter,
        id: GroupId,
        callback: Option<Callback>,
        metadata: Option<Box<RawValue>>,
        jobs: &[Job],
    ) -> Group {
        Group {
            id,
            caller: from.caller.clone(),
            callback,
            metadata,
            jobs: jobs.iter().map(|job| job.id.clone()).collect(),
            created_at: self.clock.now(),
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
            Pushed::Stored { position, durability } => {
                for (task, lane) in jobs {
                    metrics::accepted(task, lane.as_str());
                }
                let estimate = Some(estimate(position));
                let position = Some(position);
                Ok(Accepted { id, repeated: false, position, estimate, durability })
            }
            Pushed::Repeated { id } => {
                let durability = self.queue.durability();
                Ok(Accepted { id, repeated: true, position: None, estimate: None, durability })
            }
            Pushed::KeyReused => Err(IntakeError::KeyReused),
        }
    }

    /// Checks a submission and makes a job of it.
    async fn job(
        &self,
        from: &Submitter,
        submission: Submission,
    ) -> Result<(Job, Arc<Task>), IntakeError> {
        let now = self.clock.now();
        let task = self.catalog.task(&submission.task).ok_or_else(|| IntakeError::UnknownTask {
            nearest: self.catalog.nearest_task(&submission.task).map(str::to_owned),
            known: self.catalog.tasks().map(|task| task.name.clone()).collect(),
            name: submission.task.clone(),
        })?;
        check_input(task, &submission.input)?;
        if let Some(callback) = &submission.callback {
            self.check_callback(callback).await?;
        }
        if submission.deliver_by.is_some_and(|by| by <= now) {
            return Err(IntakeError::PastDeadline);
        }
        let lane = submission.lane.unwrap_or(task.lane);
        let route = task.route(lane);
        self.check_steps(route, submission.provider.as_ref())?;
        let job = Job {
            id: self.ids.job(now),
            caller: from.caller.clone(),
            task: submission.task,
            input: submission.input,
            route: route.to_owned(),
            lane,
            created_at: now,
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
        Ok((job, Arc::clone(task)))
    }

    fn check_load(&self) -> Result<(), IntakeError> {
        let full = self.load.open() >= self.settings.max_backlog
            || self.load.memory().is_some_and(|used| used >= self.settings.max_memory);
        if full { Err(IntakeError::Busy { retry_after: BUSY_PAUSE }) } else { Ok(()) }
    }

    async fn check_callback(&self, callback: &Callback) -> Result<(), IntakeError> {
        check_headers(&callback.headers).map_err(IntakeError::CallbackHeaders)?;
        self.poster.guard().admit_resolved(&callback.url).await.map_err(IntakeError::Callback)?;
        Ok(())
    }

    fn check_steps(&self, route: &str, choice: Option<&ProviderChoice>) -> Result<(), IntakeError> {
        let Some(found) = self.catalog.route(route) else {
            return Err(IntakeError::NoStep { route: route.to_owned(), steps: Vec::new() });
        };
        if !self.steps(found, choice).is_empty() {
            return Ok(());
        }
        let steps = found.steps.iter().map(|step| format!("{} ({})", step.provider, step.account));
        Err(IntakeError::NoStep { route: route.to_owned(), steps: steps.collect() })
    }

    fn check_promise(&self, job: &Job, asked: &Asked<'_>) -> Result<(), IntakeError> {
        if job.deliver_by.is_none() && job.max_cost_usd.is_none() {
            return Ok(());
        }
        let estimate = self.estimate(asked, None);
        let start_at = estimate.start_at;
        if job.deliver_by.is_some_and(|by| by < start_at) {
            return Err(IntakeError::UnreachableDeadline { start_at });
        }
        match (job.max_cost_usd, estimate.cost_usd) {
            (Some(most), Some(estimate)) if estimate > most => {
                Err(IntakeError::OverBudget { estimate })
            }
            _ => Ok(()),
        }
    }
}

/// The input fits the task's schema, and a prompt can be made of it.
fn check_input(task: &Task, input: &RawValue) -> Result<(), IntakeError> {
    let invalid = |violations| IntakeError::InvalidInput { task: task.name.clone(), violations };
    let whole = |detail: String| vec![Violation { pointer: "#".to_owned(), detail }];
    let value: Value =
        serde_json::from_str(input.get()).map_err(|fault| invalid(whole(fault.to_string())))?;
    let violations = task.input.violations(&value);
    if !violations.is_empty() {
        return Err(invalid(violations));
    }
    // A conversation's messages have rules that its schema cannot tell.
    if task.template.is_none() {
        task.prompt(&value).map_err(|fault| invalid(whole(fault)))?;
    }
    Ok(())
}
