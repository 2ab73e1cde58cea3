//! Jobs of a flow whose prompts begin alike leave together, while what they begin with is cached.

use redb::ReadableTable;

use super::fault::Fault;
use super::line::LAST;
use super::share::LAST_LINE;
use super::tables::{Entry, Kind, Tables};
use crate::domain::job::CachedPrefix;
use crate::queue::MOST_ALIKE;

/// The prefix a flow's jobs left a line with last.
struct Warm {
    digest: String,
    /// Until when it is cached.
    until: u64,
    /// How many left with it in a row.
    row: u32,
}

impl Entry {
    /// What a job that is to be run begins with.
    pub(super) fn prefix(&self) -> Option<&CachedPrefix> {
        match &self.kind {
            Kind::Job(job) if !self.stage.has_ended() => job.prefix.as_ref(),
            _ => None,
        }
    }
}

impl Tables<'_> {
    /// A job with a prefix is ready.
    pub(super) fn gather(
        &mut self,
        line: &str,
        flow: &str,
        (prefix, id): (&CachedPrefix, &str),
    ) -> Result<(), Fault> {
        self.alike.insert((line, flow, prefix.digest(), id), ())?;
        Ok(())
    }

    /// A job with a prefix is ready no longer.
    pub(super) fn scatter(
        &mut self,
        line: &str,
        flow: &str,
        (prefix, id): (&CachedPrefix, &str),
    ) -> Result<(), Fault> {
        self.alike.remove((line, flow, prefix.digest(), id))?;
        Ok(())
    }

    /// The oldest of a flow's ready jobs that begins as the one that left last did, and since when
    /// it waits.
    pub(super) fn alike_of(&self, line: &str, flow: &str) -> Result<Option<(String, u64)>, Fault> {
        let Some(warm) = self.warm_in(line, flow)?.filter(|warm| warm.row < MOST_ALIKE) else {
            return Ok(None);
        };
        let digest = warm.digest.as_str();
        for row in self.alike.range((line, flow, digest, "")..=(line, flow, digest, LAST))? {
            let row = row?;
            let id = row.0.value().3;
            if let Some(since) = self.ready.get((line, flow, id))? {
                return Ok(Some((id.to_owned(), since.value())));
            }
        }
        Ok(None)
    }

    /// A flow's job left: notes what is warm from now on. One that was pulled forward is an exception
    /// that changes nothing, but that what it begins with is warm.
    pub(super) fn note_left(
        &mut self,
        line: &str,
        flow: &str,
        (prefix, was_pulled): (Option<&CachedPrefix>, bool),
    ) -> Result<(), Fault> {
        let before = self.warm_in(line, flow)?;
        let next = match (prefix, before) {
            (None, Some(warm)) if !was_pulled => Warm { row: 0, ..warm },
            (None, _) => return Ok(()),
            (Some(prefix), Some(warm)) if warm.digest != prefix.digest() && was_pulled => {
                return Ok(());
            }
            (Some(prefix), before) => {
                let row = before.filter(|warm| warm.digest == prefix.digest());
                let row = row.map_or(0, |warm| warm.row).saturating_add(1);
                let until = self.now.saturating_add(prefix.warm_ms().saturating_mul(1_000));
                Warm { digest: prefix.digest().to_owned(), until, row }
            }
        };
        self.save_warm(line, flow, &next)
    }

    /// What cannot go now keeps those that begin alike from going before the oldest.
    pub(super) fn cool(
        &mut self,
        line: &str,
        flow: &str,
        prefix: &CachedPrefix,
    ) -> Result<(), Fault> {
        match self.warm_in(line, flow)? {
            Some(warm) if warm.digest == prefix.digest() => {
                self.save_warm(line, flow, &Warm { row: MOST_ALIKE, ..warm })
            }
            _ => Ok(()),
        }
    }

    /// Forgets what was warm for a flow, in all lines.
    pub(super) fn forget_warm(&mut self, flow: &str) -> Result<(), Fault> {
        self.warm.retain_in((flow, "")..(flow, LAST_LINE), |_, _| false)?;
        Ok(())
    }

    fn warm_in(&self, line: &str, flow: &str) -> Result<Option<Warm>, Fault> {
        let found = self.warm.get((flow, line))?;
        let warm = found.map(|row| {
            let (digest, until, row) = row.value();
            Warm { digest: digest.to_owned(), until, row }
        });
        Ok(warm.filter(|warm| warm.until > self.now))
    }

    fn save_warm(&mut self, line: &str, flow: &str, warm: &Warm) -> Result<(), Fault> {
        self.warm.insert((flow, line), (warm.digest.as_str(), warm.until, warm.row))?;
        Ok(())
    }
}
