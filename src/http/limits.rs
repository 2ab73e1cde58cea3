//! The limits: every bucket's level and rate, what is on hold, and who waits.

use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;

use super::State;
use super::operation::Operation;
use super::problem::{Kind, Problem};
use super::what_is::{ByLane, millis};
use crate::domain::bucket::Ramp;
use crate::domain::job::Line;
use crate::domain::limits::{Bucket, Pool};
use crate::limiter::{BucketLevel, LimiterError, PoolLevel};

/// One org's limits for one family of models.
#[derive(Serialize, JsonSchema)]
struct LimitView {
    name: String,
    buckets: Vec<BucketView>,
    /// Calls under way.
    running: u32,
    /// The most calls under way; `null` when not limited.
    concurrency: Option<u32>,
    /// The share of the configured rates that is used since the provider refused more; 1 when it
    /// did not.
    share: f64,
    /// Jobs that are next in their lines and wait for a turn here.
    next: ByLane<u32>,
}

/// One bucket.
#[derive(Serialize, JsonSchema)]
struct BucketView {
    /// `requests`, `input_tokens`, `output_tokens` or `tokens`.
    axis: &'static str,
    /// `minute` or `day`.
    per: &'static str,
    /// Units in that time, as configured.
    limit: f64,
    /// By how much the provider's own words have corrected the limit; 1 when not.
    learned: f64,
    /// Units that leave in a minute now, with all corrections and the ramp.
    per_minute: f64,
    /// Units that may leave at once now.
    burst: f64,
    /// Units in the bucket; the next call waits once it is over the burst.
    level: f64,
    /// The share of the rate that a ramp has opened; `null` without a ramp.
    ramp_open: Option<f64>,
}

/// A gate that is shut.
#[derive(Serialize, JsonSchema)]
struct GateView {
    name: String,
    for_ms: u64,
    reason: String,
}

/// Jobs that wait in one line.
#[derive(Serialize, JsonSchema)]
struct WaitingView {
    lane: &'static str,
    route: String,
    jobs: u64,
    /// Workflows that have a job ready.
    workflows: u64,
}

/// Every limit, every gate that is shut, and who waits.
#[derive(Serialize, JsonSchema)]
struct Limits {
    object: &'static str,
    data: Vec<LimitView>,
    shut: Vec<GateView>,
    waiting: Vec<WaitingView>,
}

pub(super) fn doc() -> Operation {
    Operation::new("Limits", "Every bucket's level and rate, what is on hold, and who waits.")
        .answer::<Limits>(200, "Limits")
}

pub(super) async fn get(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    state.auth.caller(&request).await?;
    let engine = &state.engine;
    let mut pools: Vec<Arc<Pool>> =
        engine.catalog().targets().flat_map(|target| target.pools.clone()).collect();
    pools.sort_by(|a, b| a.id.cmp(&b.id));
    pools.dedup_by(|a, b| a.id == b.id);
    let mut gates: Vec<String> = pools.iter().map(|pool| pool.id.clone()).collect();
    gates.extend(engine.catalog().targets().flat_map(|target| target.gates.clone()));
    gates.sort();
    gates.dedup();
    let levels = engine.limiter().levels(&pools).await.map_err(|fault| unavailable(&fault))?;
    let shut = engine.limiter().shut_gates(&gates).await.map_err(|fault| unavailable(&fault))?;
    let depths = engine.queue().depths().await?;
    let waiting = depths.ready.into_iter().zip(depths.flows).filter_map(|(ready, flows)| {
        let ((line, jobs), (_, workflows)) = (ready, flows);
        match line {
            Line::Run { lane, route } => {
                Some(WaitingView { lane: lane.as_str(), route, jobs, workflows })
            }
            Line::Deliver => None,
        }
    });
    let shut = shut.into_iter().map(|gate| GateView {
        name: gate.gate,
        for_ms: millis(gate.left),
        reason: gate.reason,
    });
    Ok(HttpResponse::Ok().json(Limits {
        object: "list",
        data: pools.iter().zip(&levels).map(|(pool, level)| view(pool, level)).collect(),
        shut: shut.collect(),
        waiting: waiting.collect(),
    }))
}

fn view(pool: &Pool, level: &PoolLevel) -> LimitView {
    let [interactive, standard, batch] = level.waiting;
    LimitView {
        name: pool.id.clone(),
        buckets: pool
            .buckets
            .iter()
            .zip(&level.buckets)
            .map(|(bucket, of)| bucket_view(bucket, of, level.share))
            .collect(),
        running: level.running,
        concurrency: pool.concurrency,
        share: level.share,
        next: ByLane { interactive, standard, batch },
    }
}

fn bucket_view(bucket: &Bucket, level: &BucketLevel, share: f64) -> BucketView {
    let whole = bucket.quota_at(level.learned, share).burst;
    let open = |_: Ramp| level.burst / whole;
    BucketView {
        axis: bucket.axis.as_str(),
        per: bucket.per.as_str(),
        limit: bucket.limit,
        learned: level.learned,
        per_minute: level.rate * 60e6,
        burst: level.burst,
        level: level.units,
        ramp_open: bucket.quota.ramp.map(open),
    }
}

fn unavailable(fault: &LimiterError) -> Problem {
    tracing::warn!(%fault, "the limits could not be read");
    Problem::new(Kind::StoreUnavailable, "The limits cannot be read right now.")
}
