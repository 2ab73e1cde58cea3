//! Turns: asking for one, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::catalog::Target;
use super::work::Work;
use crate::domain::limits::{Bucket, Cost, Learn, Pool};
use crate::domain::told::Told;
use crate::limiter::{Ask, End, FARTHEST, LimiterError, Turn};
use crate::telemetry::metrics;

/// How far ahead a turn may be reserved where departures are frequent: long enough to spare a
/// second question.
const HORIZON: Duration = Duration::from_millis(20);

/// How much longer than its call a place among the concurrent calls is held.
const SLACK: Duration = Duration::from_secs(5);

impl Engine {
    /// Asks for a turn at this target. Whoever gives up asking gives back what it may have got.
    pub(super) async fn turn(
        self: &Arc<Self>,
        work: &Work,
        target: &Target,
        cost: Cost,
        comes_back: bool,
    ) -> Result<(Taken, Turn), LimiterError> {
        let ask = Ask {
            id: work.turn.clone(),
            pools: target.pools.clone(),
            gates: target.gates.to_vec(),
            cost,
            horizon: HORIZON,
            lane: work.job.lane,
            shares: self.settings.lanes.shares(),
            comes_back,
            term: work.task.timeout + FARTHEST + SLACK,
        };
        let mut taken = Taken::new(self, &ask);
        let turn = self.limiter.take(&ask).await?;
        let granted = matches!(turn, Turn::Granted { .. });
        metrics::turn(granted);
        if !granted {
            taken.ask = None;
        }
        Ok((taken, turn))
    }

    /// Settles a turn. A charge that cannot be settled stays as it was made, on the safe side.
    pub(super) async fn settle_turn(&self, ask: &Ask, end: &End) {
        self.settle_quietly(ask, end).await;
        self.freed.notify_one();
    }

    /// The same, waking up nobody.
    async fn settle_quietly(&self, ask: &Ask, end: &End) {
        if let Err(fault) = self.limiter.settle(ask, end).await {
            metrics::store_error("settle_turn");
            tracing::warn!(%fault, "a turn could not be settled");
        }
    }

    /// Corrects limits by what the provider says of them, once it has said so often enough.
    pub(super) async fn heed(&self, target: &Target, told: &[Told]) {
        let believed: Vec<_> = told.iter().filter_map(|told| self.believed(target, told)).collect();
        for (pool, bucket, factor) in believed {
            self.correct(pool, &bucket, factor).await;
        }
    }

    /// The correction that follows from what a provider says, once it is to be believed. Where
    /// several limits count the same, it speaks of the narrowest.
    fn believed<'a>(&self, target: &'a Target, told: &Told) -> Option<(&'a Pool, Bucket, f64)> {
        let here = |bucket: &&Bucket| bucket.axis == told.axis && bucket.per == told.per;
        let counted =
            target.pools.iter().filter_map(|pool| Some((pool, pool.buckets.iter().find(here)?)));
        let (pool, bucket) = counted.min_by(|a, b| a.1.limit.total_cmp(&b.1.limit))?;
        let factor = told.limit.filter(|limit| *limit > 0.0)? / bucket.limit;
        let factor = match pool.learn {
            Learn::Off => return None,
            Learn::Down => factor.min(1.0),
            Learn::Both => factor,
        };
        let factor = self.learned.limit_told(&pool.id, bucket.key(), factor)?;
        Some((pool, *bucket, factor))
    }

    async fn correct(&self, pool: &Pool, bucket: &Bucket, factor: f64) {
        let (axis, per) = (bucket.axis.as_str(), bucket.per.as_str());
        metrics::learned(&pool.id, axis, per, factor);
        if (factor - 1.0).abs() > f64::EPSILON {
            let (configured, told) = (bucket.limit, bucket.limit * factor);
            tracing::warn!(
                pool = pool.id,
                axis,
                per,
                configured,
                told,
                "the provider tells another limit than configured; its figure is used from now on"
            );
        }
        if let Err(fault) = self.limiter.learn(pool, bucket, factor).await {
            metrics::store_error("learn");
            tracing::warn!(%fault, pool = pool.id, "a limit could not be corrected");
        }
    }

    /// Shuts gates for a while, for all replicas.
    pub(super) async fn shut(&self, gates: &[&str], time: Duration, reason: &str) {
        for gate in gates {
            metrics::held(gate);
            tracing::info!(gate, seconds = time.as_secs_f64(), reason, "shut");
            if let Err(fault) = self.limiter.shut(gate, time, reason).await {
                metrics::store_error("shut");
                tracing::warn!(%fault, gate, "a gate could not be shut");
            }
        }
    }
}

/// A turn that was taken, or asked for. It is settled however the call ends, also when its caller hangs up.
pub(super) struct Taken {
    engine: Arc<Engine>,
    ask: Option<Ask>,
    /// The call has departed: what was charged may be used.
    departed: bool,
}

impl Taken {
    /// A turn that was taken for this ask.
    fn new(engine: &Arc<Engine>, ask: &Ask) -> Self {
        Self { engine: Arc::clone(engine), ask: Some(ask.clone()), departed: false }
    }

    /// Gives it back at once, unused. Whoever would wake up might be who gives it back, and would
    /// do so again.
    pub(super) async fn give_back(mut self) {
        let Some(ask) = self.ask.clone() else { return };
        self.engine.settle_quietly(&ask, &End::used(Cost::default())).await;
        self.ask = None;
    }

    /// The call departs.
    pub(super) const fn departs(&mut self) {
        self.departed = true;
    }

    /// Settles, and goes on once it is settled.
    pub(super) async fn settled(&mut self, target: &Target, end: End) {
        let Some(ask) = self.ask.take() else { return };
        self.engine.settle_turn(&ask, &end).await;
        self.engine.heed(target, &end.told).await;
    }

    /// One that is settled already.
    pub(super) fn over(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::clone(engine), ask: None, departed: true }
    }

    /// Settles in the background: nobody waits for it.
    pub(super) fn settle(&mut self, target: &Arc<Target>, end: End) {
        let Some(ask) = self.ask.take() else { return };
        let (engine, target) = (Arc::clone(&self.engine), Arc::clone(target));
        self.engine.lifecycle.spawn(async move {
            engine.settle_turn(&ask, &end).await;
            engine.heed(&target, &end.told).await;
        });
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(ask) = self.ask.take() else { return };
        let engine = Arc::clone(&self.engine);
        let end = if self.departed { End::default() } else { End::used(Cost::default()) };
        self.engine.lifecycle.spawn(async move {
            engine.settle_turn(&ask, &end).await;
        });
    }
}
