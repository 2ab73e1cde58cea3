//! What a queue shows of jobs and groups.

use crate::domain::id::JobId;
use crate::domain::job::{Group, Job, Stage};
use crate::domain::result::{DeliveryAttempt, JobResult, Status};

/// A job as it stands.
#[derive(Clone, Debug)]
pub struct Record {
    /// The job.
    pub job: Job,
    /// Where it stands.
    pub stage: Stage,
    /// Its result, once it has one.
    pub result: Option<JobResult>,
    /// The last attempts to post its result, the latest last.
    pub deliveries: Vec<DeliveryAttempt>,
    /// The last attempts to post its events, the latest last.
    pub events: Vec<DeliveryAttempt>,
}

impl Record {
    /// Where the job stands, for its caller.
    pub fn status(&self) -> Status {
        match (&self.result, self.stage) {
            (Some(result), _) => result.status,
            (None, Stage::Running) => Status::Running,
            (None, _) => Status::Queued,
        }
    }

    /// The one shape, whether or not the job has ended.
    pub fn into_result(self) -> JobResult {
        let status = self.status();
        self.result.unwrap_or_else(|| JobResult::open(&self.job, status))
    }
}

/// A group as it stands.
#[derive(Clone, Debug)]
pub struct GroupRecord {
    /// The group.
    pub group: Group,
    /// Jobs that have not ended; stays zero once the last has.
    pub left: u64,
    /// Where its callback stands: `Queued` while jobs are left.
    pub stage: Stage,
    /// The last attempts to post its results, the latest last.
    pub deliveries: Vec<DeliveryAttempt>,
}

/// Which of a caller's jobs to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Whose jobs.
    pub caller: String,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only of this workflow.
    pub workflow: Option<String>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only older than this job.
    pub after: Option<JobId>,
    /// The most to list.
    pub limit: usize,
}

impl Filter {
    /// Whether a job belongs on the page.
    pub fn fits(&self, record: &Record) -> bool {
        record.job.caller == self.caller
            && self.status.is_none_or(|status| status == record.status())
            && self.workflow.as_ref().is_none_or(|name| Some(name) == record.job.workflow.as_ref())
            && self.task.as_ref().is_none_or(|name| *name == record.job.task)
    }
}

/// How much of jobs and results a page is made from; it may go beyond by one job.
pub const PAGE_BYTES: usize = 8 << 20;

/// One page of jobs.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The jobs, the newest first. There may be fewer than asked for although more follow: a
    /// page looks through a bounded number of jobs and bytes.
    pub jobs: Vec<Record>,
    /// Where the next page begins; `None` when this is the last.
    pub next: Option<JobId>,
}
