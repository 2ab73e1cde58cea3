//! An answer that is an error, in one shape whatever its envelope, and what is to be done.

use std::time::Duration;

use serde_json::Value;

use super::json::{list, text};
use super::{ErrorClass, codes};
use crate::domain::told::Told;

/// An answer that is an error.
pub(super) struct Failure {
    /// The HTTP status or, for an error inside a 200, the one it stands for.
    pub status: u16,
    /// What the body says.
    pub fault: Fault,
    /// When to come back, if the provider said so.
    pub wait: Option<Duration>,
    /// What the provider says of its limits.
    pub told: Vec<Told>,
    /// Whether the provider says in so many words that asking again makes sense.
    pub retry: Option<bool>,
}

impl Failure {
    /// An error that came with the status 200 because the answer had already begun.
    pub(super) fn inside(error: &Value) -> Self {
        let fault = Fault::of(error);
        let number = |name| error.get(name).and_then(Value::as_u64);
        let told = number("status_code").or_else(|| number("code")).or_else(|| number("status"));
        let told = told.and_then(|told| u16::try_from(told).ok());
        let status = match told {
            Some(status @ 400..=599) => status,
            _ => meant(&fault.code).or_else(|| meant(&fault.kind)).unwrap_or(502),
        };
        Self { status, fault, wait: None, told: Vec::new(), retry: None }
    }
}

/// The status that OpenAI and Anthropic send with this code or type.
fn meant(word: &str) -> Option<u16> {
    Some(match word {
        "invalid_request_error"
        | "context_length_exceeded"
        | "invalid_prompt"
        | "bio_policy"
        | "content_policy_violation"
        | "data_residency_mismatch" => 400,
        "invalid_api_key" | "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" => 404,
        "request_too_large" => 413,
        // OpenAI tells with a 429 also that there is no money.
        "rate_limit_exceeded"
        | "rate_limit_error"
        | "slow_down"
        | "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "organization_usage_limit_exceeded"
        | "project_spend_limit_exceeded"
        | "billing_hard_limit_reached" => 429,
        "server_error" | "api_error" => 500,
        "server_is_overloaded" | "service_unavailable_error" => 503,
        "timeout_error" | "vector_store_timeout" => 504,
        "overloaded_error" => 529,
        // There are some twenty, from `invalid_image_url` to `image_too_small`.
        image if image.contains("image") => 400,
        _ => return None,
    })
}

/// What an error's body says.
#[derive(Default)]
pub(super) struct Fault {
    /// The provider's own text; empty when the body is none of ours to repeat.
    pub message: String,
    /// `type`, or Gemini's `status`.
    pub kind: String,
    /// `code`, when it is a word.
    pub code: String,
    /// The parameter at fault.
    pub param: String,
    /// The error object itself.
    pub error: Value,
}

impl Fault {
    /// Reads the envelopes in use: `{error: {…}}`, a flat object (Cerebras), `{error: "text"}`
    /// (Ollama), a list of one (Gemini), and plain text (proxies).
    pub(super) fn read(body: &[u8]) -> Self {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            let first = value.get(0).unwrap_or(&value);
            return Self::of(first.get("error").unwrap_or(first));
        }
        let plain = String::from_utf8_lossy(body).trim().to_owned();
        let message = if plain.starts_with('<') { String::new() } else { plain };
        Self { message, ..Self::default() }
    }

    fn of(error: &Value) -> Self {
        if let Some(message) = error.as_str() {
            return Self { message: message.to_owned(), ..Self::default() };
        }
        let either = |a: &'static str, b: &'static str| match text(error, a) {
            "" => text(error, b).to_owned(),
            found => found.to_owned(),
        };
        let mut message = either("/message", "/detail");
        let raw = text(error, "/metadata/raw");
        if !raw.is_empty() {
            message = format!("{message}: {raw}");
        }
        Self {
            message,
            kind: either("/type", "/status"),
            code: match either("/code", "/error_type") {
                code if code.is_empty() => text(error, "/metadata/error_type").to_owned(),
                code => code,
            },
            param: text(error, "/param").to_owned(),
            error: error.clone(),
        }
    }

    /// The figure behind a word of the message: `Limit 30,000`, `Limit ~6000`.
    pub(super) fn number_after(&self, word: &str) -> Option<u64> {
        let (_, rest) = self.message.split_once(word)?;
        let digits: String = rest
            .trim_start_matches('~')
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == ',')
            .filter(char::is_ascii_digit)
            .collect();
        digits.parse().ok()
    }

    /// Whether the type or the code is one of these.
    pub(super) fn is_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.kind == *name || self.code == *name)
    }

    /// Whether the message has one of these phrases, written in small letters.
    pub(super) fn says(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// Whether the message begins with one of these phrases, written in small letters, and is no
    /// complaint about a field, whose name is the caller's: a caller must not be able to put words
    /// into a provider's mouth that take the account from everybody.
    pub(super) fn opens_with(&self, phrases: &[&str]) -> bool {
        let message = self.message.trim().to_lowercase();
        phrases.iter().any(|phrase| message.starts_with(phrase))
            && !message.contains(": ")
            && !message.contains("extra inputs")
    }

    /// Gemini's detail of this kind.
    pub(super) fn detail(&self, kind: &str) -> Option<&Value> {
        list(&self.error, "/details").iter().find(|one| text(one, "/@type").ends_with(kind))
    }
}

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// What can be done.
    pub class: ErrorClass,
    /// The particular fault.
    pub code: &'static str,
    /// When to come back, where the provider's own hint does not count.
    pub wait: Option<Duration>,
}

impl Verdict {
    /// A verdict that leaves the wait to the provider's hint.
    pub(super) const fn new(class: ErrorClass, code: &'static str) -> Self {
        Self { class, code, wait: None }
    }

    /// The same with a wait of our own.
    pub(super) const fn after(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// The same in the light of what the provider says of asking again. Of a limit, a key or a
    /// refusal it tells nothing new.
    pub(super) fn heeding(self, retry: Option<bool>) -> Self {
        use ErrorClass::{CallerError, FailoverProvider, RetrySameKey};
        let class = match (retry, self.class, self.code) {
            (Some(false), RetrySameKey, _) => FailoverProvider,
            (Some(true), CallerError, codes::INVALID_REQUEST) => {
                return Self { code: codes::SERVER_ERROR, class: RetrySameKey, ..self };
            }
            (_, class, _) => class,
        };
        Self { class, ..self }
    }

    /// The key's limit.
    pub(super) const fn cooldown() -> Self {
        Self::new(ErrorClass::CooldownKey, codes::RATE_LIMITED)
    }

    /// More calls at the same time than the key may make.
    pub(super) const fn crowded() -> Self {
        Self::new(ErrorClass::CooldownKey, codes::CONCURRENCY)
    }

    /// The key's use grows faster than the provider lets it.
    pub(super) const fn slow_down() -> Self {
        Self::new(ErrorClass::CooldownKey, codes::SLOW_DOWN)
    }

    /// The provider has no room.
    pub(super) const fn overloaded(class: ErrorClass) -> Self {
        Self::new(class, codes::OVERLOADED)
    }

    /// The request itself is at fault.
    pub(super) const fn caller(code: &'static str) -> Self {
        Self::new(ErrorClass::CallerError, code)
    }

    /// The key is not accepted or cannot pay.
    pub(super) const fn account(code: &'static str) -> Self {
        Self::new(ErrorClass::AuthOrBilling, code)
    }

    /// Declined for its content.
    pub(super) const fn refused() -> Self {
        Self::new(ErrorClass::ContentRefused, codes::REFUSED)
    }

    /// What a status means where nothing more is known.
    pub(super) const fn by_status(status: u16) -> Self {
        use ErrorClass::{FailoverProvider, RetrySameKey};
        match status {
            401 => Self::account(codes::BAD_KEY),
            402 => Self::account(codes::INSUFFICIENT_QUOTA),
            403 => Self::account(codes::FORBIDDEN),
            404 => Self::caller(codes::MODEL_NOT_FOUND),
            408 => Self::new(RetrySameKey, codes::TIMED_OUT),
            409 => Self::new(RetrySameKey, codes::SERVER_ERROR),
            413 => Self::caller(codes::REQUEST_TOO_LARGE),
            429 => Self::cooldown(),
            400..=497 => Self::caller(codes::INVALID_REQUEST),
            498 | 503 => Self::overloaded(RetrySameKey),
            504 => Self::new(FailoverProvider, codes::TIMED_OUT),
            529 => Self::overloaded(FailoverProvider),
            499..=599 => Self::new(RetrySameKey, codes::SERVER_ERROR),
            _ => Self::new(FailoverProvider, codes::GARBLED),
        }
    }
}
