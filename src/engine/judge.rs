//! Judging a provider's error, and what a call took: what follows for the job and its turn.

use std::time::Duration;

use crate::domain::completion::{Completion, Usage};
use crate::domain::limits::Cost;
use crate::domain::result::{Attempt, JobError, Outcome};
use crate::domain::route::Step;
use crate::domain::told::Told;
use crate::limiter::End;
use crate::provider::{ErrorClass, ProviderError, codes};
use crate::telemetry::metrics;

/// What an error is called on the receipt.
pub(super) fn outcome_of(error: &ProviderError) -> Outcome {
    match error.code {
        codes::TIMED_OUT => return Outcome::TimedOut,
        codes::UNREACHABLE => return Outcome::Unreachable,
        codes::GARBLED | codes::TOO_LARGE | codes::CUT => return Outcome::Garbled,
        codes::MODEL_OUTPUT_INVALID => return Outcome::InvalidOutput,
        // A shorter answer could still be paid for: that is no reason to shut the account.
        codes::INSUFFICIENT_CREDITS => return Outcome::Rejected,
        _ => {}
    }
    match error.class {
        ErrorClass::CooldownKey => Outcome::RateLimited,
        ErrorClass::RetrySameKey | ErrorClass::FailoverProvider => Outcome::Overloaded,
        ErrorClass::CallerError => Outcome::Rejected,
        ErrorClass::ContentRefused => Outcome::Refused,
        ErrorClass::AuthOrBilling => Outcome::Unauthorized,
    }
}

/// Whether the job goes on to its next step at once.
pub(super) const fn falls_through(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Answered | Outcome::Rejected | Outcome::Refused)
}

/// A request that this step can never serve, but another may: the fault is not the caller's.
pub(super) fn another_may_serve(error: &ProviderError) -> bool {
    [
        codes::MODEL_NOT_FOUND,
        codes::CONTEXT_LENGTH,
        codes::LARGER_THAN_LIMIT,
        codes::INSUFFICIENT_CREDITS,
        codes::REQUEST_TOO_LARGE,
        codes::MAX_TOKENS,
        codes::UNSUPPORTED_PARAMETER,
    ]
    .contains(&error.code)
}

/// A refusal with a longer hint tells of a quota that is used up: that is no rate to be found.
const LONG_REFUSAL: Duration = Duration::from_secs(60);

/// How a turn's call ended.
pub(super) fn end(
    answer: &Result<Completion, ProviderError>,
    waited: Duration,
    took: Duration,
) -> End {
    let refused = answer.as_ref().is_err_and(|error| {
        outcome_of(error) == Outcome::RateLimited
            && error.code != codes::CONCURRENCY
            && error.retry_after.is_none_or(|wait| wait <= LONG_REFUSAL)
    });
    let (used, told) = (used(answer), told(answer).to_vec());
    End { used, since: waited + took, age: took, refused, told }
}

/// What the provider said of its limits.
pub(super) fn told(answer: &Result<Completion, ProviderError>) -> &[Told] {
    match answer {
        Ok(completion) => &completion.told,
        Err(error) => &error.told,
    }
}

/// What to settle a turn with: what the provider reports; after an error the call alone, unless
/// the call may have been worked on unseen.
fn used(answer: &Result<Completion, ProviderError>) -> Option<Cost> {
    match answer {
        Ok(answer) => answer.usage.as_ref().map(cost_of),
        Err(error) if matches!(error.code, codes::TIMED_OUT | codes::GARBLED | codes::CUT) => None,
        Err(_) => Some(Cost::call(0, 0)),
    }
}

/// What a call cost that failed; `None` when it may have been worked on unseen.
pub(super) fn cost_of_failure(error: &ProviderError) -> Option<f64> {
    let unseen = [codes::TIMED_OUT, codes::GARBLED, codes::CUT, codes::TOO_LARGE];
    (!unseen.contains(&error.code)).then_some(0.0)
}

/// What a call took from its pools.
#[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
fn cost_of(usage: &Usage) -> Cost {
    let cached = usage.cached_input_tokens as f64;
    Cost { cached, ..Cost::call(usage.input_tokens, usage.output_tokens) }
}

/// A line of the receipt.
pub(super) fn attempt(
    step: &Step,
    outcome: Outcome,
    status: Option<u16>,
    took: Duration,
) -> Attempt {
    Attempt {
        provider: step.provider.clone(),
        account: step.account.clone(),
        model: step.model.clone(),
        outcome,
        status,
        retry_after_ms: None,
        ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        cost_usd: None,
        message: None,
    }
}

/// Counts an answer's tokens and cost.
pub(super) fn metered(step: &Step, usage: Option<&Usage>, cost_usd: Option<f64>) {
    if let Some(usage) = usage {
        let tokens = [
            ("input", usage.input_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("output", usage.output_tokens),
        ];
        metrics::used(&step.account, &step.model, tokens, cost_usd);
    }
}

/// A pause doubled with every failure after the first, up to a minute, give or take a fifth by
/// chance (0 to 1).
pub(super) fn backoff(base: Duration, failures: u32, chance: f64) -> Duration {
    let doubled = base.saturating_mul(1 << failures.saturating_sub(1).min(6));
    let longest = Duration::from_secs(60);
    doubled.min(longest).mul_f64(0.8 + 0.4 * chance).min(longest)
}

/// The model or a filter declined.
pub(super) fn refused(message: String) -> JobError {
    JobError {
        code: "refused".to_owned(),
        message,
        retryable: false,
        hint: Some("Change the input; asking again will be declined again.".to_owned()),
    }
}

/// The provider will not serve this request.
pub(super) fn rejected(error: &ProviderError) -> JobError {
    JobError {
        code: error.code.to_owned(),
        message: format!("The provider rejected the request: {}", error.message),
        retryable: false,
        hint: Some("Change the input or the task; the same request will fail again.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_without_an_answer_cost_is_known_only_when_nothing_was_made() {
        let cost =
            |code| cost_of_failure(&ProviderError::new(ErrorClass::FailoverProvider, code, "x"));
        assert_eq!(cost(codes::TIMED_OUT), None);
        assert_eq!(cost(codes::GARBLED), None);
        assert_eq!(cost(codes::CUT), None);
        assert_eq!(cost(codes::RATE_LIMITED), Some(0.0));
        assert_eq!(cost(codes::UNREACHABLE), Some(0.0));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let base = Duration::from_secs(2);
        assert!(backoff(base, 1, 1.0) <= Duration::from_millis(2_400));
        assert!(backoff(base, 40, 1.0) <= Duration::from_secs(60));
        assert!(backoff(base, 40, 0.0) >= Duration::from_secs(48));
    }
}
