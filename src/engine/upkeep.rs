//! Everything the passing of time does to jobs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Engine;
use crate::domain::id::JobId;
use crate::domain::result::{JobError, Status};
use crate::queue::{Ended, Ending, MOST_LOSSES, QueueError, Swept};
use crate::telemetry::metrics;

/// How often to sweep. The first tries of a callback are a tenth of a second apart.
const SWEEP: Duration = Duration::from_millis(50);

/// How often to count what waits.
const COUNT: Duration = Duration::from_secs(1);

/// The most items of each kind moved in one sweep.
const MOST: usize = 200;

/// Starts the loops.
pub(super) fn start(engine: &Arc<Engine>) {
    let sweeper = Arc::clone(engine);
    engine.lifecycle.spawn(async move {
        let mut failing = false;
        while sweeper.lifecycle.sleep(if failing { COUNT } else { SWEEP }).await {
            // A full sweep means that more is waiting to be swept.
            failing = loop {
                match sweeper.sweep().await {
                    Ok(swept) if swept.due >= MOST || swept.purged >= MOST => {}
                    Ok(_) => break false,
                    Err(fault) => {
                        metrics::store_error("sweep");
                        tracing::warn!(%fault, "the sweep failed");
                        break true;
                    }
                }
            };
        }
    });
    let counter = Arc::clone(engine);
    engine.lifecycle.spawn(async move {
        loop {
            counter.count().await;
            if let Err(fault) = counter.look_at_limits().await {
                metrics::store_error("levels");
                tracing::warn!(%fault, "the routes could not be looked at");
            }
            if !counter.lifecycle.sleep(COUNT).await {
                return;
            }
        }
    });
}

impl Engine {
    /// One sweep, with what it leaves to us.
    async fn sweep(&self) -> Result<Swept, QueueError> {
        let swept = self.queue.sweep(MOST).await?;
        let lost = swept.freed + swept.lost.len();
        if lost > 0 {
            metrics::leases_lost(u64::try_from(lost).unwrap_or(u64::MAX));
            tracing::warn!(count = lost, "jobs whose worker vanished");
        }
        let lost = swept.lost.iter().map(|id| (id, Status::Failed, buried()));
        let expired = swept.expired.iter().map(|id| (id, Status::Expired, expired()));
        for (id, status, error) in lost.chain(expired) {
            // One that cannot be read must not keep the others from their end.
            if let Err(fault) = self.end_by_id(id, status, error).await {
                metrics::store_error("end");
                tracing::warn!(%fault, job.id = %id, "a job could not be ended");
            }
        }
        Ok(swept)
    }

    async fn end_by_id(
        &self,
        id: &JobId,
        status: Status,
        error: JobError,
    ) -> Result<Ended, QueueError> {
        match self.queue.find(id).await? {
            Some(record) => self.end(&record.job, status, error).await,
            None => self.queue.end(id, gone(status)).await,
        }
    }

    /// Counts what waits, for metrics, estimates and backpressure.
    async fn count(&self) {
        match self.queue.depths().await {
            Ok(depths) => {
                for (line, count) in &depths.ready {
                    metrics::line_ready(&line.name(), *count);
                }
                metrics::store(
                    depths.leased,
                    depths.delayed,
                    depths.dead,
                    depths.oldest_due,
                    depths.memory,
                );
                self.load.set(depths);
            }
            Err(fault) => {
                metrics::store_error("depths");
                tracing::warn!(%fault, "the store could not be counted");
            }
        }
    }
}

/// Its `deliver_by` passed first.
pub(super) fn expired() -> JobError {
    JobError {
        code: "expired".to_owned(),
        message: "deliver_by passed before the job could be run.".to_owned(),
        retryable: true,
        hint: Some("Allow more time, or raise the limits of the route's accounts.".to_owned()),
    }
}

/// The end of a job the store has lost: it is forgotten.
fn gone(status: Status) -> Ending {
    let (result, keep) = (Bytes::new(), Duration::ZERO);
    Ending { result, status, delivery: None, events: Vec::new(), group: None, keep }
}

fn buried() -> JobError {
    JobError {
        code: "worker_lost".to_owned(),
        message: format!("The worker running this job vanished {MOST_LOSSES} times."),
        retryable: true,
        hint: Some(
            "The job may bring its worker down; look at the logs, then replay it.".to_owned(),
        ),
    }
}
