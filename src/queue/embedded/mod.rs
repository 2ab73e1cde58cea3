//! The store for a single machine with nothing beside it: one file, one process.
//!
//! What is in the file (redb, a copy-on-write B-tree with atomic commits), by table:
//!
//! | table | holds |
//! |---|---|
//! | `facts` | the layout's number; how many jobs are open, how many callbacks dead; of each line how many flows have something ready, and whether the item leased last was pulled forward |
//! | `jobs`, `groups`, `results` | by id, the bytes as they came |
//! | `entries` | by id, where a job, group or event stands: its stage, place, epoch, counts |
//! | `attempts` | by id, the last attempts to post its result; by `<job>/events`, those to post its events |
//! | `index` | (caller, id) for pages |
//! | `lines` | by line, its virtual time and how many are ready |
//! | `ready`, `counts` | (line, flow, id), since when; (line, flow), how many |
//! | `active`, `idle`, `tags` | the flows of a line in order of their tags (see `line`) |
//! | `flows` | by workflow with open jobs: how many are open, how many run, its weight, how many may run |
//! | `aside` | (workflow, line) it waits aside of because it runs all it may |
//! | `hurried`, `hurried_of` | (line, `deliver_by`, id) and (line, workflow, `deliver_by`, id) of ready jobs |
//! | `pressing`, `pressed` | the nearest of these of each workflow that takes part in a line |
//! | `alike` | (line, workflow, prefix, id) of ready jobs whose prompts have one |
//! | `warm` | (workflow, line): the prefix that was answered last, until when it is cached, how many went before the oldest in a row |
//! | `waiting`, `delayed`, `held`, `over`, `deadlines` | (moment, id): ready since, due at, leased until, kept until, wanted by |
//! | `lost` | jobs lost so often that they are to be ended |
//! | `keys`, `key_ends` | idempotency keys, and when they are forgotten |
//!
//! Every item is in at most one of `ready`, `delayed`, `held`, `lost` and `over`; its entry says
//! in which. One thread writes (see `writer`). A push, an end and a replay are on disk before
//! they are answered; a lease, its renewal and what a sweep moves are so within a moment, for
//! forgetting them repeats work and loses none.

mod end;
mod event;
mod fault;
mod hold;
mod line;
mod look;
mod place;
mod push;
mod share;
mod store;
mod sweep;
mod tables;
mod together;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use redb::ReadTransaction;
use tokio::sync::watch;

use self::fault::Fault;
use self::hold::Taken;
use self::push::Parcel;
use self::store::Store;
use self::sweep::Watch;
use self::tables::Tables;
use self::writer::Writer;
use super::hints::Hints;
use super::{
    Batch, Dedup, Depths, Durability, Ended, Ending, Filter, GroupRecord, Lease, LeaseToken, Page,
    Pushed, Queue, QueueError, Record, Replay, Replayed, Settled, Swept, Verdict,
};
use crate::clock::SharedClock;
use crate::domain::id::{GroupId, JobId};
use crate::domain::job::{Line, Owner};

/// A durable store of jobs in a folder of its own.
pub struct EmbeddedQueue {
    /// Ends, with all it was asked, before the store is closed.
    writer: Writer,
    store: Arc<Store>,
    clock: SharedClock,
    hints: Arc<Hints>,
    watch: Arc<Mutex<Watch>>,
}

impl EmbeddedQueue {
    /// Opens the store in this folder. One process at a time has it; what an earlier one held
    /// when it ended goes back to its line and counts as lost once.
    pub fn open(folder: &Path, clock: SharedClock) -> Result<Self, QueueError> {
        let store = Arc::new(Store::open(folder).map_err(|fault| fault.told())?);
        let freed = store.free_all(moment(clock.now())).map_err(|fault| fault.told())?;
        if freed > 0 {
            tracing::info!(freed, "jobs that were held when the store was left are back in line");
        }
        let hints = Arc::new(Hints::default());
        let writer = Writer::start(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&hints))?;
        Ok(Self { writer, store, clock, hints, watch: Arc::default() })
    }

    /// A store in memory, for rehearsals in virtual time: nothing is written, no thread is started,
    /// and every answer is there at once.
    pub fn in_memory(clock: SharedClock) -> Result<Self, QueueError> {
        let store = Arc::new(Store::in_memory().map_err(|fault| fault.told())?);
        let hints = Arc::new(Hints::default());
        let writer = Writer::inline(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&hints));
        Ok(Self { writer, store, clock, hints, watch: Arc::default() })
    }

    /// Looks at what was committed last, on a thread that may wait for the disk.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, QueueError> {
        if self.writer.is_inline() {
            return self.store.read(look).map_err(|fault| fault.told());
        }
        let store = Arc::clone(&self.store);
        let looked = tokio::task::spawn_blocking(move || store.read(look)).await;
        let looked = looked.map_err(|fault| QueueError::Broken(fault.to_string()))?;
        looked.map_err(|fault| fault.told())
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn push(&self, batch: Batch) -> Result<Pushed, QueueError> {
        let parcel = Parcel::pack(&batch).map_err(|fault| fault.told())?;
        self.writer.ask(move |tables| tables.push(&parcel)).await
    }

    async fn recall(&self, dedup: &Dedup) -> Result<Option<Pushed>, QueueError> {
        let dedup = dedup.clone();
        self.writer.ask(move |tables| tables.find_key(&dedup)).await
    }

    async fn lease_past(
        &self,
        line: &Line,
        max: usize,
        term: Duration,
        past: &[Owner],
    ) -> Result<Vec<Lease>, QueueError> {
        let (line, past) = (line.name(), past.to_vec());
        let lease = move |tables: &mut Tables<'_>| tables.lease((&line, &past), max, term);
        let taken = self.writer.ask(lease).await?;
        taken.into_iter().map(|taken| Taken::unpack(taken).map_err(|fault| fault.told())).collect()
    }

    async fn renew(
        &self,
        leases: &[LeaseToken],
        term: Duration,
    ) -> Result<Vec<LeaseToken>, QueueError> {
        let leases = leases.to_vec();
        self.writer.ask(move |tables| tables.renew(&leases, term)).await
    }

    async fn settle(&self, lease: &LeaseToken, verdict: Verdict) -> Result<Settled, QueueError> {
        let lease = lease.clone();
        self.writer.ask(move |tables| tables.settle(&lease, &verdict)).await
    }

    async fn end(&self, id: &JobId, ending: Ending) -> Result<Ended, QueueError> {
        let id = id.clone();
        self.writer.ask(move |tables| tables.end(&id, &ending)).await
    }

    async fn replay(&self, id: &JobId, what: Replay) -> Result<Replayed, QueueError> {
        let id = id.clone();
        self.writer.ask(move |tables| tables.replay(&id, &what)).await
    }

    async fn replay_group(&self, id: &GroupId) -> Result<bool, QueueError> {
        let id = id.clone();
        self.writer.ask(move |tables| tables.replay_group(&id)).await
    }

    async fn sweep(&self, max: usize) -> Result<Swept, QueueError> {
        let watch = Arc::clone(&self.watch);
        let sweep = move |tables: &mut Tables<'_>| {
            tables.sweep(max, &mut watch.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.writer.ask(sweep).await
    }

    async fn find(&self, id: &JobId) -> Result<Option<Record>, QueueError> {
        Ok(self.find_all(std::slice::from_ref(id)).await?.pop())
    }

    async fn find_all(&self, ids: &[JobId]) -> Result<Vec<Record>, QueueError> {
        let ids = ids.to_vec();
        self.look(move |transaction| look::find_all(transaction, &ids)).await
    }

    async fn find_group(&self, id: &GroupId) -> Result<Option<GroupRecord>, QueueError> {
        let id = id.clone();
        self.look(move |transaction| look::find_group(transaction, &id)).await
    }

    async fn page(&self, filter: &Filter) -> Result<Page, QueueError> {
        let filter = filter.clone();
        self.look(move |transaction| look::page(transaction, &filter)).await
    }

    async fn due_before(&self, line: &Line, moment: DateTime<Utc>) -> Result<u64, QueueError> {
        let (line, moment) = (line.name(), self::moment(moment));
        self.look(move |transaction| look::due_before(transaction, &line, moment)).await
    }

    async fn depths(&self) -> Result<Depths, QueueError> {
        let now = moment(self.clock.now());
        self.look(move |transaction| look::depths(transaction, now)).await
    }

    fn durability(&self) -> Durability {
        Durability::Fsynced
    }

    fn hints(&self, line: &Line) -> watch::Receiver<u64> {
        self.hints.of(line)
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.writer.ask(|_| Ok(())).await
    }
}

/// A moment as it is stored: microseconds since 1970, and never before.
fn moment(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp_micros()).unwrap_or_default()
}
