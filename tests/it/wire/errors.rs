//! Every provider's errors, row by row: what is to be done, which fault it is, and how long to wait.

use serde_json::{Value, json};
use spillway::provider::ErrorClass::{
    self, AuthOrBilling, CallerError, ContentRefused, CooldownKey, FailoverProvider, RetrySameKey,
};
use spillway::provider::ProviderError;
use spillway::provider::settings::Vendor;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{LONG, provider, question};

/// An answer and what it means.
struct Row {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    class: ErrorClass,
    code: &'static str,
    wait: Option<f64>,
}

impl Row {
    fn wait(self, seconds: f64) -> Self {
        Self { wait: Some(seconds), ..self }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A JSON body.
fn row(status: u16, body: &Value, class: ErrorClass, code: &'static str) -> Row {
    plain(status, &body.to_string(), class, code)
}

/// Any body.
fn plain(status: u16, body: &str, class: ErrorClass, code: &'static str) -> Row {
    Row { status, headers: Vec::new(), body: body.to_owned(), class, code, wait: None }
}

pub(super) async fn answered(vendor: Vendor, answer: ResponseTemplate) -> ProviderError {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let provider = provider(vendor, &server.uri());
    provider.complete("a-model", &question(), LONG).await.unwrap_err()
}

async fn hold(vendor: Vendor, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for row in rows {
        let mut answer = ResponseTemplate::new(row.status).set_body_string(row.body.as_str());
        for (name, value) in &row.headers {
            answer = answer.insert_header(*name, *value);
        }
        let error = answered(vendor, answer).await;
        let wait = error.retry_after.map(|wait| wait.as_secs_f64());
        let same = match (wait, row.wait) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-6,
            (a, b) => a == b,
        };
        if (error.class, error.code) != (row.class, row.code) || !same {
            wrong.push(format!(
                "{} {}: expected {:?} {} {:?}, got {:?} {} {wait:?}",
                row.status, row.body, row.class, row.code, row.wait, error.class, error.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{vendor:?}\n{}", wrong.join("\n"));
}

fn anthropic(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": null })
}

#[tokio::test]
async fn anthropics_table() {
    let bad = |message: &str| anthropic("invalid_request_error", message);
    let limited = |message: &str| anthropic("rate_limit_error", message);
    let spent = json!({ "type": "error", "error": { "type": "rate_limit_error", "message": "m",
        "details": { "error_code": "enforced_spend_limit_reached" } } });
    let own = "You have reached your specified API usage limits. You will regain access on \
               2026-12-01 at 00:00 UTC.";
    let work = "You have reached your specified workspace API usage limits.";
    let credit = "Your credit balance is too low to access the Anthropic API.";
    let rate = "This request would exceed the rate limit for your organization (org: x, model: y) \
                of 30,000 input tokens per minute.";
    let until_december = 10.5 * 86_400.0;
    let full = "2026-11-20T12:01:03Z";
    hold(
        Vendor::Anthropic,
        vec![
            row(400, &bad("messages: too few"), CallerError, "invalid_request"),
            row(
                400,
                &bad("prompt is too long: 9 tokens > 8 maximum"),
                CallerError,
                "context_length",
            ),
            row(400, &bad("effort: 'max' is not supported"), CallerError, "unsupported_parameter"),
            row(400, &bad(own), AuthOrBilling, "insufficient_quota").wait(until_december),
            row(400, &bad(work), AuthOrBilling, "insufficient_quota"),
            row(400, &bad(credit), AuthOrBilling, "insufficient_quota"),
            row(
                401,
                &anthropic("authentication_error", "invalid x-api-key"),
                AuthOrBilling,
                "bad_key",
            )
            .header("x-should-retry", "false"),
            row(402, &anthropic("billing_error", "m"), AuthOrBilling, "insufficient_quota"),
            row(403, &anthropic("permission_error", "m"), AuthOrBilling, "model_forbidden"),
            row(403, &anthropic("forbidden", "m"), AuthOrBilling, "forbidden"),
            row(404, &anthropic("not_found_error", "model: x"), CallerError, "model_not_found"),
            row(409, &anthropic("conflict_error", "m"), RetrySameKey, "server_error"),
            row(413, &anthropic("request_too_large", "m"), CallerError, "request_too_large"),
            plain(413, "<html>413</html>", CallerError, "request_too_large"),
            row(429, &limited(rate), CooldownKey, "rate_limited")
                .header("retry-after", "16")
                .header("x-should-retry", "true")
                .header("anthropic-ratelimit-input-tokens-remaining", "0")
                .header("anthropic-ratelimit-input-tokens-reset", full)
                .wait(16.0),
            row(429, &spent, AuthOrBilling, "insufficient_quota").wait(until_december),
            row(
                429,
                &limited("Extra usage is required for long context requests."),
                CallerError,
                "larger_than_limit",
            ),
            row(429, &limited("stay within the acceleration limit"), CooldownKey, "slow_down"),
            row(429, &limited("Rate limited"), CooldownKey, "rate_limited"),
            row(500, &anthropic("api_error", "Overloaded"), RetrySameKey, "server_error"),
            row(500, &anthropic("api_error", "m"), FailoverProvider, "server_error")
                .header("x-should-retry", "false"),
            row(504, &anthropic("timeout_error", "m"), FailoverProvider, "timed_out"),
            row(529, &anthropic("overloaded_error", "Overloaded"), FailoverProvider, "overloaded")
                .header("x-should-retry", "true"),
        ],
    )
    .await;
}

fn openai(kind: &str, code: &str, message: &str) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

#[tokio::test]
async fn openais_table() {
    let bad = |code: &str| openai("invalid_request_error", code, "m");
    let quota = |code: &str| openai("insufficient_quota", code, "m");
    let limited = |message: &str| openai("tokens", "rate_limit_exceeded", message);
    let minute = "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 28039, \
                  Requested 3906. Please try again in 3.89s.";
    let day = "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested \
               1. Please try again in 114h18m0s.";
    let large = "Request too large for m on tokens per min (TPM): Limit 30000, Requested 39060.";
    let no_code =
        json!({ "error": { "message": "m", "type": "insufficient_quota", "code": null } });
    let edge = "upstream connect error or disconnect/reset before headers. reset reason: timeout";
    let mut rows = vec![
        row(400, &bad("context_length_exceeded"), CallerError, "context_length"),
        row(400, &bad("unsupported_parameter"), CallerError, "unsupported_parameter"),
        row(400, &bad("unsupported_value"), CallerError, "unsupported_parameter"),
        row(400, &json!({ "error": { "code": null } }), CallerError, "invalid_request"),
        row(400, &bad("model_not_found"), CallerError, "model_not_found"),
        row(404, &bad("model_not_found"), CallerError, "model_not_found"),
        row(403, &bad("model_not_found"), AuthOrBilling, "model_forbidden"),
        row(400, &bad("content_policy_violation"), ContentRefused, "refused"),
        row(400, &bad("invalid_prompt"), ContentRefused, "refused"),
        row(400, &bad("bio_policy"), ContentRefused, "refused"),
        row(400, &bad("previous_response_not_found"), CallerError, "invalid_request"),
        row(401, &bad("invalid_api_key"), AuthOrBilling, "bad_key"),
        row(401, &openai("x", "", "You are not a member"), AuthOrBilling, "bad_key"),
        row(403, &bad("unsupported_country_region_territory"), AuthOrBilling, "forbidden"),
        row(404, &openai("x", "", "no such thing"), CallerError, "model_not_found"),
        row(408, &openai("x", "", "m"), RetrySameKey, "timed_out"),
        row(409, &openai("x", "", "m"), RetrySameKey, "server_error"),
        row(429, &limited(minute), CooldownKey, "rate_limited").wait(3.89),
        row(429, &limited(day), CooldownKey, "rate_limited").wait(411_480.0),
        row(429, &limited(minute), CooldownKey, "rate_limited")
            .header("retry-after", "4")
            .header("retry-after-ms", "3900")
            .wait(3.9),
        row(429, &limited(large), CallerError, "larger_than_limit"),
        row(429, &no_code, AuthOrBilling, "insufficient_quota"),
        row(429, &openai("rate_limit_error", "slow_down", "m"), CooldownKey, "slow_down"),
        row(429, &openai("x", "", "Resource unavailable"), RetrySameKey, "overloaded"),
        row(500, &openai("server_error", "", "m"), RetrySameKey, "server_error"),
        row(
            503,
            &openai("service_unavailable_error", "server_is_overloaded", "m"),
            RetrySameKey,
            "overloaded",
        ),
        plain(503, edge, RetrySameKey, "overloaded"),
    ];
    for code in ["invalid_value", "decimal_above_max_value", "empty_array", "invalid_image_url"] {
        rows.push(row(400, &bad(code), CallerError, "invalid_request"));
    }
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    ] {
        rows.push(row(429, &quota(code), AuthOrBilling, "insufficient_quota"));
    }
    hold(Vendor::OpenAi, rows).await;
}

#[tokio::test]
async fn groqs_table() {
    let of = |kind: &str, code: &str, message: &str| openai(kind, code, message);
    let bad = |code: &str| of("invalid_request_error", code, "m");
    let minute = "Rate limit reached for model `m` on tokens per minute (TPM): Limit 12000, Used \
                  2542, Requested 9855. Please try again in 1.984999999s.";
    let large = "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested \
                 6294.";
    let failed = json!({ "error": { "message": "Tool choice is required, but model did not call a \
        tool", "type": "invalid_request_error", "code": "tool_use_failed",
        "failed_generation": "x" } });
    hold(
        Vendor::Groq,
        vec![
            row(400, &failed, RetrySameKey, "model_output_invalid"),
            row(400, &bad("json_validate_failed"), RetrySameKey, "model_output_invalid"),
            row(400, &bad("context_length_exceeded"), CallerError, "context_length"),
            row(400, &bad("model_terms_required"), AuthOrBilling, "model_forbidden"),
            row(401, &bad("invalid_api_key"), AuthOrBilling, "bad_key"),
            row(403, &bad("organization_restricted"), AuthOrBilling, "forbidden"),
            row(403, &bad("model_permission_blocked_org"), AuthOrBilling, "model_forbidden"),
            row(404, &bad("model_not_found"), CallerError, "model_not_found"),
            row(413, &of("tokens", "rate_limit_exceeded", large), CallerError, "larger_than_limit"),
            row(422, &bad(""), RetrySameKey, "model_output_invalid"),
            row(424, &bad(""), CallerError, "invalid_request"),
            row(429, &of("tokens", "rate_limit_exceeded", minute), CooldownKey, "rate_limited")
                .wait(1.984_999_999),
            row(429, &of("tokens", "rate_limit_exceeded", minute), CooldownKey, "rate_limited")
                .header("retry-after", "2")
                .wait(2.0),
            row(498, &bad("capacity_exceeded"), RetrySameKey, "overloaded"),
            row(499, &bad(""), RetrySameKey, "server_error"),
            row(500, &bad(""), RetrySameKey, "server_error"),
            row(502, &bad(""), RetrySameKey, "server_error"),
            row(503, &bad(""), RetrySameKey, "overloaded"),
        ],
    )
    .await;
}

#[tokio::test]
async fn cerebras_table() {
    let flat = |kind: &str, param: &str, code: &str, message: &str| json!({ "message": message, "type": kind, "param": param, "code": code });
    let many = |code: &str, message: &str| flat("too_many_requests_error", "quota", code, message);
    let long = "Please reduce the length. Current length is 9000 while limit is 8192";
    let second = "Requests per second limit exceeded - too many requests sent.";
    hold(
        Vendor::Cerebras,
        vec![
            row(400, &flat("invalid_request_error", "", "", "m"), CallerError, "invalid_request"),
            row(400, &flat("invalid_request_error", "", "", long), CallerError, "context_length"),
            row(
                401,
                &flat("authentication_error", "", "wrong_api_key", "m"),
                AuthOrBilling,
                "bad_key",
            ),
            row(402, &flat("x", "", "payment_required", "m"), AuthOrBilling, "insufficient_quota"),
            row(403, &flat("permission_denied_error", "", "", "m"), AuthOrBilling, "forbidden"),
            row(
                404,
                &flat("not_found_error", "", "model_not_found", "m"),
                CallerError,
                "model_not_found",
            ),
            row(413, &flat("x", "", "content_too_large", "m"), CallerError, "request_too_large"),
            row(
                422,
                &flat("unprocessable_entity_error", "", "", "m"),
                CallerError,
                "invalid_request",
            ),
            row(
                429,
                &many("request_quota_exceeded", "Requests per minute limit exceeded"),
                CooldownKey,
                "rate_limited",
            ),
            row(429, &many("request_quota_exceeded", second), CooldownKey, "rate_limited")
                .wait(1.0),
            row(
                429,
                &many("token_quota_exceeded", "Tokens per minute limit exceeded"),
                CooldownKey,
                "rate_limited",
            )
            .header("x-ratelimit-remaining-tokens-minute", "0")
            .header("x-ratelimit-reset-tokens-minute", "11.38")
            .wait(11.38),
            row(429, &many("queue_exceeded", "high traffic"), FailoverProvider, "overloaded"),
            row(429, &flat("rate_limit_error", "", "", "m"), CooldownKey, "rate_limited"),
            row(500, &flat("internal_server_error", "", "", "m"), RetrySameKey, "server_error"),
            row(503, &flat("service_unavailable", "", "", "m"), RetrySameKey, "overloaded"),
        ],
    )
    .await;
}

/// Gemini's envelope; `details` go in as they are.
pub(super) fn gemini(status: &str, message: &str, details: &Value) -> Value {
    json!({ "error": { "code": 0, "message": message, "status": status, "details": details } })
}

/// A quota that is used up, and when to come back.
pub(super) fn quota(id: &str, value: &str, delay: &str) -> Value {
    json!([
        { "@type": "type.googleapis.com/google.rpc.QuotaFailure",
          "violations": [{ "quotaId": id, "quotaValue": value }] },
        { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay },
    ])
}

#[tokio::test]
async fn geminis_table() {
    let of = |status: &str, message: &str| gemini(status, message, &json!([]));
    let key = gemini("INVALID_ARGUMENT", "m", &json!([{ "reason": "API_KEY_INVALID" }]));
    let used = |message: &str, details: &Value| gemini("RESOURCE_EXHAUSTED", message, details);
    let minute = "GenerateRequestsPerMinutePerProjectPerModel";
    let tokens = "GenerateContentPaidTierInputTokensPerModelPerMinute";
    let day = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
    let gone = "CachedContent not found (or permission denied)";
    let busy = "The model is overloaded. Please try again later.";
    let text = "Quota exceeded. Please retry in 37.8s.";
    let zero = "Quota exceeded for metric: x, limit: 0, model: m\nPlease retry in 37.8s.";
    hold(
        Vendor::Gemini,
        vec![
            row(400, &of("INVALID_ARGUMENT", "m"), CallerError, "invalid_request"),
            row(400, &key, AuthOrBilling, "bad_key"),
            row(400, &of("FAILED_PRECONDITION", "m"), AuthOrBilling, "forbidden"),
            row(402, &of("RESOURCE_EXHAUSTED", "m"), AuthOrBilling, "insufficient_quota"),
            row(403, &of("PERMISSION_DENIED", "m"), AuthOrBilling, "forbidden"),
            row(403, &of("PERMISSION_DENIED", gone), CallerError, "invalid_request"),
            row(404, &of("NOT_FOUND", "models/x is not found"), CallerError, "model_not_found"),
            row(429, &used("m", &quota(day, "20", "21s")), CooldownKey, "rate_limited")
                .wait(20.0 * 3_600.0),
            row(429, &used(zero, &quota(day, "0", "21s")), AuthOrBilling, "model_forbidden"),
            row(429, &used("m", &quota(minute, "10", "48s")), CooldownKey, "rate_limited")
                .wait(48.0),
            row(429, &used("m", &quota(minute, "10", "120ms")), CooldownKey, "rate_limited")
                .wait(0.12),
            row(429, &used(text, &json!([])), CooldownKey, "rate_limited").wait(37.8),
            row(429, &used("m", &quota(tokens, "0", "48s")), CallerError, "larger_than_limit"),
            row(
                429,
                &used("Resource has been exhausted (e.g. check quota).", &json!([])),
                RetrySameKey,
                "overloaded",
            ),
            row(499, &of("CANCELLED", "m"), RetrySameKey, "server_error"),
            row(500, &of("INTERNAL", "m"), RetrySameKey, "server_error"),
            row(503, &of("UNAVAILABLE", busy), RetrySameKey, "overloaded"),
            row(504, &of("DEADLINE_EXCEEDED", "m"), FailoverProvider, "timed_out"),
            row(503, &json!([of("UNAVAILABLE", busy)]), RetrySameKey, "overloaded"),
        ],
    )
    .await;
}

#[tokio::test]
async fn openrouters_table() {
    let of = |error: Value| json!({ "error": error, "user_id": "u" });
    let kind = |name: &str| of(json!({ "message": "m", "metadata": { "error_type": name } }));
    let said = |text: &str| of(json!({ "message": text }));
    let upstream = of(json!({ "code": 429, "message": "Provider returned error", "metadata": {
        "provider_name": "X", "raw": "m is temporarily rate-limited upstream" } }));
    let capacity = of(json!({ "message": "m",
        "availability": { "code": "capacity_exhausted", "retry_after": 7 } }));
    let later = of(json!({ "message": "m",
        "availability": { "code": "temporarily_unavailable", "retry_after": 7 } }));
    let moderated = of(json!({ "message": "m", "metadata": { "reasons": ["hate"],
        "flagged_input": "x", "provider_name": "X", "model_slug": "y" } }));
    let guarded = of(json!({ "message": "m", "metadata": { "patterns": ["x"] } }));
    let mut rows = vec![
        row(400, &kind("context_length_exceeded"), CallerError, "context_length"),
        row(400, &kind("string_too_long"), CallerError, "context_length"),
        row(400, &kind("max_tokens_exceeded"), CallerError, "max_tokens"),
        row(400, &kind("token_limit_exceeded"), CallerError, "max_tokens"),
        row(400, &kind("content_policy_violation"), ContentRefused, "refused"),
        row(400, &kind("refusal"), ContentRefused, "refused"),
        row(401, &said("Missing Authentication header"), AuthOrBilling, "bad_key"),
        row(402, &kind("payment_required"), AuthOrBilling, "insufficient_quota"),
        row(402, &kind("in_flight_budget_exhausted"), CooldownKey, "insufficient_quota"),
        row(402, &kind("weight_exceeds_budget"), CallerError, "larger_than_limit"),
        row(403, &kind("permission_denied"), AuthOrBilling, "forbidden"),
        row(403, &moderated, ContentRefused, "refused"),
        row(403, &guarded, ContentRefused, "refused"),
        row(408, &kind("timeout"), FailoverProvider, "timed_out"),
        row(504, &kind("timeout"), FailoverProvider, "timed_out"),
        row(413, &kind("x"), CallerError, "request_too_large"),
        row(422, &kind("x"), CallerError, "invalid_request"),
        row(429, &kind("rate_limit_exceeded"), CooldownKey, "rate_limited")
            .header("x-ratelimit-remaining", "0")
            .header("x-ratelimit-reset", "1795176012500")
            .wait(12.5),
        row(429, &upstream, FailoverProvider, "overloaded"),
        row(429, &capacity, FailoverProvider, "overloaded").wait(7.0),
        row(500, &kind("server"), RetrySameKey, "server_error"),
        row(500, &kind("unmapped"), RetrySameKey, "server_error"),
        row(502, &kind("provider_unavailable"), FailoverProvider, "server_error"),
        row(503, &kind("provider_overloaded"), FailoverProvider, "overloaded")
            .header("retry-after", "3")
            .wait(3.0),
        row(503, &later, FailoverProvider, "overloaded").wait(7.0),
    ];
    for code in ["invalid_request", "invalid_prompt", "invalid_image", "image_too_large"] {
        rows.push(row(400, &kind(code), CallerError, "invalid_request"));
    }
    for code in ["no_endpoints", "model_deprecated", "privacy_restricted", "constraint_filtered"] {
        let body = of(json!({ "message": "m", "availability": { "code": code } }));
        rows.push(row(404, &body, CallerError, "model_not_found"));
    }
    hold(Vendor::OpenRouter, rows).await;
}

#[tokio::test]
async fn the_local_servers_table() {
    let llama = |code: u16, kind: &str, message: &str| json!({ "error": { "code": code, "message": message, "type": kind } });
    let context = json!({ "error": { "code": 400, "message": "m", "n_ctx": 4096,
        "n_prompt_tokens": 5000, "type": "exceed_context_size_error" } });
    let vllm = json!({ "error": { "message": "This model's maximum context length is 4096 tokens.",
        "type": "BadRequestError", "param": null, "code": 400 } });
    let flat =
        json!({ "object": "error", "message": "The model `x` does not exist.", "code": 404 });
    let busy = "server busy, please try again. maximum pending requests exceeded";
    let jinja = "tools param requires --jinja flag";
    let both = "Either \"json_schema\" or \"grammar\" can be specified, but not both";
    let image = "image input is not supported - hint: you may need to provide the mmproj";
    hold(
        Vendor::OpenAiCompatible,
        vec![
            row(400, &context, CallerError, "context_length"),
            row(400, &vllm, CallerError, "context_length"),
            row(400, &json!({ "error": "text" }), CallerError, "invalid_request"),
            row(401, &llama(401, "authentication_error", "m"), AuthOrBilling, "bad_key"),
            row(404, &json!({ "error": "model 'x' not found" }), CallerError, "model_not_found"),
            row(404, &flat, CallerError, "model_not_found"),
            row(499, &json!({ "error": "cancelled" }), RetrySameKey, "server_error"),
            row(500, &llama(500, "server_error", jinja), CallerError, "unsupported_parameter"),
            row(500, &llama(500, "server_error", both), CallerError, "unsupported_parameter"),
            row(500, &llama(500, "server_error", image), CallerError, "unsupported_parameter"),
            row(500, &json!({ "error": "broke" }), FailoverProvider, "server_error"),
            row(501, &llama(501, "not_supported_error", "m"), CallerError, "unsupported_parameter"),
            row(503, &json!({ "error": busy }), RetrySameKey, "overloaded"),
            row(503, &llama(503, "unavailable_error", "Loading model"), RetrySameKey, "overloaded"),
        ],
    )
    .await;
}
