//! Moving items from place to place.

use std::time::Duration;

use redb::ReadableTable;

use super::fault::Fault;
use super::tables::{Change, DEAD, Entry, Kind, Place, Tables};
use crate::domain::id::GroupId;
use crate::domain::job::{Flow, Group, Stage};
use crate::queue::MOST_LOSSES;

impl Tables<'_> {
    /// Puts an item somewhere else. The entry is still to be saved.
    pub(super) fn put(&mut self, id: &str, entry: &mut Entry, place: Place) -> Result<(), Fault> {
        self.leave(id, entry)?;
        entry.place = place;
        self.changed(Change::Light);
        match place {
            Place::Ready(since) => {
                let Some((line, flow)) = entry.line_and_flow() else {
                    return Err(Fault::Odd(format!("{id} has no line at its stage")));
                };
                self.line_up(&line, flow.as_str(), id, since)?;
                if let Some(prefix) = entry.prefix() {
                    self.gather(&line, flow.as_str(), (prefix, id))?;
                }
                if let Some(deadline) = self.deadline_of(id, entry)? {
                    self.hurry(&line, flow.as_str(), (deadline, id))?;
                }
            }
            Place::Delayed(until) => drop(self.delayed.insert((until, id), ())?),
            Place::Held(until) => drop(self.held.insert((until, id), ())?),
            Place::Over(until) => drop(self.over.insert((until, id), ())?),
            Place::Lost => drop(self.lost.insert(id, ())?),
            Place::Nowhere => {}
        }
        Ok(())
    }

    /// Takes an item from where it is, before its stage changes.
    pub(super) fn leave(&mut self, id: &str, entry: &mut Entry) -> Result<(), Fault> {
        self.changed(Change::Light);
        match std::mem::replace(&mut entry.place, Place::Nowhere) {
            Place::Ready(since) => {
                if let Some((line, flow)) = entry.line_and_flow() {
                    self.withdraw(&line, flow.as_str(), id, since)?;
                    if let Some(prefix) = entry.prefix() {
                        self.scatter(&line, flow.as_str(), (prefix, id))?;
                    }
                    if let Some(deadline) = self.deadline_of(id, entry)? {
                        self.shed(&line, flow.as_str(), (deadline, id))?;
                    }
                }
            }
            Place::Delayed(until) => drop(self.delayed.remove((until, id))?),
            Place::Held(until) => {
                self.held.remove((until, id))?;
                if let Some(flow) = running(entry) {
                    self.released(flow.as_str())?;
                }
            }
            Place::Over(until) => drop(self.over.remove((until, id))?),
            Place::Lost => drop(self.lost.remove(id)?),
            Place::Nowhere => {}
        }
        Ok(())
    }

    /// A job's deadline, as long as it counts.
    pub(super) fn deadline_of(&self, id: &str, entry: &Entry) -> Result<Option<u64>, Fault> {
        let Kind::Job(job) = &entry.kind else { return Ok(None) };
        let Some(deadline) = job.deadline.filter(|_| !entry.stage.has_ended()) else {
            return Ok(None);
        };
        Ok(self.deadlines.get((deadline, id))?.map(|_| deadline))
    }

    /// Puts an item in its line after a pause.
    pub(super) fn put_after(
        &mut self,
        id: &str,
        entry: &mut Entry,
        pause: Duration,
    ) -> Result<(), Fault> {
        let place = if pause.is_zero() {
            Place::Ready(self.now)
        } else {
            Place::Delayed(self.now.saturating_add(micros(pause)))
        };
        self.put(id, entry, place)
    }

    /// Puts an item back whose holder vanished. Whether it is in line again.
    pub(super) fn free(&mut self, id: &str) -> Result<bool, Fault> {
        let mut entry = self.named(id)?;
        self.leave(id, &mut entry)?;
        entry.losses = entry.losses.saturating_add(1);
        let ran = entry.stage == Stage::Running;
        if ran {
            entry.stage = Stage::Queued;
        }
        let lost = ran && entry.losses >= MOST_LOSSES;
        let place = if lost { Place::Lost } else { Place::Ready(self.now) };
        self.put(id, &mut entry, place)?;
        self.save(id, &entry)?;
        Ok(!lost)
    }

    /// Keeps an item with which nothing is left to do: for its time, or for its group.
    pub(super) fn close(&mut self, id: &str, mut entry: Entry, stage: Stage) -> Result<(), Fault> {
        self.leave(id, &mut entry)?;
        entry.stage = stage;
        if stage == Stage::Dead {
            self.count(DEAD, 1)?;
        }
        self.keep(id, &mut entry)?;
        self.save(id, &entry)?;
        match entry.kind {
            Kind::Group { .. } => self.release_jobs(id),
            Kind::Job(_) | Kind::Event { .. } => Ok(()),
        }
    }

    /// Lets the time begin that an item is kept, unless it is kept for others. The entry is still to
    /// be saved.
    pub(super) fn keep(&mut self, id: &str, entry: &mut Entry) -> Result<(), Fault> {
        let has_events = matches!(&entry.kind, Kind::Job(job) if !job.events.is_empty());
        if has_events || self.is_kept_for_its_group(entry)? {
            return Ok(());
        }
        let until = self.now.saturating_add(entry.keep);
        self.put(id, entry, Place::Over(until))
    }

    /// Whether a job belongs to a group with which something is left to do.
    pub(super) fn is_kept_for_its_group(&self, entry: &Entry) -> Result<bool, Fault> {
        let Kind::Job(job) = &entry.kind else { return Ok(false) };
        let Some(group) = job.group.as_ref().map(GroupId::as_str) else { return Ok(false) };
        let stage = self.entry(group)?.map(|group| group.stage);
        Ok(matches!(stage, Some(Stage::Queued | Stage::Delivering)))
    }

    /// Lets the time of a group's jobs begin, now that the group is over.
    fn release_jobs(&mut self, group: &str) -> Result<(), Fault> {
        let group: Option<Group> = self
            .groups
            .get(group)?
            .map(|bytes| serde_json::from_slice(bytes.value()))
            .transpose()?;
        for id in group.into_iter().flat_map(|group| group.jobs) {
            let Some(mut entry) = self.entry(id.as_str())? else { continue };
            if matches!(entry.stage, Stage::Done | Stage::Dead) {
                self.keep(id.as_str(), &mut entry)?;
                self.save(id.as_str(), &entry)?;
            }
        }
        Ok(())
    }
}

/// The flow of a job that is run.
pub(super) fn running(entry: &Entry) -> Option<Flow> {
    match &entry.kind {
        Kind::Job(job) if entry.stage == Stage::Running => Some(job.flow.clone()),
        _ => None,
    }
}

/// Whole microseconds, rounded up: a pause is never cut short.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}
