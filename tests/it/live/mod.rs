//! Calls on an open connection: both dialects, each answered by providers of both.

mod chat;
mod dialects;
mod ends;
mod models;
mod sdk;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::spillway::{Spillway, embedded, settings};
use crate::support::vendor::Vendor;

/// Models of the vendor that do something of their own, each a route at each account.
const MODELS: [&str; 9] =
    ["limited", "limited-once", "broken", "strict", "unknown", "cut", "short", "hang", "declining"];

/// A service whose routes are `openai-MODEL` and `anthropic-MODEL` for each of the vendor's models,
/// `openai` and `anthropic` for short, and `fallen`, which begins with a broken step.
struct Stage {
    spillway: Spillway,
    vendor: Vendor,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn start() -> Self {
        Self::with("", "")
    }

    /// The same with further settings, made for the vendor's address.
    fn with_vendor(more: impl FnOnce(&str) -> String) -> Self {
        let vendor = Vendor::start();
        let more = more(&vendor.url());
        Self::at(vendor, &more, "")
    }

    /// The same with further settings and further lines for the OpenAI account.
    fn with(more: &str, limits: &str) -> Self {
        Self::at(Vendor::start(), more, limits)
    }

    fn at(vendor: Vendor, more: &str, limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = format!(
            r#"
[accounts.oai]
provider = "openai"
base_url = "{url}"
api_key = "vendor-key"
{limits}
[accounts.ant]
provider = "anthropic"
base_url = "{url}"
api_key = "vendor-key"
[routes]
cheap = {{ steps = ["oai/gpt-4.1-mini"] }}
premium = {{ steps = ["ant/claude-haiku-4-5"] }}
openai = {{ steps = ["oai/gpt-4.1-mini"] }}
anthropic = {{ steps = ["ant/claude-haiku-4-5"] }}
fallen = {{ steps = ["oai/broken", "ant/claude-haiku-4-5"] }}
busy = {{ steps = ["oai/limited", "ant/limited"] }}
"#,
            url = vendor.url()
        );
        for model in MODELS {
            use std::fmt::Write;
            writeln!(text, "openai-{model} = {{ steps = [\"oai/{model}\"] }}").unwrap();
            writeln!(text, "anthropic-{model} = {{ steps = [\"ant/{model}\"] }}").unwrap();
        }
        text.push_str(more);
        let spillway = Spillway::start(&settings(&embedded(folder.path()), &text));
        Self { spillway, vendor, _folder: folder }
    }

    async fn send(&self, path: &str, body: &Value) -> Response {
        self.spillway.request(Method::POST, path).json(body).send().await.unwrap()
    }

    /// A whole answer, which must be well.
    async fn ask(&self, path: &str, body: &Value) -> Value {
        let response = self.send(path, body).await;
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// A stream's text, to its end.
    async fn stream(&self, path: &str, body: &Value) -> String {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.send(path, &body).await;
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        response.text().await.unwrap()
    }
}

/// The data of a stream's events; what is no JSON as text. Comments are left out.
fn events(stream: &str) -> Vec<Value> {
    assert!(stream.ends_with("\n\n"), "{stream}");
    let events = stream.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    events
        .map(|event| {
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            serde_json::from_str(data).unwrap_or_else(|_| json!(data))
        })
        .collect()
}

/// A request of OpenAI's.
fn completion(model: &str, more: &Value) -> Value {
    merged(json!({ "model": model, "messages": [{ "role": "user", "content": "Hi there" }] }), more)
}

/// A request of Anthropic's.
fn message(model: &str, more: &Value) -> Value {
    let messages = json!([{ "role": "user", "content": "Hi there" }]);
    merged(json!({ "model": model, "max_tokens": 100, "messages": messages }), more)
}

fn merged(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

const COMPLETIONS: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
