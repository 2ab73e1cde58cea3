//! Submit, get, list, cancel, replay.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, LOCATION};
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body;
use super::nested::Fields;
use super::operation::Operation;
use super::prefer::Preference;
use super::problem::{Kind, Problem};
use super::reader::Manner;
use super::submission;
use super::{State, choice, fitting};
use crate::domain::id::{GroupId, JobId, digest, hex};
use crate::domain::result::{DeliveryAttempt, JobResult, Status};
use crate::engine::intake::{Accepted, Submitter};
use crate::engine::view::{Again, What};
use crate::queue::{Dedup, Ended, Filter, Record};

/// The answer to a submit.
#[derive(Serialize, JsonSchema)]
pub(super) struct Receipt {
    /// The job or group.
    pub(super) id: String,
    /// `job` or `group`.
    pub(super) object: &'static str,
    /// Never one of the final ones.
    pub(super) status: &'static str,
    /// Where to ask how it stands.
    pub(super) status_url: String,
    /// Its place in its line, itself included, when every workflow gets its turns.
    pub(super) queue_position: Option<u64>,
    /// When it will start, by the buckets' arithmetic.
    pub(super) estimated_start_at: Option<DateTime<Utc>>,
    /// When it will have ended, going by what its step usually takes.
    pub(super) estimated_finish_at: Option<DateTime<Utc>>,
    /// What it will cost at its first step; `null` when the price is not known.
    pub(super) estimated_cost_usd: Option<f64>,
    /// What was ignored or read differently.
    pub(super) warnings: Vec<String>,
}

/// A page of jobs.
#[derive(Serialize, JsonSchema)]
struct List {
    object: &'static str,
    data: Vec<JobResult>,
    /// Give it as `after` to get the next page; `null` on the last.
    next: Option<String>,
}

/// Attempts to post a result.
#[derive(Serialize, JsonSchema)]
pub(super) struct Deliveries {
    pub(super) object: &'static str,
    /// `queued`, `running`, `delivering`, `done` or `dead`.
    pub(super) stage: &'static str,
    /// The attempts to post it to its callback, the latest last.
    pub(super) attempts: Vec<DeliveryAttempt>,
    /// The attempts to tell subscriptions of it, the latest last.
    pub(super) events: Vec<DeliveryAttempt>,
}

pub(super) fn submit_doc() -> Operation {
    Operation::new("Submit a job", "Answers 202 once the job is stored.")
        .body("submission")
        .header("Idempotency-Key", "Recognises a repetition of this request.")
        .header(
            "Prefer",
            "`wait=20` holds the request for the result; `handling=strict` refuses unknown fields.",
        )
        .answer::<Receipt>(202, "Accepted")
        .answer::<JobResult>(200, "The result, when `Prefer: wait` was given and it came in time")
}

pub(super) async fn submit(
    state: Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Received { from, prefer, fields, manner } =
        receive(&state, &request, payload, false).await?;
    let (submission, mut warnings) = submission::job(fields, manner)?;
    let unknown = state.engine.unknown_providers(submission.provider.as_ref());
    warnings.extend(choice::unknown(unknown));
    let (accepted, fitted) = fitting::submit(&state.engine, from, submission, manner).await?;
    warnings.extend(fitted);
    if let Some(result) = result_in_time(&state, &accepted, prefer).await {
        return Ok(result);
    }
    Ok(receipt(&base_url(&state, &request), accepted, prefer, warnings))
}

/// The result, when it was to be waited for and came in time.
pub(super) async fn result_in_time(
    state: &State,
    accepted: &Accepted,
    prefer: Preference,
) -> Option<HttpResponse> {
    let (id, time) = JobId::parse(&accepted.id).zip(prefer.wait)?;
    // The job is stored: an outage while waiting must not look like a refusal.
    let record = state.engine.wait_for(&id, time).await.ok().flatten();
    let record = record.filter(|record| record.stage.has_ended())?;
    let mut response = HttpResponse::Ok();
    note(&mut response, accepted, prefer);
    Some(response.json(record.into_result()))
}

/// The answer to a submit that was accepted. What it became is told by its id: a repetition gets that
/// of the first.
pub(super) fn receipt(
    base: &str,
    accepted: Accepted,
    prefer: Preference,
    mut warnings: Vec<String>,
) -> HttpResponse {
    warnings.extend(accepted.warnings.iter().cloned());
    let (object, status) = match GroupId::parse(&accepted.id) {
        Some(_) => ("group", "running"),
        None if accepted.repeated => ("job", "running"),
        None => ("job", "queued"),
    };
    let path = format!("/v1/{object}s/{}", accepted.id);
    let mut response = HttpResponse::Accepted();
    response.insert_header((LOCATION, path.as_str()));
    note(&mut response, &accepted, prefer);
    response.json(Receipt {
        object,
        status,
        status_url: format!("{base}{path}"),
        queue_position: accepted.position,
        estimated_start_at: accepted.estimate.map(|estimate| estimate.start_at),
        estimated_finish_at: accepted.estimate.map(|estimate| estimate.finish_at),
        estimated_cost_usd: accepted.estimate.and_then(|estimate| estimate.cost_usd),
        warnings,
        id: accepted.id,
    })
}

fn note(response: &mut actix_web::HttpResponseBuilder, accepted: &Accepted, prefer: Preference) {
    response.insert_header(("spillway-durability", accepted.durability.as_str()));
    for warning in &accepted.warnings {
        response.append_header(("spillway-warning", warning.as_str()));
    }
    if accepted.repeated {
        response.insert_header(("idempotency-replayed", "true"));
    }
    if let Some(applied) = prefer.applied() {
        response.insert_header(("preference-applied", applied));
    }
}

/// How the service is reached from outside. Without `server.public_url` that is where this request
/// went to; headers that anybody may send along (`X-Forwarded-Host`) do not count.
pub(super) fn base_url(state: &State, request: &HttpRequest) -> String {
    state.settings.public_url.as_ref().map_or_else(
        || {
            let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
            let config = request.app_config();
            format!("http://{}", host.unwrap_or_else(|| config.host()))
        },
        |url| url.trim_end_matches('/').to_owned(),
    )
}

/// A submit as it was received: who sends it, what is preferred, its fields.
pub(super) struct Received {
    pub(super) from: Submitter,
    pub(super) prefer: Preference,
    pub(super) fields: Fields,
    pub(super) manner: Manner,
}

/// Receives a submit from a caller we know, while we take jobs.
pub(super) async fn receive(
    state: &State,
    request: &HttpRequest,
    payload: web::Payload,
    many: bool,
) -> Result<Received, Problem> {
    let caller = state.auth.caller(request).await?;
    refuse_if_stopping(state)?;
    let prefer = Preference::of(request, &state.settings);
    let body = body::read(request, payload, &state.settings, many).await?;
    let from = submitter(state, request, &caller.name, &body.bytes)?;
    let manner = Manner { strict: prefer.strict, is_form: body.is_form };
    Ok(Received { from, prefer, fields: body.fields, manner })
}

pub(super) fn refuse_if_stopping(state: &State) -> Result<(), Problem> {
    if state.engine.is_draining() {
        let detail = "This replica is stopping; another, or its successor, takes the request.";
        return Err(Problem::new(Kind::Stopping, detail).retry_after(Duration::from_secs(5)));
    }
    Ok(())
}

/// Who submits, under which idempotency key.
fn submitter(
    state: &State,
    request: &HttpRequest,
    caller: &str,
    body: &[u8],
) -> Result<Submitter, Problem> {
    let key = request.headers().get("idempotency-key");
    let key = key.map(|value| idempotency_key(value.to_str().unwrap_or_default())).transpose()?;
    let dedup = key.map(|key| {
        let mut print = digest(&[request.method().as_str(), request.path()]).to_vec();
        print.extend_from_slice(body);
        Dedup {
            key: hex(&digest(&[caller, key])),
            fingerprint: hex(&sha256(&print)),
            keep: state.settings.idempotency.0,
        }
    });
    Ok(Submitter { caller: caller.to_owned(), dedup, traceparent: traceparent(request) })
}

/// The trace a request belongs to.
pub(super) fn traceparent(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    value.filter(|text| text.len() <= 64).map(str::to_owned)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// The draft's header is a quoted string; most clients send it bare.
pub(super) fn idempotency_key(value: &str) -> Result<&str, Problem> {
    let value = value.trim();
    let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let visible = bare.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if visible && !bare.is_empty() && bare.len() <= 255 {
        return Ok(bare);
    }
    let detail = "An Idempotency-Key has 1 to 255 visible ASCII characters, quoted or bare.";
    Err(Problem::new(Kind::BadIdempotencyKey, detail))
}

pub(super) fn get_doc() -> Operation {
    Operation::new("Get a job", "The result, or how the job stands.")
        .query("wait", "Hold the request up to so many seconds for the job's end.")
        .answer::<JobResult>(200, "The job")
}

#[derive(Deserialize)]
pub(super) struct Waiting {
    wait: Option<String>,
}

pub(super) async fn get(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
    query: Query<Waiting>,
) -> Result<HttpResponse, Problem> {
    let record = own(&state, &request, &id).await?;
    let Some(wait) = seconds("wait", query.wait.as_deref())? else {
        return Ok(HttpResponse::Ok().json(record.into_result()));
    };
    let time = Duration::from_secs(wait).min(state.settings.max_wait.0);
    let record = state.engine.wait_for(&record.job.id, time).await?.ok_or_else(|| unknown(&id))?;
    Ok(HttpResponse::Ok().json(record.into_result()))
}

/// A query's whole number.
fn seconds(name: &str, value: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(fault) => {
            let detail = format!("`{name}` must be a whole number: {fault}.");
            Err(Problem::new(Kind::BadQuery, detail))
        }
    }
}

pub(super) fn list_doc() -> Operation {
    Operation::new("List jobs", "Your jobs, the newest first.")
        .query("status", "Only jobs of this status.")
        .query("workflow", "Only jobs of this workflow.")
        .query("task", "Only jobs of this task.")
        .query("after", "The `next` of the page before.")
        .query("limit", "How many, at most 100; default 20.")
        .answer::<List>(200, "A page of jobs")
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    status: Option<String>,
    workflow: Option<String>,
    task: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

pub(super) async fn list(
    state: Data<State>,
    request: HttpRequest,
    query: Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let caller = state.auth.caller(&request).await?;
    let query = query.into_inner();
    let bad = |detail: String| Problem::new(Kind::BadQuery, detail);
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let status = some(query.status)
        .map(|text| {
            let names: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
            Status::parse(&text)
                .ok_or_else(|| bad(format!("`status` must be one of {}.", names.join(", "))))
        })
        .transpose()?;
    let after = some(query.after)
        .map(|text| {
            JobId::parse(&text)
                .ok_or_else(|| bad("`after` must be the `next` of a page.".to_owned()))
        })
        .transpose()?;
    let limit = seconds("limit", query.limit.as_deref())?.unwrap_or(20).clamp(1, 100);
    let filter = Filter {
        caller: caller.name,
        status,
        workflow: some(query.workflow),
        task: some(query.task),
        after,
        limit: usize::try_from(limit).unwrap_or(20),
    };
    let page = state.engine.queue().page(&filter).await?;
    Ok(HttpResponse::Ok().json(List {
        object: "list",
        data: page.jobs.into_iter().map(Record::into_result).collect(),
        next: page.next.map(|id| id.to_string()),
    }))
}

pub(super) fn cancel_doc() -> Operation {
    Operation::new("Cancel a job", "At any stage before its end. Its callback is told.")
        .answer::<JobResult>(200, "The job, cancelled")
}

pub(super) async fn cancel(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = state.auth.caller(&request).await?;
    let id = job_id(&id)?;
    match state.engine.cancel(&caller.name, &id).await? {
        None => Err(unknown(id.as_str())),
        Some((Ended::Before, record)) if record.status() != Status::Cancelled => {
            let detail = format!("The job has ended before: it {}.", record.status().as_str());
            Err(Problem::new(Kind::AlreadyEnded, detail))
        }
        Some((_, record)) => Ok(HttpResponse::Ok().json(record.into_result())),
    }
}

pub(super) fn replay_doc() -> Operation {
    Operation::new(
        "Replay a job",
        "Runs again what did not succeed, posts again what did; `what` says otherwise.",
    )
    .query("what", "`run` or `post`.")
    .answer::<JobResult>(202, "The job, under way again")
}

#[derive(Deserialize)]
pub(super) struct ReplayQuery {
    what: Option<String>,
}

pub(super) async fn replay(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
    query: Query<ReplayQuery>,
) -> Result<HttpResponse, Problem> {
    let caller = state.auth.caller(&request).await?;
    let id = job_id(&id)?;
    let what = match query.what.as_deref() {
        None | Some("") => None,
        Some("run") => Some(What::Run),
        Some("post") => Some(What::Post),
        Some(_) => {
            return Err(Problem::new(Kind::BadQuery, "`what` must be `run` or `post`."));
        }
    };
    match state.engine.replay(&caller.name, &id, what).await? {
        Again::Unknown => Err(unknown(id.as_str())),
        Again::NotEnded => {
            Err(Problem::new(Kind::NotEnded, "Only a job that has ended can be replayed."))
        }
        Again::NoCallback => {
            let detail = "The job has no callback to post to; `?what=run` runs it again.";
            Err(Problem::new(Kind::NoCallback, detail))
        }
        Again::Runs | Again::Posts => {
            let found = state.engine.find(&caller.name, &id).await?;
            let record = found.ok_or_else(|| unknown(id.as_str()))?;
            Ok(HttpResponse::build(StatusCode::ACCEPTED).json(record.into_result()))
        }
    }
}

pub(super) fn deliveries_doc() -> Operation {
    Operation::new("Attempts to post a job's result", "The latest last.")
        .answer::<Deliveries>(200, "The attempts")
}

pub(super) async fn deliveries(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let record = own(&state, &request, &id).await?;
    Ok(HttpResponse::Ok().json(Deliveries {
        object: "list",
        stage: record.stage.as_str(),
        attempts: record.deliveries,
        events: record.events,
    }))
}

/// The caller's own job.
async fn own(state: &State, request: &HttpRequest, id: &str) -> Result<Record, Problem> {
    let caller = state.auth.caller(request).await?;
    let job = job_id(id)?;
    state.engine.find(&caller.name, &job).await?.ok_or_else(|| unknown(id))
}

fn job_id(text: &str) -> Result<JobId, Problem> {
    JobId::parse(text).ok_or_else(|| unknown(text))
}

pub(super) fn unknown(id: &str) -> Problem {
    let shown: String = id.chars().take(64).collect();
    let detail = format!("You have no job or group `{shown}`, or it is kept no longer.");
    Problem::new(Kind::NotFound, detail)
}
