//! Leases: taking, renewing and ending them.

use redb::ReadableTable;
use std::time::Duration;

use super::fault::Fault;
use super::place::{micros, running};
use super::tables::{Change, Entry, Kind, Place, Tables, events_of};
use crate::domain::id::EventId;
use crate::domain::job::{Group, Job, Owner, Stage};
use crate::domain::result::{JobResult, Status};
use crate::queue::{Event, Item, Lease, LeaseToken, Settled, Verdict};

/// A lease whose item is still in the form it is stored in.
pub(super) struct Taken {
    token: LeaseToken,
    entry: Entry,
    bytes: Vec<u8>,
    result: Option<Vec<u8>>,
}

impl Taken {
    /// Reads the item, after and not while others wait for the writer.
    pub(super) fn unpack(self) -> Result<Lease, Fault> {
        let item = match &self.entry.kind {
            Kind::Group { .. } => {
                Item::Group(Box::new(serde_json::from_slice::<Group>(&self.bytes)?))
            }
            Kind::Event { job, subscription } => {
                let missing = || Fault::Odd(format!("{} has no event's name", self.token.id));
                let id = EventId::parse(&self.token.id).ok_or_else(missing)?;
                let (job, subscription) = (job.clone(), subscription.clone());
                let result: JobResult = serde_json::from_slice(&self.bytes)?;
                Item::Event(Box::new(Event { id, job, subscription }), Box::new(result))
            }
            Kind::Job(_) => {
                let job: Job = serde_json::from_slice(&self.bytes)?;
                let result = self.result.as_deref();
                let result = result.map(serde_json::from_slice::<JobResult>).transpose()?;
                Item::Job(Box::new(job), result.map(Box::new))
            }
        };
        Ok(Lease {
            token: self.token,
            item,
            losses: self.entry.losses,
            tries: self.entry.tries,
            replays: self.entry.replays,
            progress: self.entry.progress.map(Into::into),
        })
    }
}

impl Tables<'_> {
    /// Hands out the items whose turn it is, but for these owners'.
    pub(super) fn lease(
        &mut self,
        (line, past): (&str, &[Owner]),
        max: usize,
        term: Duration,
    ) -> Result<Vec<Taken>, Fault> {
        let until = self.now.saturating_add(micros(term));
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(id) = self.serve(line, past)? else { break };
            let mut entry = self.named(&id)?;
            entry.place = Place::Nowhere;
            entry.epoch += 1;
            if let Some((line, flow)) = entry.line_and_flow() {
                if let Some(deadline) = self.deadline_of(&id, &entry)? {
                    self.shed(&line, flow.as_str(), (deadline, &id))?;
                }
                if let Some(prefix) = entry.prefix() {
                    self.scatter(&line, flow.as_str(), (prefix, &id))?;
                }
            }
            if entry.stage == Stage::Queued {
                entry.stage = Stage::Running;
            }
            if let Some(flow) = running(&entry) {
                self.took(flow.as_str())?;
            }
            self.put(&id, &mut entry, Place::Held(until))?;
            self.save(&id, &entry)?;
            taken.push(self.taken(id, entry)?);
        }
        Ok(taken)
    }

    fn taken(&self, id: String, entry: Entry) -> Result<Taken, Fault> {
        let (table, name) = match &entry.kind {
            Kind::Job(_) => (&self.jobs, id.as_str()),
            Kind::Group { .. } => (&self.groups, id.as_str()),
            // All of it that is posted is its job's result.
            Kind::Event { job, .. } => (&self.results, job.as_str()),
        };
        let bytes = table.get(name)?.map(|bytes| bytes.value().to_vec());
        let bytes = bytes.ok_or_else(|| Fault::Odd(format!("{id} has no text")))?;
        let result = self.results.get(id.as_str())?.map(|bytes| bytes.value().to_vec());
        let token = LeaseToken { id, epoch: entry.epoch };
        Ok(Taken { token, entry, bytes, result })
    }

    /// Keeps leases alive. Those that are lost.
    pub(super) fn renew(
        &mut self,
        leases: &[LeaseToken],
        term: Duration,
    ) -> Result<Vec<LeaseToken>, Fault> {
        let until = self.now.saturating_add(micros(term));
        let mut lost = Vec::new();
        for token in leases {
            match self.entry(&token.id)? {
                Some(mut entry) if entry.epoch == token.epoch => match entry.place {
                    // Not by way of `put`: nobody lets go of it.
                    Place::Held(before) => {
                        self.held.remove((before, token.id.as_str()))?;
                        self.held.insert((until, token.id.as_str()), ())?;
                        entry.place = Place::Held(until);
                        self.changed(Change::Light);
                        self.save(&token.id, &entry)?;
                    }
                    _ => lost.push(token.clone()),
                },
                _ => lost.push(token.clone()),
            }
        }
        Ok(lost)
    }

    /// Ends a lease.
    pub(super) fn settle(
        &mut self,
        token: &LeaseToken,
        verdict: &Verdict,
    ) -> Result<Settled, Fault> {
        let id = token.id.as_str();
        let Some(mut entry) = self.entry(id)? else { return Ok(Settled::Stale) };
        if entry.epoch != token.epoch || !fits(verdict, &entry) {
            return Ok(Settled::Stale);
        }
        entry.epoch += 1;
        let job = match &entry.kind {
            Kind::Event { job, .. } => Some(job.clone()),
            Kind::Job(_) | Kind::Group { .. } => None,
        };
        if let Some(log) = attempt_of(verdict) {
            // An event is gone once it is done; its attempts are its job's.
            let of = job.as_ref().map_or_else(|| id.to_owned(), |job| events_of(job.as_str()));
            self.log(&of, log)?;
            self.changed(Change::Lasting);
        }
        match verdict {
            Verdict::Finish(ending) => {
                if ending.status == Status::Succeeded {
                    self.warmed(&entry)?;
                }
                self.finish(id, entry, ending)?;
            }
            Verdict::Delivered { .. } | Verdict::Undeliverable { .. } => {
                let dead = matches!(verdict, Verdict::Undeliverable { .. });
                match job {
                    Some(job) => self.told(id, entry, &job)?,
                    None => self.close(id, entry, if dead { Stage::Dead } else { Stage::Done })?,
                }
            }
            Verdict::Back { after, progress } => {
                if let Some(progress) = progress {
                    entry.progress = Some(String::from_utf8_lossy(progress).into_owned());
                }
                self.back(id, entry, *after)?;
            }
            Verdict::Redeliver { after, .. } => {
                entry.tries = entry.tries.saturating_add(1);
                self.back(id, entry, *after)?;
            }
        }
        Ok(Settled::Done)
    }

    fn back(&mut self, id: &str, mut entry: Entry, pause: Duration) -> Result<(), Fault> {
        self.leave(id, &mut entry)?;
        if entry.stage == Stage::Running {
            entry.stage = Stage::Queued;
        }
        self.put_after(id, &mut entry, pause)?;
        self.save(id, &entry)
    }
}

/// Whether a verdict can be passed on what is held.
fn fits(verdict: &Verdict, entry: &Entry) -> bool {
    let run = matches!(entry.kind, Kind::Job(_)) && !entry.stage.has_ended();
    let posted = entry.stage == Stage::Delivering;
    match verdict {
        Verdict::Finish(_) => run,
        Verdict::Back { .. } => run || posted,
        Verdict::Delivered { .. } | Verdict::Redeliver { .. } | Verdict::Undeliverable { .. } => {
            posted
        }
    }
}

const fn attempt_of(verdict: &Verdict) -> Option<&crate::domain::result::DeliveryAttempt> {
    match verdict {
        Verdict::Delivered { log }
        | Verdict::Redeliver { log, .. }
        | Verdict::Undeliverable { log } => Some(log),
        Verdict::Finish(_) | Verdict::Back { .. } => None,
    }
}
