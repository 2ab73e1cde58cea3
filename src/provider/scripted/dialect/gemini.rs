//! Gemini's `generateContent`, from the server's side.

use serde_json::{Value, json};

use super::{Asked, Body, Fault, Header, Limited, Refusal, Said, Script, Voice, event, put};
use crate::domain::completion::{Finish, ToolCall};
use crate::domain::content::{Content, Image, Part, Piece};
use crate::domain::limits::{Axis, Period};
use crate::domain::prompt::{Message, Prompt, Role, Tool, ToolChoice};
use crate::domain::told::Told;
use crate::provider::json::{count, list, text};
use crate::provider::scripted::refusal::Short;

/// Gemini.
pub(super) struct Gemini;

/// What is asked when a request does not say how long the answer may be.
const DEFAULT_MAX_TOKENS: u64 = 8_192;

/// What a request asks of a model.
pub(in super::super) fn read(model: &str, stream: bool, body: &[u8]) -> Result<Asked, String> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|fault| format!("Invalid JSON payload received. {fault}"))?;
    let cap = count(&body, "/generationConfig/maxOutputTokens").unwrap_or(DEFAULT_MAX_TOKENS);
    let config = |name: &str| body.pointer(&format!("/generationConfig/{name}"));
    let schema = config("responseJsonSchema").or_else(|| config("responseSchema"));
    let declared = list(&body, "/tools").iter();
    let declared = declared.flat_map(|tool| list(tool, "/functionDeclarations"));
    let calling = body.pointer("/toolConfig/functionCallingConfig").unwrap_or(&Value::Null);
    let only = list(calling, "/allowedFunctionNames").first().and_then(Value::as_str);
    let mut prompt = Prompt {
        max_output_tokens: u32::try_from(cap).unwrap_or(u32::MAX),
        temperature: config("temperature").and_then(Value::as_f64),
        system: body.get("systemInstruction").map(content),
        json: config("responseMimeType").and_then(Value::as_str) == Some("application/json"),
        output_schema: schema.cloned().map(small_types),
        tools: declared.map(tool).collect(),
        tool_choice: match (text(calling, "/mode"), only) {
            ("ANY", Some(name)) => Some(ToolChoice::Tool(name.to_owned())),
            ("ANY", None) => Some(ToolChoice::Required),
            ("NONE", _) => Some(ToolChoice::None),
            _ => None,
        },
        ..Prompt::default()
    };
    for turn in list(&body, "/contents") {
        add(&mut prompt, turn);
    }
    if prompt.messages.is_empty() {
        return Err("* GenerateContentRequest.contents: contents is not specified".to_owned());
    }
    Ok(Asked { model: model.to_owned(), prompt, stream, usage: true })
}

fn tool(declaration: &Value) -> Tool {
    let parameters = ["parametersJsonSchema", "parameters"];
    let parameters = parameters.into_iter().find_map(|name| declaration.get(name));
    Tool {
        name: text(declaration, "/name").to_owned(),
        description: text(declaration, "/description").to_owned(),
        parameters: parameters.cloned().map(small_types).unwrap_or_default(),
        strict: None,
    }
}

/// `"type": "OBJECT"` as JSON Schema writes it.
fn small_types(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                *value = match value.as_str() {
                    Some(kind) if name == "type" => kind.to_lowercase().into(),
                    _ => small_types(value.take()),
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|one| *one = small_types(one.take())),
        _ => {}
    }
    schema
}

fn content(turn: &Value) -> Content {
    let part = |part: &Value| {
        let image = || {
            let inline = part.get("inlineData").or_else(|| part.get("inline_data"))?;
            Some(Piece::Image(Image {
                media_type: Some(text(inline, "/mimeType").to_owned()),
                data: Some(text(inline, "/data").to_owned()),
                url: None,
            }))
        };
        let words = part.get("text").and_then(Value::as_str);
        let piece = words.map(|text| Piece::Text(text.to_owned())).or_else(image)?;
        Some(Part { piece, cache: None })
    };
    Content(list(turn, "/parts").iter().filter_map(part).collect())
}

fn add(prompt: &mut Prompt, turn: &Value) {
    let role = if text(turn, "/role") == "model" { Role::Assistant } else { Role::User };
    let parts = list(turn, "/parts");
    for part in parts.iter().filter_map(|part| part.get("functionResponse")) {
        let answer = part.get("response").map(Value::to_string).unwrap_or_default();
        let tool_call_id = Some(text(part, "/name").to_owned());
        prompt.messages.push(Message { tool_call_id, ..Message::new(Role::Tool, answer) });
    }
    let calls = parts.iter().filter_map(|part| part.get("functionCall"));
    let tool_calls: Vec<ToolCall> = calls
        .map(|call| ToolCall {
            id: text(call, "/name").to_owned(),
            name: text(call, "/name").to_owned(),
            arguments: call.get("args").cloned().unwrap_or_default(),
        })
        .collect();
    let content = content(turn);
    if !content.0.is_empty() || !tool_calls.is_empty() {
        prompt.messages.push(Message { tool_calls, ..Message::new(role, content) });
    }
}

impl Voice for Gemini {
    fn headers(&self, _number: u64, _told: &[Told], _now: i64) -> Vec<Header> {
        vec![("x-gemini-service-tier".to_owned(), "standard".to_owned())]
    }

    fn whole(&self, said: &Said<'_>) -> String {
        let calls = calls(said);
        let words = Some(&said.answer.text).filter(|text| !text.is_empty());
        let words = words.map(|text| json!({ "text": text }));
        let parts: Vec<Value> = words.into_iter().chain(calls).collect();
        answer(said, &parts, Some(finish(said))).to_string()
    }

    fn script(&self, said: &Said<'_>) -> Script<String> {
        let pieces = super::super::answer::pieces(&said.answer.text).into_iter();
        let pieces = pieces.map(|piece| json!({ "text": piece }));
        // A function is called in one piece.
        let mut parts: Vec<Value> = pieces.chain(calls(said)).collect();
        let last = parts.pop().unwrap_or_else(|| json!({ "text": "" }));
        let told = |part: Value, finish| event(&answer(said, &[part], finish));
        let tail = vec![told(last, Some(finish(said)))];
        let tokens = parts.into_iter().map(|part| told(part, None)).collect();
        Script { early: Vec::new(), tokens, tail }
    }

    fn limited(&self, limited: &Limited, model: &str, _now: i64) -> Refusal {
        let (name, metric, limit) = quota(limited);
        let mut violation = json!({
            "quotaMetric": format!("generativelanguage.googleapis.com/{metric}"),
            "quotaId": name, "quotaDimensions": { "model": model, "location": "global" },
        });
        let mut message = format!(
            "{QUOTA}\n* Quota exceeded for metric: generativelanguage.googleapis.com/{metric}"
        );
        if let Some(limit) = limit {
            put(&mut violation, "quotaValue", limit.to_string());
            message = format!("{message}, limit: {limit}, model: {model}");
        }
        let mut details = vec![json!({
            "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation],
        })];
        if let Some(wait) = limited.wait {
            let delay = format!("{}s", wait.as_millis().div_ceil(1_000));
            message = format!("{message}\nPlease retry in {}s.", wait.as_secs_f64());
            details.push(json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo",
                                 "retryDelay": delay }));
        }
        Refusal::json(429, error(429, "RESOURCE_EXHAUSTED", &message, &details))
    }

    fn failed(&self, fault: Fault, model: &str) -> Refusal {
        let missing = format!(
            "models/{model} is not found for API version v1beta, or is not supported for \
             generateContent."
        );
        let bad_key = json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID", "domain": "googleapis.com" });
        let (status, kind, message, details) = match fault {
            Fault::BadKey => (
                400,
                "INVALID_ARGUMENT",
                "API key not valid. Please pass a valid API key.",
                vec![bad_key],
            ),
            // A plan that does not have the model says so with a limit of 0.
            Fault::Quota => return spent(model),
            Fault::TooLarge => {
                let page = super::page(
                    "413. That's an error. Your client issued a request that was too large.",
                );
                return Refusal { status: 413, headers: Vec::new(), body: Body::Page(page) };
            }
            Fault::NoCredit => {
                (402, "RESOURCE_EXHAUSTED", "Your prepaid credit is used up.", Vec::new())
            }
            Fault::Forbidden => (403, "PERMISSION_DENIED", fault.message(), Vec::new()),
            Fault::NoModel => (404, "NOT_FOUND", missing.as_str(), Vec::new()),
            Fault::ContextLength => (
                400,
                "INVALID_ARGUMENT",
                "The input token count (1200000) exceeds the maximum number of tokens allowed \
                 (1048576).",
                Vec::new(),
            ),
            Fault::Unavailable | Fault::Overloaded => (
                if fault == Fault::Unavailable { 503 } else { 529 },
                "UNAVAILABLE",
                "The model is overloaded. Please try again later.",
                Vec::new(),
            ),
            _ => (500, "INTERNAL", "An internal error has occurred. Please retry.", Vec::new()),
        };
        Refusal::json(status, error(status, kind, message, &details))
    }

    fn inside(&self, _said: Option<&Said<'_>>) -> String {
        // In a list of one, as it does.
        json!([broken()]).to_string()
    }

    fn broken(&self) -> String {
        event(&broken())
    }
}

const QUOTA: &str = "You exceeded your current quota, please check your plan and billing details.";

fn broken() -> Value {
    error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", &[])
}

pub(in super::super) fn error(status: u16, kind: &str, message: &str, details: &[Value]) -> Value {
    json!({ "error": { "code": status, "message": message, "status": kind, "details": details } })
}

/// The plan does not have the model. The short wait that is told is not meant.
fn spent(model: &str) -> Refusal {
    let metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests";
    let message = format!(
        "{QUOTA}\n* Quota exceeded for metric: {metric}, limit: 0, model: {model}\n\
         Please retry in 22.5s."
    );
    let details = [
        json!({ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
            "quotaMetric": metric, "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        }] }),
        json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22s" }),
    ];
    Refusal::json(429, error(429, "RESOURCE_EXHAUSTED", &message, &details))
}

/// A quota's name, its metric and its value.
fn quota(limited: &Limited) -> (String, String, Option<u64>) {
    let (axis, per) = match limited.short {
        Short::Rate(axis, per) | Short::TooLarge(axis, per, _) => (axis, per),
        Short::Growth(axis) => (axis, Period::Minute),
        Short::Places => (Axis::Requests, Period::Minute),
    };
    let per = if per == Period::Day { "PerDay" } else { "PerMinute" };
    let (name, metric) = match axis {
        Axis::Requests => ("Requests", "requests"),
        Axis::InputTokens => ("InputTokens", "input_token_count"),
        Axis::OutputTokens => ("OutputTokens", "output_token_count"),
        Axis::Tokens => ("Tokens", "token_count"),
    };
    let name = format!("GenerateContentPaidTier{name}PerModel{per}");
    (name, format!("generate_content_paid_tier_{metric}"), limited.limit)
}

fn calls(said: &Said<'_>) -> impl Iterator<Item = Value> {
    said.answer.tool_calls.iter().map(|call| {
        json!({ "functionCall": { "name": call.name, "args": call.arguments },
                "thoughtSignature": format!("scripted{}", call.id) })
    })
}

fn answer(said: &Said<'_>, parts: &[Value], finish: Option<&str>) -> Value {
    let usage = said.answer.usage;
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if let Some(finish) = finish {
        put(&mut candidate, "finishReason", finish);
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": usage.input_tokens,
            "candidatesTokenCount": usage.output_tokens,
            "totalTokenCount": usage.input_tokens + usage.output_tokens,
            "cachedContentTokenCount": usage.cached_input_tokens,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": usage.input_tokens }],
        },
        "modelVersion": said.model,
        "responseId": format!("scripted{}", said.number),
    })
}

/// Calls of functions end with the ordinary word.
const fn finish(said: &Said<'_>) -> &'static str {
    match said.answer.finish {
        Finish::Length => "MAX_TOKENS",
        _ => "STOP",
    }
}
