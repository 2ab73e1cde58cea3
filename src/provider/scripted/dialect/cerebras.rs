//! Cerebras' kind of OpenAI's chat: flat errors, `time_info`, periods in the names of headers.

use serde_json::{Value, json};

use super::openai::{chunks, completion};
use super::{Fault, Header, Limited, Refusal, Said, Script, Voice, event, put, retry_after};
use crate::domain::limits::{Axis, Period};
use crate::domain::told::Told;
use crate::provider::scripted::refusal::Short;

/// Cerebras.
pub(super) struct Cerebras;

impl Voice for Cerebras {
    fn headers(&self, number: u64, told: &[Told], _now: i64) -> Vec<Header> {
        let each = |told: &Told| {
            let axis = if told.axis == Axis::Requests { "requests" } else { "tokens" };
            let per = if told.per == Period::Day { "day" } else { "minute" };
            let name = |what: &str| format!("x-ratelimit-{what}-{axis}-{per}");
            [
                told.limit.map(|limit| (name("limit"), limit.to_string())),
                told.remaining.map(|left| (name("remaining"), left.to_string())),
                // Seconds, and nothing that says so.
                told.reset.map(|reset| (name("reset"), reset.as_secs_f64().to_string())),
            ]
        };
        let plain = |told: &&Told| matches!(told.axis, Axis::Requests | Axis::Tokens);
        let mut headers: Vec<_> = told.iter().filter(plain).flat_map(each).flatten().collect();
        headers.push(("inference-id".to_owned(), format!("chatcmpl-scripted-{number}")));
        headers
    }

    fn whole(&self, said: &Said<'_>) -> String {
        timed(completion(said), said.now).to_string()
    }

    fn script(&self, said: &Said<'_>) -> Script<String> {
        let mut chunks = chunks(said);
        // What was used stands in the last message whether it was asked for or not.
        let used = chunks.usage.get("usage").cloned().unwrap_or_default();
        let mut last = timed(std::mem::take(&mut chunks.last), said.now);
        put(&mut last, "usage", used);
        chunks.last = last;
        chunks.script(said.usage)
    }

    fn limited(&self, limited: &Limited, _model: &str, _now: i64) -> Refusal {
        let (message, code) = match limited.short {
            Short::Rate(Axis::Requests, Period::Minute) | Short::Places => (
                "Requests per minute limit exceeded - too many requests sent.",
                "request_quota_exceeded",
            ),
            Short::Rate(Axis::Requests, Period::Day) => (
                "Requests per day limit exceeded - too many requests sent.",
                "request_quota_exceeded",
            ),
            Short::Growth(_) => ("Requests per second limit exceeded.", "request_quota_exceeded"),
            _ => (
                "Tokens per minute limit exceeded - too many tokens processed.",
                "token_quota_exceeded",
            ),
        };
        let body = flat(message, "too_many_requests_error", Some("quota"), code);
        Refusal { headers: retry_after(limited.wait), ..Refusal::json(429, body) }
    }

    fn failed(&self, fault: Fault, model: &str) -> Refusal {
        let message = format!("Model {model} does not exist or you do not have access to it.");
        let message = if fault == Fault::NoModel { &message } else { fault.message() };
        let (kind, param, code) = match fault {
            Fault::BadKey => ("authentication_error", Some("api_key"), "wrong_api_key"),
            Fault::NoCredit | Fault::Quota => ("payment_required_error", None, "payment_required"),
            Fault::Forbidden => ("permission_denied_error", None, "permission_denied"),
            Fault::NoModel => ("not_found_error", Some("model"), "model_not_found"),
            Fault::TooLarge => ("content_too_large_error", None, "content_too_large"),
            Fault::ContextLength => {
                ("invalid_request_error", Some("messages"), "context_length_exceeded")
            }
            Fault::Unavailable => ("service_unavailable_error", None, "service_unavailable"),
            _ => ("server_error", None, "internal_server_error"),
        };
        let status = if fault == Fault::Quota { Some(402) } else { fault.status() };
        Refusal::json(status.unwrap_or(500), flat(message, kind, param, code))
    }

    fn inside(&self, _said: Option<&Said<'_>>) -> String {
        broken().to_string()
    }

    fn broken(&self) -> String {
        event(&broken())
    }
}

fn broken() -> Value {
    let error = flat(Fault::ErrorMidway.message(), "server_error", None, "internal_server_error");
    json!({ "error": error, "status_code": 500 })
}

fn flat(message: &str, kind: &str, param: Option<&str>, code: &str) -> Value {
    json!({ "message": message, "type": kind, "param": param, "code": code })
}

fn timed(mut body: Value, now: i64) -> Value {
    let times = json!({
        "queue_time": 0.001, "prompt_time": 0.001, "completion_time": 0.01,
        "total_time": 0.012, "created": now,
    });
    put(&mut body, "time_info", times);
    body
}
