//! How many tokens a prompt has.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::State;
use super::super::operation::Operation;
use super::problems::Failure;
use super::{named, receive, refused};
use crate::domain::prompt::Dialect;

/// The count.
#[derive(Serialize, JsonSchema)]
struct Count {
    /// As the first step's provider counts them when it is Anthropic, else our estimate.
    input_tokens: u64,
}

pub(in super::super) fn count_tokens_doc() -> Operation {
    Operation::new(
        "Count tokens, in Anthropic's dialect",
        "As the first step's provider counts them when it is Anthropic, else our estimate. Nothing \
         is charged. Errors are Anthropic's.",
    )
    .dialect("A Messages request, without `max_tokens` if you like.")
    .answer::<Count>(200, "The count")
}

pub(in super::super) async fn count_tokens(
    state: Data<State>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let counted = count(&state, &request, payload).await;
    counted.unwrap_or_else(|failure| refused(Dialect::Anthropic, &failure))
}

async fn count(
    state: &State,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Failure> {
    let (caller, asked) = receive(Dialect::Anthropic, state, request, payload, true).await?;
    let named = named(state, &caller, &asked.name)?;
    let input_tokens = state.engine.count_tokens(&caller, &named, &asked.prompt).await;
    Ok(HttpResponse::Ok().json(Count { input_tokens }))
}
