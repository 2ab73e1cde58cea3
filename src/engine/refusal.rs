//! Why a submit is refused.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::money::{OverBudget, Unadmitted};
use crate::budget::BudgetError;
use crate::callback::guard::Refusal;
use crate::domain::schema::Violation;
use crate::queue::QueueError;

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
    /// The caller's plan does not have the task.
    #[error("the caller may not use task `{task}`")]
    NotAllowed {
        /// The task.
        task: String,
        /// The tasks it may use.
        allowed: Vec<String>,
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
        /// When the job would have ended at the soonest.
        end_at: DateTime<Utc>,
    },
    /// Every step has a limit that is as a whole less than the job takes.
    #[error("the job is larger than the limits of its route: {why}")]
    LargerThanLimit {
        /// What it takes and what the limit is.
        why: String,
    },
    /// The job's `provider` object leaves no step of the route.
    #[error("no step of route `{route}` is left")]
    NoStep {
        /// The route.
        route: String,
        /// The route's steps, with what rules each of them out.
        steps: Vec<String>,
    },
    /// The cheapest call may cost more than the job allows.
    #[error("the job may cost more than it is allowed to")]
    OverBudget {
        /// What it may cost; `None` when no price is known.
        estimate: Option<f64>,
    },
    /// What the caller may use up is used up.
    #[error(transparent)]
    BudgetExhausted(OverBudget),
    /// No step has a known price, and the caller's money is limited.
    #[error("no step has a known price")]
    Unpriced,
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
    /// The workflow has as many open jobs as it may.
    #[error("the workflow is full")]
    WorkflowFull {
        /// Its name.
        workflow: Option<String>,
        /// How many of its jobs are open.
        open: u64,
        /// How many may be.
        most: u64,
        /// When to come again.
        retry_after: Duration,
    },
    /// The store.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl From<Unadmitted> for IntakeError {
    fn from(fault: Unadmitted) -> Self {
        match fault {
            Unadmitted::OverBudget(over) => Self::BudgetExhausted(over),
            Unadmitted::Unpriced => Self::Unpriced,
            Unadmitted::Budget(BudgetError::Unavailable(why)) => {
                Self::Queue(QueueError::Unavailable(why))
            }
            Unadmitted::Budget(BudgetError::Broken(why)) => Self::Queue(QueueError::Broken(why)),
        }
    }
}
