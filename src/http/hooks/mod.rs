//! Hooks: any service's webhook wired to a task. The request's bytes are verified first, then read,
//! then made into a job or a group by the hook's settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, Path};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

mod event;
mod hook;
mod input;
pub mod settings;
mod template;
mod verify;

pub use event::Request;
pub use hook::{Hook, Prepared, Taken};
pub use verify::Refused;

use super::auth::Authenticated;
use super::body::read_bytes;
use super::jobs::{Receipt, base_url, receipt, refuse_if_stopping, result_in_time, traceparent};
use super::operation::Operation;
use super::prefer::Preference;
use super::problem::{Kind, Problem};
use super::{State, other_method};
use crate::domain::id::{digest, hex};
use crate::domain::result::JobResult;
use crate::engine::intake::{IntakeError, Submitter};
use crate::queue::Dedup;
use settings::Scheme;

/// The hooks of the settings, by name.
pub type Hooks = BTreeMap<String, Arc<Hook>>;

/// The longest text a handshake gives back.
const LONGEST_CHALLENGE: usize = 1_024;

/// When to come again with an event whose deadline cannot be met now.
const LATER: Duration = Duration::from_secs(30);

/// What is answered to a service that only looks whether somebody is there.
#[derive(Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Nothing but that all is well.
    Ping,
    /// This text.
    Echo(String),
    /// Slack's challenge, as JSON.
    Challenge(String),
}

/// An event that makes no job.
#[derive(Serialize, JsonSchema)]
struct Ignored {
    object: &'static str,
    /// `ignored`.
    status: &'static str,
    hook: String,
    /// Why.
    detail: &'static str,
}

/// One hook.
#[derive(Serialize, JsonSchema)]
struct HookView {
    name: String,
    task: String,
    /// Where events are sent to.
    url: String,
    /// How senders are known.
    auth: &'static str,
}

/// The hooks there are.
#[derive(Serialize, JsonSchema)]
struct List {
    object: &'static str,
    data: Vec<HookView>,
}

pub(super) fn list_doc() -> Operation {
    Operation::new("Hooks", "The hooks of the settings, without their secrets.")
        .answer::<List>(200, "Hooks")
}

pub(super) async fn list(
    state: Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    state.auth.caller(&request).await?;
    if !is_known(&request) {
        let detail = "Hooks are listed for callers with an API key.";
        return Err(Problem::new(Kind::Unauthorized, detail));
    }
    let base = base_url(&state, &request);
    let view = |hook: &Arc<Hook>| HookView {
        name: hook.name.clone(),
        task: hook.task.clone(),
        url: format!("{base}/v1/hooks/{}", hook.name),
        auth: hook.scheme().as_str(),
    };
    let data = state.hooks.values().map(view).collect();
    Ok(HttpResponse::Ok().json(List { object: "list", data }))
}

pub(super) fn receive_doc() -> Operation {
    Operation::new(
        "Send an event to a hook",
        "Takes what a service sends: JSON, a form, text. The hook's settings say what becomes of it, and \
         how senders are known (an API key only when they say nothing else).",
    )
    .dialect("What the service sends: JSON, a form (urlencoded or multipart) or text.")
    .header("Idempotency-Key", "Recognises a repetition, where the sender has nothing of its own.")
    .answer::<Receipt>(202, "Taken, or as `answer` in the hook's settings says: a job, or a group for a list")
    .answer::<JobResult>(200, "The result, when the hook waits for it; or the event was ignored")
}

pub(super) async fn receive(
    state: Data<State>,
    request: HttpRequest,
    payload: web::Payload,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let Some(hook) = state.hooks.get(name.as_str()) else {
        return Err(unknown(&state, &request, payload, &name).await);
    };
    let key = match &hook.caller {
        // An API key is looked at before anything is read.
        None => Some(state.auth.caller(&request).await?.name),
        Some(_) => None,
    };
    let body = read_bytes(&request, payload, &state.settings, state.settings.max_body.0).await?;
    let sent = Request { headers: headers(&request), query: query(&request), body };
    let now = state.engine.clock().now();
    if let Err(why) = hook.check_sender(&sent, now) {
        tracing::info!(hook = hook.name, %why, "a request to a hook was refused");
        return Err(refused());
    }
    if hook.scheme() != Scheme::Open {
        request.extensions_mut().insert(Authenticated);
    }
    if let Some(handshake) = handshake(hook, &sent) {
        return Ok(match handshake {
            Handshake::Ping => ignored(hook, "GitHub's ping"),
            Handshake::Echo(text) => echo(&text),
            Handshake::Challenge(text) => HttpResponse::Ok().json(json!({ "challenge": text })),
        });
    }
    refuse_if_stopping(&state)?;
    let Some(task) = state.engine.catalog().task(&hook.task) else {
        let detail = format!("There is no task `{}` any more.", hook.task);
        return Err(Problem::new(Kind::UnknownTask, detail));
    };
    let prepared = hook.prepare(&sent, task, &state.settings, now).await?;
    let caller = key.or_else(|| hook.caller.clone()).unwrap_or_default();
    submit(&state, &request, hook, (caller, prepared)).await
}

/// Submits what was made of an event, and answers as the hook's settings say.
async fn submit(
    state: &State,
    request: &HttpRequest,
    hook: &Hook,
    (caller, prepared): (String, Prepared),
) -> Result<HttpResponse, Problem> {
    let Prepared { taken, key, warnings } = prepared;
    // A list is never the repetition of a single event.
    let shape = if matches!(taken, Taken::Many(_)) { "list" } else { "event" };
    let dedup = key.map(|key| Dedup {
        key: hex(&digest(&[&caller, "hook", &hook.name, shape, &key])),
        // The key alone says that it is the same event: senders change a timestamp when they try again.
        fingerprint: hex(&digest(&["hook", &hook.name])),
        keep: state.settings.idempotency.0,
    });
    let from = Submitter { caller, dedup, traceparent: traceparent(request) };
    let accepted = match taken {
        Taken::Nothing(why) => return Ok(ignored(hook, why)),
        Taken::One(job) => state.engine.submit(from, *job).await,
        Taken::Many(group) => state.engine.submit_group(from, *group).await,
    };
    let accepted = accepted.map_err(|fault| not_taken(hook, fault))?;
    let asked = Preference::of(request, &state.settings);
    let longest = state.settings.max_wait.0;
    let wait = hook.wait.or(asked.wait.filter(|_| hook.scheme() == Scheme::Bearer));
    let prefer = Preference { wait: wait.map(|wait| wait.min(longest)), strict: false };
    if let Some(result) = result_in_time(state, &accepted, prefer).await {
        return Ok(result);
    }
    let base = base_url(state, request);
    let prefer = Preference::default();
    Ok(as_wanted(receipt(&base, accepted, prefer, warnings), hook.answer))
}

/// Why nothing was stored. The deadline that a hook sets moves on with every try: one that cannot be
/// met now can be later, and services take 4xx for good.
fn not_taken(hook: &Hook, fault: IntakeError) -> Problem {
    let inner = match &fault {
        IntakeError::InGroup { fault, .. } => fault,
        other => other,
    };
    if !matches!(inner, IntakeError::UnreachableDeadline { .. } | IntakeError::PastDeadline) {
        return fault.into();
    }
    let detail = format!(
        "A job of this event could not end within `deliver_within` in [hooks.{}] at this moment. Nothing was \
         stored: send it again later. Should that never help, allow more time, or use a route with more room.",
        hook.name
    );
    Problem::new(Kind::TooBusyInTime, detail).retry_after(LATER)
}

/// The same answer with another status; 204 has no body.
fn as_wanted(mut response: HttpResponse, status: u16) -> HttpResponse {
    if let Ok(status) = StatusCode::from_u16(status) {
        response.head_mut().status = status;
    }
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_TYPE);
        return response.drop_body().map_into_boxed_body();
    }
    response
}

fn ignored(hook: &Hook, detail: &'static str) -> HttpResponse {
    let view = Ignored { object: "hook", status: "ignored", hook: hook.name.clone(), detail };
    as_wanted(HttpResponse::Ok().json(view), if hook.answer == 204 { 204 } else { 200 })
}

/// What services send to see whether somebody is there, once their signature was found right.
pub fn handshake(hook: &Hook, sent: &Request) -> Option<Handshake> {
    if hook.scheme() == Scheme::Github && sent.header("x-github-event") == Some("ping") {
        return Some(Handshake::Ping);
    }
    // Microsoft Graph.
    let token = sent.parameter("validationToken").filter(|_| sent.body.is_empty());
    if let Some(token) = token {
        return Some(Handshake::Echo(token.to_owned()));
    }
    if hook.scheme() != Scheme::Slack {
        return None;
    }
    let body: Value = serde_json::from_slice(&sent.body).ok()?;
    if body.get("type").and_then(Value::as_str) != Some("url_verification") {
        return None;
    }
    let challenge = body.get("challenge").and_then(Value::as_str)?;
    (challenge.len() <= LONGEST_CHALLENGE).then(|| Handshake::Challenge(challenge.to_owned()))
}

/// Gives a challenge back as text that no browser takes for a page.
fn echo(text: &str) -> HttpResponse {
    let text: String = text.chars().take(LONGEST_CHALLENGE).collect();
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(text)
}

pub(super) fn challenge_doc() -> Operation {
    Operation::new(
        "Answer Meta's handshake",
        "Gives `hub.challenge` back to whoever has the hook's `verify_token`.",
    )
    .query("hub.mode", "`subscribe`.")
    .query("hub.verify_token", "The token of the hook's settings.")
    .query("hub.challenge", "What is given back.")
    .open()
    .text(200, "The challenge")
}

pub(super) async fn challenge(
    state: Data<State>,
    request: HttpRequest,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let query = query(&request);
    let get =
        |name: &str| query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    if get("hub.mode").is_none() {
        return Ok(other_method(request.path(), "POST, OPTIONS"));
    }
    let token = get("hub.verify_token").unwrap_or_default();
    let shown =
        state.hooks.get(name.as_str()).is_some_and(|hook| hook.verifier.is_verify_token(token));
    match get("hub.challenge").filter(|_| shown) {
        Some(challenge) => Ok(echo(challenge)),
        None => Err(refused()),
    }
}

pub(super) fn options_doc() -> Operation {
    Operation::new("Answer CloudEvents' handshake", "Lets the origin that asks send events.")
        .header("WebHook-Request-Origin", "Who asks.")
        .open()
        .text(200, "It may send")
}

/// The same for every name: that somebody may send says nothing of what is taken.
pub(super) async fn options(request: HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((ALLOW, Method::POST.as_str()));
    let origin = request.headers().get("webhook-request-origin");
    let origin = origin.filter(|origin| origin.len() <= LONGEST_CHALLENGE);
    if let Some(origin) = origin.cloned() {
        response.insert_header(("webhook-allowed-origin", origin));
        response.insert_header(("webhook-allowed-rate", "*"));
    }
    response.finish()
}

/// Whoever shows an API key is told what is wrong; for others it is as if the secret were wrong.
async fn unknown(
    state: &State,
    request: &HttpRequest,
    payload: web::Payload,
    name: &str,
) -> Problem {
    if state.auth.caller(request).await.is_ok() && is_known(request) {
        let shown: String = name.chars().take(64).collect();
        let known: Vec<&str> = state.hooks.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let detail = format!("There is no hook `{shown}`. Hooks in the settings: {known}.");
        return Problem::new(Kind::NotFound, detail);
    }
    match read_bytes(request, payload, &state.settings, state.settings.max_body.0).await {
        Ok(_) => refused(),
        Err(fault) => fault,
    }
}

fn is_known(request: &HttpRequest) -> bool {
    request.extensions().contains::<Authenticated>()
}

fn refused() -> Problem {
    let detail = "This hook takes nothing from you. Check the hook's name in the address; that the secret at the \
                  sender is the one in [hooks.NAME]; that the body arrives unchanged, and its time is right. \
                  The log of the service says which it is, and `spillway hooks test NAME --body FILE \
                  --header '…'` tries a request. With an API key, send `Authorization: Bearer <key>`.";
    Problem::new(Kind::Unauthorized, detail)
}

fn headers(request: &HttpRequest) -> BTreeMap<String, String> {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let all = request.headers().iter();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in all.filter_map(|(name, value)| Some((name.as_str(), text(value)?))) {
        found.entry(name.to_owned()).or_insert(value);
    }
    found
}

fn query(request: &HttpRequest) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect()
}
