//! The scripted provider on HTTP, in OpenAI's chat dialect. Faults happen for real on the wire.
//!
//! Beside `POST /v1/chat/completions` and `GET /v1/models` it has `GET /stats`, which tells what it
//! has seen as JSON, and `POST /reset`, which forgets that.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpResponseBuilder, HttpServer};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::dialect;
use super::fault::Fault;
use super::model::{Call, Model, Outcome};
use super::refusal::Limited;

/// The largest request it reads.
const MAX_BODY: usize = 32 << 20;
/// Connections that may wait to be taken: a whole burst comes at once.
const BACKLOG: u32 = 4_096;
const WORKERS: usize = 2;

/// A page such as a proxy in between would send.
const PAGE: &str = "<!doctype html>\n<html><head><title>Welcome</title></head>\
    <body><h1>It works!</h1></body></html>\n";

const HUGE_PIECE: &[u8] = &[b'x'; 64 << 10];
const HUGE_PIECES: usize = 160;

/// Listens on an address with room for a burst of connections. Must be called inside a runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Serves the model until `shutdown` completes; calls still under way are then dropped.
pub async fn run(
    listener: TcpListener,
    model: Arc<Model>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve(listener, model, shutdown)?.await
}

fn serve(
    listener: TcpListener,
    model: Arc<Model>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Server> {
    let model = Data::from(model);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&model))
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .route("/v1/chat/completions", web::post().to(chat))
            .route("/v1/models", web::get().to(models))
            .route("/stats", web::get().to(stats))
            .route("/reset", web::post().to(reset))
            .default_service(web::to(unknown))
    })
    .workers(WORKERS)
    .disable_signals()
    .shutdown_signal(shutdown)
    .shutdown_timeout(1)
    // A client that has gone waits for nothing: its call ends and its place is free.
    .h1_allow_half_closed(false)
    .listen(listener)?;
    Ok(server.run())
}

async fn chat(model: Data<Model>, body: Bytes) -> HttpResponse {
    let (name, prompt) = match dialect::read(&body) {
        Ok(asked) => asked,
        Err(message) => return HttpResponse::BadRequest().json(dialect::invalid(&message)),
    };
    let call = model.call(&name, &prompt);
    if !call.latency().is_zero() {
        tokio::time::sleep(call.latency()).await;
    }
    match call.outcome() {
        Outcome::Answer(answer) => {
            let body = dialect::completion(call.number(), &name, answer, model.seconds());
            respond(StatusCode::OK, &call).json(body)
        }
        Outcome::Limited(limited) => too_many(limited, &name, &call),
        Outcome::Fault(fault) => go_wrong(*fault, &call),
    }
}

/// A response with the headers that stand on every one.
fn respond(status: StatusCode, call: &Call) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header(("x-request-id", format!("req_scripted_{}", call.number())));
    response.insert_header(("openai-processing-ms", call.latency().as_millis().to_string()));
    for header in dialect::limit_headers(call.told()) {
        response.insert_header(header);
    }
    response
}

fn too_many(limited: &Limited, model: &str, call: &Call) -> HttpResponse {
    let mut response = respond(StatusCode::TOO_MANY_REQUESTS, call);
    if let Some(millis) = limited.wait.map(|wait| wait.as_millis()) {
        response.insert_header((header::RETRY_AFTER, millis.div_ceil(1_000).to_string()));
        response.insert_header(("retry-after-ms", millis.to_string()));
    }
    response.json(dialect::rate_limited(limited, model))
}

fn go_wrong(fault: Fault, call: &Call) -> HttpResponse {
    let status = fault.status().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = respond(status.unwrap_or(StatusCode::OK), call);
    match fault {
        Fault::Html => response.content_type(ContentType::html()).body(PAGE),
        Fault::Empty => response.content_type(ContentType::json()).finish(),
        Fault::Half => response.content_type(ContentType::json()).body(half()),
        Fault::Huge => response.content_type(ContentType::json()).body(huge()),
        Fault::Hang | Fault::Reset | Fault::Refuse => response.body(nothing()),
        _ => response.json(dialect::failed(fault)),
    }
}

type Piece = Result<Bytes, io::Error>;

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "as scripted")
}

/// Half of what its length announces, then the connection closes.
fn half() -> SizedStream<impl Stream<Item = Piece> + 'static> {
    let whole = json!({
        "id": "chatcmpl-scripted", "object": "chat.completion",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "I was about to" } }],
    })
    .to_string();
    let size = whole.len();
    let half = Bytes::from(whole).slice(..size / 2);
    let end = stream::once(async {
        // One turn of the loop lets the first half leave before the connection breaks.
        tokio::task::yield_now().await;
        Err(broken_off())
    });
    SizedStream::new(as_u64(size), Box::pin(stream::iter([Ok(half)]).chain(end)))
}

/// Ten megabytes of one answer.
fn huge() -> SizedStream<impl Stream<Item = Piece> + 'static> {
    const HEAD: &[u8] = br#"{"choices":[{"index":0,"message":{"role":"assistant","content":""#;
    const TAIL: &[u8] = br#""},"finish_reason":"stop"}]}"#;
    let size = HEAD.len() + HUGE_PIECE.len() * HUGE_PIECES + TAIL.len();
    let middle = std::iter::repeat_n(HUGE_PIECE, HUGE_PIECES);
    let pieces = std::iter::once(HEAD).chain(middle).chain(std::iter::once(TAIL));
    SizedStream::new(as_u64(size), stream::iter(pieces.map(|piece| Ok(Bytes::from_static(piece)))))
}

/// A body that breaks before the response's head has left: the connection closes without a byte.
fn nothing() -> SizedStream<impl Stream<Item = Piece> + 'static> {
    SizedStream::new(1, stream::iter([Err(broken_off())]))
}

fn as_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

async fn models(model: Data<Model>) -> HttpResponse {
    let created = model.seconds();
    HttpResponse::Ok().json(json!({
        "object": "list",
        "data": [{
            "id": "scripted", "object": "model", "created": created, "owned_by": "scripted",
        }],
    }))
}

async fn stats(model: Data<Model>) -> HttpResponse {
    HttpResponse::Ok().json(model.stats())
}

async fn reset(model: Data<Model>) -> HttpResponse {
    model.reset();
    HttpResponse::Ok().json(Value::Object(serde_json::Map::new()))
}

async fn unknown() -> HttpResponse {
    HttpResponse::NotFound().json(dialect::invalid("Unknown request URL. See `GET /v1/models`."))
}
