//! What is read without changing anything: records, pages, depths.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::super::{
    Dedup, Depths, Filter, GroupRecord, PAGE_BYTES, Page, Pushed, QueueError, Record,
};
use super::scripts::call;
use super::{RedisQueue, codec, info};
use crate::domain::id::{GroupId, JobId};
use crate::domain::job::{Group, Job, Line, Stage};
use crate::domain::result::DeliveryAttempt;

/// Records read at a time: inputs and results may be large.
const CHUNK: usize = 32;

/// The most jobs a page looks through.
const LOOK: usize = 256;

/// An item's text, its stage, a job's result or how many jobs of a group are left, the
/// delivery attempts, and those to post a job's events.
type Found = (Option<Vec<u8>>, Option<String>, Option<Vec<u8>>, Vec<Vec<u8>>, Vec<Vec<u8>>);

impl RedisQueue {
    /// What an idempotency key stands for.
    pub(super) async fn known(&self, dedup: &Dedup) -> Result<Option<Pushed>, QueueError> {
        let key = format!("i:{}", dedup.key);
        let mut get = redis::cmd("GET");
        get.arg(self.keyspace.key(&key));
        let seen: Option<String> = self.keyspace.ask(&get).await?;
        let Some(seen) = seen else { return Ok(None) };
        Ok(Some(match seen.split_once(':') {
            Some((print, id)) if print == dedup.fingerprint => {
                self.confirm(&key, id).await?;
                Pushed::Repeated { id: id.to_owned() }
            }
            _ => Pushed::KeyReused,
        }))
    }

    /// One job.
    pub(super) async fn job(&self, id: &JobId) -> Result<Option<Job>, QueueError> {
        let mut get = redis::cmd("GET");
        get.arg(self.keyspace.key(&format!("j:{id}")));
        let text: Option<Vec<u8>> = self.keyspace.ask(&get).await?;
        text.map(|text| codec::read(id.as_str(), &text)).transpose()
    }

    /// Those of these jobs that are there and can be read.
    pub(super) async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Job>, QueueError> {
        let mut jobs = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CHUNK) {
            let mut get = redis::cmd("MGET");
            for id in ids {
                get.arg(self.keyspace.key(&format!("j:{id}")));
            }
            let texts: Vec<Option<Vec<u8>>> = self.keyspace.ask(&get).await?;
            jobs.extend(texts.iter().flatten().filter_map(|text| codec::read("job", text).ok()));
        }
        Ok(jobs)
    }

    pub(super) async fn records(&self, ids: &[JobId]) -> Result<Vec<Record>, QueueError> {
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CHUNK) {
            let mut find = call(&self.scripts.find, &self.keyspace);
            for id in ids {
                find.arg(id.as_str());
            }
            let found: Vec<Found> = self.keyspace.run(&find).await?;
            for (id, found) in ids.iter().zip(found) {
                records.extend(record(id, found)?);
            }
        }
        Ok(records)
    }

    pub(super) async fn group(&self, id: &GroupId) -> Result<Option<GroupRecord>, QueueError> {
        let mut find = call(&self.scripts.find, &self.keyspace);
        let mut found: Vec<Found> = self.keyspace.run(find.arg(id.as_str())).await?;
        let Some((Some(text), stage, left, log, _)) = found.pop() else { return Ok(None) };
        let left = left.map(|left| codec::read(id.as_str(), &left)).transpose()?;
        Ok(Some(GroupRecord {
            group: codec::read::<Group>(id.as_str(), &text)?,
            left: left.unwrap_or_default(),
            stage: stage_of(stage),
            deliveries: deliveries(id.as_str(), &log)?,
        }))
    }

    pub(super) async fn list(&self, filter: &Filter) -> Result<Page, QueueError> {
        let from = filter.after.as_ref().map_or_else(|| "+".to_owned(), |id| format!("({id}"));
        let mut ask = redis::cmd("ZREVRANGEBYLEX");
        ask.arg(self.keyspace.key(&format!("x:{}", codec::index(&filter.caller))));
        ask.arg(from).arg("-").arg("LIMIT").arg(0).arg(LOOK + 1);
        let texts: Vec<String> = self.keyspace.ask(&ask).await?;
        let ids: Vec<JobId> = texts.iter().filter_map(|text| JobId::parse(text)).collect();
        let mut page = Page::default();
        let (mut looked, mut room) = (0, PAGE_BYTES);
        for chunk in ids.get(..LOOK.min(ids.len())).unwrap_or_default().chunks(CHUNK) {
            let part = self.within(chunk, &mut room).await?;
            let mut records = self.records(part).await?.into_iter().peekable();
            for id in part {
                if page.jobs.len() == filter.limit {
                    break;
                }
                looked += 1;
                let record = records.next_if(|record| record.job.id == *id);
                page.jobs.extend(record.filter(|record| filter.fits(record)));
            }
            if page.jobs.len() == filter.limit || part.len() < chunk.len() {
                break;
            }
        }
        if looked < ids.len() {
            page.next = looked.checked_sub(1).and_then(|last| ids.get(last)).cloned();
        }
        Ok(page)
    }

    /// Those of these jobs, from the first on, that there is room to read; the last may take more.
    async fn within<'a>(
        &self,
        ids: &'a [JobId],
        room: &mut usize,
    ) -> Result<&'a [JobId], QueueError> {
        let mut ask = redis::pipe();
        for id in ids {
            for kind in ["j", "r"] {
                ask.cmd("STRLEN").arg(self.keyspace.key(&format!("{kind}:{id}")));
            }
        }
        let sizes: Vec<usize> = self.keyspace.ask_all(&ask).await?;
        let mut fit = 0;
        for size in sizes.chunks(2) {
            if *room == 0 {
                break;
            }
            *room = room.saturating_sub(size.iter().sum());
            fit += 1;
        }
        Ok(ids.get(..fit).unwrap_or(ids))
    }

    pub(super) async fn urgent(
        &self,
        line: &Line,
        moment: DateTime<Utc>,
    ) -> Result<u64, QueueError> {
        let mut ask = redis::cmd("ZCOUNT");
        ask.arg(self.keyspace.key(&format!("h:{}", line.name())));
        // What is not a job stands below zero.
        ask.arg(0).arg(format!("({}", moment.timestamp_millis()));
        Ok(self.keyspace.ask(&ask).await?)
    }

    pub(super) async fn measure(&self) -> Result<Depths, QueueError> {
        let key = |name: &str| self.keyspace.key(name);
        let mut ask = redis::pipe();
        ask.cmd("HGETALL").arg(key("n"));
        ask.cmd("ZCARD").arg(key("lease")).cmd("ZCARD").arg(key("due"));
        ask.cmd("ZCARD").arg(key("dead")).cmd("INFO").arg("memory");
        let (counts, leased, delayed, dead, memory): Measured = self.keyspace.ask_all(&ask).await?;
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let mut ready: Vec<(Line, u64)> = counts
            .iter()
            .filter_map(|(name, number)| Some((Line::parse(name)?, count(*number))))
            .collect();
        ready.retain(|(_, number)| *number > 0);
        ready.sort();
        let mut waiting = call(&self.scripts.waiting, &self.keyspace);
        for (line, _) in &ready {
            waiting.arg(line.name());
        }
        let (oldest_due, flows): (u64, Vec<u64>) = self.keyspace.run(&waiting).await?;
        let flows = ready.iter().map(|(line, _)| line.clone()).zip(flows).collect();
        Ok(Depths {
            ready,
            flows,
            leased,
            delayed,
            open: counts.get("open").map_or(0, |number| count(*number)),
            dead,
            oldest_due: Duration::from_millis(oldest_due),
            memory: info::used_memory(&memory),
        })
    }
}

/// Counts, leased, delayed, dead, and what the server says of its memory.
type Measured = (HashMap<String, i64>, u64, u64, u64, String);

fn record(id: &JobId, found: Found) -> Result<Option<Record>, QueueError> {
    let (text, stage, result, log, events) = found;
    let Some(text) = text else { return Ok(None) };
    Ok(Some(Record {
        job: codec::read(id.as_str(), &text)?,
        stage: stage_of(stage),
        result: result.map(|result| codec::read(id.as_str(), &result)).transpose()?,
        deliveries: deliveries(id.as_str(), &log)?,
        events: deliveries(id.as_str(), &events)?,
    }))
}

/// What was never leased has no state yet: it is queued.
fn stage_of(name: Option<String>) -> Stage {
    name.and_then(|name| Stage::parse(&name)).unwrap_or(Stage::Queued)
}

fn deliveries(id: &str, log: &[Vec<u8>]) -> Result<Vec<DeliveryAttempt>, QueueError> {
    log.iter().map(|attempt| codec::read(id, attempt)).collect()
}
