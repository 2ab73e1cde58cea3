//! A job's end: its result, and the callback that follows in the same step.

use std::time::Duration;

use bytes::Bytes;

use super::Engine;
use super::next::Answer;
use super::run::Run;
use super::work::Work;
use crate::domain::job::{Callback, Job};
use crate::domain::result::{JobError, JobResult, Status};
use crate::queue::{
    Delivery, Ended, Ending, GroupDelivery, LeaseToken, QueueError, Settled, Verdict,
};
use crate::telemetry::metrics;

/// How long to go on trying to record what cannot be recorded. Past a lease the job may run again
/// elsewhere, but a late record still counts as long as it has not.
const RECORD_FOR: Duration = Duration::from_secs(600);

impl Engine {
    /// Records an answer.
    pub(super) async fn finish_answered(&self, run: &Run, answer: Answer) {
        let result = self.result_with(&run.work, answer);
        self.record(run, result).await;
    }

    /// The result of work that was answered.
    pub(super) fn result_with(&self, work: &Work, answer: Answer) -> JobResult {
        if answer.fell_back {
            metrics::fell_back(self.catalog.counted_as(&work.route.name));
        }
        let text = match &answer.data {
            Some(data) => work.task.text_of(data),
            None => answer.completion.text.clone(),
        };
        let model = if answer.completion.model.is_empty() {
            answer.step.model
        } else {
            answer.completion.model
        };
        let result = JobResult {
            text: Some(text),
            data: answer.data,
            finish: Some(answer.completion.finish),
            tool_calls: answer.completion.tool_calls,
            images: answer.completion.images,
            provider: Some(answer.step.provider),
            model: Some(model),
            fell_back: answer.fell_back,
            ..self.receipt(work, Status::Succeeded)
        };
        result.ended(Status::Succeeded, self.clock.now(), None)
    }

    /// Records that there is no answer.
    pub(super) async fn finish_without(&self, run: &Run, status: Status, error: JobError) {
        let result = self.result_without(&run.work, status, error);
        self.record(run, result).await;
    }

    /// The result of work that has no answer.
    pub(super) fn result_without(&self, work: &Work, status: Status, error: JobError) -> JobResult {
        let text = work.progress.unfit.as_ref().map(|unfit| unfit.text.clone());
        let result = JobResult { text, ..self.receipt(work, status) };
        result.ended(status, self.clock.now(), Some(error))
    }

    /// The result's part that tells what the job has been through.
    fn receipt(&self, work: &Work, status: Status) -> JobResult {
        let mut result = JobResult::open(&work.job, status);
        let progress = &work.progress;
        result.route.clone_from(&work.route.name);
        result.escalated = progress.escalated;
        result.attempts.clone_from(&progress.attempts);
        result.usage = progress.usage;
        result.cost_usd = (!progress.unknown_cost).then_some(progress.cost_usd);
        result.timing.queued_ms = progress.queued_ms;
        let total = crate::domain::result::millis_between(work.job.created_at, self.clock.now());
        result.timing.running_ms = progress.queued_ms.map(|queued| total.saturating_sub(queued));
        result
    }

    async fn record(&self, run: &Run, result: JobResult) {
        let ending = self.ending(&run.work.job, &result).await;
        if self.settle_surely(&run.lease, Verdict::Finish(ending)).await == Some(Settled::Done) {
            self.told(&run.work.job, &result);
        }
    }

    /// Ends a job whoever holds it: to cancel it, to let it expire, to bury it.
    pub(super) async fn end(
        &self,
        job: &Job,
        status: Status,
        error: JobError,
    ) -> Result<Ended, QueueError> {
        let result = JobResult::open(job, status).ended(status, self.clock.now(), Some(error));
        let ending = self.ending(job, &result).await;
        let ended = self.queue.end(&job.id, ending).await?;
        if ended == Ended::Now {
            self.held.ended(job.id.as_str());
            self.told(job, &result);
        }
        Ok(ended)
    }

    pub(super) fn told(&self, job: &Job, result: &JobResult) {
        let total = Duration::from_millis(result.timing.total_ms.unwrap_or_default());
        metrics::ended(&job.task, result.status.as_str(), job.lane.as_str(), total);
        tracing::info!(
            job.id = %job.id, task.name = job.task, status = result.status.as_str(),
            duration_ms = result.timing.total_ms, "job ended"
        );
        self.waiters.wake(&job.id);
    }

    /// What is recorded when a job ends with this result.
    async fn ending(&self, job: &Job, result: &JobResult) -> Ending {
        let group = match &job.group {
            Some(id) => Some(GroupDelivery {
                id: id.clone(),
                delivery: self.group_callback(id).await.map(|to| due(&job.caller, &to)),
            }),
            None => None,
        };
        Ending {
            result: serde_json::to_vec(result).map_or_else(|_| Bytes::new(), Bytes::from),
            status: result.status,
            delivery: job.callback.as_ref().map(|to| due(&job.caller, to)),
            events: self.events(job, result.status),
            group,
            keep: self.settings.retention.0,
        }
    }

    /// The callback of a group that exists; asked for until the store answers.
    async fn group_callback(&self, id: &crate::domain::id::GroupId) -> Option<Callback> {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.queue.find_group(id).await {
                Ok(found) => return found.and_then(|record| record.group.callback),
                Err(fault) => {
                    metrics::store_error("find_group");
                    tracing::warn!(%fault, group.id = %id, "a group could not be read");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    /// Ends a lease, through outages of the store. `None` when the store did not come back.
    pub(super) async fn settle_surely(
        &self,
        lease: &LeaseToken,
        verdict: Verdict,
    ) -> Option<Settled> {
        let deadline = tokio::time::Instant::now() + RECORD_FOR;
        let mut pause = Duration::from_millis(50);
        loop {
            match self.queue.settle(lease, verdict.clone()).await {
                Ok(settled) => {
                    if settled == Settled::Stale {
                        tracing::warn!(
                            id = lease.id,
                            "came too late: another holds it or it ended"
                        );
                    }
                    return Some(settled);
                }
                Err(fault) => {
                    metrics::store_error("settle");
                    tracing::warn!(%fault, id = lease.id, "could not be settled, trying again");
                    if tokio::time::Instant::now() >= deadline {
                        return None;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }
}

/// A callback that is due.
pub(super) fn due(caller: &str, callback: &Callback) -> Delivery {
    Delivery {
        flow: callback.flow(caller),
        after: callback.min_delay.map(|delay| delay.0).unwrap_or_default(),
    }
}
