//! A callback endpoint that remembers, verifies signatures and can be told to fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::Value;
use standardwebhooks::Webhook;

use super::schema::check_result;
use super::spillway::SECRET;

/// One POST received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// `webhook-id`.
    pub(crate) id: String,
    /// The path and query it came to.
    pub(crate) target: String,
    /// Headers, by lower-case name.
    pub(crate) headers: HashMap<String, String>,
    /// The body.
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) bytes: Bytes,
    /// What it was answered.
    pub(crate) answered: u16,
}

type Answer = dyn Fn(usize, &str) -> (u16, String) + Send + Sync;

struct Inner {
    received: Mutex<Vec<Received>>,
    /// Whether what is signed as the settings say is all that comes.
    verifies: bool,
    answer: Box<Answer>,
}

/// A callback endpoint on loopback.
pub(crate) struct Receiver {
    inner: Arc<Inner>,
    port: u16,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn start() -> Self {
        Self::answering(|_, _| (200, String::new()))
    }

    /// One that answers by the number of POSTs before this one to the same target, and the target.
    pub(crate) fn answering(
        answer: impl Fn(usize, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::made(true, Box::new(answer))
    }

    /// One that gets subscriptions' events, too, which are signed with secrets of their own.
    pub(crate) fn of_subscriptions(
        answer: impl Fn(usize, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::made(false, Box::new(answer))
    }

    fn made(verifies: bool, answer: Box<Answer>) -> Self {
        let inner = Arc::new(Inner { received: Mutex::default(), verifies, answer });
        let state = Data::from(Arc::clone(&inner));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(state.clone())
                    .app_data(web::PayloadConfig::new(64 << 20))
                    .default_service(web::to(take))
            })
            .workers(1)
            .backlog(4_096)
            .disable_signals()
            .listen(listener)
            .unwrap();
            actix_web::rt::System::new().block_on(server.run())
        });
        Self { inner, port }
    }

    /// An address of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Everything received so far.
    pub(crate) fn all(&self) -> Vec<Received> {
        self.inner.received.lock().unwrap().clone()
    }

    /// What was taken (answered 2xx), by `webhook-id`, and how often.
    pub(crate) fn taken(&self) -> HashMap<String, usize> {
        let mut taken = HashMap::new();
        for received in self.all() {
            if (200..300).contains(&received.answered) {
                *taken.entry(received.id).or_default() += 1;
            }
        }
        taken
    }

    /// Awaits so many different deliveries.
    pub(crate) async fn until_taken(&self, count: usize) {
        super::eventually(&format!("{count} callbacks"), || async { self.taken().len() >= count })
            .await;
    }
}

async fn take(inner: Data<Inner>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let headers: HashMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    if inner.verifies || headers["webhook-id"].starts_with("job_") {
        verify(&request, &body);
    }
    let value: Value = serde_json::from_slice(&body).unwrap();
    let data = value.get("data").unwrap_or(&value);
    let target = request.uri().to_string();
    // Where a test asks for thin callbacks, the result does not come along.
    if data["object"] == "job" && !target.starts_with("/thin") {
        check_result(data);
    }
    let mut received = inner.received.lock().unwrap();
    let before = received.iter().filter(|other| other.target == target).count();
    let (status, text) = (inner.answer)(before, &target);
    let id = headers["webhook-id"].clone();
    received.push(Received { id, target, headers, body: value, bytes: body, answered: status });
    HttpResponse::build(StatusCode::from_u16(status).unwrap()).body(text)
}

/// An independent library says whether the signature is right.
fn verify(request: &HttpRequest, body: &[u8]) {
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = request.headers().get(name).unwrap().to_str().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    Webhook::new(SECRET).unwrap().verify(body, &headers).unwrap();
}
