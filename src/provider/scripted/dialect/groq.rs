//! Groq's kind of OpenAI's chat: `x_groq`, times in `usage`, requests counted by the day, and an
//! error in a stream that has a name.

use serde_json::{Value, json};

use super::openai::{self, chunks, completion, error, limit_headers};
use super::{Fault, Header, Limited, Refusal, Said, Script, Voice, put, retry_after};
use crate::domain::limits::{Axis, Period};
use crate::domain::told::Told;

/// Groq.
pub(super) struct Groq;

impl Voice for Groq {
    fn headers(&self, number: u64, told: &[Told], _now: i64) -> Vec<Header> {
        let named = |told: &&Told| {
            matches!(
                (told.axis, told.per),
                (Axis::Requests, Period::Day) | (Axis::Tokens, Period::Minute)
            )
        };
        // The names have no period here.
        let told = told.iter().filter(named).map(|told| Told { per: Period::Minute, ..*told });
        let mut headers = limit_headers(&told.collect::<Vec<_>>());
        headers.push(("x-request-id".to_owned(), id(number)));
        headers
    }

    fn whole(&self, said: &Said<'_>) -> String {
        let mut body = completion(said);
        put(&mut body, "usage", usage(said));
        put(&mut body, "x_groq", json!({ "id": id(said.number) }));
        body.to_string()
    }

    fn script(&self, said: &Said<'_>) -> Script<String> {
        let mut chunks = chunks(said);
        put(&mut chunks.first, "x_groq", json!({ "id": id(said.number) }));
        put(&mut chunks.last, "x_groq", json!({ "id": id(said.number), "usage": usage(said) }));
        chunks.script(said.usage)
    }

    fn limited(&self, limited: &Limited, model: &str, _now: i64) -> Refusal {
        let (kind, code) = limited.kind();
        let body = error(&limited.message(model), kind, Some(code));
        Refusal { headers: retry_after(limited.wait), ..Refusal::json(429, body) }
    }

    fn failed(&self, fault: Fault, model: &str) -> Refusal {
        let status = fault.status().unwrap_or(500);
        match fault {
            Fault::Quota => {
                let message = "Organization has been restricted. Please reach out to support if \
                               you believe this was in error.";
                let code = Some("organization_restricted");
                Refusal::json(400, error(message, "invalid_request_error", code))
            }
            Fault::TooLarge => {
                let message = format!(
                    "Request too large for model `{model}` in organization `org_scripted` service \
                     tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 62940, \
                     please reduce your message size and try again."
                );
                Refusal::json(status, error(&message, "tokens", Some("rate_limit_exceeded")))
            }
            _ => Refusal::json(status, openai::failed(fault, model)),
        }
    }

    fn inside(&self, _said: Option<&Said<'_>>) -> String {
        openai::failed(Fault::ErrorInside, "").to_string()
    }

    fn broken(&self) -> String {
        let body = json!({ "error": {
            "message": Fault::ErrorMidway.message(), "type": "internal_server_error",
            "code": "server_error", "status_code": 500,
        } });
        format!("event: error\ndata: {body}\n\n")
    }
}

fn id(number: u64) -> String {
    format!("req_scripted_{number}")
}

fn usage(said: &Said<'_>) -> Value {
    let mut usage = openai::usage(said);
    for time in ["queue_time", "prompt_time", "completion_time", "total_time"] {
        put(&mut usage, time, 0.01);
    }
    usage
}
