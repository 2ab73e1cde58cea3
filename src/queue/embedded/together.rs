//! Jobs of a flow whose prompts begin alike leave together, while what they begin with is cached.

use redb::ReadableTable;

use super::fault::Fault;
use super::line::LAST;
use super::share::LAST_LINE;
use super::tables::{Entry, Kind, Tables};
use crate::domain::job::CachedPrefix;
use crate::queue::MOST_ALIKE;

/// The prefix of a flow that was answered last.
struct Warm {
    digest: String,
    /// Until when it is cached.
    until: u64,
    /// How many went before the oldest in a row.
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

    /// The item of a flow that goes next: the oldest that begins as the one that was answered last,
    /// or the oldest of all when enough of them went before it. Since when it waits.
    pub(super) fn next_of(
        &mut self,
        line: &str,
        flow: &str,
    ) -> Result<Option<(String, u64)>, Fault> {
        let oldest = self.first_of(line, flow)?;
        let Some(warm) = self.warm_in(line, flow)? else { return Ok(oldest) };
        let alike = if warm.row < MOST_ALIKE { self.alike_of(line, flow, &warm)? } else { None };
        let goes_before = alike.is_some() && alike != oldest;
        let row = if goes_before { warm.row + 1 } else { 0 };
        if row != warm.row {
            self.save_warm(line, flow, &Warm { row, ..warm })?;
        }
        Ok(alike.or(oldest))
    }

    fn alike_of(
        &self,
        line: &str,
        flow: &str,
        warm: &Warm,
    ) -> Result<Option<(String, u64)>, Fault> {
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

    /// A job that ran was answered: what it begins with is cached from now on.
    pub(super) fn warmed(&mut self, entry: &Entry) -> Result<(), Fault> {
        let (Some(prefix), Some((line, flow))) = (entry.prefix(), entry.line_and_flow()) else {
            return Ok(());
        };
        let row = self.warm_in(&line, flow.as_str())?.map_or(0, |warm| warm.row);
        let until = self.now.saturating_add(prefix.warm_ms().saturating_mul(1_000));
        let warm = Warm { digest: prefix.digest().to_owned(), until, row };
        self.save_warm(&line, flow.as_str(), &warm)
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
