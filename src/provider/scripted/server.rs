//! The scripted provider on HTTP, in all dialects. Faults happen for real on the wire.
//!
//! Chat completions, Messages and `generateContent` are where their vendors have them. Whose kind of
//! chat completions it is, is told by the settings' `dialect` or by the address: below `/groq`,
//! `/cerebras`, `/openrouter` or `/openai` it is theirs. Beside them there is `GET /stats`, which
//! tells what it has seen as JSON, and `POST /reset`, which forgets that.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer};
use serde_json::{Value, json};

use super::dialect::{Dialect, anthropic, gemini, openai, time};
use super::exchange::answer;
use super::model::Model;

/// The largest request it reads.
const MAX_BODY: usize = 32 << 20;
/// Connections that may wait to be taken: a whole burst comes at once.
const BACKLOG: u32 = 4_096;
const WORKERS: usize = 2;

/// Addresses below which it speaks one dialect.
const PREFIXES: [(&str, Dialect); 6] = [
    ("/openai", Dialect::OpenAi),
    ("/groq", Dialect::Groq),
    ("/cerebras", Dialect::Cerebras),
    ("/openrouter", Dialect::OpenRouter),
    ("/anthropic", Dialect::Anthropic),
    ("/gemini", Dialect::Gemini),
];

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
        let mut app = App::new()
            .app_data(Data::clone(&model))
            .app_data(Data::new(Kind(None)))
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .route("/stats", web::get().to(stats))
            .route("/reset", web::post().to(reset))
            .configure(api)
            .default_service(web::to(unknown));
        for (prefix, dialect) in PREFIXES {
            let kind = Data::new(Kind(Some(dialect)));
            app = app.service(web::scope(prefix).app_data(kind).configure(api));
        }
        app
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

/// Whose kind of chat completions is spoken here; `None` leaves it to the settings.
struct Kind(Option<Dialect>);

/// Everything that is asked of models.
fn api(config: &mut ServiceConfig) {
    config
        .route("/v1/chat/completions", web::post().to(chat))
        .route("/v1/messages", web::post().to(messages))
        .route("/v1/messages/count_tokens", web::post().to(count_tokens))
        .route("/v1/models", web::get().to(models))
        .route("/v1/key", web::get().to(key))
        .route("/v1beta/models", web::get().to(gemini_models))
        .route("/v1beta/models/{model:.+}:{verb}", web::post().to(generate));
}

async fn chat(model: Data<Model>, kind: Data<Kind>, body: Bytes) -> HttpResponse {
    let dialect = match kind.0.unwrap_or(model.settings().dialect) {
        Dialect::Anthropic | Dialect::Gemini => Dialect::OpenAi,
        dialect => dialect,
    };
    match openai::read(&body) {
        Ok(asked) => answer(&model, dialect, asked).await,
        Err(message) => HttpResponse::BadRequest().json(openai::invalid(&message)),
    }
}

async fn messages(model: Data<Model>, body: Bytes) -> HttpResponse {
    match anthropic::read(&body, false) {
        Ok(asked) => answer(&model, Dialect::Anthropic, asked).await,
        Err(message) => bad_message(&message),
    }
}

async fn count_tokens(model: Data<Model>, body: Bytes) -> HttpResponse {
    match anthropic::read(&body, true) {
        Ok(asked) => {
            let tokens = model.input_tokens(&asked.prompt);
            HttpResponse::Ok().json(json!({ "input_tokens": tokens }))
        }
        Err(message) => bad_message(&message),
    }
}

fn bad_message(message: &str) -> HttpResponse {
    HttpResponse::BadRequest().json(anthropic::error("invalid_request_error", message))
}

async fn generate(model: Data<Model>, path: Path<(String, String)>, body: Bytes) -> HttpResponse {
    let (name, verb) = path.into_inner();
    let stream = match verb.as_str() {
        "generateContent" => false,
        "streamGenerateContent" => true,
        _ => return unknown().await,
    };
    match gemini::read(&name, stream, &body) {
        Ok(asked) => answer(&model, Dialect::Gemini, asked).await,
        Err(message) => {
            let body = gemini::error(400, "INVALID_ARGUMENT", &message, &[]);
            HttpResponse::BadRequest().json(body)
        }
    }
}

/// A list as OpenAI and Anthropic both read it.
async fn models(model: Data<Model>) -> HttpResponse {
    let created = model.seconds();
    HttpResponse::Ok().json(json!({
        "object": "list",
        "data": [{
            "id": "scripted", "object": "model", "created": created, "owned_by": "scripted",
            "type": "model", "display_name": "Scripted", "created_at": time(created),
        }],
        "has_more": false, "first_id": "scripted", "last_id": "scripted",
    }))
}

/// What OpenRouter tells of a key.
async fn key() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "data": { "label": "scripted", "usage": 0, "limit": null, "is_free_tier": false },
    }))
}

async fn gemini_models() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "models": [{
        "name": "models/scripted", "displayName": "Scripted",
        "supportedGenerationMethods": ["generateContent"],
    }] }))
}

async fn stats(model: Data<Model>) -> HttpResponse {
    HttpResponse::Ok().json(model.stats())
}

async fn reset(model: Data<Model>) -> HttpResponse {
    model.reset();
    HttpResponse::Ok().json(Value::Object(serde_json::Map::new()))
}

async fn unknown() -> HttpResponse {
    HttpResponse::NotFound().json(openai::invalid("Unknown request URL. See `GET /v1/models`."))
}
