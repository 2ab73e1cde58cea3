//! Errors of OpenAI and its kin, by what can be done about them (`providers.md` sections 3 to 8).

use std::time::Duration;

use super::{Dialect, openrouter};
use crate::provider::fault::{Failure, Fault, Verdict};
use crate::provider::{ErrorClass, codes};

/// No money: codes that never pass by waiting.
const SPENT: [&str; 6] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
    "billing_hard_limit_reached",
];

const BAD_KEY: [&str; 3] = ["invalid_api_key", "wrong_api_key", "authentication_error"];

/// Groq's words for models that an org or a project may not use, or has not agreed to.
const MODEL_FORBIDDEN: [&str; 3] =
    ["model_permission_blocked_org", "model_permission_blocked_project", "model_terms_required"];

const REFUSED: [&str; 5] = [
    "content_policy_violation",
    "image_content_policy_violation",
    "invalid_prompt",
    "bio_policy",
    "content_filter",
];

const TOO_LONG: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];

const TOO_LONG_PHRASES: [&str; 6] = [
    "maximum context length",
    "exceeds the context length",
    "longer than the context length",
    "exceeds the available context size",
    "current length is",
    "context window",
];

/// What is to be done.
pub(in crate::provider) fn judge(dialect: Dialect, failure: &Failure) -> Verdict {
    let own = match dialect {
        Dialect::OpenAi => None,
        Dialect::Groq => groq(failure),
        Dialect::Cerebras => cerebras(failure),
        Dialect::OpenRouter => openrouter::judge(failure),
        Dialect::Plain => plain(failure),
    };
    own.unwrap_or_else(|| common(failure))
}

fn common(failure: &Failure) -> Verdict {
    let fault = &failure.fault;
    match failure.status {
        400..=499 if fault.is_any(&SPENT) => Verdict::account(codes::INSUFFICIENT_QUOTA),
        400 | 401 | 403 if fault.is_any(&BAD_KEY) => Verdict::account(codes::BAD_KEY),
        400 | 403 if fault.is_any(&REFUSED) => Verdict::refused(),
        400 | 404 if fault.is_any(&["model_not_found"]) => Verdict::caller(codes::MODEL_NOT_FOUND),
        // The model is there, but not for this project.
        403 if fault.is_any(&["model_not_found"]) => Verdict::account(codes::MODEL_FORBIDDEN),
        413 | 429 if is_larger_than_limit(fault) => Verdict::caller(codes::LARGER_THAN_LIMIT),
        429 if fault.is_any(&["slow_down"]) => Verdict::slow_down(),
        // Flex has no room; nothing was charged.
        429 if fault.is_any(&["resource_unavailable"]) || fault.says(&["resource unavailable"]) => {
            Verdict::overloaded(ErrorClass::RetrySameKey)
        }
        429 if fault.says(&["on concurrent requests"]) => Verdict::crowded(),
        400 | 413 | 422 => bad_request(failure),
        status => Verdict::by_status(status),
    }
}

fn bad_request(failure: &Failure) -> Verdict {
    let fault = &failure.fault;
    let unsupported = fault.is_any(&["unsupported_parameter", "unsupported_value"]);
    let cap = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    if fault.is_any(&TOO_LONG) || fault.says(&TOO_LONG_PHRASES) {
        Verdict::caller(codes::CONTEXT_LENGTH)
    } else if unsupported || fault.says(&["not supported", "does not support", "unsupported"]) {
        Verdict::caller(codes::UNSUPPORTED_PARAMETER)
    } else if cap.contains(&fault.param.as_str()) || fault.says(&["token limit reached"]) {
        Verdict::caller(codes::MAX_TOKENS)
    } else {
        Verdict::by_status(failure.status)
    }
}

/// Whether the request alone is more than the whole limit: waiting cannot help.
fn is_larger_than_limit(fault: &Fault) -> bool {
    fault.says(&["request too large"])
        || fault
            .number_after("Limit ")
            .zip(fault.number_after("Requested "))
            .is_some_and(|(limit, requested)| requested > limit)
}

/// What the model wrote did not validate: the next try may.
const OUTPUT_INVALID: Verdict = Verdict::new(ErrorClass::RetrySameKey, codes::MODEL_OUTPUT_INVALID);

fn groq(failure: &Failure) -> Option<Verdict> {
    let fault = &failure.fault;
    match failure.status {
        400 if fault.is_any(&["tool_use_failed", "json_validate_failed"]) => Some(OUTPUT_INVALID),
        400 | 403 if fault.is_any(&MODEL_FORBIDDEN) => {
            Some(Verdict::account(codes::MODEL_FORBIDDEN))
        }
        400 | 403 if fault.is_any(&["organization_restricted"]) => {
            Some(Verdict::account(codes::FORBIDDEN))
        }
        413 if fault.is_any(&["rate_limit_exceeded", "tokens"]) => {
            Some(Verdict::caller(codes::LARGER_THAN_LIMIT))
        }
        422 => Some(OUTPUT_INVALID),
        _ => None,
    }
}

fn cerebras(failure: &Failure) -> Option<Verdict> {
    let fault = &failure.fault;
    match failure.status {
        429 if fault.is_any(&["queue_exceeded"]) || fault.says(&["high traffic"]) => {
            Some(Verdict::overloaded(ErrorClass::FailoverProvider))
        }
        429 if failure.wait.is_none() && fault.says(&["per second"]) => {
            Some(Verdict::cooldown().after(Duration::from_secs(1)))
        }
        _ => None,
    }
}

/// Servers that run the models themselves tell with a 500 or 501 what they cannot do.
fn plain(failure: &Failure) -> Option<Verdict> {
    let fault = &failure.fault;
    let lacking = ["requires --jinja", "not support", "not both", "mmproj"];
    match failure.status {
        500 if fault.says(&lacking) => Some(Verdict::caller(codes::UNSUPPORTED_PARAMETER)),
        501 => Some(Verdict::caller(codes::UNSUPPORTED_PARAMETER)),
        500 => Some(Verdict::new(ErrorClass::FailoverProvider, codes::SERVER_ERROR)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(dialect: Dialect, status: u16, body: &str) -> (ErrorClass, &'static str) {
        let fault = Fault::read(body.as_bytes());
        let verdict =
            judge(dialect, &Failure { status, fault, wait: None, told: Vec::new(), retry: None });
        (verdict.class, verdict.code)
    }

    fn wrapped(code: &str, message: &str) -> String {
        format!(r#"{{"error":{{"message":"{message}","type":"x","code":"{code}"}}}}"#)
    }

    #[test]
    fn openais_table_of_errors() {
        use ErrorClass::{AuthOrBilling, CallerError, ContentRefused, CooldownKey, RetrySameKey};
        for (status, code, message, class, expected) in [
            (400, "context_length_exceeded", "", CallerError, "context_length"),
            (400, "unsupported_parameter", "", CallerError, "unsupported_parameter"),
            (400, "unsupported_value", "", CallerError, "unsupported_parameter"),
            (400, "invalid_value", "", CallerError, "invalid_request"),
            (400, "content_policy_violation", "", ContentRefused, "refused"),
            (400, "model_not_found", "", CallerError, "model_not_found"),
            (404, "model_not_found", "", CallerError, "model_not_found"),
            (401, "invalid_api_key", "", AuthOrBilling, "bad_key"),
            (403, "unsupported_country_region_territory", "", AuthOrBilling, "forbidden"),
            (408, "", "", RetrySameKey, "timed_out"),
            (409, "", "", RetrySameKey, "server_error"),
            (
                429,
                "rate_limit_exceeded",
                "Limit 30000, Used 28039, Requested 3906.",
                CooldownKey,
                "rate_limited",
            ),
            (
                429,
                "rate_limit_exceeded",
                "Request too large for gpt-4o: Limit 30000",
                CallerError,
                "larger_than_limit",
            ),
            (
                429,
                "rate_limit_exceeded",
                "Limit 30,000, Requested 39,060.",
                CallerError,
                "larger_than_limit",
            ),
            (429, "insufficient_quota", "", AuthOrBilling, "insufficient_quota"),
            (429, "project_spend_limit_exceeded", "", AuthOrBilling, "insufficient_quota"),
            (429, "slow_down", "", CooldownKey, "slow_down"),
            (
                429,
                "rate_limit_exceeded",
                "Rate limit reached for m in organization o on concurrent requests: Limit 2.",
                CooldownKey,
                "concurrency_limited",
            ),
            (500, "server_error", "", RetrySameKey, "server_error"),
            (503, "server_is_overloaded", "", RetrySameKey, "overloaded"),
        ] {
            let told = judged(Dialect::OpenAi, status, &wrapped(code, message));
            assert_eq!(told, (class, expected), "{status} {code} {message}");
        }
        let quota_type = r#"{"error":{"message":"m","type":"insufficient_quota","code":null}}"#;
        assert_eq!(judged(Dialect::OpenAi, 429, quota_type).1, "insufficient_quota");
        let edge = "upstream connect error or disconnect/reset before headers";
        assert_eq!(judged(Dialect::OpenAi, 503, edge), (RetrySameKey, "overloaded"));
    }

    #[test]
    fn groqs_and_cerebras_own_errors() {
        use ErrorClass::{AuthOrBilling, CallerError, CooldownKey, FailoverProvider, RetrySameKey};
        let groq = |status, code| judged(Dialect::Groq, status, &wrapped(code, "m"));
        assert_eq!(groq(400, "tool_use_failed"), (RetrySameKey, "model_output_invalid"));
        assert_eq!(groq(400, "json_validate_failed"), (RetrySameKey, "model_output_invalid"));
        assert_eq!(groq(413, "rate_limit_exceeded"), (CallerError, "larger_than_limit"));
        assert_eq!(groq(422, ""), (RetrySameKey, "model_output_invalid"));
        assert_eq!(groq(424, ""), (CallerError, "invalid_request"));
        assert_eq!(groq(498, "capacity_exceeded"), (RetrySameKey, "overloaded"));
        assert_eq!(groq(400, "organization_restricted"), (AuthOrBilling, "forbidden"));

        let flat = |status, code: &str, message: &str| {
            let body = format!(
                r#"{{"message":"{message}","type":"too_many_requests_error","code":"{code}"}}"#
            );
            judged(Dialect::Cerebras, status, &body)
        };
        assert_eq!(flat(429, "token_quota_exceeded", "m"), (CooldownKey, "rate_limited"));
        assert_eq!(flat(429, "queue_exceeded", "m"), (FailoverProvider, "overloaded"));
        assert_eq!(flat(429, "", "We see high traffic."), (FailoverProvider, "overloaded"));
        assert_eq!(flat(401, "wrong_api_key", "m"), (AuthOrBilling, "bad_key"));
        assert_eq!(flat(402, "payment_required", "m"), (AuthOrBilling, "insufficient_quota"));
        assert_eq!(
            flat(400, "", "Current length is 9000 while limit is 8192"),
            (CallerError, "context_length")
        );
    }

    #[test]
    fn local_servers_own_errors() {
        use ErrorClass::{AuthOrBilling, CallerError, FailoverProvider, RetrySameKey};
        let own = |status, body| judged(Dialect::Plain, status, body);
        let jinja = r#"{"error":{"code":500,"message":"tools param requires --jinja flag"}}"#;
        assert_eq!(own(500, jinja), (CallerError, "unsupported_parameter"));
        assert_eq!(own(501, "{}"), (CallerError, "unsupported_parameter"));
        assert_eq!(own(500, r#"{"error":"broke"}"#), (FailoverProvider, "server_error"));
        assert_eq!(own(503, r#"{"error":"server busy"}"#), (RetrySameKey, "overloaded"));
        assert_eq!(
            own(404, r#"{"error":"model 'x' not found"}"#),
            (CallerError, "model_not_found")
        );
        assert_eq!(own(401, r#"{"error":{"code":401,"message":"m"}}"#), (AuthOrBilling, "bad_key"));
    }
}
