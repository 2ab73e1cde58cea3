//! For load balancers and monitoring: alive, ready, metrics.

use actix_web::HttpResponse;
use actix_web::web::Data;
use schemars::JsonSchema;
use serde::Serialize;

use super::State;
use super::operation::Operation;
use super::problem::{Kind, Problem};

/// A healthy answer.
#[derive(Serialize, JsonSchema)]
struct Health {
    status: &'static str,
    /// What an accepted job survives.
    durability: Option<&'static str>,
}

pub(super) fn live_doc() -> Operation {
    Operation::new("Is the process alive?", "Needs no key.").open().answer::<Health>(200, "Alive")
}

pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok", durability: None })
}

pub(super) fn ready_doc() -> Operation {
    Operation::new("Does it take jobs?", "503 while the store does not answer or while stopping.")
        .open()
        .answer::<Health>(200, "Ready")
}

pub(super) async fn ready(state: Data<State>) -> Result<HttpResponse, Problem> {
    if state.engine.is_draining() {
        return Err(Problem::new(Kind::Stopping, "This replica is stopping."));
    }
    state.engine.queue().ping().await?;
    let durability = Some(state.engine.queue().durability().as_str());
    Ok(HttpResponse::Ok().json(Health { status: "ok", durability }))
}

pub(super) fn metrics_doc() -> Operation {
    Operation::new("Metrics", "In Prometheus' text format. Needs no key.")
        .open()
        .text(200, "Metrics")
}

pub(super) async fn metrics(state: Data<State>) -> HttpResponse {
    let text = state.metrics.as_ref().map(|handle| {
        handle.run_upkeep();
        handle.render()
    });
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text.unwrap_or_default())
}
