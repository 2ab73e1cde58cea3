//! What there is: the caller itself, tasks, routes.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::State;
use super::operation::Operation;
use super::problem::{Kind, Problem};
use crate::domain::allowance::{Money, Period};
use crate::domain::choice::SortBy;
use crate::domain::job::Lane;
use crate::domain::route::{Route, Step};
use crate::domain::speed::{Percentile, Spread};
use crate::engine::Engine;
use crate::engine::money::Used;

/// Who am I?
#[derive(Serialize, JsonSchema)]
struct Me {
    object: &'static str,
    /// The caller the key belongs to.
    caller: String,
    /// The part of the key that may be shown.
    key_id: String,
    version: &'static str,
    /// What an accepted job survives.
    durability: &'static str,
    /// What you may use up and have used up; `null` when nothing is limited.
    budget: Option<BudgetView>,
    /// How much one request may bring, and how long it may wait.
    limits: LimitsView,
}

/// What this service takes in one request.
#[derive(Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "they are called as in the settings")]
struct LimitsView {
    /// Bytes of a job's body.
    max_body: usize,
    /// Jobs in a group.
    max_group: usize,
    /// Bytes of a group's body.
    max_group_body: usize,
    /// Seconds that `Prefer: wait` and `?wait` hold a request at the most.
    max_wait_s: u64,
}

/// What a caller may use up and has used up. Days and months are those of UTC.
#[derive(Serialize, JsonSchema)]
struct BudgetView {
    /// The plan's name; `null` for limits of your own.
    plan: Option<String>,
    /// Whether more is refused; otherwise there are only warnings.
    hard: bool,
    /// The part at which warnings begin.
    soft: f64,
    day: MoneyView,
    month: MoneyView,
    calls: CallsView,
}

/// Money of a period.
#[derive(Serialize, JsonSchema)]
struct MoneyView {
    /// The most; `null` for any.
    limit_usd: Option<f64>,
    spent_usd: f64,
    /// Set aside for calls under way.
    reserved_usd: f64,
    /// `null` when there is no limit.
    left_usd: Option<f64>,
    resets_at: DateTime<Utc>,
}

/// Submitted jobs and live calls of a day.
#[derive(Serialize, JsonSchema)]
struct CallsView {
    /// The most; `null` for any.
    limit: Option<u64>,
    made: u64,
    /// `null` when there is no limit.
    left: Option<u64>,
    resets_at: DateTime<Utc>,
}

impl BudgetView {
    fn of(used: &Used) -> Self {
        let Used { allowance, standing } = used;
        let money = |period| {
            let (most, level) = (allowance.most(period), standing.of(period));
            MoneyView {
                limit_usd: most.map(Money::usd),
                spent_usd: level.spent.usd(),
                reserved_usd: level.held.usd(),
                left_usd: most.map(|most| most.less(level.used()).usd()),
                resets_at: level.resets_at,
            }
        };
        Self {
            plan: allowance.plan.clone(),
            hard: allowance.hard,
            soft: allowance.soft,
            day: money(Period::Day),
            month: money(Period::Month),
            calls: CallsView {
                limit: allowance.calls,
                made: standing.calls,
                left: allowance.calls.map(|most| most.saturating_sub(standing.calls)),
                resets_at: standing.day.resets_at,
            },
        }
    }
}

/// By lane.
#[derive(Serialize, JsonSchema)]
pub(super) struct ByLane<T> {
    pub(super) interactive: T,
    pub(super) standard: T,
    pub(super) batch: T,
}

/// A declared kind of work.
#[derive(Serialize, JsonSchema)]
struct TaskView {
    name: String,
    description: String,
    /// The lane of a job that names none.
    lane: Lane,
    routes: ByLane<String>,
    /// The route a job goes on to when no answer fits; `null` for none.
    escalate_to: Option<String>,
    input_schema: Value,
    /// `null` when the answer is free text.
    output_schema: Option<Value>,
    max_output_tokens: u32,
    timeout_ms: u64,
}

/// An ordered list of steps.
#[derive(Serialize, JsonSchema)]
struct RouteView {
    name: String,
    steps: Vec<StepView>,
    /// What the steps are ordered by instead: `price`, `latency` or `throughput`.
    sort: Option<SortBy>,
    /// Whether a second step is asked when the first is slow to answer.
    hedged: bool,
    /// How long a job holds out for a better step.
    patience_ms: ByLane<u64>,
}

/// One account and model.
#[derive(Serialize, JsonSchema)]
struct StepView {
    account: String,
    provider: String,
    model: String,
    /// Its part of the jobs among neighbours that have a weight too.
    weight: Option<u32>,
    first_token_ms: Option<u64>,
    timeout_ms: Option<u64>,
    /// On this replica: `closed` when calls go through, `open` while it is shut after failures,
    /// `recovering` while a few calls try it.
    circuit: &'static str,
    /// How many calls at the same time try it while it recovers.
    at_once: Option<u32>,
    /// Seconds to the first piece of a streamed answer, on all replicas in the last five minutes;
    /// `null` when too few were seen.
    first_token_s: Option<Percentiles>,
    /// Seconds to the whole answer.
    latency_s: Option<Percentiles>,
    /// Output tokens a second.
    throughput: Option<Percentiles>,
}

/// What half, nine in ten, and nineteen in twenty calls keep to.
#[derive(Serialize, JsonSchema)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p95: f64,
}

/// A list.
#[derive(Serialize, JsonSchema)]
struct List<T> {
    object: &'static str,
    data: Vec<T>,
}

pub(super) fn me_doc() -> Operation {
    Operation::new("Who am I?", "The platforms' connection test; and what is left of your budget.")
        .answer::<Me>(200, "You")
}

pub(super) async fn me(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = state.auth.caller(&request).await?;
    let used = state.engine.used(&caller.name).await.map_err(|fault| {
        tracing::warn!(%fault, "a budget could not be read");
        let detail = "What you have used up cannot be read right now. Try again in a moment.";
        Problem::new(Kind::StoreUnavailable, detail)
    })?;
    let settings = &state.settings;
    Ok(HttpResponse::Ok().json(Me {
        limits: LimitsView {
            max_body: settings.max_body.0,
            max_group: settings.max_group,
            max_group_body: settings.max_group_body.0,
            max_wait_s: settings.max_wait.0.as_secs(),
        },
        budget: used.as_ref().map(BudgetView::of),
        object: "caller",
        caller: caller.name,
        key_id: caller.key_id,
        version: env!("CARGO_PKG_VERSION"),
        durability: state.engine.queue().durability().as_str(),
    }))
}

pub(super) fn tasks_doc() -> Operation {
    Operation::new("Tasks", "The declared kinds of work.").answer::<List<TaskView>>(200, "Tasks")
}

pub(super) async fn tasks(
    state: Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    state.auth.caller(&request).await?;
    let data = state.engine.catalog().tasks().map(|task| TaskView {
        name: task.name.clone(),
        description: task.description.clone(),
        lane: task.lane,
        routes: by_lane(|lane| task.route(lane).to_owned()),
        escalate_to: task.escalate_to.clone(),
        input_schema: task.input.as_ref().map(|schema| schema.source().clone()).unwrap_or_default(),
        output_schema: task.output.as_ref().map(|schema| schema.source().clone()),
        max_output_tokens: task.max_output_tokens,
        timeout_ms: millis(task.timeout),
    });
    Ok(HttpResponse::Ok().json(List { object: "list", data: data.collect() }))
}

pub(super) fn routes_doc() -> Operation {
    Operation::new("Routes", "Which steps a job walks.").answer::<List<RouteView>>(200, "Routes")
}

pub(super) async fn routes(
    state: Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    state.auth.caller(&request).await?;
    let data = state.engine.catalog().routes().map(|route| RouteView {
        name: route.name.clone(),
        steps: route.steps.iter().map(|step| step_view(&state.engine, route, step)).collect(),
        sort: route.rules.sort.map(|sort| sort.by),
        hedged: route.rules.hedge.is_some(),
        patience_ms: by_lane(|lane| millis(route.patience(lane))),
    });
    Ok(HttpResponse::Ok().json(List { object: "list", data: data.collect() }))
}

fn step_view(engine: &Engine, route: &Route, step: &Step) -> StepView {
    let (name, terms) = (step.name(), route.terms(step));
    let (standing, pace) = (engine.standing(&name), engine.pace(&name));
    let percentiles = |seen: Spread| Percentiles {
        p50: seen.at(Percentile::P50),
        p90: seen.at(Percentile::P90),
        p95: seen.at(Percentile::P95),
    };
    StepView {
        account: step.account.clone(),
        provider: step.provider.clone(),
        model: step.model.clone(),
        weight: terms.weight,
        first_token_ms: terms.first_token.map(millis),
        timeout_ms: terms.timeout.map(millis),
        circuit: standing.as_str(),
        at_once: standing.at_once(),
        first_token_s: pace.first_token.map(percentiles),
        latency_s: pace.latency.map(percentiles),
        throughput: pace.throughput.map(percentiles),
    }
}

pub(super) fn by_lane<T>(value: impl Fn(Lane) -> T) -> ByLane<T> {
    ByLane {
        interactive: value(Lane::Interactive),
        standard: value(Lane::Standard),
        batch: value(Lane::Batch),
    }
}

pub(super) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
