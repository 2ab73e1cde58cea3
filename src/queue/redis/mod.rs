//! The queue on Redis: strings, hashes and sorted sets moved by short Lua scripts.
//!
//! Every key begins with the cell, `<prefix>:{0}:`, so that all of them share one slot. Nothing
//! has to be there beforehand; after a `FLUSHALL` the service goes on with an empty queue.
//!
//! What belongs to one job or group:
//!
//! | key | type | holds |
//! |---|---|---|
//! | `j:<job>` | string | the job as JSON; written once |
//! | `g:<group>` | string | the group as JSON; written once |
//! | `gl:<group>` | string | jobs of the group that have not ended; gone once all have |
//! | `m:<id>` | hash | its state, made at the first lease: before that a job is queued |
//! | `r:<job>` | string | its result as JSON |
//! | `a:<id>` | list | the latest delivery attempts as JSON |
//! | `e:<job>` | set | its events that are neither taken nor given up |
//! | `v:<job>` | list | the latest attempts to post its events as JSON |
//!
//! The fields of `m:` are `s` stage, `n` line and `f` flow it belongs to now, `d` since when it has
//! been ready there, `e` epoch, `l` losses, `t` tries, `r` replays, `b` what it begins with
//! (`digest:ms`), `k` how long it is kept once nothing is left to do and, once it has ended, `g` its group and `v` whether it had events; of an event (which has nothing but its
//! `m:`, and that until it is done) also `j` its job and `u` its subscription. The epoch grows whenever the item
//! is leased, settled, ended or replayed, but not when a sweep frees it: its last holder may still
//! settle.
//!
//! Where items are:
//!
//! | key | type | holds |
//! |---|---|---|
//! | `q:<line>:<flow>` | sorted set | ready items, all with score 0: they sort by id, so by age, and one put back returns to its place |
//! | `b:<line>:<flow>:<digest>` | sorted set | those of them whose prompts have this prefix, in the same order |
//! | `c:<line>:<flow>` | string | `<digest>:<row>`: the prefix that was answered last, and how many went before the oldest in a row; expires when it is cold |
//! | `f:<line>` | sorted set | flows that take part (they have ready items and may run them), by start tag |
//! | `p:<line>` | sorted set | flows that take part no longer, by the tag they stopped at; an empty name: where the line stood when all of them waited aside |
//! | `w:<flow>` | set | lines a flow waits aside of: it has ready items there and runs all it may |
//! | `o` | hash | open jobs of each flow; with an `r` behind its name, those of them that run |
//! | `shares` | hash | `weight:max_running` of flows with open jobs that said so; with a `p` behind its name: something of it was cached, so that `c:` is worth a look |
//! | `h:<line>` | sorted set | ready jobs with a `deliver_by`, by it; an empty name: the one leased last was pulled forward |
//! | `d:<line>:<flow>` | sorted set | the same for each flow |
//! | `u:<line>` | sorted set | flows that take part and have such jobs, by the nearest `deliver_by` |
//! | `n` | hash | ready items of each line; `#<line>`: flows that wait aside of it; `open`: jobs that have not ended |
//! | `lease` | sorted set | items in somebody's hands, by when the lease ends |
//! | `due` | sorted set | items that wait for their time, by that time |
//! | `lost` | sorted set | jobs whose holders vanished too often, by when that was last told |
//! | `deadlines` | sorted set | jobs that have not ended, by `deliver_by` |
//! | `gc` | sorted set | jobs and groups with nothing left to do, by when they are purged |
//! | `dead` | sorted set | those whose callback was given up, by when |
//! | `x:<caller>` | sorted set | a caller's jobs, all with score 0, for pages |
//! | `i:<key>` | string | `<fingerprint>:<id>` of an idempotency key; expires when it is forgotten |
//! | `swept` | string | `<ms>:<ms>`: the last sweep but for half a second, and until when leases that ran out are left to their holders |
//! | `sync` | string | what a [`fence`] writes |
//! | `hints` | channel | names of lines that were empty and are no longer; the scripts tell all replicas |
//!
//! Start-time fair queueing: serving one item moves its flow's tag on by one part in its weight, the
//! smallest tag is served first, and a flow that comes back starts where the line stands (its smallest tag), or
//! where it stopped when that is further on, so that always having one job at a time is no way to
//! overtake. An empty line begins anew.
//!
//! A flow of which as many jobs run as may waits aside: it is taken out of `f:` like one that ran
//! empty, and joins again, as one that comes back, when a lease on one of its jobs ends, however
//! that is (`released` in `move.lua`), or when a push says that it may run more. A flow may take part
//! in one line and reach its limit in another; it is put aside when its turn comes. So each lease
//! puts a flow aside of each line once at most, and flows at their limit cost the others nothing.
//!
//! A job whose `deliver_by` is near is pulled forward with its flow's tag moving on as ever. A flow
//! that is too far ahead that way is taken out of `u:` until its own turn has come.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use self::fence::Fence;
use self::info::Level;
use self::push::Pushes;
use self::scripts::Scripts;
use super::hints::Hints;
use super::settings::Settings;
use super::{
    Batch, Dedup, Depths, Durability, Ended, Ending, Filter, GroupRecord, Lease, LeaseToken, Page,
    Pushed, Queue, QueueError, Record, Replay, Replayed, Settled, Swept, Verdict,
};
use crate::domain::id::{GroupId, JobId};
use crate::domain::job::{Line, Owner};
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::lifecycle::Lifecycle;

mod codec;
mod fence;
mod info;
mod listen;
mod push;
mod read;
mod scripts;
mod write;

/// The queue on Redis.
pub struct RedisQueue {
    keyspace: Keyspace,
    scripts: Scripts,
    pushes: Arc<Pushes>,
    level: Arc<Level>,
    fence: Option<Fence>,
    hints: Arc<Hints>,
}

impl RedisQueue {
    /// Looks whether this Redis can be trusted with jobs, and loads the scripts.
    pub async fn open(
        keyspace: Keyspace,
        settings: &Settings,
        lifecycle: &Lifecycle,
    ) -> Result<Self, QueueError> {
        let server = info::Server::ask(&keyspace).await?;
        server.check(settings)?;
        let scripts = Scripts::new(server.knows_flags());
        scripts.load(&keyspace).await?;
        let level = Arc::new(Level::new(server.durability()));
        level.watch(&keyspace, lifecycle);
        let fence =
            server.beyond(settings).map(|wanted| Fence::start(&keyspace, wanted, lifecycle));
        let hints = listen::start(&keyspace, lifecycle);
        let pushes = Arc::new(Pushes::new(&keyspace, &scripts, lifecycle));
        Ok(Self { keyspace, scripts, pushes, level, fence, hints })
    }
}

impl From<KeyspaceError> for QueueError {
    fn from(error: KeyspaceError) -> Self {
        match error {
            KeyspaceError::Unreachable(why) => Self::Unavailable(why),
            KeyspaceError::OutOfMemory => Self::Full,
            KeyspaceError::Refused(why) => Self::Broken(why),
        }
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, batch: Batch) -> Result<Pushed, QueueError> {
        self.store(batch).await
    }

    async fn recall(&self, dedup: &Dedup) -> Result<Option<Pushed>, QueueError> {
        self.known(dedup).await
    }

    async fn lease_past(
        &self,
        line: &Line,
        max: usize,
        term: Duration,
        past: &[Owner],
    ) -> Result<Vec<Lease>, QueueError> {
        self.hand_out(line, max, term, past).await
    }

    async fn renew(
        &self,
        leases: &[LeaseToken],
        term: Duration,
    ) -> Result<Vec<LeaseToken>, QueueError> {
        self.keep(leases, term).await
    }

    async fn settle(&self, lease: &LeaseToken, verdict: Verdict) -> Result<Settled, QueueError> {
        self.conclude(lease, verdict).await
    }

    async fn end(&self, id: &JobId, ending: Ending) -> Result<Ended, QueueError> {
        self.finish(id, &ending).await
    }

    async fn replay(&self, id: &JobId, what: Replay) -> Result<Replayed, QueueError> {
        self.bring_back(id, &what).await
    }

    async fn replay_group(&self, id: &GroupId) -> Result<bool, QueueError> {
        self.bring_group_back(id).await
    }

    async fn sweep(&self, max: usize) -> Result<Swept, QueueError> {
        self.tidy(max).await
    }

    async fn find(&self, id: &JobId) -> Result<Option<Record>, QueueError> {
        Ok(self.records(std::slice::from_ref(id)).await?.pop())
    }

    async fn find_all(&self, ids: &[JobId]) -> Result<Vec<Record>, QueueError> {
        self.records(ids).await
    }

    async fn find_group(&self, id: &GroupId) -> Result<Option<GroupRecord>, QueueError> {
        self.group(id).await
    }

    async fn page(&self, filter: &Filter) -> Result<Page, QueueError> {
        self.list(filter).await
    }

    async fn due_before(&self, line: &Line, moment: DateTime<Utc>) -> Result<u64, QueueError> {
        self.urgent(line, moment).await
    }

    async fn depths(&self) -> Result<Depths, QueueError> {
        self.measure().await
    }

    fn durability(&self) -> Durability {
        let own = self.level.get();
        self.fence.as_ref().map_or(own, |fence| own.max(fence.level()))
    }

    fn hints(&self, line: &Line) -> watch::Receiver<u64> {
        self.hints.of(line)
    }

    async fn ping(&self) -> Result<(), QueueError> {
        Ok(self.keyspace.ask(&redis::cmd("PING")).await?)
    }
}
