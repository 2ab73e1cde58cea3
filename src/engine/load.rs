//! What waits in the store and how the limits stand, as looked up last.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::Engine;
use super::catalog::Target;
use crate::domain::job::{Lane, Line};
use crate::domain::limits::Pool;
use crate::limiter::{LimiterError, PoolLevel};
use crate::queue::Depths;

/// How the limits stand.
#[derive(Default)]
pub(super) struct Outlook {
    /// By pool.
    levels: HashMap<String, PoolLevel>,
    /// By gate, until when it is shut.
    shut: HashMap<String, DateTime<Utc>>,
    /// When that was so.
    at: DateTime<Utc>,
}

impl Outlook {
    /// When a step has room again: nothing is on hold and its buckets are drained.
    pub(super) fn open_at(&self, target: &Target) -> DateTime<Utc> {
        let shut = target.all_gates().filter_map(|gate| self.shut.get(&gate).copied()).max();
        let full = target.pools.iter().filter_map(|pool| self.levels.get(&pool.id));
        let drains = full.map(PoolLevel::full_for).max().unwrap_or_default();
        shut.max(Some(self.at + drains)).unwrap_or(self.at)
    }

    /// How a pool stands.
    pub(super) fn level(&self, pool: &Pool) -> Option<&PoolLevel> {
        self.levels.get(&pool.id)
    }
}

/// What waits, and how the limits stand.
#[derive(Default)]
pub(super) struct Load {
    depths: ArcSwap<Depths>,
    outlook: ArcSwap<Outlook>,
    put_back: AtomicUsize,
}

impl Load {
    pub(super) fn set(&self, depths: Depths) {
        self.depths.store(Arc::new(depths));
    }

    /// How the limits stood when they were looked up last.
    pub(super) fn outlook(&self) -> Arc<Outlook> {
        self.outlook.load_full()
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

    /// Items ready in lines for which this holds.
    pub(super) fn ready(&self, of: impl Fn(Lane, &str) -> bool) -> u64 {
        let depths = self.depths.load();
        let waits = |line: &Line| matches!(line, Line::Run { lane, route } if of(*lane, route));
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

impl Engine {
    /// Looks up how the limits stand. Done every second once the engine has started.
    pub async fn look_at_limits(&self) -> Result<(), LimiterError> {
        let targets: Vec<Arc<Target>> = self.catalog.targets().cloned().collect();
        self.load.outlook.store(Arc::new(self.outlook_of(&targets).await?));
        Ok(())
    }

    /// How the limits of these steps stand now.
    pub(super) async fn outlook_of(
        &self,
        targets: &[Arc<Target>],
    ) -> Result<Outlook, LimiterError> {
        let mut pools: Vec<Arc<Pool>> = targets.iter().flat_map(|t| t.pools.clone()).collect();
        pools.sort_by(|a, b| a.id.cmp(&b.id));
        pools.dedup_by(|a, b| a.id == b.id);
        let gates: Vec<String> = targets.iter().flat_map(|target| target.all_gates()).collect();
        let shut = self.limiter.shut_gates(&gates).await?;
        let levels = self.limiter.levels(&pools).await?;
        let at = self.clock.now();
        let until = |left: Duration| at + left.min(Duration::from_secs(30_000_000));
        Ok(Outlook {
            levels: levels.into_iter().map(|level| (level.id.clone(), level)).collect(),
            shut: shut.into_iter().map(|gate| (gate.gate, until(gate.left))).collect(),
            at,
        })
    }
}

/// How much of a step's bursts and places is free, in tenths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of ten, and a cast keeps to what fits"
)]
pub(super) fn free_tenths(target: &Target, outlook: &Outlook) -> u64 {
    let of_pool = |pool: &Arc<Pool>| {
        let Some(level) = outlook.level(pool) else { return 1.0 };
        let buckets =
            level.buckets.iter().map(|bucket| 1.0 - bucket.units / bucket.burst.max(1e-9));
        let running = f64::from(level.running);
        let places = pool.concurrency.map(|places| 1.0 - running / f64::from(places.max(1)));
        buckets.chain(places).fold(1.0, f64::min)
    };
    (target.pools.iter().map(of_pool).fold(1.0, f64::min).max(0.0) * 10.0) as u64
}
