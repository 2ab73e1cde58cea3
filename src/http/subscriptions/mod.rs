//! Subscriptions: who is told of all of a caller's jobs that end.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::State;
use super::auth::Caller;
use super::jobs::{Received, receive};
use super::operation::Operation;
use super::problem::{Kind, Problem};
use crate::domain::id::SubscriptionId;
use crate::domain::result::Status;
use crate::engine::allowances::ANONYMOUS;
use crate::engine::intake::IntakeError;
use crate::engine::subscriptions::{MOST, SubscribeError};
use crate::subscriptions::{StoreError, Subscription};
use crate::telemetry::metrics;

mod read;

pub(super) use read::described;

/// A subscription as its caller sees it.
#[derive(Serialize, JsonSchema)]
struct Shown {
    id: String,
    /// Always `subscription`.
    object: &'static str,
    /// Where events are posted, without the query, which is often a secret.
    url: String,
    /// What you call it.
    name: Option<String>,
    /// How the jobs ended that are told; empty for all.
    statuses: Vec<Status>,
    /// Their tasks; empty for all.
    tasks: Vec<String>,
    /// Their workflows; empty for all.
    workflows: Vec<String>,
    created_at: DateTime<Utc>,
}

/// A subscription that was made.
#[derive(Serialize, JsonSchema)]
struct Made {
    #[serde(flatten)]
    shown: Shown,
    /// What its events are signed with. Only who repeats the request under the same Idempotency-Key
    /// is shown it again.
    secret: String,
    /// What was ignored, or will never match as things are.
    warnings: Vec<String>,
}

/// A caller's subscriptions.
#[derive(Serialize, JsonSchema)]
struct List {
    object: &'static str,
    /// The subscriptions, the oldest first.
    data: Vec<Shown>,
}

pub(super) fn subscribe_doc() -> Operation {
    Operation::new(
        "Subscribe to jobs' ends",
        "Each of your jobs that ends and matches is posted to the URL, beside its own callback.",
    )
    .body("subscription")
    .header("Idempotency-Key", "Recognises a repetition of this request.")
    .answer::<Made>(201, "The subscription, with the secret its events are signed with")
}

pub(super) async fn subscribe(
    state: Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    known(&state, &request).await?;
    let Received { from, fields, manner, .. } = receive(&state, &request, payload, false).await?;
    let (asked, mut warnings) = read::asked(fields, manner)?;
    for task in &asked.filter.tasks {
        if state.engine.catalog().task(task).is_none() {
            warnings.push(format!("there is no task `{task}`: it will not match"));
        }
    }
    let made = state.engine.subscribe(from, asked).await?;
    let location = format!("/v1/subscriptions/{}", made.subscription.id);
    let mut response = HttpResponse::Created();
    response.insert_header(("location", location));
    if made.repeated {
        response.insert_header(("idempotency-replayed", "true"));
    }
    let secret = made.subscription.secret.clone();
    Ok(response.json(Made { shown: shown(made.subscription), secret, warnings }))
}

pub(super) fn list_doc() -> Operation {
    Operation::new("List subscriptions", "Yours, the oldest first.")
        .answer::<List>(200, "The subscriptions")
}

pub(super) async fn list(
    state: Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let caller = known(&state, &request).await?;
    let all = state.engine.subscriptions(&caller.name).await?;
    Ok(HttpResponse::Ok().json(List { object: "list", data: all.into_iter().map(shown).collect() }))
}

pub(super) fn get_doc() -> Operation {
    Operation::new("Get a subscription", "Without its secret.")
        .answer::<Shown>(200, "The subscription")
}

pub(super) async fn get(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = known(&state, &request).await?;
    let all = state.engine.subscriptions(&caller.name).await?;
    let found = all.into_iter().find(|one| one.id.as_str() == id.as_str());
    Ok(HttpResponse::Ok().json(shown(found.ok_or_else(|| unknown(&id))?)))
}

pub(super) fn unsubscribe_doc() -> Operation {
    Operation::new("End a subscription", "What it was not told yet it is told no more.")
        .text(204, "It is ended")
}

pub(super) async fn unsubscribe(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = known(&state, &request).await?;
    let name = SubscriptionId::parse(&id).ok_or_else(|| unknown(&id))?;
    if !state.engine.unsubscribe(&caller.name, &name).await? {
        return Err(unknown(&id));
    }
    Ok(HttpResponse::NoContent().finish())
}

/// The request's caller, who has a key: an address changes hands.
async fn known(state: &State, request: &HttpRequest) -> Result<Caller, Problem> {
    let caller = state.auth.caller(request).await?;
    if caller.name.starts_with(ANONYMOUS) {
        let detail = "Subscriptions need an API key: without one nobody knows whose jobs are meant. \
                      Send yours as `Authorization: Bearer <key>`; `spillway keys create NAME` makes \
                      one.";
        return Err(Problem::new(Kind::Unauthorized, detail));
    }
    Ok(caller)
}

fn shown(subscription: Subscription) -> Shown {
    let url = &subscription.callback.url;
    Shown {
        id: subscription.id.to_string(),
        object: "subscription",
        url: url
            .split_once('?')
            .map_or_else(|| url.clone(), |(url, _)| format!("{url}?[redacted]")),
        name: subscription.name,
        statuses: subscription.filter.statuses,
        tasks: subscription.filter.tasks,
        workflows: subscription.filter.workflows,
        created_at: subscription.created_at,
    }
}

fn unknown(id: &str) -> Problem {
    let shown: String = id.chars().take(64).collect();
    let detail = format!(
        "You have no subscription `{shown}`: it was ended, by DELETE or because its receiver \
         answered 410. GET /v1/subscriptions lists those you have."
    );
    Problem::new(Kind::NotFound, detail)
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Callback(why) => why.into(),
            SubscribeError::Full => {
                let detail = format!(
                    "You have {MOST} subscriptions, and more are not kept. GET /v1/subscriptions lists \
                     them; DELETE /v1/subscriptions/{{id}} ends one."
                );
                Self::new(Kind::SubscriptionsFull, detail)
            }
            SubscribeError::KeyReused => IntakeError::KeyReused.into(),
            SubscribeError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        metrics::store_error("http");
        match error {
            StoreError::Unavailable(why) => {
                tracing::warn!(why, "a request failed: the store is not available");
                let detail = "The store of subscriptions does not answer right now; what you asked \
                              for may have been done. Send the request again, with the same \
                              Idempotency-Key if it came with one, else look at GET \
                              /v1/subscriptions first: it would be made twice.";
                Self::new(Kind::StoreUnavailable, detail)
                    .retry_after(std::time::Duration::from_secs(2))
            }
            StoreError::Broken(why) => {
                tracing::error!(why, "a request failed: the store of subscriptions is broken");
                Self::new(Kind::Internal, "The store answered in a way we do not understand.")
            }
        }
    }
}
