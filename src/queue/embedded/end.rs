//! Ending jobs, and bringing ended ones back.

use super::fault::Fault;
use super::place::micros;
use super::tables::{Change, DEAD, Entry, JobPart, Kind, OPEN, Place, Tables};
use crate::domain::id::{GroupId, JobId};
use crate::domain::job::Stage;
use crate::queue::{Delivery, Ended, Ending, Replay, Replayed};

impl Tables<'_> {
    /// Ends a job that has not ended.
    pub(super) fn end(&mut self, id: &JobId, ending: &Ending) -> Result<Ended, Fault> {
        let Some(mut entry) = self.entry(id.as_str())? else { return Ok(Ended::Unknown) };
        if entry.stage.has_ended() {
            return Ok(Ended::Before);
        }
        entry.epoch += 1;
        self.finish(id.as_str(), entry, ending)?;
        Ok(Ended::Now)
    }

    /// Records a job's result together with the callbacks that follow.
    pub(super) fn finish(
        &mut self,
        id: &str,
        mut entry: Entry,
        ending: &Ending,
    ) -> Result<(), Fault> {
        self.leave(id, &mut entry)?;
        self.changed(Change::Lasting);
        self.results.insert(id, &*ending.result)?;
        self.count(OPEN, -1)?;
        (entry.losses, entry.tries, entry.progress) = (0, 0, None);
        entry.keep = micros(ending.keep);
        let mut group = None;
        if let Kind::Job(job) = &mut entry.kind {
            self.ended(job.flow.as_str())?;
            job.status = Some(ending.status);
            if let Some(deadline) = job.deadline {
                self.deadlines.remove((deadline, id))?;
            }
            if std::mem::take(&mut job.awaited) {
                group.clone_from(&job.group);
            }
            job.events = ending.events.iter().map(|event| event.id.clone()).collect();
        }
        self.tell(id, ending)?;
        match &ending.delivery {
            Some(delivery) => self.deliver(id, entry, delivery)?,
            None => self.close(id, entry, Stage::Done)?,
        }
        match group {
            Some(group) => self.one_less(&group, ending),
            None => Ok(()),
        }
    }

    /// Puts an item in the line of callbacks.
    pub(super) fn deliver(
        &mut self,
        id: &str,
        mut entry: Entry,
        delivery: &Delivery,
    ) -> Result<(), Fault> {
        self.leave(id, &mut entry)?;
        entry.stage = Stage::Delivering;
        entry.host = Some(delivery.flow.clone());
        self.put_after(id, &mut entry, delivery.after)?;
        self.save(id, &entry)
    }

    /// Counts a group's job as ended. The last one ends the group.
    fn one_less(&mut self, id: &GroupId, ending: &Ending) -> Result<(), Fault> {
        let Some(mut entry) = self.entry(id.as_str())? else { return Ok(()) };
        let Kind::Group { left } = &mut entry.kind else { return Ok(()) };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return self.save(id.as_str(), &entry);
        }
        entry.epoch += 1;
        entry.keep = micros(ending.keep);
        match ending.group.as_ref().and_then(|group| group.delivery.as_ref()) {
            Some(delivery) => self.deliver(id.as_str(), entry, delivery),
            None => self.close(id.as_str(), entry, Stage::Done),
        }
    }

    /// Brings an ended job back.
    pub(super) fn replay(&mut self, id: &JobId, what: &Replay) -> Result<Replayed, Fault> {
        let id = id.as_str();
        let Some(mut entry) = self.entry(id)? else { return Ok(Replayed::Unknown) };
        if !entry.stage.has_ended() {
            return Ok(Replayed::NotEnded);
        }
        self.revive(id, &mut entry)?;
        match what {
            Replay::Post(delivery) => self.deliver(id, entry, delivery)?,
            Replay::Run => self.run_again(id, entry)?,
        }
        Ok(Replayed::Done)
    }

    /// Brings an ended group back.
    pub(super) fn replay_group(&mut self, id: &GroupId) -> Result<bool, Fault> {
        let id = id.as_str();
        let Some(mut entry) = self.entry(id)?.filter(|entry| entry.stage.has_ended()) else {
            return Ok(false);
        };
        let Some(flow) = entry.host.clone() else { return Ok(false) };
        self.revive(id, &mut entry)?;
        self.deliver(id, entry, &Delivery { flow, after: std::time::Duration::ZERO })?;
        Ok(true)
    }

    /// Takes an ended item from where it is, and from whoever holds it.
    fn revive(&mut self, id: &str, entry: &mut Entry) -> Result<(), Fault> {
        self.leave(id, entry)?;
        self.changed(Change::Lasting);
        if entry.stage == Stage::Dead {
            self.count(DEAD, -1)?;
        }
        entry.epoch += 1;
        (entry.losses, entry.tries, entry.progress) = (0, 0, None);
        Ok(())
    }

    fn run_again(&mut self, id: &str, mut entry: Entry) -> Result<(), Fault> {
        self.results.remove(id)?;
        self.attempts.remove(id)?;
        self.count(OPEN, 1)?;
        entry.stage = Stage::Queued;
        entry.replays = entry.replays.saturating_add(1);
        if let Kind::Job(job) = &mut entry.kind {
            // What was not told yet of its former end is told no more.
            self.untell(id, std::mem::take(&mut job.events))?;
            job.status = None;
            self.reopened(job.flow.as_str(), job.share)?;
            // A deadline that has passed does not count again.
            if let Some(deadline) = job.deadline.filter(|deadline| *deadline > self.now) {
                self.deadlines.insert((deadline, id), ())?;
            }
            self.await_again(job)?;
        }
        self.put(id, &mut entry, Place::Ready(self.now))?;
        self.save(id, &entry)
    }

    /// Makes a group that is still open wait for a job that is run again.
    fn await_again(&mut self, job: &mut JobPart) -> Result<(), Fault> {
        let Some(id) = &job.group else { return Ok(()) };
        let Some(mut entry) = self.entry(id.as_str())? else { return Ok(()) };
        if let Kind::Group { left } = &mut entry.kind
            && entry.stage == Stage::Queued
        {
            *left += 1;
            job.awaited = true;
            self.save(id.as_str(), &entry)?;
        }
        Ok(())
    }
}
