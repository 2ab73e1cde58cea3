//! Anthropic's errors, by what can be done about them (`providers.md` section 2.4).

use std::time::Duration;

use chrono::{DateTime, Datelike, Months, NaiveDateTime, Utc};

use crate::provider::fault::{Failure, Fault, Verdict};
use crate::provider::json::text;
use crate::provider::{ErrorClass, codes};

/// Spend limits, as a 400 tells them.
const SPENT: [&str; 2] = [
    "you have reached your specified api usage limits",
    "you have reached your specified workspace api usage limits",
];

/// No month is longer.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// What is to be done.
pub(super) fn judge(failure: &Failure, now: DateTime<Utc>) -> Verdict {
    let fault = &failure.fault;
    match failure.status {
        400 => bad_request(fault, now),
        429 if text(&fault.error, "/details/error_code") == "enforced_spend_limit_reached" => {
            Verdict::account(codes::INSUFFICIENT_QUOTA).after(until_next_month(now))
        }
        429 if fault.says(&["extra usage is required"]) => {
            Verdict::caller(codes::LARGER_THAN_LIMIT)
        }
        429 if fault.says(&["usage increase rate", "acceleration limit"]) => Verdict::slow_down(),
        429 if fault.says(&["concurrent"]) => Verdict::crowded(),
        // The key is good, but not for this model.
        403 if fault.kind == "permission_error" => Verdict::account(codes::MODEL_FORBIDDEN),
        500.. if fault.kind == "overloaded_error" => {
            Verdict::overloaded(ErrorClass::FailoverProvider)
        }
        status => Verdict::by_status(status),
    }
}

/// A 400 may be the account's fault: spend limits and credit are told with this status.
fn bad_request(fault: &Fault, now: DateTime<Utc>) -> Verdict {
    if fault.opens_with(&SPENT) {
        let verdict = Verdict::account(codes::INSUFFICIENT_QUOTA);
        return match access_resumes(&fault.message, now) {
            Some(wait) => verdict.after(wait),
            None => verdict,
        };
    }
    if fault.opens_with(&["your credit balance is too low"]) {
        return Verdict::account(codes::INSUFFICIENT_QUOTA);
    }
    Verdict::caller(if fault.says(&["prompt is too long", "exceed context limit"]) {
        codes::CONTEXT_LENGTH
    } else if fault.says(&["max_tokens:"]) {
        codes::MAX_TOKENS
    } else if fault.says(&["not supported", "does not support", "is deprecated"]) {
        codes::UNSUPPORTED_PARAMETER
    } else {
        codes::INVALID_REQUEST
    })
}

/// The tier's monthly cap is lifted at the first of the month, 00:00 UTC.
fn until_next_month(now: DateTime<Utc>) -> Duration {
    let first = now.date_naive().with_day(1).and_then(|day| day.checked_add_months(Months::new(1)));
    let time = first.and_then(|day| day.and_hms_opt(0, 0, 0));
    time.and_then(|time| (time.and_utc() - now).to_std().ok()).unwrap_or_default()
}

/// `You will regain access on 2026-12-01 at 00:00 UTC.`
fn access_resumes(message: &str, now: DateTime<Utc>) -> Option<Duration> {
    let (_, rest) = message.split_once("access on ")?;
    let (time, _) = rest.split_once(" UTC")?;
    let time = NaiveDateTime::parse_from_str(time, "%Y-%m-%d at %H:%M").ok()?;
    (time.and_utc() - now).to_std().ok().map(|wait| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn judged(status: u16, kind: &str, message: &str) -> (ErrorClass, &'static str) {
        let body = json!({ "type": "error", "error": { "type": kind, "message": message } });
        let fault = Fault::read(body.to_string().as_bytes());
        let verdict =
            judge(&Failure { status, fault, wait: None, told: Vec::new(), retry: None }, now());
        (verdict.class, verdict.code)
    }

    #[test]
    fn the_table_of_errors() {
        use ErrorClass::{AuthOrBilling, CallerError, CooldownKey, FailoverProvider, RetrySameKey};
        for (status, kind, message, class, code) in [
            (400, "invalid_request_error", "messages: too few", CallerError, "invalid_request"),
            (
                400,
                "invalid_request_error",
                "prompt is too long: 9 tokens > 8 maximum",
                CallerError,
                "context_length",
            ),
            (
                400,
                "invalid_request_error",
                "max_tokens: 999999 > 64000, which is the maximum",
                CallerError,
                "max_tokens",
            ),
            (
                400,
                "invalid_request_error",
                "You have reached your specified API usage limits.",
                AuthOrBilling,
                "insufficient_quota",
            ),
            (
                400,
                "invalid_request_error",
                "You have reached your specified workspace API usage limits.",
                AuthOrBilling,
                "insufficient_quota",
            ),
            (
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API.",
                AuthOrBilling,
                "insufficient_quota",
            ),
            (401, "authentication_error", "invalid x-api-key", AuthOrBilling, "bad_key"),
            (402, "billing_error", "", AuthOrBilling, "insufficient_quota"),
            (403, "permission_error", "", AuthOrBilling, "model_forbidden"),
            (404, "not_found_error", "model: x", CallerError, "model_not_found"),
            (409, "conflict_error", "", RetrySameKey, "server_error"),
            (413, "request_too_large", "", CallerError, "request_too_large"),
            (429, "rate_limit_error", "Rate limited", CooldownKey, "rate_limited"),
            (
                429,
                "rate_limit_error",
                "Extra usage is required for long context requests.",
                CallerError,
                "larger_than_limit",
            ),
            (500, "api_error", "Overloaded", RetrySameKey, "server_error"),
            (504, "timeout_error", "", FailoverProvider, "timed_out"),
            (529, "overloaded_error", "Overloaded", FailoverProvider, "overloaded"),
            (418, "brand_new_error", "", CallerError, "invalid_request"),
            (599, "brand_new_error", "", RetrySameKey, "server_error"),
        ] {
            assert_eq!(judged(status, kind, message), (class, code), "{status} {kind} {message}");
        }
    }

    /// Names of unknown fields are the caller's own words.
    #[test]
    fn a_callers_words_take_out_no_account() {
        for message in [
            "You have reached your specified API usage limits: Extra inputs are not permitted",
            "x.Your credit balance is too low: Extra inputs are not permitted",
        ] {
            let expected = (ErrorClass::CallerError, "invalid_request");
            assert_eq!(judged(400, "invalid_request_error", message), expected, "{message}");
        }
    }

    #[test]
    fn a_limit_that_is_none_of_the_rates_is_told_apart() {
        for (message, code) in [
            ("Rate limited", "rate_limited"),
            ("This request would exceed your account's rate limit.", "rate_limited"),
            (
                "Number of concurrent connections has exceeded your rate limit.",
                "concurrency_limited",
            ),
            (
                "This request would exceed your organization's maximum usage increase rate for \
                 input tokens per minute. Please scale up your input tokens usage more gradually \
                 to stay within the acceleration limit.",
                "slow_down",
            ),
        ] {
            let told = judged(429, "rate_limit_error", message);
            assert_eq!(told, (ErrorClass::CooldownKey, code), "{message}");
        }
    }

    #[test]
    fn a_spent_account_tells_when_it_may_spend_again() {
        let body = json!({ "error": { "type": "rate_limit_error",
            "details": { "error_code": "enforced_spend_limit_reached" } } });
        let fault = Fault::read(body.to_string().as_bytes());
        let verdict = judge(
            &Failure { status: 429, fault, wait: None, told: Vec::new(), retry: None },
            now(),
        );
        assert_eq!(verdict.class, ErrorClass::AuthOrBilling);
        assert_eq!(verdict.wait, Some(Duration::from_secs(10 * 86_400 + 43_200)));
        let told = "API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.";
        assert_eq!(access_resumes(told, now()), verdict.wait);
        assert_eq!(access_resumes("access on Monday", now()), None);
        let far = "You will regain access on 2099-01-01 at 00:00 UTC.";
        assert_eq!(access_resumes(far, now()), Some(LONGEST));
    }
}
