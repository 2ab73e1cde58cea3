//! The run itself: the service's own engine, queue and limiter in virtual time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::value::to_raw_value;
use tokio::time::{Instant, sleep, sleep_until};

use super::arrivals::{Arrival, span};
use super::meter;
use super::world::{Call, Latency, TEMPLATE, World, input};
use crate::app;
use crate::clock::{SharedClock, VirtualClock};
use crate::config::{Account, Loaded, Plan};
use crate::domain::id::JobId;
use crate::domain::job::Lane;
use crate::domain::limits::Pool;
use crate::domain::result::{JobResult, Status};
use crate::domain::schema::Schema;
use crate::domain::task::Task;
use crate::domain::units::Span;
use crate::engine::SharedEngine;
use crate::engine::intake::{Submission, Submitter};
use crate::lifecycle::Lifecycle;

/// How long the service has stood idle when the first job arrives.
const LEAD: Duration = Duration::from_secs(1);

/// How often to look whether all is done; also the shortest time between two samples.
const TICK: Duration = Duration::from_millis(100);

/// Samples kept. When there are more, every second one is dropped.
const MOST_SAMPLES: usize = 4_000;

/// Results read from the queue at once.
const PAGE: usize = 1_000;

/// What a run needs.
pub(super) struct Setup {
    pub(super) loaded: Loaded,
    pub(super) arrivals: Vec<Arrival>,
    /// How long answers take; `None` leaves it to what an account says itself.
    pub(super) latency: Option<Latency>,
    pub(super) seed: u64,
    /// After the last arrival, when to give up.
    pub(super) patience: Duration,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) lane: Lane,
    pub(super) workflow: Option<String>,
    pub(super) route: String,
    /// Moments are seconds after the first arrival.
    pub(super) arrived: f64,
    /// When its first call left.
    pub(super) departed: Option<f64>,
    pub(super) ended: Option<f64>,
    /// `None` while it waits or runs.
    pub(super) status: Option<Status>,
    /// Why there is no answer.
    pub(super) reason: Option<String>,
    /// What it cost; `None` when no call was made or a price is not known.
    pub(super) cost_usd: Option<f64>,
}

/// How full the buckets were at a moment, in the order of the pools and their buckets.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: f64,
    pub(super) levels: Vec<f64>,
}

/// All that was seen.
pub(super) struct Outcome {
    /// When the first job arrived.
    pub(super) first: DateTime<Utc>,
    pub(super) jobs: Vec<Seen>,
    pub(super) calls: Vec<Call>,
    pub(super) samples: Vec<Sample>,
    pub(super) pools: Vec<Arc<Pool>>,
    /// For each route, the places of the pools its steps are counted in.
    pub(super) routes: BTreeMap<String, BTreeSet<usize>>,
    /// Calls one replica makes at the same time.
    pub(super) concurrency: usize,
}

impl Seen {
    /// From when to when it waited.
    pub(super) fn waited(&self) -> (f64, f64) {
        (self.arrived, self.departed.or(self.ended).unwrap_or(f64::INFINITY))
    }
}

impl Outcome {
    /// Seconds after the first arrival, of microseconds since 1970.
    pub(super) fn since(&self, at: f64) -> f64 {
        (at - micros(self.first.timestamp_micros())) / 1e6
    }

    /// The moment so many seconds after the first arrival.
    pub(super) fn moment(&self, since: f64) -> DateTime<Utc> {
        self.first + span(Duration::try_from_secs_f64(since).unwrap_or_default())
    }

    /// When the last job ended or the run was given up.
    pub(super) fn end(&self) -> f64 {
        let ended = self.jobs.iter().filter_map(|job| job.ended).fold(0.0, f64::max);
        let open = self.jobs.iter().any(|job| job.status.is_none());
        let looked = self.samples.last().map_or(0.0, |sample| sample.at);
        if open { looked.max(ended) } else { ended }
    }
}

/// Runs to the end, on a thread of its own: it works without waiting.
pub(super) fn run(setup: Setup) -> Result<Outcome> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .context("no runtime for virtual time")?
        .block_on(rehearse(setup))
}

async fn rehearse(setup: Setup) -> Result<Outcome> {
    let Setup { mut loaded, arrivals, latency, seed, patience } = setup;
    let first = arrivals.first().map_or(DateTime::UNIX_EPOCH, |arrival| arrival.at);
    let begun = Instant::now() + LEAD;
    let clock: SharedClock = Arc::new(VirtualClock::starting_at(first - span(LEAD)));
    let lifecycle = Lifecycle::default();
    let world = World::new(&loaded.plan.accounts, Arc::clone(&clock), seed);
    // Results are read at the end.
    loaded.config.engine.retention = Span::secs(365 * 86_400);
    let concurrency = loaded.config.engine.concurrency;
    plain_tasks(&mut loaded.plan)?;
    // Arrivals have no callers, so nobody's budget can be told.
    loaded.config.plans.clear();
    let provider = |account: &Account| {
        world.provider(account, latency.unwrap_or_else(|| own_latency(account)))
    };
    let engine = app::rehearsal(loaded, &clock, &lifecycle, seed, provider)?;
    let (pools, routes) = pools(&engine);
    engine.start();
    let submitted = AtomicBool::new(false);
    let last = arrivals.last().map_or(first, |arrival| arrival.at);
    let until = begun + (last - first).to_std().unwrap_or_default() + patience;
    let (ids, samples) = tokio::join!(
        submit(&engine, &arrivals, (begun, first), &submitted),
        watch(&engine, &pools, (begun, until), &submitted),
    );
    let samples = samples?;
    let calls = world.calls();
    let jobs = seen(&engine, &arrivals, ids, &calls).await?;
    lifecycle.drop_all().await;
    Ok(Outcome { first, jobs, calls, samples, pools, routes, concurrency })
}

/// Tasks whose prompt is what the arrival says, and whose answer may be any text. All else that
/// the pump and the limiter see of a task stays.
fn plain_tasks(plan: &mut Plan) -> Result<()> {
    for task in plan.tasks.values_mut() {
        let input = Schema::compile(serde_json::json!({}));
        *task = Arc::new(Task {
            name: task.name.clone(),
            description: task.description.clone(),
            routes: task.routes.clone(),
            escalate_to: None,
            lane: task.lane,
            system: None,
            template: Some(TEMPLATE.to_owned()),
            text: None,
            input: Some(input.map_err(|fault| anyhow::anyhow!("{fault}"))?),
            output: None,
            max_output_tokens: task.max_output_tokens,
            temperature: task.temperature,
            timeout: task.timeout,
        });
    }
    Ok(())
}

/// A scripted account says itself how long its answers take.
fn own_latency(account: &Account) -> Latency {
    match &account.scripted {
        Some(scripted) => Latency {
            base: scripted.latency.0,
            per_output_token: scripted.latency_per_output_token.0,
            jitter: scripted.jitter,
        },
        None => super::LATENCY,
    }
}

/// Every pool that counts some step, and which pools each route's steps are counted in.
fn pools(engine: &SharedEngine) -> (Vec<Arc<Pool>>, BTreeMap<String, BTreeSet<usize>>) {
    let mut pools: Vec<Arc<Pool>> = Vec::new();
    for pool in engine.catalog().targets().flat_map(|target| &target.pools) {
        if pools.iter().all(|known| known.id != pool.id) {
            pools.push(Arc::clone(pool));
        }
    }
    let routes = engine.catalog().routes().map(|route| {
        let targets = route.steps.iter().filter_map(|step| engine.catalog().target(step));
        let ids: Vec<String> =
            targets.flat_map(|target| target.pools.clone()).map(|pool| pool.id.clone()).collect();
        let places = pools.iter().enumerate();
        let places = places.filter(|(_, pool)| ids.contains(&pool.id));
        (route.name.clone(), places.map(|(place, _)| place).collect())
    });
    let routes = routes.collect();
    (pools, routes)
}

/// Submits each job when its time comes. Answers the ids, or why there is none.
async fn submit(
    engine: &SharedEngine,
    arrivals: &[Arrival],
    (begun, first): (Instant, DateTime<Utc>),
    submitted: &AtomicBool,
) -> Vec<Result<String, String>> {
    let mut ids = Vec::with_capacity(arrivals.len());
    for (row, arrival) in arrivals.iter().enumerate() {
        sleep_until(begun + (arrival.at - first).to_std().unwrap_or_default()).await;
        let Ok(input) = to_raw_value(&input(row, arrival)) else {
            ids.push(Err("cannot be written".to_owned()));
            continue;
        };
        let submission = Submission {
            task: arrival.task.clone(),
            input,
            callback: None,
            workflow: arrival.workflow.clone(),
            session: None,
            lane: Some(arrival.lane),
            deliver_by: arrival.deliver_by,
            max_cost_usd: None,
            provider: None,
            metadata: None,
        };
        let from = Submitter { caller: "default".to_owned(), dedup: None, traceparent: None };
        let accepted = engine.submit(from, submission).await;
        ids.push(accepted.map(|accepted| accepted.id).map_err(|fault| fault.to_string()));
    }
    submitted.store(true, Ordering::Relaxed);
    ids
}

/// Looks at the buckets until every job has ended or the time is over.
async fn watch(
    engine: &SharedEngine,
    pools: &[Arc<Pool>],
    (begun, until): (Instant, Instant),
    submitted: &AtomicBool,
) -> Result<Vec<Sample>> {
    sleep_until(begun).await;
    let mut samples: Vec<Sample> = Vec::new();
    let (mut stride, mut ticks) = (1_u64, 0_u64);
    loop {
        if ticks.is_multiple_of(stride) {
            let levels = engine.limiter().levels(pools).await?;
            let levels = levels.iter().flat_map(meter::levels);
            samples.push(Sample { at: begun.elapsed().as_secs_f64(), levels: levels.collect() });
        }
        if samples.len() >= MOST_SAMPLES {
            let mut place = 0;
            samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            stride *= 2;
        }
        let ended = submitted.load(Ordering::Relaxed) && engine.queue().depths().await?.open == 0;
        if ended || Instant::now() >= until {
            return Ok(samples);
        }
        sleep(TICK).await;
        ticks += 1;
    }
}

/// What became of each arrival, by its receipt.
async fn seen(
    engine: &SharedEngine,
    arrivals: &[Arrival],
    ids: Vec<Result<String, String>>,
    calls: &[Call],
) -> Result<Vec<Seen>> {
    let known: Vec<JobId> = ids.iter().filter_map(|id| JobId::parse(id.as_ref().ok()?)).collect();
    let mut results: HashMap<String, JobResult> = HashMap::with_capacity(known.len());
    for ids in known.chunks(PAGE) {
        for record in engine.queue().find_all(ids).await? {
            results.insert(record.job.id.to_string(), record.into_result());
        }
    }
    let first = arrivals.first().map_or(DateTime::UNIX_EPOCH, |arrival| arrival.at);
    let since = |at: DateTime<Utc>| (at - first).num_microseconds().map_or(0.0, seconds);
    let mut departed: Vec<Option<f64>> = vec![None; arrivals.len()];
    for call in calls {
        if let Some(departed) = departed.get_mut(call.row) {
            let at = (call.at - micros(first.timestamp_micros())) / 1e6;
            departed.get_or_insert(at);
        }
    }
    let jobs = arrivals.iter().zip(ids).zip(departed).map(|((arrival, id), departed)| {
        let result = id.as_ref().ok().and_then(|id| results.remove(id));
        let ended = result.as_ref().and_then(|result| result.finished_at).map(since);
        let refused = id.as_ref().err().map(|why| format!("refused: {why}"));
        let failed = result.as_ref().and_then(|result| result.error.as_ref());
        Seen {
            lane: arrival.lane,
            workflow: arrival.workflow.clone(),
            route: engine
                .catalog()
                .task(&arrival.task)
                .map_or_else(String::new, |task| task.route(arrival.lane).to_owned()),
            arrived: since(arrival.at),
            departed,
            ended: if refused.is_some() { Some(since(arrival.at)) } else { ended },
            status: match &result {
                Some(result) => Some(result.status).filter(|status| status.is_final()),
                None => Some(Status::Failed),
            },
            reason: refused.or_else(|| failed.map(|error| error.code.clone())),
            cost_usd: result.and_then(|result| result.cost_usd),
        }
    });
    Ok(jobs.collect())
}

#[expect(clippy::cast_precision_loss, reason = "exact up to the year 2255")]
const fn micros(at: i64) -> f64 {
    at as f64
}

const fn seconds(of: i64) -> f64 {
    micros(of) / 1e6
}
