//! What a live call's end without an answer means to its caller.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::super::problem::{Kind, Problem, summary};
use crate::domain::result::{Attempt, JobResult, Outcome};
use crate::engine::live::LiveError;
use crate::provider::{ProviderError, codes};

/// A problem, with the receipt where calls were made.
pub(super) struct Failure {
    pub(super) problem: Problem,
    pub(super) receipt: Option<Box<JobResult>>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, receipt: None }
    }
}

impl From<LiveError> for Failure {
    fn from(error: LiveError) -> Self {
        let problem = match error {
            LiveError::InvalidInput(violations) => {
                let detail =
                    format!("The input does not fit the task's schema: {}.", summary(&violations));
                Problem::new(Kind::InvalidInput, detail).with_errors(violations)
            }
            LiveError::Busy { waited, retry_after } => {
                let detail = format!(
                    "No provider has room within {waited:?}: their limits are used up, or they are \
                     left alone for a while after failures. There will be room in {} s.",
                    retry_after.as_millis().div_ceil(1_000)
                );
                Problem::new(Kind::NoTurn, detail).retry_after(retry_after)
            }
            LiveError::OverBudget { message, retry_after } => {
                Problem::new(Kind::BudgetExhausted, message).retry_after(retry_after)
            }
            LiveError::Unpayable(why) => Problem::new(Kind::OverBudget, why),
            LiveError::ShutOut { why, retry_after } => {
                let detail = format!(
                    "No account can be used now ({why}). Whoever runs this gateway has to see to it."
                );
                Problem::new(Kind::AccountsShut, detail).retry_after(retry_after)
            }
            LiveError::Unsayable { by, to } => {
                let detail = format!(
                    "The request has {by}, which only a provider that speaks {to}'s language \
                     understands, and no step that may be used does."
                );
                Problem::new(Kind::InvalidRequest, detail)
            }
            LiveError::Unavailable(why) => {
                Problem::new(Kind::StoreUnavailable, why).retry_after(Duration::from_secs(2))
            }
            LiveError::After { fault, receipt } => {
                return Self { receipt: Some(receipt), ..Self::from(*fault) };
            }
            LiveError::Declined(done) => return Self::of(done.result),
            LiveError::Failed(result) => return Self::of(*result),
        };
        problem.into()
    }
}

impl Failure {
    /// What the receipt of a call without an answer comes to.
    fn of(result: JobResult) -> Self {
        let error = result.error.as_ref();
        let code = error.map(|error| error.code.as_str()).unwrap_or_default();
        let message = error.map(|error| error.message.clone()).unwrap_or_default();
        let kind = match code {
            "refused" => Kind::Refused,
            "providers_failed" => by_cause(&result.attempts),
            "max_cost_reached" | "budget_unpriced" => Kind::OverBudget,
            "invalid_output" => Kind::ProvidersFailed,
            "no_step" => no_step(&result.attempts),
            codes::CONTEXT_LENGTH => Kind::ContextLength,
            codes::MODEL_NOT_FOUND => Kind::UnknownModel,
            codes::REQUEST_TOO_LARGE => Kind::TooLarge,
            _ => Kind::Rejected,
        };
        let mut problem = Problem::new(kind, message);
        if matches!(kind, Kind::ProvidersBusy | Kind::NoTurn) {
            problem = problem.retry_after(soonest(&result.attempts));
        }
        Self { problem, receipt: Some(Box::new(result)) }
    }
}

/// Why all providers failed. One that has room again soon counts before one that was slow, and
/// that before one that was broken.
fn by_cause(attempts: &[Attempt]) -> Kind {
    let any = |outcome| attempts.iter().any(|attempt| attempt.outcome == outcome);
    let limited = |attempt: &Attempt| attempt.outcome == Outcome::RateLimited;
    if !attempts.is_empty() && attempts.iter().all(limited) {
        Kind::NoTurn
    } else if any(Outcome::RateLimited) || any(Outcome::Overloaded) {
        Kind::ProvidersBusy
    } else if any(Outcome::TimedOut) {
        Kind::ProvidersSlow
    } else {
        Kind::ProvidersFailed
    }
}

/// Why no step can serve it: in the words of the last that was asked.
fn no_step(attempts: &[Attempt]) -> Kind {
    match attempts.last().map(|last| last.status) {
        None => Kind::NoStep,
        Some(Some(404)) => Kind::UnknownModel,
        Some(Some(413)) => Kind::TooLarge,
        Some(_) => Kind::Rejected,
    }
}

/// When the first of them has room again.
fn soonest(attempts: &[Attempt]) -> Duration {
    let hints = attempts.iter().filter_map(|attempt| attempt.retry_after_ms);
    Duration::from_millis(hints.min().unwrap_or_default()).max(Duration::from_secs(1))
}

/// The status of an error that comes in the middle of a stream.
pub(super) fn status_of(error: &ProviderError) -> StatusCode {
    match error.code {
        codes::TIMED_OUT => StatusCode::GATEWAY_TIMEOUT,
        codes::OVERLOADED | codes::RATE_LIMITED | codes::SLOW_DOWN | codes::CONCURRENCY => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::BAD_GATEWAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(outcome: Outcome, status: Option<u16>, retry_after_ms: Option<u64>) -> Attempt {
        let empty = || "x".to_owned();
        let (provider, account, model) = (empty(), empty(), empty());
        let (cost_usd, message, ms) = (None, None, 1);
        Attempt { provider, account, model, outcome, status, retry_after_ms, ms, cost_usd, message }
    }

    #[test]
    fn the_cause_decides_the_status() {
        let slow = tried(Outcome::TimedOut, None, None);
        let broken = tried(Outcome::Garbled, Some(200), None);
        let limited = tried(Outcome::RateLimited, Some(429), Some(7_000));
        assert_eq!(by_cause(std::slice::from_ref(&broken)), Kind::ProvidersFailed);
        assert_eq!(by_cause(&[slow.clone(), broken.clone()]), Kind::ProvidersSlow);
        assert_eq!(by_cause(&[slow, limited.clone(), broken.clone()]), Kind::ProvidersBusy);
        assert_eq!(by_cause(std::slice::from_ref(&limited)), Kind::NoTurn);
        assert_eq!(soonest(&[broken.clone(), limited]), Duration::from_secs(7));
        assert_eq!(soonest(&[broken]), Duration::from_secs(1));
        assert_eq!(no_step(&[tried(Outcome::Rejected, Some(404), None)]), Kind::UnknownModel);
        assert_eq!(no_step(&[]), Kind::NoStep);
    }
}
