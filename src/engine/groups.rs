//! Groups: many jobs in one request, one callback when the last of them has ended.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::Engine;
use super::view::stopped;
use crate::domain::id::GroupId;
use crate::domain::result::{JobResult, Status};
use crate::queue::{GroupRecord, QueueError, Record};

/// A group as its caller sees it; also the data of its callback.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GroupResult {
    /// The group.
    pub id: String,
    /// Always `group`.
    pub object: String,
    /// `running`, or `finished` once every job has ended.
    pub status: GroupStatus,
    /// Whether every job succeeded.
    pub ok: bool,
    /// How many jobs it has, and how many of them ended how.
    pub counts: Counts,
    /// The jobs' results, in the order the jobs were given.
    pub results: Vec<JobResult>,
    /// The caller's own data, unchanged.
    #[schemars(with = "Option<Value>")]
    pub metadata: Option<Box<RawValue>>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its last job ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupStatus {
    /// Some job has not ended.
    Running,
    /// Every job has ended.
    Finished,
}

/// How many of a group's jobs ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Counts {
    /// All jobs.
    pub total: usize,
    /// Not ended yet.
    pub open: usize,
    /// Ended with an answer.
    pub succeeded: usize,
    /// Ended without one.
    pub failed: usize,
    /// Withdrawn.
    pub cancelled: usize,
    /// Expired.
    pub expired: usize,
}

impl Engine {
    /// A group with its jobs' results.
    pub async fn group_result(&self, id: &GroupId) -> Result<Option<GroupResult>, QueueError> {
        match self.queue.find_group(id).await? {
            Some(record) => Ok(Some(self.result_of(record).await?)),
            None => Ok(None),
        }
    }

    /// The same for a group that is at hand.
    pub async fn result_of(&self, record: GroupRecord) -> Result<GroupResult, QueueError> {
        let jobs = self.queue.find_all(&record.group.jobs).await?;
        let results: Vec<JobResult> = jobs.into_iter().map(Record::into_result).collect();
        Ok(group_result(record, results))
    }

    /// Withdraws a group's jobs that have not ended.
    pub async fn cancel_group(&self, group: &GroupRecord) -> Result<(), QueueError> {
        for job in self.queue.find_all(&group.group.jobs).await? {
            if !job.stage.has_ended() {
                self.end(&job.job, Status::Cancelled, stopped()).await?;
            }
        }
        Ok(())
    }

    /// A caller's group.
    pub async fn find_group(
        &self,
        caller: &str,
        id: &GroupId,
    ) -> Result<Option<GroupRecord>, QueueError> {
        Ok(self.queue.find_group(id).await?.filter(|record| record.group.caller == caller))
    }
}

fn group_result(record: GroupRecord, results: Vec<JobResult>) -> GroupResult {
    let mut counts = Counts { total: record.group.jobs.len(), ..Counts::default() };
    for result in &results {
        *match result.status {
            Status::Queued | Status::Running => &mut counts.open,
            Status::Succeeded => &mut counts.succeeded,
            Status::Failed => &mut counts.failed,
            Status::Cancelled => &mut counts.cancelled,
            Status::Expired => &mut counts.expired,
        } += 1;
    }
    let finished = counts.open == 0;
    GroupResult {
        id: record.group.id.to_string(),
        object: "group".to_owned(),
        status: if finished { GroupStatus::Finished } else { GroupStatus::Running },
        ok: counts.succeeded == counts.total,
        counts,
        finished_at: results.iter().filter_map(|r| r.finished_at).max().filter(|_| finished),
        results,
        metadata: record.group.metadata,
        created_at: record.group.created_at,
    }
}
