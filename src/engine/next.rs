//! What an attempt means for the job.

use serde_json::Value;

use crate::domain::completion::Completion;
use crate::domain::result::JobError;
use crate::domain::route::Step;

/// What an attempt means for the job.
pub(super) enum Next {
    End(Box<Answer>),
    Fail(JobError),
    Expire,
    /// The same step once more, with the repair turn.
    Again,
    /// The escalation route, from its first step.
    Escalate,
    Step,
    Dropped,
}

/// An answer that ends a job.
pub(super) struct Answer {
    pub(super) step: Step,
    pub(super) completion: Completion,
    pub(super) data: Option<Value>,
    pub(super) fell_back: bool,
}
