//! Events: what subscriptions are told of a job's end. Each is an item of its own in the line of
//! callbacks, and gone once it was taken or is given up.

use super::fault::Fault;
use super::tables::{Entry, Kind, Tables, events_of};
use crate::domain::id::{EventId, JobId};
use crate::domain::job::Stage;
use crate::queue::Ending;

impl Tables<'_> {
    /// Makes the events of a job that ends due.
    pub(super) fn tell(&mut self, id: &str, ending: &Ending) -> Result<(), Fault> {
        if ending.events.is_empty() {
            return Ok(());
        }
        let Some(job) = JobId::parse(id) else {
            return Err(Fault::Odd(format!("{id} is not a job and has events")));
        };
        for event in &ending.events {
            let subscription = event.subscription.clone();
            let entry = Entry::new(Kind::Event { job: job.clone(), subscription });
            self.deliver(event.id.as_str(), entry, &event.delivery)?;
        }
        Ok(())
    }

    /// Drops events, from whoever holds them too, and what is known of attempts to post them.
    pub(super) fn untell(&mut self, job: &str, events: Vec<EventId>) -> Result<(), Fault> {
        for event in events {
            if let Some(mut entry) = self.entry(event.as_str())? {
                self.leave(event.as_str(), &mut entry)?;
                self.forget(event.as_str())?;
            }
        }
        self.attempts.remove(events_of(job).as_str())?;
        Ok(())
    }

    /// Ends an event that was taken or is given up. A job that was kept for it alone is kept from
    /// now on for its own time.
    pub(super) fn told(&mut self, id: &str, mut entry: Entry, of: &JobId) -> Result<(), Fault> {
        self.leave(id, &mut entry)?;
        self.forget(id)?;
        let Some(mut job) = self.entry(of.as_str())? else { return Ok(()) };
        if let Kind::Job(part) = &mut job.kind {
            part.events.retain(|event| event.as_str() != id);
        }
        if matches!(job.stage, Stage::Done | Stage::Dead) {
            self.keep(of.as_str(), &mut job)?;
        }
        self.save(of.as_str(), &job)
    }
}
