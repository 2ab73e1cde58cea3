//! Hooks: what services really send, to the real binary.

mod bodies;
mod cli;
mod faults;
mod handshakes;
mod hardened;
mod intake;
mod readme;
mod senders;

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::Value;

use crate::jobs::{Store, start};
use crate::support::spillway::{SCRIPTED, Spillway};

/// A task whose answer is its input, as the model got it.
pub(crate) const SHOWN: &str = r##"
[tasks.shown]
route = "cheap"
output_schema = false
template = "#scripted:say {{ text }}|{{ count }}|{{ urgent | tojson if urgent is defined }}|{{ (tags or []) | join(';') }}|{{ who.name if who }}"
[tasks.shown.input_schema]
type = "object"
required = ["text"]
[tasks.shown.input_schema.properties]
text = { type = "string", minLength = 1 }
count = { type = "integer" }
urgent = { type = "boolean" }
tags = { type = "array", items = { type = "string" } }
who = { type = "object", properties = { name = { type = "string" } } }
"##;

/// A service with these hooks.
fn with(hooks: &str) -> (Spillway, tempfile::TempDir) {
    start(Store::Embedded, &format!("{SCRIPTED}{SHOWN}{hooks}"))
}

/// What a hook answered.
struct Answered {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

/// Sends an event without an API key.
async fn send(
    spillway: &Spillway,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answered {
    ask(spillway, Method::POST, path, headers, body.into()).await
}

async fn ask(
    spillway: &Spillway,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answered {
    let client = crate::support::http_client();
    let mut request = client.request(method, format!("{}{path}", spillway.base())).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let headers = answer.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let (status, headers) = (answer.status().as_u16(), headers.collect());
    let bytes = answer.bytes().await.unwrap();
    let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
    Answered { status, headers, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) }
}

impl Answered {
    /// The id of what was taken.
    fn id(&self) -> String {
        assert_eq!(self.status, 202, "{}", self.body);
        self.body["id"].as_str().unwrap().to_owned()
    }
}

/// The text of a job's result, once it is there. Asked for by whoever holds a key of its caller: the
/// hooks of tests are the callers `default` and `other`.
async fn text(spillway: &Spillway, id: &str) -> String {
    let job = spillway.finished(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    job["text"].as_str().unwrap().to_owned()
}
