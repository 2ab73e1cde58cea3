//! Gemini's errors, by what can be done about them (`providers.md` section 6).

use chrono::{DateTime, Utc};

use super::day::until_new;
use crate::provider::fault::{Failure, Fault, Verdict};
use crate::provider::json::{list, text};
use crate::provider::{ErrorClass, codes};

/// What is to be done. `input_tokens` is our own estimate of the prompt.
pub(super) fn judge(failure: &Failure, input_tokens: u32, now: DateTime<Utc>) -> Verdict {
    let fault = &failure.fault;
    let details = list(&fault.error, "/details");
    match failure.status {
        // A bad key is told as a bad request.
        400 if details.iter().any(|one| text(one, "/reason") == "API_KEY_INVALID")
            || fault.opens_with(&["api key not valid", "api key expired"]) =>
        {
            Verdict::account(codes::BAD_KEY)
        }
        // Files are named by callers.
        400 | 403 if fault.says(&["the file ", "access the file"]) => {
            Verdict::caller(codes::INVALID_REQUEST)
        }
        400 if fault.kind == "FAILED_PRECONDITION" => Verdict::account(codes::FORBIDDEN),
        400 if fault.says(&["exceeds the maximum number of tokens"]) => {
            Verdict::caller(codes::CONTEXT_LENGTH)
        }
        400 if fault.says(&["not supported", "does not support", "unsupported"]) => {
            Verdict::caller(codes::UNSUPPORTED_PARAMETER)
        }
        // A cache that is gone, and no word about the key.
        403 if fault.says(&["cachedcontent", "cachedcontents/"]) => {
            Verdict::caller(codes::INVALID_REQUEST)
        }
        429 => quota(failure, input_tokens, now),
        status => Verdict::by_status(status),
    }
}

/// A plan that does not have the model says so as a limit of 0, also of the day; so this comes
/// first. Next the day, whose `retryDelay` of some seconds is not meant.
fn quota(failure: &Failure, input_tokens: u32, now: DateTime<Utc>) -> Verdict {
    let fault = &failure.fault;
    let violations =
        fault.detail("google.rpc.QuotaFailure").map_or(&[][..], |d| list(d, "/violations"));
    let of = |id: &str| violations.iter().find(|one| text(one, "/quotaId").contains(id));
    let larger = of("InputTokens").is_some_and(|one| {
        text(one, "/quotaValue").parse().is_ok_and(|limit: u64| u64::from(input_tokens) > limit)
    });
    if limit_is_zero(fault) {
        // The plan does not have this model; others it may have.
        Verdict::account(codes::MODEL_FORBIDDEN)
    } else if larger {
        Verdict::caller(codes::LARGER_THAN_LIMIT)
    } else if of("PerDay").or_else(|| of("Daily")).is_some() {
        Verdict::cooldown().after(until_new(now))
    } else if violations.is_empty() && failure.wait.is_none() {
        // Without details it is everyone's capacity, not our quota.
        Verdict::overloaded(ErrorClass::RetrySameKey)
    } else {
        Verdict::cooldown()
    }
}

fn limit_is_zero(fault: &Fault) -> bool {
    fault.message.split("limit: ").skip(1).any(|rest| {
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        number.trim_end_matches('.') == "0"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn now() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn failure(status: u16, kind: &str, message: &str, details: &Value) -> Failure {
        let body = json!({ "error": { "code": status, "message": message, "status": kind,
                                      "details": details } });
        let fault = Fault::read(json!([body]).to_string().as_bytes());
        let wait = fault.detail("google.rpc.RetryInfo").map(|_| Duration::from_secs(48));
        Failure { status, fault, wait, told: Vec::new(), retry: None }
    }

    fn exhausted(quota: &str, limit: u64) -> Failure {
        let details = json!([
            { "@type": "type.googleapis.com/google.rpc.QuotaFailure",
              "violations": [{ "quotaId": quota, "quotaValue": limit.to_string() }] },
            { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s" },
        ]);
        failure(429, "RESOURCE_EXHAUSTED", &format!("Quota: x, limit: {limit}, model: m"), &details)
    }

    #[test]
    fn the_table_of_errors() {
        use ErrorClass::{AuthOrBilling, CallerError, FailoverProvider, RetrySameKey};
        let key = json!([{ "reason": "API_KEY_INVALID" }]);
        let none = json!([]);
        for (status, kind, message, details, class, code) in [
            (400, "INVALID_ARGUMENT", "m", &key, AuthOrBilling, "bad_key"),
            (400, "INVALID_ARGUMENT", "m", &none, CallerError, "invalid_request"),
            (
                400,
                "INVALID_ARGUMENT",
                "The input token count (9) exceeds the maximum number of tokens",
                &none,
                CallerError,
                "context_length",
            ),
            (
                400,
                "INVALID_ARGUMENT",
                "Unknown name \"API key not valid\": Cannot find field.",
                &none,
                CallerError,
                "invalid_request",
            ),
            (400, "FAILED_PRECONDITION", "m", &none, AuthOrBilling, "forbidden"),
            (
                403,
                "PERMISSION_DENIED",
                "You do not have permission to access the File x or it may not exist.",
                &none,
                CallerError,
                "invalid_request",
            ),
            (402, "RESOURCE_EXHAUSTED", "m", &none, AuthOrBilling, "insufficient_quota"),
            (403, "PERMISSION_DENIED", "m", &none, AuthOrBilling, "forbidden"),
            (404, "NOT_FOUND", "m", &none, CallerError, "model_not_found"),
            (
                429,
                "RESOURCE_EXHAUSTED",
                "Resource has been exhausted",
                &none,
                RetrySameKey,
                "overloaded",
            ),
            (499, "CANCELLED", "m", &none, RetrySameKey, "server_error"),
            (500, "INTERNAL", "m", &none, RetrySameKey, "server_error"),
            (503, "UNAVAILABLE", "m", &none, RetrySameKey, "overloaded"),
            (504, "DEADLINE_EXCEEDED", "m", &none, FailoverProvider, "timed_out"),
        ] {
            let verdict = judge(&failure(status, kind, message, details), 1, now());
            assert_eq!((verdict.class, verdict.code), (class, code), "{status} {kind} {message}");
        }
    }

    #[test]
    fn a_quota_tells_by_its_name_what_to_do() {
        let minute = "GenerateContentPaidTierInputTokensPerModelPerMinute";
        let day = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
        assert_eq!(judge(&exhausted(minute, 1_000_000), 500, now()), Verdict::cooldown());
        assert_eq!(judge(&exhausted(minute, 1_000), 2_500, now()).code, "larger_than_limit");
        let until = Duration::from_secs(20 * 3_600);
        assert_eq!(judge(&exhausted(day, 20), 500, now()), Verdict::cooldown().after(until));
        assert_eq!(judge(&exhausted(day, 0), 500, now()).code, "model_forbidden");
    }
}
