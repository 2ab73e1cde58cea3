//! What a caller is told at the door: when a job will start and end, and what it will cost.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Engine;
use super::catalog::Target;
use super::load::Outlook;
use super::order::Wish;
use crate::domain::completion::Usage;
use crate::domain::job::{Lane, ProviderChoice};
use crate::domain::limits::{Cost, Pool};
use crate::domain::route::{Route, Step};
use crate::domain::task::Task;

/// What a caller is told at the door.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// When the job will start.
    pub start_at: DateTime<Utc>,
    /// When it will have ended.
    pub finish_at: DateTime<Utc>,
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

/// How long an answer is taken to be under way as long as a step has not been seen to answer.
const UNSEEN_LATENCY: f64 = 2.0;

/// A step without limits is taken to bear this many calls a second.
const UNLIMITED: f64 = 1_000.0;

/// The longest wait told.
const LONGEST: f64 = 3e7;

impl Engine {
    /// Reckons with the buckets' levels and rates: what goes before the job, taken to be like what
    /// leaves lately, leaves through all steps it may use.
    pub(super) fn estimate(&self, asked: &Asked<'_>, position: u64) -> Estimate {
        let now = self.clock.now();
        let outlook = self.load.outlook();
        let targets = self.targets_of(asked);
        let open_at = targets.iter().map(|target| outlook.open_at(target)).min().unwrap_or(now);
        let before = position.saturating_sub(1) + self.goes_before(asked, &targets);
        let start_at = open_at.max(now) + seconds(self.drain_seconds(asked, &targets, before));
        let latency = targets.first().map_or(0.0, |target| self.usual_latency(target));
        let (input, output) = self.tokens(asked);
        Estimate {
            start_at,
            finish_at: start_at + seconds(latency),
            cost_usd: targets.first().and_then(|target| self.price(&target.step, input, output)),
        }
    }

    /// The soonest that a job could have ended if it were the next of all.
    pub(super) async fn soonest_end(&self, asked: &Asked<'_>, before: u64) -> DateTime<Utc> {
        let now = self.clock.now();
        let targets = self.targets_of(asked);
        // Without the limiter nothing is known, and nothing stands in the way.
        let outlook = self.outlook_of(&targets).await.unwrap_or_default();
        let ends = targets.iter().map(|target| {
            outlook.open_at(target).max(now) + seconds(self.seen_latency(target).unwrap_or(0.0))
        });
        let drained = self.drain_seconds(asked, &targets, before);
        ends.min().unwrap_or(now) + seconds(drained)
    }

    /// The most that a call can cost at the step, of those of known price, where that is the least.
    pub(super) fn least_cost(&self, asked: &Asked<'_>) -> Option<f64> {
        let (input, _) = self.tokens(asked);
        let output = u64::from(asked.task.max_output_tokens);
        let targets = self.targets_of(asked);
        let prices = targets.iter().filter_map(|target| {
            let learned = self.learned.input_tokens(&target.step.name(), input);
            self.most_price(&target.step, (input.max(learned), output), false)
        });
        prices.min_by(f64::total_cmp)
    }

    /// The limit, in words, that is too small for a job at every step it may use.
    pub(super) fn too_small(&self, asked: &Asked<'_>) -> Option<String> {
        let (input, _) = self.tokens(asked);
        let output = self.learned.least_output_tokens(&asked.task.name);
        let mut told = None;
        for target in self.targets_of(asked) {
            let input = input.min(self.learned.input_tokens(&target.step.name(), input));
            let cost = Cost::call(input, output);
            let found = target.pools.iter().find_map(|pool| {
                let bucket = pool.too_small_for(&cost)?;
                let (units, most) = (pool.units(bucket, &cost), bucket.most);
                let axis = bucket.axis.as_str().replace('_', " ");
                Some(format!("about {units} {axis}, and `{}` has {most} in all", pool.id))
            });
            told = Some(found?);
        }
        told
    }

    /// Tokens in, by the size of what is sent, and out, by what is usual.
    fn tokens(&self, asked: &Asked<'_>) -> (u64, u64) {
        let system = asked.task.system.as_deref().map_or(0, str::len);
        let input = u64::try_from((asked.input_bytes + system) / 4 + 1).unwrap_or(u64::MAX);
        (input, self.learned.output_tokens(asked.task))
    }

    fn targets_of(&self, asked: &Asked<'_>) -> Vec<Arc<Target>> {
        let route = self.catalog.route(asked.route);
        let (input_tokens, _) = self.tokens(asked);
        let wish = Wish { choice: asked.provider, input_tokens, ..Wish::default() };
        let steps = route.map(|route| self.steps(route, &wish)).unwrap_or_default();
        steps.into_iter().filter_map(|step| self.catalog.target(step)).collect()
    }

    /// Jobs in other lines that go before it at the same limits: those of more urgent lanes.
    fn goes_before(&self, asked: &Asked<'_>, targets: &[Arc<Target>]) -> u64 {
        let is_ours = |pool: &Pool| targets.iter().any(|t| t.pools.iter().any(|p| p.id == pool.id));
        let shares = |route: &Route| {
            let targets = route.steps.iter().filter_map(|step| self.catalog.target(step));
            targets.into_iter().any(|target| target.pools.iter().any(|pool| is_ours(pool)))
        };
        self.load.ready(|lane, route| {
            lane < asked.lane
                && (route == asked.route
                    || self.catalog.route(route).is_some_and(|route| shares(route)))
        })
    }

    /// How long so many jobs need to leave through these steps together.
    fn drain_seconds(&self, asked: &Asked<'_>, targets: &[Arc<Target>], jobs: u64) -> f64 {
        if jobs == 0 {
            return 0.0;
        }
        let (input, output) = self.learned.usual(asked.route).unwrap_or_else(|| self.tokens(asked));
        let outlook = self.load.outlook();
        let mut counted: Vec<&str> = Vec::new();
        let mut per_second = 0.0;
        for target in targets {
            // Steps that share their limits do not add to each other.
            if !target.pools.is_empty()
                && target.pools.iter().all(|pool| counted.contains(&pool.id.as_str()))
            {
                continue;
            }
            counted.extend(target.pools.iter().map(|pool| pool.id.as_str()));
            per_second += self.per_second(target, &outlook, &Cost::call(input, output));
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let jobs = jobs as f64;
        if per_second > 0.0 { jobs / per_second } else { 0.0 }
    }

    /// How many such calls a second leave through a step, as its limits are now and for the places
    /// its calls take up.
    fn per_second(&self, target: &Target, outlook: &Outlook, cost: &Cost) -> f64 {
        let latency = self.usual_latency(target).max(0.001);
        let of_pool = |pool: &std::sync::Arc<Pool>| {
            let level = outlook.level(pool);
            let rates = pool.buckets.iter().enumerate().map(|(index, bucket)| {
                let now = level.and_then(|level| level.buckets.get(index));
                let rate = now.map_or(bucket.quota.rate, |now| now.rate) * 1e6;
                rate / pool.units(bucket, cost).max(1e-9)
            });
            let places = pool.concurrency.map(|places| f64::from(places) / latency);
            rates.chain(places).fold(UNLIMITED, f64::min)
        };
        target.pools.iter().map(of_pool).fold(UNLIMITED, f64::min)
    }

    fn usual_latency(&self, target: &Target) -> f64 {
        self.seen_latency(target).unwrap_or(UNSEEN_LATENCY)
    }

    fn seen_latency(&self, target: &Target) -> Option<f64> {
        self.learned.latency(&target.step.name())
    }

    /// What such a call costs at a step; `None` when the price is not known.
    pub(super) fn price(&self, step: &Step, input_tokens: u64, output_tokens: u64) -> Option<f64> {
        let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
        let names = (step.provider.as_str(), step.model.as_str());
        self.catalog.prices().cost(names, &usage, self.clock.now())
    }

    /// The most that such a call can cost at a step, whatever of it the prompt cache takes; `hour`
    /// when it may be written there for an hour.
    pub(super) fn most_price(
        &self,
        step: &Step,
        (input_tokens, output_tokens): (u64, u64),
        hour: bool,
    ) -> Option<f64> {
        let names = (step.provider.as_str(), step.model.as_str());
        let prices = self.catalog.prices();
        prices.most(names, (input_tokens, output_tokens), hour, self.clock.now())
    }

    /// What a call of a thousand tokens either way costs at a step, to compare steps by.
    pub(super) fn price_of_thousand(&self, step: &Step) -> Option<f64> {
        self.price(step, 1_000, 1_000)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
}
