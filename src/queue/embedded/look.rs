//! Looking without changing anything.

use std::time::Duration;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::de::DeserializeOwned;

use super::fault::Fault;
use super::tables::{
    ATTEMPTS, DEAD, DELAYED, ENTRIES, Entry, FACTS, GROUPS, HELD, HURRIED, INDEX, JOBS, Kind,
    LINES, OPEN, RESULTS, WAITING, events_of, flows_in,
};
use crate::domain::id::{GroupId, JobId};
use crate::domain::job::Line;
use crate::queue::{Depths, Filter, GroupRecord, PAGE_BYTES, Page, Record};

/// How many jobs one page looks through at most.
const LOOKED_THROUGH: usize = 2_000;

type Blobs = ReadOnlyTable<&'static str, &'static [u8]>;

fn read<T: DeserializeOwned>(table: &Blobs, id: &str) -> Result<Option<T>, Fault> {
    table.get(id)?.map(|bytes| Ok(serde_json::from_slice(bytes.value())?)).transpose()
}

/// The tables that make up a record.
struct Records {
    entries: Blobs,
    jobs: Blobs,
    results: Blobs,
    attempts: Blobs,
}

impl Records {
    fn open(transaction: &ReadTransaction) -> Result<Self, Fault> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            jobs: transaction.open_table(JOBS)?,
            results: transaction.open_table(RESULTS)?,
            attempts: transaction.open_table(ATTEMPTS)?,
        })
    }

    fn find(&self, id: &str) -> Result<Option<Record>, Fault> {
        let (Some(entry), Some(job)) = (self.entry(id)?, read(&self.jobs, id)?) else {
            return Ok(None);
        };
        Ok(Some(Record {
            job,
            stage: entry.stage,
            result: read(&self.results, id)?,
            deliveries: read(&self.attempts, id)?.unwrap_or_default(),
            events: read(&self.attempts, &events_of(id))?.unwrap_or_default(),
        }))
    }

    /// How many bytes a job and its result take.
    fn bytes(&self, id: &str) -> Result<usize, Fault> {
        let of = |table: &Blobs| -> Result<usize, Fault> {
            Ok(table.get(id)?.map_or(0, |bytes| bytes.value().len()))
        };
        Ok(of(&self.jobs)? + of(&self.results)?)
    }

    fn entry(&self, id: &str) -> Result<Option<Entry>, Fault> {
        read(&self.entries, id)
    }
}

/// Jobs as they stand; those not known are left out.
pub(super) fn find_all(transaction: &ReadTransaction, ids: &[JobId]) -> Result<Vec<Record>, Fault> {
    let records = Records::open(transaction)?;
    ids.iter().filter_map(|id| records.find(id.as_str()).transpose()).collect()
}

/// A group as it stands.
pub(super) fn find_group(
    transaction: &ReadTransaction,
    id: &GroupId,
) -> Result<Option<GroupRecord>, Fault> {
    let records = Records::open(transaction)?;
    let groups = transaction.open_table(GROUPS)?;
    let (Some(entry), Some(group)) = (records.entry(id.as_str())?, read(&groups, id.as_str())?)
    else {
        return Ok(None);
    };
    let left = match entry.kind {
        Kind::Group { left } => left,
        Kind::Job(_) | Kind::Event { .. } => 0,
    };
    let deliveries = read(&records.attempts, id.as_str())?.unwrap_or_default();
    Ok(Some(GroupRecord { group, left, stage: entry.stage, deliveries }))
}

/// One page of a caller's jobs. The filter is held against entries, so that only the jobs that
/// are listed are read in full.
pub(super) fn page(transaction: &ReadTransaction, filter: &Filter) -> Result<Page, Fault> {
    let records = Records::open(transaction)?;
    let index = transaction.open_table(INDEX)?;
    let caller = filter.caller.as_str();
    // Sorts after every id.
    let end = filter.after.as_ref().map_or("\u{7f}", JobId::as_str);
    let mut older = index.range((caller, "")..(caller, end))?.rev();
    let mut page = Page::default();
    let (mut last, mut room) = (None, PAGE_BYTES);
    for _ in 0..LOOKED_THROUGH {
        if page.jobs.len() >= filter.limit || room == 0 {
            break;
        }
        let Some(row) = older.next() else { return Ok(page) };
        let key = row?.0;
        let id = key.value().1;
        last = JobId::parse(id);
        if records.entry(id)?.is_some_and(|entry| fits(filter, &entry)) {
            room = room.saturating_sub(records.bytes(id)?);
            page.jobs.extend(records.find(id)?);
        }
    }
    page.next = last.filter(|_| older.next().is_some());
    Ok(page)
}

/// Whether a job of the caller's belongs on the page.
fn fits(filter: &Filter, entry: &Entry) -> bool {
    let Kind::Job(job) = &entry.kind else { return false };
    filter.status.is_none_or(|status| status == entry.status())
        && filter.workflow.as_ref().is_none_or(|name| Some(name) == job.workflow.as_ref())
        && filter.task.as_ref().is_none_or(|name| *name == job.task)
}

/// How many jobs ready in a line have their deadline before a moment.
pub(super) fn due_before(
    transaction: &ReadTransaction,
    line: &str,
    moment: u64,
) -> Result<u64, Fault> {
    let hurried = transaction.open_table(HURRIED)?;
    let count = hurried.range((line, 0, "")..(line, moment, ""))?.count();
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// How much waits where, at `now`.
pub(super) fn depths(transaction: &ReadTransaction, now: u64) -> Result<Depths, Fault> {
    let facts = transaction.open_table(FACTS)?;
    let count = |what: &str| -> Result<u64, Fault> {
        Ok(facts.get(what)?.map_or(0, |value| value.value()))
    };
    let waiting = transaction.open_table(WAITING)?;
    let delayed = transaction.open_table(DELAYED)?;
    let mut depths = Depths {
        leased: transaction.open_table(HELD)?.len()?,
        delayed: delayed.len()?,
        open: count(OPEN)?,
        dead: count(DEAD)?,
        ..Depths::default()
    };
    for row in transaction.open_table(LINES)?.iter()? {
        let (name, line) = row?;
        let Some(parsed) = Line::parse(name.value()) else { continue };
        depths.flows.push((parsed.clone(), count(&flows_in(name.value()))?));
        depths.ready.push((parsed, line.value().1));
    }
    let mut oldest = now;
    for table in [waiting, delayed] {
        if let Some((key, _)) = table.first()? {
            oldest = oldest.min(key.value().0);
        }
    }
    depths.oldest_due = Duration::from_micros(now - oldest);
    Ok(depths)
}
