//! OpenRouter's kind of OpenAI's chat: blank lines before an answer and comments in a stream while
//! it waits, what it cost, and errors that come with status 200.

use serde_json::{Value, json};

use super::openai::{chunks, completion};
use super::{Fault, Header, Limited, Refusal, Said, Script, Voice, event, put, retry_after};
use crate::domain::told::Told;

/// OpenRouter.
pub(super) struct OpenRouter;

/// What it keeps a connection open with.
const BLANKS: &str = "\n         \n\n         \n";
const COMMENT: &str = ": OPENROUTER PROCESSING\n\n";

impl Voice for OpenRouter {
    fn headers(&self, number: u64, _told: &[Told], _now: i64) -> Vec<Header> {
        vec![("x-generation-id".to_owned(), format!("gen-scripted-{number}"))]
    }

    fn whole(&self, said: &Said<'_>) -> String {
        format!("{BLANKS}{}", dressed(completion(said), said))
    }

    fn script(&self, said: &Said<'_>) -> Script<String> {
        let mut all = chunks(said);
        let parts = all.tokens.iter_mut().chain([&mut all.first, &mut all.last, &mut all.usage]);
        for part in parts {
            *part = dressed(std::mem::take(part), said);
        }
        // What was used is told whether it was asked for or not.
        Script { early: vec![COMMENT.to_owned(); 2], ..all.script(true) }
    }

    fn limited(&self, limited: &Limited, _model: &str, now: i64) -> Refusal {
        let wait = limited.wait.map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let reset = wait.map(|wait| now.saturating_mul(1_000).saturating_add(wait).to_string());
        let told = limited.limit.map(|limit| limit.to_string()).zip(reset);
        let mut headers = retry_after(limited.wait);
        let mut named = serde_json::Map::new();
        if let Some((limit, reset)) = told {
            for (name, value) in [("Limit", limit), ("Remaining", "0".to_owned()), ("Reset", reset)]
            {
                headers.push((format!("x-ratelimit-{}", name.to_lowercase()), value.clone()));
                named.insert(format!("X-RateLimit-{name}"), value.into());
            }
        }
        let metadata = json!({ "headers": named, "error_type": "rate_limit_exceeded" });
        let body = error(429, "Rate limit exceeded: free-models-per-min. ", &metadata);
        Refusal { headers, ..Refusal::json(429, body) }
    }

    fn failed(&self, fault: Fault, model: &str) -> Refusal {
        let status = if fault == Fault::Quota { 403 } else { fault.status().unwrap_or(500) };
        let missing = format!("No endpoints found for {model}.");
        let (message, kind) = match fault {
            Fault::BadKey => ("User not found.", "authentication"),
            Fault::NoCredit => (
                "Insufficient credits. Add more at https://openrouter.ai/settings/credits",
                "payment_required",
            ),
            Fault::Quota => ("Key limit exceeded (total limit).", "permission_denied"),
            Fault::Forbidden => ("This key may not use this.", "permission_denied"),
            Fault::NoModel => (missing.as_str(), "not_found"),
            Fault::TooLarge => ("Payload too large", "payload_too_large"),
            Fault::ContextLength => (
                "This endpoint's maximum context length is 8192 tokens.",
                "context_length_exceeded",
            ),
            Fault::Unavailable => ("The provider is overloaded.", "provider_overloaded"),
            Fault::Overloaded => ("Overloaded", "provider_overloaded"),
            Fault::BadGateway => ("Provider returned error", "provider_unavailable"),
            _ => ("Internal Server Error", "server"),
        };
        Refusal::json(status, error(status, message, &json!({ "error_type": kind })))
    }

    fn inside(&self, said: Option<&Said<'_>>) -> String {
        let error = broken();
        // What had begun stands beside it.
        let Some(said) = said else { return format!("{BLANKS}{}", json!({ "error": error })) };
        let mut body = dressed(completion(said), said);
        if let Some(choice) = body.pointer_mut("/choices/0") {
            put(choice, "finish_reason", "error");
            put(choice, "error", error);
        }
        format!("{BLANKS}{body}")
    }

    fn broken(&self) -> String {
        event(&json!({
            "id": "gen-scripted", "object": "chat.completion.chunk", "provider": "Scripted",
            "error": broken(),
            "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": null }],
        })) + "data: [DONE]\n\n"
    }
}

fn broken() -> Value {
    json!({ "code": 502, "message": "Provider returned error",
            "metadata": { "error_type": "provider_unavailable" } })
}

fn error(status: u16, message: &str, metadata: &Value) -> Value {
    json!({ "error": { "code": status, "message": message, "metadata": metadata },
            "user_id": "user_scripted" })
}

/// With what it adds to every answer and every piece of one.
fn dressed(mut body: Value, said: &Said<'_>) -> Value {
    put(&mut body, "id", format!("gen-scripted-{}", said.number));
    put(&mut body, "provider", "Scripted");
    if let Some(choice) = body.pointer_mut("/choices/0") {
        let native = choice.get("finish_reason").cloned().unwrap_or_default();
        put(choice, "native_finish_reason", native);
    }
    if let Some(usage) = body.get_mut("usage") {
        put(usage, "cost", cost(said));
        put(usage, "is_byok", false);
        put(usage, "cost_details", json!({ "upstream_inference_cost": cost(said) }));
    }
    body
}

/// A dollar for a million tokens in, five for a million out.
#[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
fn cost(said: &Said<'_>) -> f64 {
    let usage = said.answer.usage;
    (usage.input_tokens as f64 + 5.0 * usage.output_tokens as f64) / 1e6
}
