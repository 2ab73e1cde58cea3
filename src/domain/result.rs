//! The one shape of a result: a callback's data, the answer to a poll and to a waiting submit.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::completion::{Finish, ToolCall, Usage};
use super::content::Image;
use super::id::{EventId, SubscriptionId};
use super::job::Job;

/// Where a job stands, for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waits for its turn.
    Queued,
    /// Is being run.
    Running,
    /// Ended with an answer.
    Succeeded,
    /// Ended without one.
    Failed,
    /// Withdrawn by its caller.
    Cancelled,
    /// Its `deliver_by` passed first.
    Expired,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The status' name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Reads a status' name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether the job has ended.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job's result. Keys never come and go: what is not known is `null`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct JobResult {
    /// The job.
    pub id: String,
    /// Always `job`.
    pub object: String,
    /// Where it stands.
    pub status: Status,
    /// Whether it succeeded.
    pub ok: bool,
    /// The declared kind of work.
    pub task: String,
    /// The answer as text.
    pub text: Option<String>,
    /// The answer as data, when the task has an output schema.
    pub data: Option<Value>,
    /// Why the model stopped.
    pub finish: Option<Finish>,
    /// Tools the model asks for.
    pub tool_calls: Vec<ToolCall>,
    /// Images the model made.
    #[serde(default)]
    #[schemars(!default)]
    pub images: Vec<Image>,
    /// Who answered.
    pub provider: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The route that was walked.
    pub route: String,
    /// Whether another than the route's first step answered.
    pub fell_back: bool,
    /// Whether the answer came from the task's escalation route.
    pub escalated: bool,
    /// What all attempts cost together; `null` when a price is not known.
    pub cost_usd: Option<f64>,
    /// What all attempts used together; `null` when no provider told.
    pub usage: Option<Usage>,
    /// How long it took.
    pub timing: Timing,
    /// Every call to a provider, in order.
    pub attempts: Vec<Attempt>,
    /// Why it did not succeed.
    pub error: Option<JobError>,
    /// The caller's automation the job came from.
    pub workflow: Option<String>,
    /// The conversation it belongs to.
    pub session: Option<String>,
    /// The caller's own data, unchanged.
    #[schemars(with = "Option<Value>")]
    pub metadata: Option<Box<RawValue>>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// How long a job took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Timing {
    /// From accept to its first attempt.
    pub queued_ms: Option<u64>,
    /// From its first attempt to its end.
    pub running_ms: Option<u64>,
    /// From accept to its end.
    pub total_ms: Option<u64>,
}

/// One call to a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Attempt {
    /// The vendor.
    pub provider: String,
    /// The account, by its name in the settings.
    pub account: String,
    /// The model asked.
    pub model: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The HTTP status, when there was one.
    pub status: Option<u16>,
    /// When the provider said to come back.
    pub retry_after_ms: Option<u64>,
    /// How long the call took.
    pub ms: u64,
    /// What this call cost.
    pub cost_usd: Option<f64>,
    /// What went wrong, in words.
    pub message: Option<String>,
}

/// What came of one call to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A usable answer.
    Answered,
    /// An answer that does not fit the task's output schema.
    InvalidOutput,
    /// The provider's rate limit.
    RateLimited,
    /// The provider is overloaded or broken.
    Overloaded,
    /// No answer in time.
    TimedOut,
    /// No connection.
    Unreachable,
    /// An answer that cannot be read.
    Garbled,
    /// The key is not accepted or cannot pay.
    Unauthorized,
    /// The provider will not serve this request at all.
    Rejected,
    /// The model or a filter declined.
    Refused,
    /// Another step, asked beside it, answered first: the call was cancelled. Its cost is what
    /// its input is estimated to take.
    Hedged,
}

impl Outcome {
    /// The outcome's name on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::InvalidOutput => "invalid_output",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Garbled => "garbled",
            Self::Unauthorized => "unauthorized",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Hedged => "hedged",
        }
    }
}

/// Why a job did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct JobError {
    /// A stable code.
    pub code: String,
    /// What happened, for a person.
    pub message: String,
    /// Whether a replay may succeed.
    pub retryable: bool,
    /// What to do next.
    pub hint: Option<String>,
}

impl JobResult {
    /// The shape of a job that has not ended.
    pub fn open(job: &Job, status: Status) -> Self {
        Self {
            id: job.id.to_string(),
            object: "job".to_owned(),
            status,
            ok: false,
            task: job.task.clone(),
            text: None,
            data: None,
            finish: None,
            tool_calls: Vec::new(),
            images: Vec::new(),
            provider: None,
            model: None,
            route: job.route.clone(),
            fell_back: false,
            escalated: false,
            cost_usd: None,
            usage: None,
            timing: Timing::default(),
            attempts: Vec::new(),
            error: None,
            workflow: job.workflow.clone(),
            session: job.session.clone(),
            metadata: job.metadata.clone(),
            created_at: job.created_at,
            finished_at: None,
        }
    }

    /// The same job, ended at `now` with this status and error.
    #[must_use]
    pub fn ended(mut self, status: Status, now: DateTime<Utc>, error: Option<JobError>) -> Self {
        self.status = status;
        self.ok = status == Status::Succeeded;
        self.error = error;
        self.finished_at = Some(now);
        self.timing.total_ms = Some(millis_between(self.created_at, now));
        self
    }
}

/// Whole milliseconds from one moment to a later one; zero when the clock went back.
pub fn millis_between(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    u64::try_from((to - from).num_milliseconds()).unwrap_or_default()
}

/// One POST of a result to its callback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryAttempt {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The receiver's HTTP status, when there was one.
    pub status: Option<u16>,
    /// How long it took.
    pub ms: u64,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// The beginning of the receiver's answer.
    pub response: Option<String>,
    /// The subscription's event that was posted; `null` for a callback.
    #[serde(default)]
    pub event: Option<PostedEvent>,
}

/// An event, and the subscription it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostedEvent {
    /// The event: its `webhook-id`.
    pub id: EventId,
    /// The subscription.
    pub subscription: SubscriptionId,
}
