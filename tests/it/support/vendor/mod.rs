//! A provider on loopback that speaks OpenAI's and Anthropic's languages in its own words, written
//! apart from the service: it remembers what it was asked, and sees who hangs up.
//!
//! What it answers depends on what it is asked (`polite`); how, on the model's name.

mod anthropic;
mod openai;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures::StreamExt;
use serde_json::{Value, json};

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
}

impl Heard {
    pub(crate) fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    fn streams(&self) -> bool {
        self.body["stream"] == true
    }

    fn is_anthropic(&self) -> bool {
        self.path.contains("/messages")
    }
}

/// What it says, in no language yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Text(String),
    Calls(Vec<(String, Value)>),
    Refusal(String),
}

/// How an answer is sent.
enum Sent {
    Json(u16, Vec<(&'static str, &'static str)>, Value),
    /// Messages of a stream, and whether it comes to its end.
    Stream(Vec<String>, Last),
}

/// What comes after a stream's last message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    End,
    Cut,
    Silence,
}

#[derive(Default)]
struct Inner {
    heard: Mutex<Vec<Heard>>,
    gone: Arc<AtomicUsize>,
}

/// A provider on loopback.
pub(crate) struct Vendor {
    inner: Arc<Inner>,
    port: u16,
}

/// Says when its answer is dropped before its end.
struct Watch(Option<Arc<AtomicUsize>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(gone) = &self.0 {
            gone.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Vendor {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let inner = Arc::new(Inner::default());
        let state = Data::from(Arc::clone(&inner));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(state.clone())
                    .app_data(web::PayloadConfig::new(64 << 20))
                    .default_service(web::to(serve))
            })
            .workers(1)
            .h1_allow_half_closed(false)
            .disable_signals()
            .listen(listener)
            .unwrap();
            actix_web::rt::System::new().block_on(server.run())
        });
        Self { inner, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything it was asked for this model.
    pub(crate) fn heard(&self, model: &str) -> Vec<Heard> {
        let heard = self.inner.heard.lock().unwrap();
        heard.iter().filter(|heard| heard.model() == model).cloned().collect()
    }

    /// How many hung up before their answer's end.
    pub(crate) fn gone(&self) -> usize {
        self.inner.gone.load(Ordering::SeqCst)
    }
}

async fn serve(inner: Data<Inner>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let headers = request.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let heard = Heard {
        path: request.uri().to_string(),
        headers: headers.collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let before = {
        let mut all = inner.heard.lock().unwrap();
        all.push(heard.clone());
        all.iter().filter(|other| other.model() == heard.model()).count() - 1
    };
    if heard.model() == "hang" && !heard.streams() {
        let _watch = Watch(Some(Arc::clone(&inner.gone)));
        return std::future::pending().await;
    }
    match answer(&heard, before) {
        Sent::Json(status, headers, body) => {
            let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
            for header in headers {
                response.insert_header(header);
            }
            response.json(body)
        }
        Sent::Stream(messages, last) => {
            let watch = Watch((last == Last::Silence).then(|| Arc::clone(&inner.gone)));
            let end = futures::stream::once(async move {
                let _held = watch;
                // What was written before an abort must be on the wire.
                tokio::time::sleep(Duration::from_millis(20)).await;
                match last {
                    Last::End => {}
                    Last::Cut => return Err(std::io::Error::other("cut")),
                    Last::Silence => std::future::pending::<()>().await,
                }
                Ok(Bytes::new())
            });
            let messages = futures::stream::iter(messages).then(|message| async {
                // Each on its own on the wire, as a model speaks.
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(Bytes::from(message))
            });
            let body = messages.chain(end).filter(|bytes| {
                let is_said = !bytes.as_ref().is_ok_and(Bytes::is_empty);
                std::future::ready(is_said)
            });
            HttpResponse::Ok().content_type("text/event-stream").streaming(body)
        }
    }
}

/// How it answers, by the model's name; `before` counts earlier calls for it.
fn answer(heard: &Heard, before: usize) -> Sent {
    if heard.path.contains("count_tokens") {
        return Sent::Json(200, Vec::new(), json!({ "input_tokens": 1_234 }));
    }
    if heard.path.contains("/models") {
        return Sent::Json(200, Vec::new(), json!({ "data": [] }));
    }
    let fails = |status: u16, kind: &str, message: &str| {
        let wait = if status == 429 { vec![("retry-after", "1")] } else { Vec::new() };
        let error = json!({ "type": kind, "message": message, "code": null, "param": null });
        Sent::Json(status, wait, json!({ "type": "error", "error": error }))
    };
    match heard.model() {
        "limited" => return fails(429, "rate_limit_error", "Rate limit reached"),
        "limited-once" if before == 0 => {
            return fails(429, "rate_limit_error", "Rate limit reached");
        }
        "broken" => return fails(500, "api_error", "Internal error"),
        "strict" => return fails(400, "invalid_request_error", "`seed` is not to my liking"),
        "unknown" => return fails(404, "not_found_error", "model: unknown"),
        _ => {}
    }
    let said = polite(heard);
    let (whole, messages) = if heard.is_anthropic() {
        (anthropic::whole(heard.model(), &said), anthropic::stream(heard.model(), &said))
    } else {
        let usage = heard.body["stream_options"]["include_usage"] == true;
        (openai::whole(heard.model(), &said), openai::stream(heard.model(), &said, usage))
    };
    if !heard.streams() {
        return Sent::Json(200, vec![("request-id", "req_vendor")], whole);
    }
    // As far as the first words.
    let begun = messages.iter().take(4).cloned().collect();
    match heard.model() {
        "cut" => Sent::Stream(begun, Last::Cut),
        "short" => Sent::Stream(begun, Last::End),
        "hang" => Sent::Stream(begun, Last::Silence),
        _ => Sent::Stream(messages, Last::End),
    }
}

/// What it says to what it was asked: it calls a tool where there is one, gives JSON where that is
/// wanted, tells what it sees, or repeats what was said last.
fn polite(heard: &Heard) -> Said {
    if heard.model() == "declining" {
        return Said::Refusal("I will not.".to_owned());
    }
    let body = &heard.body;
    let none = Vec::new();
    let last = body["messages"].as_array().unwrap_or(&none).last().cloned().unwrap_or_default();
    let parts = match &last["content"] {
        Value::Array(parts) => parts.clone(),
        Value::Null => Vec::new(),
        text => vec![json!({ "type": "text", "text": text })],
    };
    let result = parts.iter().find(|part| part["type"] == "tool_result");
    if last["role"] == "tool" || result.is_some() {
        let content = result.map_or(&last["content"], |result| &result["content"]);
        let text = content.as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default();
        return Said::Text(format!("The tool said: {text}"));
    }
    let text = parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ");
    if let Some(tool) = body["tools"].get(0) {
        let name = tool["name"].as_str().or_else(|| tool["function"]["name"].as_str()).unwrap();
        let cities: &[&str] = if text.contains("both") { &["Paris", "Rome"] } else { &["Paris"] };
        let call = |city: &&str| (name.to_owned(), json!({ "city": city }));
        return Said::Calls(cities.iter().map(call).collect());
    }
    let format = ["/response_format/json_schema", "/output_config/format"];
    if format.iter().any(|place| body.pointer(place).is_some()) {
        return Said::Text(json!({ "city": "Paris", "degrees": 21 }).to_string());
    }
    if let Some(image) = parts.iter().find_map(image_of) {
        return Said::Text(format!("I see {image}"));
    }
    Said::Text(format!("You said: {text}"))
}

fn image_of(part: &Value) -> Option<String> {
    if let Some(url) = part.pointer("/image_url/url").and_then(Value::as_str) {
        return Some(url.to_owned());
    }
    let source = part.get("source")?;
    let inline = || {
        let (kind, data) = (source["media_type"].as_str()?, source["data"].as_str()?);
        Some(format!("data:{kind};base64,{data}"))
    };
    source["url"].as_str().map(str::to_owned).or_else(inline)
}
