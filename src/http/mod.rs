//! How the outside talks to us: the table of endpoints, on one page. The table serves the
//! requests and makes the OpenAPI document, so the two cannot differ.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Route, guard, web};
use metrics_exporter_prometheus::PrometheusHandle;

mod address;
pub mod auth;
mod body;
mod choice;
mod coerce;
mod connection;
mod fitting;
mod groups;
mod health;
pub mod hooks;
mod jobs;
mod limits;
mod live;
mod nested;
pub mod openapi;
mod operation;
mod prefer;
pub mod problem;
mod reader;
pub mod settings;
mod submission;
mod subscriptions;
mod what_is;

use crate::engine::SharedEngine;
use auth::Authenticator;
use problem::{Kind, Problem};
use settings::Settings;

/// What the handlers work with.
pub struct State {
    /// Does the work.
    pub engine: SharedEngine,
    /// Knows the callers' keys.
    pub auth: Authenticator,
    /// The operator's settings.
    pub settings: Settings,
    /// The addresses for other services' webhooks.
    pub hooks: hooks::Hooks,
    /// This process' metrics; `None` when another recorder is installed.
    pub metrics: Option<PrometheusHandle>,
}

/// One endpoint: how it is reached, what serves it, how it is described.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) route: Route,
    pub(crate) doc: operation::Operation,
}

/// A row of the table.
fn row(method: Method, path: &'static str, route: Route, doc: operation::Operation) -> Endpoint {
    let route = match method {
        // actix leaves out the body of what answers HEAD.
        Method::GET => route.guard(guard::Any(guard::Get()).or(guard::Head())),
        _ => route.method(method.clone()),
    };
    Endpoint { method, path, route, doc }
}

/// The table of endpoints.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let (get, post, delete) = (|| Method::GET, || Method::POST, || Method::DELETE);
    let to = web::route;
    vec![
        row(post(), "/v1/jobs", to().to(jobs::submit), jobs::submit_doc()),
        row(get(), "/v1/jobs", to().to(jobs::list), jobs::list_doc()),
        row(get(), "/v1/jobs/{id}", to().to(jobs::get), jobs::get_doc()),
        row(delete(), "/v1/jobs/{id}", to().to(jobs::cancel), jobs::cancel_doc()),
        row(post(), "/v1/jobs/{id}/replay", to().to(jobs::replay), jobs::replay_doc()),
        row(get(), "/v1/jobs/{id}/deliveries", to().to(jobs::deliveries), jobs::deliveries_doc()),
        row(post(), "/v1/groups", to().to(groups::submit), groups::submit_doc()),
        row(get(), "/v1/groups/{id}", to().to(groups::get), groups::get_doc()),
        row(delete(), "/v1/groups/{id}", to().to(groups::cancel), groups::cancel_doc()),
        row(post(), "/v1/groups/{id}/replay", to().to(groups::replay), groups::replay_doc()),
        row(
            get(),
            "/v1/groups/{id}/deliveries",
            to().to(groups::deliveries),
            groups::deliveries_doc(),
        ),
        row(get(), "/v1/hooks", to().to(hooks::list), hooks::list_doc()),
        row(post(), "/v1/hooks/{hook}", to().to(hooks::receive), hooks::receive_doc()),
        row(get(), "/v1/hooks/{hook}", to().to(hooks::challenge), hooks::challenge_doc()),
        row(Method::OPTIONS, "/v1/hooks/{hook}", to().to(hooks::options), hooks::options_doc()),
        row(post(), "/chat", to().to(live::chat), live::chat_doc()),
        row(get(), "/v1/me", to().to(what_is::me), what_is::me_doc()),
        row(get(), "/v1/tasks", to().to(what_is::tasks), what_is::tasks_doc()),
        row(get(), "/v1/routes", to().to(what_is::routes), what_is::routes_doc()),
        row(get(), "/v1/limits", to().to(limits::get), limits::doc()),
        row(get(), "/health/live", to().to(health::live), health::live_doc()),
        row(get(), "/health/ready", to().to(health::ready), health::ready_doc()),
        row(get(), "/metrics", to().to(health::metrics), health::metrics_doc()),
        row(get(), "/openapi.json", to().to(openapi::serve), openapi::serve_doc()),
    ]
    .into_iter()
    .chain(subscribing())
    .chain(dialects())
    .collect()
}

/// The endpoints of subscriptions.
fn subscribing() -> Vec<Endpoint> {
    let to = web::route;
    let all = "/v1/subscriptions";
    let one = "/v1/subscriptions/{id}";
    vec![
        row(Method::POST, all, to().to(subscriptions::subscribe), subscriptions::subscribe_doc()),
        row(Method::GET, all, to().to(subscriptions::list), subscriptions::list_doc()),
        row(Method::GET, one, to().to(subscriptions::get), subscriptions::get_doc()),
        row(
            Method::DELETE,
            one,
            to().to(subscriptions::unsubscribe),
            subscriptions::unsubscribe_doc(),
        ),
    ]
}

/// The endpoints in the dialects of OpenAI and Anthropic. Each dialect has a path of its own, too,
/// so that a base URL suffices.
fn dialects() -> Vec<Endpoint> {
    let get = |path, route: Route, doc| {
        let route = route.guard(guard::Any(guard::Get()).or(guard::Head()));
        Endpoint { method: Method::GET, path, route, doc }
    };
    let post = |path, route: Route, doc| Endpoint {
        method: Method::POST,
        path,
        route: route.method(Method::POST),
        doc,
    };
    let to = web::route;
    let mut rows = vec![
        get("/v1/models", to().to(live::models), live::models_doc()),
        get("/v1/models/{id:.+}", to().to(live::model), live::model_doc()),
        get("/openai/v1/models", to().to(live::openai_models), live::openai_models_doc()),
        get("/openai/v1/models/{id:.+}", to().to(live::openai_model), live::model_doc()),
        get("/anthropic/v1/models", to().to(live::anthropic_models), live::anthropic_models_doc()),
        get("/anthropic/v1/models/{id:.+}", to().to(live::anthropic_model), live::model_doc()),
    ];
    for path in ["/v1/chat/completions", "/openai/v1/chat/completions"] {
        rows.push(post(path, to().to(live::chat_completions), live::chat_completions_doc()));
    }
    for path in ["/v1/messages", "/anthropic/v1/messages"] {
        rows.push(post(path, to().to(live::messages), live::messages_doc()));
    }
    for path in ["/v1/messages/count_tokens", "/anthropic/v1/messages/count_tokens"] {
        rows.push(post(path, to().to(live::count_tokens), live::count_tokens_doc()));
    }
    rows
}

/// Serves on these sockets until the server is stopped.
pub fn serve(listeners: Vec<TcpListener>, state: State) -> std::io::Result<Server> {
    let settings = state.settings.clone();
    let state = web::Data::from(Arc::new(state));
    let app = move || {
        App::new().app_data(state.clone()).wrap(from_fn(connection::decide)).configure(configure)
    };
    let mut server = HttpServer::new(app)
        .client_request_timeout(settings.header_timeout.0)
        .client_disconnect_timeout(Duration::from_secs(1))
        .keep_alive(Duration::from_secs(75))
        // A caller that hangs up is gone: what was asked of a provider for it is cancelled.
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .backlog(4_096)
        .shutdown_timeout(settings.drain_timeout.0.as_secs())
        .disable_signals();
    if let Some(workers) = settings.workers {
        server = server.workers(workers.max(1));
    }
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

fn configure(app: &mut web::ServiceConfig) {
    app.app_data(web::QueryConfig::default().error_handler(|fault, _| {
        Problem::new(Kind::BadQuery, format!("The query cannot be read: {fault}.")).into()
    }));
    app.app_data(web::PathConfig::default().error_handler(|_, _| nothing_here().into()));
    let mut paths: Vec<(&'static str, Vec<Endpoint>)> = Vec::new();
    for endpoint in endpoints() {
        match paths.iter_mut().find(|(path, _)| *path == endpoint.path) {
            Some((_, same)) => same.push(endpoint),
            None => paths.push((endpoint.path, vec![endpoint])),
        }
    }
    for (path, same) in paths {
        let mut allowed: Vec<&str> = same.iter().map(|e| e.method.as_str()).collect();
        if allowed.contains(&"GET") {
            allowed.push("HEAD");
        }
        let allowed = allowed.join(", ");
        let mut resource = web::resource(path);
        for endpoint in same {
            resource = resource.route(endpoint.route);
        }
        app.service(resource.default_service(web::to(move |request: HttpRequest| {
            std::future::ready(other_method(request.path(), &allowed))
        })));
    }
    app.default_service(web::to(|request: HttpRequest| {
        std::future::ready(live::told_at(request.path(), nothing_here()))
    }));
}

fn other_method(path: &str, allowed: &str) -> HttpResponse {
    let detail = format!("This path takes {allowed}.");
    let mut response = live::told_at(path, Problem::new(Kind::MethodNotAllowed, detail));
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

fn nothing_here() -> Problem {
    let detail = "There is nothing at this path; /openapi.json lists what there is.";
    Problem::new(Kind::NotFound, detail)
}
