//! OpenRouter's errors. It stands before other providers and passes their faults on with its own.

use std::sync::Arc;

use crate::domain::prompt::{Dialect, Prompt};
use crate::provider::fault::{Failure, Fault, Verdict};
use crate::provider::json::{list, text};
use crate::provider::{ErrorClass, ProviderError, codes};

/// What a request calls the longest answer it wants.
const CAPS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// What is to be done; `None` when the fault is told as OpenAI would.
pub(super) fn judge(failure: &Failure) -> Option<Verdict> {
    use ErrorClass::{CooldownKey, FailoverProvider, RetrySameKey};
    let fault = &failure.fault;
    match failure.status {
        400 => bad_request(fault),
        402 if fault.says(&["can only afford", "fewer max_tokens"]) => {
            Some(Verdict::account(codes::INSUFFICIENT_CREDITS))
        }
        402 if fault.is_any(&["in_flight_budget_exhausted"]) => {
            Some(Verdict::new(CooldownKey, codes::INSUFFICIENT_QUOTA))
        }
        402 if fault.is_any(&["weight_exceeds_budget"]) => {
            Some(Verdict::caller(codes::LARGER_THAN_LIMIT))
        }
        403 if is_moderated(fault) => Some(Verdict::refused()),
        // Another provider does not let OpenRouter in; our key is none the worse.
        403 if is_upstream(fault) => Some(Verdict::new(FailoverProvider, codes::FORBIDDEN)),
        408 => Some(Verdict::new(FailoverProvider, codes::TIMED_OUT)),
        429 if is_upstream(fault) => Some(Verdict::overloaded(FailoverProvider)),
        500 => Some(Verdict::new(RetrySameKey, codes::SERVER_ERROR)),
        502 => Some(Verdict::new(FailoverProvider, codes::SERVER_ERROR)),
        503 => Some(Verdict::overloaded(FailoverProvider)),
        _ => None,
    }
}

/// The prompt with as short an answer as the credits are said to suffice for, and a little less;
/// `None` when the error is another or a shorter answer would not help.
pub(super) fn affordable(error: &ProviderError, prompt: &Prompt) -> Option<Prompt> {
    let told = error.message.split_once("can only afford ")?.1;
    let digits: String = told.chars().take_while(char::is_ascii_digit).collect();
    let most: u32 = digits.parse().ok()?;
    let cap = (most - most / 20).min(prompt.max_output_tokens);
    let own = prompt.native_in(Dialect::OpenAi);
    let asked = match own {
        None => Some(u64::from(prompt.max_output_tokens)),
        Some(own) => CAPS.iter().find_map(|name| own.body.get(*name)?.as_u64()),
    };
    let helps = error.code == codes::INSUFFICIENT_CREDITS
        && cap > 0
        && asked.is_none_or(|asked| asked > u64::from(cap));
    if !helps {
        return None;
    }
    tracing::warn!(asked, cap, "OpenRouter's credits run out: asking for a shorter answer");
    let native = own.map(|own| {
        let mut own = own.clone();
        for name in CAPS {
            own.body.remove(name);
        }
        own.body.insert("max_tokens".to_owned(), cap.into());
        Arc::new(own)
    });
    let native = native.or_else(|| prompt.native.clone());
    Some(Prompt { max_output_tokens: cap, native, ..prompt.clone() })
}

fn bad_request(fault: &Fault) -> Option<Verdict> {
    let is = |names: &[&str]| {
        fault.is_any(names) || names.contains(&text(&fault.error, "/metadata/error_type"))
    };
    if is(&["content_policy_violation", "refusal"]) {
        Some(Verdict::refused())
    } else if is(&["context_length_exceeded", "string_too_long"]) {
        Some(Verdict::caller(codes::CONTEXT_LENGTH))
    } else if is(&["max_tokens_exceeded", "token_limit_exceeded"]) {
        Some(Verdict::caller(codes::MAX_TOKENS))
    } else if is(&["invalid_prompt"]) {
        // Malformed here; at OpenAI the same word means refused.
        Some(Verdict::caller(codes::INVALID_REQUEST))
    } else {
        None
    }
}

fn is_moderated(fault: &Fault) -> bool {
    let has = |place: &str| fault.error.pointer(place).is_some_and(|found| !found.is_null());
    !list(&fault.error, "/metadata/reasons").is_empty()
        || has("/metadata/flagged_input")
        || has("/metadata/patterns")
}

fn is_upstream(fault: &Fault) -> bool {
    let availability = ["/availability/code", "/metadata/availability/code"];
    !text(&fault.error, "/metadata/provider_name").is_empty()
        || fault.says(&["upstream"])
        || availability.iter().any(|place| text(&fault.error, place) == "capacity_exhausted")
}

#[cfg(test)]
mod tests {
    use super::super::errors;
    use super::*;
    use crate::provider::openai::Dialect;
    use serde_json::{Value, json};

    fn judged(status: u16, error: &Value) -> (ErrorClass, &'static str) {
        let body = json!({ "error": error }).to_string();
        let fault = Fault::read(body.as_bytes());
        let verdict = errors::judge(
            Dialect::OpenRouter,
            &Failure { status, fault, wait: None, told: Vec::new(), retry: None },
        );
        (verdict.class, verdict.code)
    }

    #[test]
    fn its_own_faults_and_those_it_passes_on() {
        use ErrorClass::{
            AuthOrBilling, CallerError, ContentRefused, CooldownKey, FailoverProvider, RetrySameKey,
        };
        let kind = |name: &str| json!({ "metadata": { "error_type": name } });
        let said = |text: &str| json!({ "message": text });
        let from = json!({ "metadata": { "provider_name": "Google" } });
        for (status, error, class, code) in [
            (400, kind("context_length_exceeded"), CallerError, "context_length"),
            (400, kind("token_limit_exceeded"), CallerError, "max_tokens"),
            (400, said("Token limit reached"), CallerError, "max_tokens"),
            (400, kind("refusal"), ContentRefused, "refused"),
            (400, kind("invalid_prompt"), CallerError, "invalid_request"),
            (401, kind("authentication"), AuthOrBilling, "bad_key"),
            (402, kind("payment_required"), AuthOrBilling, "insufficient_quota"),
            (402, kind("in_flight_budget_exhausted"), CooldownKey, "insufficient_quota"),
            (402, kind("weight_exceeds_budget"), CallerError, "larger_than_limit"),
            (403, kind("permission_denied"), AuthOrBilling, "forbidden"),
            (
                403,
                json!({ "metadata": { "reasons": ["hate"], "provider_name": "X" } }),
                ContentRefused,
                "refused",
            ),
            (403, from.clone(), FailoverProvider, "forbidden"),
            (404, kind("not_found"), CallerError, "model_not_found"),
            (408, kind("timeout"), FailoverProvider, "timed_out"),
            (413, kind("x"), CallerError, "request_too_large"),
            (429, kind("rate_limit_exceeded"), CooldownKey, "rate_limited"),
            (429, from, FailoverProvider, "overloaded"),
            (
                429,
                json!({ "availability": { "code": "capacity_exhausted" } }),
                FailoverProvider,
                "overloaded",
            ),
            (500, kind("server"), RetrySameKey, "server_error"),
            (502, kind("provider_unavailable"), FailoverProvider, "server_error"),
            (503, kind("provider_overloaded"), FailoverProvider, "overloaded"),
            (504, kind("timeout"), FailoverProvider, "timed_out"),
        ] {
            assert_eq!(judged(status, &error), (class, code), "{status} {error}");
        }
    }
}
