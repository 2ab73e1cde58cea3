//! Calls on an open connection: the dialects of OpenAI and Anthropic, and `/chat`.
//!
//! A request is read into what all providers understand (`asked`, and each dialect's `read`), and
//! goes along as it came for a provider that speaks its language. The answer is written in the
//! dialect it was asked in, whoever gave it. So are errors, also those of keys and bodies: the
//! dialects' own SDKs are to raise what they always raise.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use futures::Stream;
use serde_json::Value;

mod anthropic;
mod asked;
mod chat;
mod count;
mod docs;
mod models;
mod openai;
mod problems;
mod sse;
mod steer;

pub(super) use chat::{chat, chat_doc};
pub(super) use count::{count_tokens, count_tokens_doc};
pub(super) use docs::{chat_completions_doc, messages_doc};
pub(super) use models::{
    anthropic_model, anthropic_models, anthropic_models_doc, model, model_doc, models, models_doc,
    openai_model, openai_models, openai_models_doc,
};

use super::problem::{Kind, Problem};
use super::{State, body, jobs};
use crate::domain::completion::{Completion, Finish};
use crate::domain::prompt::Dialect;
use crate::domain::result::JobResult;
use crate::engine::live::{Done, LiveError};
use crate::engine::named::Named;
use crate::provider::ProviderError;
use crate::provider::stream::{Piece, at_once};
use asked::Asked;
use problems::Failure;

/// Names an answer.
#[derive(Clone, Debug)]
struct Head {
    /// Our own name of the call.
    id: String,
    /// Seconds since 1970.
    created: i64,
}

impl Head {
    fn new(state: &State, id: &str) -> Self {
        Self { id: id.to_owned(), created: state.engine.clock().now().timestamp() }
    }

    /// The name a dialect gives the answer.
    fn name(&self, start: &str) -> String {
        let last = self.id.rsplit('_').next().unwrap_or_default();
        format!("{start}{last}")
    }
}

/// What our headers tell of an answer.
struct Receipt<'a> {
    id: &'a str,
    provider: Option<&'a str>,
    model: Option<&'a str>,
    attempts: usize,
    cost_usd: Option<f64>,
}

impl<'a> Receipt<'a> {
    fn of(result: &'a JobResult) -> Self {
        Self {
            id: &result.id,
            provider: result.provider.as_deref(),
            model: result.model.as_deref(),
            attempts: result.attempts.len(),
            cost_usd: result.cost_usd,
        }
    }

    fn told(&self, response: &mut HttpResponseBuilder) {
        // The SDKs show these two beside every answer and error.
        for name in ["Spillway-Request-Id", "X-Request-Id", "Request-Id"] {
            response.insert_header((name, self.id));
        }
        for (name, value) in [("Spillway-Provider", self.provider), ("Spillway-Model", self.model)]
        {
            // What a provider calls its model may not fit into a header.
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                response.insert_header((name, value));
            }
        }
        response.insert_header(("Spillway-Attempts", self.attempts.to_string()));
        if let Some(cost) = self.cost_usd {
            response.insert_header(("Spillway-Cost-Usd", format!("{cost:.8}")));
        }
    }
}

/// OpenAI's chat completions.
pub(super) async fn chat_completions(
    state: Data<State>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let served = serve(Dialect::OpenAi, &state, &request, payload).await;
    served.unwrap_or_else(|failure| refused(Dialect::OpenAi, &failure))
}

/// Anthropic's Messages.
pub(super) async fn messages(
    state: Data<State>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let served = serve(Dialect::Anthropic, &state, &request, payload).await;
    served.unwrap_or_else(|failure| refused(Dialect::Anthropic, &failure))
}

async fn serve(
    dialect: Dialect,
    state: &State,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Failure> {
    let (caller, asked) = receive(dialect, state, request, payload, false).await?;
    let named = named(state, &caller, &asked.name)?;
    let (stream, tell_usage) = (asked.stream, asked.tell_usage);
    // What is held to a schema is checked before any of it is sent.
    let checked = matches!(&named, Named::Task(task) if task.output.is_some());
    let call = steer::call(state, request, caller, (named, asked))?;
    if stream && !checked {
        let streamed = state.engine.call_streamed(call).await?;
        let mut response = HttpResponse::Ok();
        warn(&mut response, streamed.warnings());
        Receipt {
            id: streamed.id().as_str(),
            provider: Some(streamed.provider()),
            model: Some(streamed.model()),
            attempts: streamed.attempts(),
            cost_usd: None,
        }
        .told(&mut response);
        let head = Head::new(state, streamed.id().as_str());
        let model = streamed.model().to_owned();
        return Ok(told(dialect, response, (head, model, tell_usage), streamed.passed_on()));
    }
    let done = match state.engine.call(call).await {
        Ok(done) => done,
        // The dialects have words for an answer in which the model declines.
        Err(LiveError::Declined(done)) => *done,
        Err(error) => return Err(error.into()),
    };
    let mut response = HttpResponse::Ok();
    warn(&mut response, &done.warnings);
    let (result, completion) = plain(done)?;
    Receipt::of(&result).told(&mut response);
    let head = Head::new(state, &result.id);
    if stream {
        let model = completion.model.clone();
        return Ok(told(dialect, response, (head, model, tell_usage), at_once(completion)));
    }
    if let Some(own) = completion.native {
        return Ok(response.content_type("application/json").body(own));
    }
    Ok(response.json(match dialect {
        Dialect::OpenAi => openai::whole(&head, &completion),
        Dialect::Anthropic => anthropic::whole(&head, &completion),
    }))
}

/// What the caller is to be warned of: the end of its budget is near.
fn warn(response: &mut HttpResponseBuilder, warnings: &[String]) {
    for warning in warnings {
        if let Ok(warning) = HeaderValue::from_str(warning) {
            response.append_header(("spillway-warning", warning));
        }
    }
}

/// The answer as a dialect tells it: a task's data as JSON, and a broken generation as an error.
fn plain(done: Done) -> Result<(JobResult, Completion), Failure> {
    let Done { result, mut completion, .. } = done;
    if completion.finish == Finish::Error {
        let problem = Problem::new(Kind::ProvidersFailed, "The answer broke off before its end.");
        return Err(Failure { problem, receipt: Some(Box::new(result)) });
    }
    if let Some(data) = &result.data {
        completion.text = data.to_string();
    }
    Ok((result, completion))
}

/// A stream's answer.
fn told(
    dialect: Dialect,
    mut response: HttpResponseBuilder,
    (head, model, tell_usage): (Head, String, bool),
    pieces: impl Stream<Item = Result<Piece, ProviderError>> + Send + 'static,
) -> HttpResponse {
    response.content_type("text/event-stream; charset=utf-8");
    response.insert_header(("Cache-Control", "no-cache"));
    // nginx would collect the events otherwise.
    response.insert_header(("X-Accel-Buffering", "no"));
    match dialect {
        Dialect::OpenAi => {
            response.streaming(sse::written(pieces, openai::Chunks::new(head, model, tell_usage)))
        }
        Dialect::Anthropic => {
            response.streaming(sse::written(pieces, anthropic::Events::new(head, model)))
        }
    }
}

/// Who asks, and what. `counts` when only the tokens are to be counted.
async fn receive(
    dialect: Dialect,
    state: &State,
    request: &HttpRequest,
    payload: Payload,
    counts: bool,
) -> Result<(String, Asked), Problem> {
    let caller = state.auth.caller(request).await?;
    jobs::refuse_if_stopping(state)?;
    let body = body::object(request, payload, &state.settings).await?;
    let headers = steer::passed_on(request, dialect);
    let cap = state.engine.live().max_output_tokens;
    let asked = match dialect {
        Dialect::OpenAi => openai::read(body, headers, cap),
        Dialect::Anthropic => anthropic::read(body, headers, counts),
    };
    Ok((caller.name, asked?))
}

/// What a name stands for, if its caller may ask for that.
fn named(state: &State, caller: &str, name: &str) -> Result<Named, Problem> {
    let catalog = state.engine.catalog();
    let may = catalog.may_use(caller, name);
    catalog.named(name).filter(|_| may).ok_or_else(|| unknown_model(name))
}

fn unknown_model(name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    let detail = format!(
        "There is no model, route or task `{shown}` here, or your plan does not have it; GET \
         /v1/models lists what there is. A task is written `task:NAME`."
    );
    Problem::new(Kind::UnknownModel, detail)
}

/// Said to who asks for `OpenAI`'s Responses.
const NO_RESPONSES: &str = "OpenAI's Responses API is not served here; chat completions are, at \
                            /v1/chat/completions. In n8n's OpenAI Chat Model node, switch *Use \
                            Responses API* off.";

/// The dialect that is spoken under a path.
pub(super) fn dialect_at(path: &str) -> Option<Dialect> {
    let under = |starts: &[&str]| starts.iter().any(|start| path.starts_with(start));
    if under(&["/v1/messages", "/anthropic"]) {
        Some(Dialect::Anthropic)
    } else if under(&["/v1/chat", "/v1/responses", "/v1/models", "/openai"]) {
        Some(Dialect::OpenAi)
    } else {
        None
    }
}

/// A problem at a path, as those read it who ask there.
pub(super) fn told_at(path: &str, problem: Problem) -> HttpResponse {
    let responses = ["/v1/responses", "/openai/v1/responses"];
    let problem = if responses.iter().any(|start| path.starts_with(start)) {
        Problem::new(Kind::NotFound, NO_RESPONSES)
    } else {
        problem
    };
    match dialect_at(path) {
        Some(dialect) => refused(dialect, &problem.into()),
        None => problem.error_response(),
    }
}

/// An error in the dialect's own words.
fn refused(dialect: Dialect, failure: &Failure) -> HttpResponse {
    let Failure { problem, receipt } = failure;
    // As problem+json it has its headers already.
    let ours = problem.error_response();
    let status = match ours.status() {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            StatusCode::BAD_REQUEST
        }
        other => other,
    };
    let mut response = HttpResponse::build(status);
    for name in [RETRY_AFTER, WWW_AUTHENTICATE] {
        if let Some(value) = ours.headers().get(&name) {
            response.insert_header((name, value.clone()));
        }
    }
    let id = receipt.as_ref().map(|result| result.id.as_str());
    if let Some(result) = receipt {
        Receipt::of(result).told(&mut response);
    }
    let body: Value = match dialect {
        Dialect::OpenAi => {
            let place = problem.place().map(|place| place.replace('/', "."));
            openai::error(status, problem.code(), problem.detail(), place.as_deref())
        }
        Dialect::Anthropic => anthropic::error(status, problem.detail(), id),
    };
    response.insert_header((CONTENT_TYPE, "application/json"));
    response.body(body.to_string())
}
