//! What a caller may ask about its jobs, and do with them. A caller sees only its own.

use super::Engine;
use super::finish::due;
use crate::domain::id::JobId;
use crate::domain::result::{JobError, Status};
use crate::queue::{Ended, QueueError, Record, Replay, Replayed};

/// What came of a replay a caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The job runs again.
    Runs,
    /// Its result is posted again.
    Posts,
    /// It has not ended yet.
    NotEnded,
    /// Its result cannot be posted: it has no callback.
    NoCallback,
    /// The caller has no such job.
    Unknown,
}

/// What to do again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Run the job.
    Run,
    /// Post its result.
    Post,
}

impl Engine {
    /// A caller's job.
    pub async fn find(&self, caller: &str, id: &JobId) -> Result<Option<Record>, QueueError> {
        Ok(self.queue.find(id).await?.filter(|record| record.job.caller == caller))
    }

    /// Withdraws a caller's job: the answer is the job as it stands then.
    pub async fn cancel(
        &self,
        caller: &str,
        id: &JobId,
    ) -> Result<Option<(Ended, Record)>, QueueError> {
        let Some(record) = self.find(caller, id).await? else {
            return Ok(None);
        };
        let ended = self.end(&record.job, Status::Cancelled, stopped()).await?;
        Ok(self.queue.find(id).await?.map(|record| (ended, record)))
    }

    /// Does an ended job again: what did not succeed is run, what did is posted, unless the
    /// caller says otherwise.
    pub async fn replay(
        &self,
        caller: &str,
        id: &JobId,
        what: Option<What>,
    ) -> Result<Again, QueueError> {
        let Some(record) = self.find(caller, id).await? else {
            return Ok(Again::Unknown);
        };
        let succeeded = record.status() == Status::Succeeded;
        let what = what.unwrap_or(if succeeded { What::Post } else { What::Run });
        let (replay, done) = match (what, &record.job.callback) {
            (What::Run, _) => (Replay::Run, Again::Runs),
            (What::Post, Some(callback)) => (Replay::Post(due(caller, callback)), Again::Posts),
            (What::Post, None) => return Ok(Again::NoCallback),
        };
        Ok(match self.queue.replay(id, replay).await? {
            Replayed::Done => done,
            Replayed::NotEnded => Again::NotEnded,
            Replayed::Unknown => Again::Unknown,
        })
    }
}

/// Its caller withdrew it.
pub(super) fn stopped() -> JobError {
    JobError {
        code: "cancelled".to_owned(),
        message: "The job was cancelled by its caller.".to_owned(),
        retryable: true,
        hint: Some("Replay it to run it after all.".to_owned()),
    }
}
