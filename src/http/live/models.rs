//! The names a call may give as its model.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::super::State;
use super::super::operation::Operation;
use super::super::problem::Problem;
use super::{named, refused};
use crate::domain::prompt::Dialect;

/// Names have no date of their own.
const SINCE: (i64, &str) = (1_767_225_600, "2026-01-01T00:00:00Z");

fn list_doc(summary: &'static str) -> Operation {
    let description =
        "Models of the routes' steps, also as ACCOUNT/MODEL, routes, and tasks as `task:NAME`.";
    Operation::new(summary, description).text(200, "The models")
}

fn one_doc(summary: &'static str) -> Operation {
    let description = "Whether a call may give this name. Any model of an account's vendor may be \
                       named, listed or not.";
    Operation::new(summary, description).text(200, "The model")
}

pub(in super::super) fn models_doc() -> Operation {
    list_doc("Models, in Anthropic's form when the request has `anthropic-version`, else OpenAI's")
}

pub(in super::super) fn openai_models_doc() -> Operation {
    list_doc("Models, in OpenAI's form")
}

pub(in super::super) fn anthropic_models_doc() -> Operation {
    list_doc("Models, in Anthropic's form")
}

pub(in super::super) fn model_doc() -> Operation {
    one_doc("One model, in the form of the list")
}

pub(in super::super) async fn models(state: Data<State>, request: HttpRequest) -> HttpResponse {
    list(dialect_of(&request), &state, &request).await
}

pub(in super::super) async fn openai_models(
    state: Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    list(Dialect::OpenAi, &state, &request).await
}

pub(in super::super) async fn anthropic_models(
    state: Data<State>,
    request: HttpRequest,
) -> HttpResponse {
    list(Dialect::Anthropic, &state, &request).await
}

pub(in super::super) async fn model(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> HttpResponse {
    one(dialect_of(&request), &state, &request, &id).await
}

pub(in super::super) async fn openai_model(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> HttpResponse {
    one(Dialect::OpenAi, &state, &request, &id).await
}

pub(in super::super) async fn anthropic_model(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> HttpResponse {
    one(Dialect::Anthropic, &state, &request, &id).await
}

/// Anthropic's SDKs name their version; nobody else does.
fn dialect_of(request: &HttpRequest) -> Dialect {
    if request.headers().contains_key("anthropic-version") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

async fn list(dialect: Dialect, state: &State, request: &HttpRequest) -> HttpResponse {
    let caller = match state.auth.caller(request).await {
        Ok(caller) => caller,
        Err(problem) => return refused(dialect, &problem.into()),
    };
    let names = state.engine.catalog().names_for(&caller.name);
    let data: Vec<Value> = names.iter().map(|name| entry(dialect, name)).collect();
    HttpResponse::Ok().json(match dialect {
        Dialect::OpenAi => json!({ "object": "list", "data": data }),
        Dialect::Anthropic => json!({
            "data": data, "has_more": false,
            "first_id": names.first(), "last_id": names.last(),
        }),
    })
}

async fn one(dialect: Dialect, state: &State, request: &HttpRequest, id: &str) -> HttpResponse {
    let known = async {
        let caller = state.auth.caller(request).await?;
        named(state, &caller.name, id)
    };
    match known.await {
        Ok(_named) => HttpResponse::Ok().json(entry(dialect, id)),
        Err(problem) => refused(dialect, &Problem::into(problem)),
    }
}

fn entry(dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::OpenAi => {
            json!({ "id": name, "object": "model", "created": SINCE.0, "owned_by": "spillway" })
        }
        Dialect::Anthropic => {
            json!({ "type": "model", "id": name, "display_name": name, "created_at": SINCE.1 })
        }
    }
}
