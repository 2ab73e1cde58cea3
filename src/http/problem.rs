//! Every error a caller can see, in one table: status, code, title.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::domain::id::GroupId;
use crate::domain::schema::Violation;
use crate::engine::intake::IntakeError;
use crate::queue::{Durability, QueueError};
use crate::telemetry::metrics;

/// What went wrong, for the caller. RFC 9457 on the wire.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<Violation>,
    retry_after: Option<Duration>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

macro_rules! kinds {
    ($($name:ident, $status:ident, $code:literal, $title:literal;)*) => {
        /// The kinds of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $title] $name,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its status, code and title.
            pub const fn row(self) -> (StatusCode, &'static str, &'static str) {
                match self {
                    $(Self::$name => (StatusCode::$status, $code, $title),)*
                }
            }
        }
    };
}

kinds! {
    NotJson, BAD_REQUEST, "not_json", "The body is not JSON";
    BadBody, BAD_REQUEST, "bad_body", "The body did not arrive whole";
    NotUtf8, BAD_REQUEST, "not_utf8", "The body is not UTF-8";
    TooDeep, BAD_REQUEST, "too_deep", "The body is nested too deeply";
    InvalidRequest, UNPROCESSABLE_ENTITY, "invalid_request", "The request has faults";
    UnknownFields, UNPROCESSABLE_ENTITY, "unknown_fields", "The request has unknown fields";
    BadIdempotencyKey, BAD_REQUEST, "bad_idempotency_key", "The Idempotency-Key cannot be read";
    BadQuery, BAD_REQUEST, "bad_query", "The query cannot be read";
    Unauthorized, UNAUTHORIZED, "unauthorized", "No valid API key";
    NotFound, NOT_FOUND, "not_found", "Not found";
    MethodNotAllowed, METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed";
    SlowBody, REQUEST_TIMEOUT, "slow_body", "The body did not arrive in time";
    TooLarge, PAYLOAD_TOO_LARGE, "too_large", "The body is too large";
    MediaType, UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body's type is not supported";
    UnknownTask, UNPROCESSABLE_ENTITY, "unknown_task", "No such task";
    NotAllowed, FORBIDDEN, "not_allowed", "The caller's plan does not have it";
    InvalidInput, UNPROCESSABLE_ENTITY, "invalid_input", "The input does not fit the task's schema";
    InvalidCallback, UNPROCESSABLE_ENTITY, "invalid_callback", "The callback is refused";
    PastDeadline, UNPROCESSABLE_ENTITY, "deliver_by_past", "The deadline has passed";
    UnreachableDeadline, UNPROCESSABLE_ENTITY, "deliver_by_unreachable", "The deadline cannot be met";
    TooBusyInTime, SERVICE_UNAVAILABLE, "deliver_within_unreachable", "The hook's deadline cannot be met now";
    LargerThanLimit, UNPROCESSABLE_ENTITY, "larger_than_limit", "The job is larger than a limit";
    NoStep, UNPROCESSABLE_ENTITY, "no_step", "No step of the route is left";
    OverBudget, UNPROCESSABLE_ENTITY, "over_budget", "The job would cost more than it may";
    BudgetExhausted, TOO_MANY_REQUESTS, "budget_exhausted", "What the caller may use up is used up";
    KeyReused, UNPROCESSABLE_ENTITY, "idempotency_key_reused", "Same key, different request";
    UnknownModel, NOT_FOUND, "model_not_found", "No such model";
    Rejected, BAD_REQUEST, "rejected", "The provider rejected the request";
    ContextLength, BAD_REQUEST, "context_length", "The prompt is longer than the model's window";
    Refused, BAD_REQUEST, "refused", "The model or a filter declined";
    NoTurn, TOO_MANY_REQUESTS, "no_turn", "No turn came in time";
    ProvidersFailed, BAD_GATEWAY, "providers_failed", "Every provider failed";
    ProvidersBusy, SERVICE_UNAVAILABLE, "providers_busy", "Every provider is overloaded";
    AccountsShut, SERVICE_UNAVAILABLE, "accounts_shut", "No account is accepted by its provider";
    ProvidersSlow, GATEWAY_TIMEOUT, "providers_slow", "No provider answered in time";
    AlreadyEnded, CONFLICT, "already_ended", "The job has ended";
    NotEnded, CONFLICT, "not_ended", "The job has not ended";
    NoCallback, CONFLICT, "no_callback", "The job has no callback";
    SubscriptionsFull, CONFLICT, "subscriptions_full", "Too many subscriptions";
    WorkflowFull, TOO_MANY_REQUESTS, "workflow_full", "The workflow has too many open jobs";
    Busy, SERVICE_UNAVAILABLE, "backlog_full", "Too much waits already";
    StoreUnavailable, SERVICE_UNAVAILABLE, "store_unavailable", "The store is not available";
    Unconfirmed, SERVICE_UNAVAILABLE, "unconfirmed", "The store did not confirm the job in time";
    StoreFull, SERVICE_UNAVAILABLE, "store_full", "The store is full";
    Stopping, SERVICE_UNAVAILABLE, "stopping", "The service is stopping";
    Internal, INTERNAL_SERVER_ERROR, "internal", "Something broke on our side";
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Violation],
}

impl Problem {
    /// A problem, with a sentence a person can act on.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// Its stable code.
    pub(super) const fn code(&self) -> &'static str {
        self.kind.row().1
    }

    /// What to do, for a person.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The place of its first fault, such as `messages/0/content`.
    pub(super) fn place(&self) -> Option<&str> {
        self.errors.first().map(|fault| fault.pointer.trim_start_matches(['#', '/']))
    }

    /// The same with every single fault.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<Violation>) -> Self {
        self.errors = errors;
        self
    }

    /// The same with when to come again.
    #[must_use]
    pub const fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.row().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code, title) = self.kind.row();
        metrics::refused(code);
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let waits =
            matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if let Some(time) = self.retry_after.or(waits.then_some(Duration::from_secs(1))) {
            // Whole seconds, rounded up: Zapier replays by it.
            let seconds = time.as_millis().div_ceil(1_000).max(1);
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        let body = Body {
            r#type: format!("urn:spillway:problem:{code}"),
            title,
            status: status.as_u16(),
            code,
            detail: &self.detail,
            errors: &self.errors,
        };
        response.body(serde_json::to_vec(&body).unwrap_or_default())
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        metrics::store_error("http");
        match error {
            QueueError::Unavailable(why) => {
                tracing::warn!(why, "a request failed: the store is not available");
                let detail = "The store did not answer in time; what you sent may have been stored \
                              all the same. Send the request again, with the same Idempotency-Key: \
                              it is stored once and you are told its id. If it came without a key, \
                              look at GET /v1/jobs first: a repeat would be stored beside it.";
                Self::new(Kind::StoreUnavailable, detail).retry_after(Duration::from_secs(2))
            }
            QueueError::Unconfirmed { id, wanted } => unconfirmed(&id, wanted),
            QueueError::Full => {
                let detail = "The store has no room for new jobs until others have ended.";
                Self::new(Kind::StoreFull, detail).retry_after(Duration::from_secs(30))
            }
            QueueError::InUse => Self::new(Kind::Internal, "The store belongs to another process."),
            QueueError::Broken(why) => {
                tracing::error!(why, "a request failed: the store is broken");
                Self::new(Kind::Internal, "The store answered in a way we do not understand.")
            }
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::UnknownTask { name, nearest, known } => {
                unknown_task(&name, nearest.as_deref(), &known)
            }
            IntakeError::NotAllowed { task, allowed } => not_allowed(&task, &allowed),
            IntakeError::InvalidInput { task, violations } => invalid_input(&task, violations),
            IntakeError::Callback(refusal) => Self::new(Kind::InvalidCallback, refusal.to_string()),
            IntakeError::CallbackHeaders(why) => Self::new(Kind::InvalidCallback, why),
            IntakeError::PastDeadline => {
                let detail =
                    "deliver_by must be a moment in the future, such as in an hour's time.";
                Self::new(Kind::PastDeadline, detail)
            }
            IntakeError::LargerThanLimit { why } => {
                let detail = format!(
                    "The job takes {why}. Send less input, raise the limit in the settings if the \
                     provider allows more, or add a step with room to its route."
                );
                Self::new(Kind::LargerThanLimit, detail)
            }
            IntakeError::UnreachableDeadline { end_at } => {
                let detail = format!(
                    "The job could not have ended before about {}. Allow more time, or use a route \
                     with more room.",
                    end_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                );
                Self::new(Kind::UnreachableDeadline, detail)
            }
            IntakeError::NoStep { route, steps } => {
                let detail = format!(
                    "The `provider` object leaves no step of route `{route}`. It has: {}.",
                    steps.join("; ")
                );
                Self::new(Kind::NoStep, detail)
            }
            IntakeError::OverBudget { estimate } => over_budget(estimate),
            IntakeError::BudgetExhausted(over) => {
                Self::new(Kind::BudgetExhausted, over.message).retry_after(over.retry_after)
            }
            IntakeError::Unpriced => {
                let detail = "No step of the route has a known price, so your budget cannot be \
                              kept. Add the model to [[prices]].";
                Self::new(Kind::OverBudget, detail)
            }
            IntakeError::KeyReused => {
                let detail = "This Idempotency-Key was used with another request. Use a new key \
                              for a new request, or send the same body again.";
                Self::new(Kind::KeyReused, detail)
            }
            IntakeError::InGroup { index, fault } => Self::from(*fault).in_group(index),
            IntakeError::Busy { retry_after } => {
                let detail = "Too many jobs wait already. Nothing was stored; try again later.";
                Self::new(Kind::Busy, detail).retry_after(retry_after)
            }
            IntakeError::WorkflowFull { workflow, open, most, retry_after } => {
                workflow_full(workflow.as_deref(), open, most).retry_after(retry_after)
            }
            IntakeError::Queue(error) => error.into(),
        }
    }
}

fn over_budget(estimate: Option<f64>) -> Problem {
    let detail = match estimate {
        Some(cost) => {
            format!("The job may cost {cost:.6} USD, which is more than its max_cost_usd.")
        }
        None => "No step of the route has a known price, so max_cost_usd cannot be kept. Add the \
                 model to [[prices]]."
            .to_owned(),
    };
    Problem::new(Kind::OverBudget, detail)
}

fn not_allowed(task: &str, allowed: &[String]) -> Problem {
    let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    let detail = format!(
        "Your plan does not have the task `{task}`. Tasks it has: {allowed}. `models` in [plans] says \
         which."
    );
    Problem::new(Kind::NotAllowed, detail)
}

fn invalid_input(task: &str, violations: Vec<Violation>) -> Problem {
    let detail = format!(
        "The input does not fit the schema of task `{task}`: {}. GET /v1/tasks shows it.",
        summary(&violations)
    );
    Problem::new(Kind::InvalidInput, detail).with_errors(violations)
}

fn workflow_full(workflow: Option<&str>, open: u64, most: u64) -> Problem {
    let (whose, table) = workflow.map_or_else(
        || ("Your jobs without a workflow".to_owned(), "*"),
        |name| (format!("The workflow `{name}`"), name),
    );
    let detail = format!(
        "{whose} may have {most} open jobs, {open} are open, and these would be too many. Nothing was \
         stored: send them when others have ended, fewer at a time, or raise `max_queued` in \
         [workflows.{table:?}] or [workflows.\"*\"]."
    );
    Problem::new(Kind::WorkflowFull, detail)
}

/// Nothing is promised, though it may be there.
fn unconfirmed(id: &str, wanted: Durability) -> Problem {
    let wanted = wanted.as_str();
    let kind = if GroupId::parse(id).is_some() { "groups" } else { "jobs" };
    tracing::warn!(id, wanted, "a request failed: the store did not confirm it in time");
    let detail = format!(
        "The store did not confirm in time that this is `{wanted}`, so nothing is promised, though \
         it may have been stored as {id}. To repeat the request with the same Idempotency-Key is \
         safe and gives the same id; without a key, look at GET /v1/{kind}/{id} first: a repeat \
         would be stored beside it."
    );
    Problem::new(Kind::Unconfirmed, detail).retry_after(Duration::from_secs(2))
}

fn unknown_task(name: &str, nearest: Option<&str>, known: &[String]) -> Problem {
    let hint = nearest.map_or_else(String::new, |near| format!(" Did you mean `{near}`?"));
    let shown: String = name.chars().take(64).collect();
    let detail = format!("There is no task `{shown}`.{hint} Known tasks: {}.", known.join(", "));
    Problem::new(Kind::UnknownTask, detail)
}

impl Problem {
    /// The same fault in one job of a group: nothing of the group was stored.
    #[must_use]
    pub(super) fn in_group(mut self, index: usize) -> Self {
        self.detail = format!("Job {index} of the group: {}", self.detail);
        for error in &mut self.errors {
            let inner = error.pointer.trim_start_matches('#');
            error.pointer = format!("#/jobs/{index}{inner}");
        }
        self
    }
}

/// The first faults in one sentence: platforms show `detail` alone.
pub(super) fn summary(violations: &[Violation]) -> String {
    const FIRST: usize = 3;
    let mut told: Vec<String> = violations
        .iter()
        .take(FIRST)
        .map(|violation| format!("{}: {}", violation.pointer, violation.detail))
        .collect();
    if violations.len() > FIRST {
        told.push(format!("and {} more", violations.len() - FIRST));
    }
    told.join("; ")
}
