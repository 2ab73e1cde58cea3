//! What the passing of time asks for.

use redb::ReadableTable;

use super::fault::Fault;
use super::place::micros;
use super::tables::{Change, DEAD, Kind, Place, Tables, due};
use crate::domain::id::JobId;
use crate::domain::job::Stage;
use crate::queue::{AWAY, GRACE, Swept};

/// Notices when nobody was answered for a while.
#[derive(Default)]
pub(super) struct Watch {
    last: Option<u64>,
    lenient_until: u64,
}

impl Watch {
    /// Whether leases that ran out are taken from their holders now.
    fn frees(&mut self, now: u64) -> bool {
        let was_away = self.last.is_some_and(|last| now.saturating_sub(last) > micros(AWAY));
        if was_away && now > self.lenient_until.saturating_add(micros(GRACE)) {
            self.lenient_until = now.saturating_add(micros(GRACE));
        }
        self.last = Some(now);
        now > self.lenient_until
    }
}

impl Tables<'_> {
    /// Does up to `max` items of each kind.
    pub(super) fn sweep(&mut self, max: usize, watch: &mut Watch) -> Result<Swept, Fault> {
        let now = self.now;
        let mut swept = Swept::default();
        for id in due(&self.delayed, now, max)? {
            self.come_due(&id)?;
            swept.due += 1;
        }
        let freed = if watch.frees(now) { max } else { 0 };
        for id in due(&self.held, now, freed)? {
            swept.freed += usize::from(self.free(&id)?);
        }
        for id in due(&self.over, now, max)? {
            swept.purged += usize::from(self.purge(&id)?);
        }
        for key in due(&self.key_ends, now, max)? {
            self.forget_key(&key)?;
        }
        for row in self.lost.iter()?.take(max) {
            swept.lost.extend(JobId::parse(row?.0.value()));
        }
        let expired = due(&self.deadlines, now, max)?;
        swept.expired = expired.iter().filter_map(|id| JobId::parse(id)).collect();
        Ok(swept)
    }

    /// Takes every lease from a holder that ended with its process. How many there were.
    pub(super) fn free_all(&mut self) -> Result<usize, Fault> {
        let held = due(&self.held, u64::MAX, usize::MAX)?;
        for id in &held {
            self.free(id)?;
        }
        Ok(held.len())
    }

    fn come_due(&mut self, id: &str) -> Result<(), Fault> {
        let mut entry = self.named(id)?;
        let since = match entry.place {
            Place::Delayed(until) => until,
            _ => self.now,
        };
        self.put(id, &mut entry, Place::Ready(since))?;
        self.save(id, &entry)
    }

    /// Removes a job or a group, unless it is still needed. Whether it did.
    fn purge(&mut self, id: &str) -> Result<bool, Fault> {
        let mut entry = self.named(id)?;
        self.leave(id, &mut entry)?;
        if self.is_kept_for_its_group(&entry)? {
            self.save(id, &entry)?;
            return Ok(false);
        }
        if entry.stage == Stage::Dead {
            self.count(DEAD, -1)?;
        }
        match &entry.kind {
            Kind::Group { .. } => drop(self.groups.remove(id)?),
            Kind::Event { .. } => {}
            Kind::Job(job) => {
                self.index.remove((job.caller.as_str(), id))?;
                self.jobs.remove(id)?;
            }
        }
        self.forget(id)?;
        Ok(true)
    }

    fn forget_key(&mut self, key: &str) -> Result<(), Fault> {
        self.changed(Change::Light);
        let until = self.keys.remove(key)?.map(|row| row.value().2);
        if let Some(until) = until {
            self.key_ends.remove((until, key))?;
        }
        Ok(())
    }
}
