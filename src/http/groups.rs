//! Groups: many jobs in one request, results together.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, web};

use super::jobs::{Deliveries, Receipt, Received, base_url, receipt, receive, unknown};
use super::operation::Operation;
use super::prefer::Preference;
use super::problem::{Kind, Problem};
use super::{State, choice, fitting, submission};
use crate::domain::id::GroupId;
use crate::engine::groups::GroupResult;
use crate::queue::GroupRecord;

pub(super) fn submit_doc() -> Operation {
    Operation::new(
        "Submit a group",
        "All jobs are stored or none. One callback when the last has ended, results in order.",
    )
    .body("group")
    .header("Idempotency-Key", "Recognises a repetition of this request.")
    .answer::<Receipt>(202, "Accepted")
}

pub(super) async fn submit(
    state: Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Received { from, prefer, fields, manner } =
        receive(&state, &request, payload, true).await?;
    let most = state.settings.max_group;
    let (submission, mut warnings) = submission::group(fields, manner, most)?;
    for choice in submission.jobs.iter().map(|job| job.provider.as_ref()) {
        let unknown = choice::unknown(state.engine.unknown_providers(choice));
        let told = unknown.filter(|warning| !warnings.contains(warning)).collect::<Vec<_>>();
        warnings.extend(told);
    }
    let (accepted, fitted) = fitting::submit_group(&state.engine, from, submission, manner).await?;
    warnings.extend(fitted);
    // A group is not waited for: it is polled, or comes by its callback.
    let prefer = Preference { wait: None, ..prefer };
    Ok(receipt(&base_url(&state, &request), accepted, prefer, warnings))
}

pub(super) fn get_doc() -> Operation {
    Operation::new("Get a group", "Its jobs' results, in the order given.")
        .answer::<GroupResult>(200, "The group")
}

pub(super) async fn get(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let group = own(&state, &request, &id).await?;
    Ok(HttpResponse::Ok().json(state.engine.result_of(group).await?))
}

pub(super) fn cancel_doc() -> Operation {
    Operation::new("Cancel a group", "Withdraws its jobs that have not ended.")
        .answer::<GroupResult>(200, "The group")
}

pub(super) async fn cancel(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let group = own(&state, &request, &id).await?;
    state.engine.cancel_group(&group).await?;
    Ok(HttpResponse::Ok().json(state.engine.result_of(group).await?))
}

pub(super) fn replay_doc() -> Operation {
    Operation::new("Post a group's results again", "Once all of its jobs have ended.")
        .answer::<GroupResult>(202, "The group")
}

pub(super) async fn replay(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let group = own(&state, &request, &id).await?;
    if group.group.callback.is_none() {
        return Err(Problem::new(Kind::NoCallback, "The group has no callback to post to."));
    }
    if !state.engine.queue().replay_group(&group.group.id).await? {
        let detail = "Only a group whose jobs have all ended can be replayed.";
        return Err(Problem::new(Kind::NotEnded, detail));
    }
    let result = state.engine.result_of(group).await?;
    Ok(HttpResponse::build(StatusCode::ACCEPTED).json(result))
}

pub(super) fn deliveries_doc() -> Operation {
    Operation::new("Attempts to post a group's results", "The latest last.")
        .answer::<Deliveries>(200, "The attempts")
}

pub(super) async fn deliveries(
    state: Data<State>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let group = own(&state, &request, &id).await?;
    Ok(HttpResponse::Ok().json(Deliveries {
        object: "list",
        stage: group.stage.as_str(),
        attempts: group.deliveries,
        events: Vec::new(),
    }))
}

/// The caller's own group.
async fn own(state: &State, request: &HttpRequest, id: &str) -> Result<GroupRecord, Problem> {
    let caller = state.auth.caller(request).await?;
    let group = GroupId::parse(id).ok_or_else(|| unknown(id))?;
    state.engine.find_group(&caller.name, &group).await?.ok_or_else(|| unknown(id))
}
