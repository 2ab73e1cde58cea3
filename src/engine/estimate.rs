//! What a caller is told at the door: when a job will start and what it will cost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::Engine;
use super::catalog::Target;
use crate::domain::completion::Usage;
use crate::domain::job::{Lane, Line, ProviderChoice};
use crate::domain::limits::{Cost, Pool};
use crate::domain::route::Step;
use crate::domain::task::Task;
use crate::limiter::LimiterError;
use crate::queue::Depths;

/// What waits in the store, as counted last.
#[derive(Default)]
pub(super) struct Load {
    depths: ArcSwap<Depths>,
    open_at: ArcSwap<HashMap<String, DateTime<Utc>>>,
    put_back: AtomicUsize,
}

impl Load {
    pub(super) fn set(&self, depths: Depths) {
        self.depths.store(Arc::new(depths));
    }

    /// When each route has room again, as looked up last.
    pub(super) fn set_open(&self, open_at: HashMap<String, DateTime<Utc>>) {
        self.open_at.store(Arc::new(open_at));
    }

    fn open_at(&self, route: &str) -> Option<DateTime<Utc>> {
        self.open_at.load().get(route).copied()
    }

    /// Lines with items in them.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.depths.load().ready.iter().map(|(line, _)| line.clone()).collect()
    }

    /// Jobs that have not ended.
    pub(super) fn open(&self) -> u64 {
        self.depths.load().open
    }

    /// Used part of the store's memory limit.
    pub(super) fn memory(&self) -> Option<f64> {
        self.depths.load().memory
    }

    /// Items ready in this route's lines of this lane and more urgent ones.
    fn before(&self, lane: Lane, route: &str) -> u64 {
        let depths = self.depths.load();
        let waits = |line: &Line| matches!(line, Line::Run { lane: other, route: name } if *other <= lane && name == route);
        depths.ready.iter().filter(|(line, _)| waits(line)).map(|(_, count)| count).sum()
    }

    /// Counts deliveries put back one after another.
    pub(super) fn put_back(&self, more: usize) -> usize {
        self.put_back.fetch_add(more, Ordering::Relaxed) + more
    }

    /// Some delivery departed.
    pub(super) fn put_back_none(&self) {
        self.put_back.store(0, Ordering::Relaxed);
    }
}

/// What a caller is told at the door.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// When the job will start.
    pub start_at: DateTime<Utc>,
    /// What it will cost at its first step; `None` when the price is not known.
    pub cost_usd: Option<f64>,
}

/// What an estimate is made for.
pub(super) struct Asked<'a> {
    pub(super) task: &'a Task,
    pub(super) lane: Lane,
    pub(super) route: &'a str,
    pub(super) provider: Option<&'a ProviderChoice>,
    pub(super) input_bytes: usize,
}

impl Engine {
    /// Looks up when each route has room again: what is on hold, and what its buckets must drain.
    pub(super) async fn look_at_routes(&self) -> Result<(), LimiterError> {
        let targets: Vec<&Target> = self.catalog.targets().collect();
        let mut pools: Vec<Arc<Pool>> = targets.iter().flat_map(|t| t.pools.clone()).collect();
        pools.sort_by(|a, b| a.id.cmp(&b.id));
        pools.dedup_by(|a, b| a.id == b.id);
        let gates: Vec<String> = targets.iter().flat_map(|target| target.all_gates()).collect();
        let shut: HashMap<String, Duration> = self
            .limiter
            .shut_gates(&gates)
            .await?
            .into_iter()
            .map(|gate| (gate.gate, gate.left))
            .collect();
        let levels = self.limiter.levels(&pools).await?;
        let full: HashMap<String, Duration> = pools
            .iter()
            .zip(levels)
            .map(|(pool, level)| (pool.id.clone(), pool.full_for(level.units)))
            .collect();
        let now = self.clock.now();
        let wait = |step: &Step| -> Option<Duration> {
            let target = self.catalog.target(step)?;
            let held = target.all_gates().filter_map(|gate| shut.get(&gate)).max();
            let drains = target.pools.iter().filter_map(|pool| full.get(&pool.id)).max();
            Some(held.max(drains).copied().unwrap_or_default())
        };
        let open_at = self.catalog.routes().map(|route| {
            let soonest = route.steps.iter().filter_map(wait).min().unwrap_or_default();
            (route.name.clone(), now + soonest)
        });
        self.load.set_open(open_at.collect());
        Ok(())
    }

    /// Reckons with the buckets' rates: what waits before the job, taken to be like it, leaves
    /// through all steps it may use.
    pub(super) fn estimate(&self, asked: &Asked<'_>, position: Option<u64>) -> Estimate {
        let now = self.clock.now();
        let (input, output) = self.tokens(asked);
        let steps = self.steps_of(asked);
        let before = position
            .map_or_else(|| self.load.before(asked.lane, asked.route), |own| own.saturating_sub(1));
        let cost = Cost::call(input, output);
        let per_second: f64 = steps.iter().map(|step| self.per_second(step, &cost)).sum();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let seconds = if per_second > 0.0 { before as f64 / per_second } else { 0.0 };
        let wait = chrono::Duration::from_std(Duration::from_secs_f64(seconds.min(3e7)));
        let open_at = self.load.open_at(asked.route).map_or(now, |at| at.max(now));
        Estimate {
            start_at: open_at + wait.unwrap_or_default(),
            cost_usd: steps.first().and_then(|step| self.price(step, input, output)),
        }
    }

    /// What a call costs at the cheapest step of known price.
    pub(super) fn cheapest(&self, asked: &Asked<'_>) -> Option<f64> {
        let (input, output) = self.tokens(asked);
        let prices =
            self.steps_of(asked).into_iter().filter_map(|step| self.price(step, input, output));
        prices.min_by(f64::total_cmp)
    }

    /// Tokens in, by the size of what is sent, and out, by what is usual.
    fn tokens(&self, asked: &Asked<'_>) -> (u64, u64) {
        let system = asked.task.system.as_deref().map_or(0, str::len);
        let input = u64::try_from((asked.input_bytes + system) / 4 + 1).unwrap_or(u64::MAX);
        (input, self.learned.output_tokens(asked.task))
    }

    fn steps_of(&self, asked: &Asked<'_>) -> Vec<&Step> {
        let route = self.catalog.route(asked.route);
        route.map(|route| self.steps(route, asked.provider)).unwrap_or_default()
    }

    /// How many such calls a second leave through a step.
    fn per_second(&self, step: &Step, cost: &Cost) -> f64 {
        /// A step without limits is taken to bear this many calls a second.
        const UNLIMITED: f64 = 1_000.0;
        let Some(target) = self.catalog.target(step) else {
            return 0.0;
        };
        target
            .pools
            .iter()
            .map(|pool| cost.drain_time(pool).as_secs_f64())
            .filter(|seconds| *seconds > 0.0)
            .map(|seconds| 1.0 / seconds)
            .fold(UNLIMITED, f64::min)
    }

    /// What such a call costs at a step; `None` when the price is not known.
    pub(super) fn price(&self, step: &Step, input_tokens: u64, output_tokens: u64) -> Option<f64> {
        let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
        let names = (step.provider.as_str(), step.model.as_str());
        self.catalog.prices().cost(names, &usage, self.clock.now())
    }

    /// What a call of a thousand tokens either way costs at a step, to compare steps by.
    pub(super) fn price_of_thousand(&self, step: &Step) -> Option<f64> {
        self.price(step, 1_000, 1_000)
    }
}
