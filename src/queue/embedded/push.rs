//! Storing jobs.

use std::collections::HashMap;

use redb::ReadableTable;

use super::fault::Fault;
use super::moment;
use super::place::micros;
use super::tables::{Change, Entry, JobPart, Kind, OPEN, Place, Tables, flows_in};
use crate::domain::job::Job;
use crate::queue::{Ahead, Batch, Dedup, Durability, Pushed};

/// Jobs to be stored, in the form they are stored in.
pub(super) struct Parcel {
    jobs: Vec<Item>,
    group: Option<Item>,
    dedup: Option<Dedup>,
}

/// A job or a group with its bytes.
struct Item {
    id: String,
    bytes: Vec<u8>,
    entry: Entry,
}

impl Parcel {
    /// Packs a batch, before and not while others wait for the writer.
    pub(super) fn pack(batch: &Batch) -> Result<Self, Fault> {
        let group = batch.group.as_ref().map(|group| {
            let left = u64::try_from(batch.jobs.len()).unwrap_or(u64::MAX);
            let entry = Entry::new(Kind::Group { left });
            let bytes = serde_json::to_vec(group)?;
            Ok::<_, Fault>(Item { id: group.id.to_string(), bytes, entry })
        });
        let jobs = batch.jobs.iter().map(|job| {
            let awaited = batch.group.is_some() && job.group.is_some();
            let entry = Entry::new(Kind::Job(Box::new(part_of(job, awaited))));
            Ok(Item { id: job.id.to_string(), bytes: serde_json::to_vec(job)?, entry })
        });
        Ok(Self {
            jobs: jobs.collect::<Result<_, Fault>>()?,
            group: group.transpose()?,
            dedup: batch.dedup.clone(),
        })
    }

    /// The id a repetition is told.
    fn id(&self) -> Option<&str> {
        self.group.as_ref().or(self.jobs.first()).map(|item| item.id.as_str())
    }
}

fn part_of(job: &Job, awaited: bool) -> JobPart {
    JobPart {
        caller: job.caller.clone(),
        task: job.task.clone(),
        workflow: job.workflow.clone(),
        line: job.line().name(),
        flow: job.flow(),
        deadline: job.deliver_by.map(moment),
        status: None,
        group: job.group.clone(),
        awaited,
        share: job.share,
        prefix: job.prefix.clone(),
        events: Vec::new(),
    }
}

impl Tables<'_> {
    /// Stores a parcel, or finds what was stored before.
    pub(super) fn push(&mut self, parcel: &Parcel) -> Result<Pushed, Fault> {
        let Some(id) = parcel.id() else {
            return Err(Fault::Odd("there is nothing to store".to_owned()));
        };
        if let Some(dedup) = &parcel.dedup
            && let Some(found) = self.find_key(dedup)?
        {
            return Ok(found);
        }
        if self.entry(id)?.is_some() {
            return Ok(Pushed::Repeated { id: id.to_owned() });
        }
        if let Some(refusal) = self.too_many(parcel)? {
            return Ok(refusal);
        }
        if let Some(dedup) = &parcel.dedup {
            self.keep_key(dedup, id)?;
        }
        if let Some(group) = &parcel.group {
            self.groups.insert(group.id.as_str(), group.bytes.as_slice())?;
            self.save(&group.id, &group.entry)?;
        }
        let mut ahead = None;
        for item in &parcel.jobs {
            let before = if ahead.is_none() { Some(self.ahead(item)?) } else { None };
            self.store(item)?;
            ahead = ahead.or(before);
        }
        self.count(OPEN, i64::try_from(parcel.jobs.len()).unwrap_or(i64::MAX))?;
        self.changed(Change::Lasting);
        let durability = Durability::Fsynced;
        Ok(Pushed::Stored { ahead: ahead.unwrap_or_default(), durability })
    }

    /// The answer when a workflow would have more open jobs than it may.
    fn too_many(&self, parcel: &Parcel) -> Result<Option<Pushed>, Fault> {
        let mut more: HashMap<&str, u64> = HashMap::new();
        for item in &parcel.jobs {
            let Kind::Job(job) = &item.entry.kind else { continue };
            let Some(most) = job.share.and_then(|share| share.max_queued) else { continue };
            let count = more.entry(job.flow.as_str()).or_default();
            *count += 1;
            let open = self.flow(job.flow.as_str())?.open;
            if open + *count > most {
                return Ok(Some(Pushed::workflow_full(job.workflow.as_deref(), job.share, open)));
            }
        }
        Ok(None)
    }

    /// What is before a job that is stored now.
    fn ahead(&self, item: &Item) -> Result<Ahead, Fault> {
        let Kind::Job(job) = &item.entry.kind else { return Ok(Ahead::default()) };
        let own = self.ready_of(&job.line, job.flow.as_str())?;
        let flows = self.facts.get(flows_in(&job.line).as_str())?.map_or(0, |count| count.value());
        let flows = flows + u64::from(own == 0);
        Ok(Ahead { line: self.ready_in(&job.line)?, own, flows })
    }

    /// Stores one job.
    fn store(&mut self, item: &Item) -> Result<(), Fault> {
        let id = item.id.as_str();
        let mut entry = item.entry.clone();
        let Kind::Job(job) = &item.entry.kind else {
            return Err(Fault::Odd(format!("{id} is not a job")));
        };
        self.jobs.insert(id, item.bytes.as_slice())?;
        self.index.insert((job.caller.as_str(), id), ())?;
        if let Some(deadline) = job.deadline {
            self.deadlines.insert((deadline, id), ())?;
        }
        self.opened(job.flow.as_str(), job.share)?;
        self.put(id, &mut entry, Place::Ready(self.now))?;
        self.save(id, &entry)
    }

    /// What was stored under an idempotency key that is still known.
    pub(super) fn find_key(&self, dedup: &Dedup) -> Result<Option<Pushed>, Fault> {
        let Some(found) = self.keys.get(dedup.key.as_str())? else { return Ok(None) };
        let (fingerprint, id, until) = found.value();
        if until <= self.now {
            return Ok(None);
        }
        let same = fingerprint == dedup.fingerprint;
        Ok(Some(if same { Pushed::Repeated { id: id.to_owned() } } else { Pushed::KeyReused }))
    }

    fn keep_key(&mut self, dedup: &Dedup, id: &str) -> Result<(), Fault> {
        let key = dedup.key.as_str();
        let until = self.now.saturating_add(micros(dedup.keep));
        let fingerprint = dedup.fingerprint.as_str();
        let before = self.keys.insert(key, (fingerprint, id, until))?.map(|row| row.value().2);
        if let Some(before) = before {
            self.key_ends.remove((before, key))?;
        }
        self.key_ends.insert((until, key), ())?;
        Ok(())
    }
}
