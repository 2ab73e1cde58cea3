//! Start-time fair queueing. A line has a virtual time and each of its flows a tag: the virtual
//! time its next item starts at. The flow with the lowest tag is served; that makes its tag the
//! virtual time and its next tag one more. A flow that has become empty keeps its tag until
//! virtual time has passed it, and comes back at the later of both: it can neither save up turns
//! nor get more of them by submitting one item at a time. When a whole line is empty nothing of
//! it is remembered.

use redb::ReadableTable;

use super::fault::Fault;
use super::tables::{Change, Tables};

impl Tables<'_> {
    /// How many items are ready in a line.
    pub(super) fn ready_in(&self, line: &str) -> Result<u64, Fault> {
        Ok(self.line(line)?.1)
    }

    /// Puts an item in its flow's part of a line.
    pub(super) fn line_up(
        &mut self,
        line: &str,
        flow: &str,
        id: &str,
        since: u64,
    ) -> Result<(), Fault> {
        let (time, count) = self.line(line)?;
        self.ready.insert((line, flow, id), since)?;
        self.waiting.insert((since, id), ())?;
        self.lines.insert(line, (time, count + 1))?;
        self.came = true;
        self.changed(Change::Light);
        let known = self.tags.get((line, flow))?.map(|tag| tag.value());
        if matches!(known, Some((_, true))) {
            return Ok(());
        }
        let finish = known.map_or(0, |(finish, _)| finish);
        self.idle.remove((line, finish, flow))?;
        self.activate(line, flow, time.max(finish))
    }

    /// Takes an item out of a line that is not served but withdrawn: no turn is used.
    pub(super) fn withdraw(
        &mut self,
        line: &str,
        flow: &str,
        id: &str,
        since: u64,
    ) -> Result<(), Fault> {
        self.remove(line, flow, id, since)?;
        if self.first_of(line, flow)?.is_none() {
            let tag = self.tags.get((line, flow))?.map_or(0, |tag| tag.value().0);
            self.active.remove((line, tag, flow))?;
            self.rest(line, flow, tag)?;
        }
        self.forget_if_empty(line)
    }

    /// Takes out the item whose turn it is.
    pub(super) fn serve(&mut self, line: &str) -> Result<Option<String>, Fault> {
        let first =
            self.active.range((line, 0, "")..=(line, u64::MAX, LAST))?.next().transpose()?;
        let Some((tag, flow)) = first.map(|(key, _)| {
            let (_, tag, flow) = key.value();
            (tag, flow.to_owned())
        }) else {
            return Ok(None);
        };
        let Some((id, since)) = self.first_of(line, &flow)? else {
            return Err(Fault::Odd(format!("flow {flow} is active in {line} and has nothing")));
        };
        self.remove(line, &flow, &id, since)?;
        let (_, count) = self.line(line)?;
        self.lines.insert(line, (tag, count))?;
        self.active.remove((line, tag, flow.as_str()))?;
        let next = tag.saturating_add(1);
        if self.first_of(line, &flow)?.is_some() {
            self.activate(line, &flow, next)?;
        } else {
            self.rest(line, &flow, next)?;
        }
        self.forget_passed(line, tag)?;
        self.forget_if_empty(line)?;
        Ok(Some(id))
    }

    /// A line's virtual time and how many are ready in it.
    fn line(&self, line: &str) -> Result<(u64, u64), Fault> {
        Ok(self.lines.get(line)?.map(|value| value.value()).unwrap_or_default())
    }

    /// The oldest item of a flow, and since when it waits.
    fn first_of(&self, line: &str, flow: &str) -> Result<Option<(String, u64)>, Fault> {
        let mut range = self.ready.range((line, flow, "")..=(line, flow, LAST))?;
        let first = range.next().transpose()?;
        Ok(first.map(|(key, since)| (key.value().2.to_owned(), since.value())))
    }

    fn remove(&mut self, line: &str, flow: &str, id: &str, since: u64) -> Result<(), Fault> {
        self.ready.remove((line, flow, id))?;
        self.waiting.remove((since, id))?;
        let (time, count) = self.line(line)?;
        self.lines.insert(line, (time, count.saturating_sub(1)))?;
        self.changed(Change::Light);
        Ok(())
    }

    fn activate(&mut self, line: &str, flow: &str, tag: u64) -> Result<(), Fault> {
        self.active.insert((line, tag, flow), ())?;
        self.tags.insert((line, flow), (tag, true))?;
        Ok(())
    }

    fn rest(&mut self, line: &str, flow: &str, tag: u64) -> Result<(), Fault> {
        self.idle.insert((line, tag, flow), ())?;
        self.tags.insert((line, flow), (tag, false))?;
        Ok(())
    }

    /// Forgets idle flows whose tag virtual time has passed.
    fn forget_passed(&mut self, line: &str, time: u64) -> Result<(), Fault> {
        let passed: Vec<(u64, String)> = self
            .idle
            .range((line, 0, "")..=(line, time, LAST))?
            .map(|row| {
                let row = row?;
                let (_, tag, flow) = row.0.value();
                Ok::<_, Fault>((tag, flow.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        for (tag, flow) in passed {
            self.idle.remove((line, tag, flow.as_str()))?;
            self.tags.remove((line, flow.as_str()))?;
        }
        Ok(())
    }

    fn forget_if_empty(&mut self, line: &str) -> Result<(), Fault> {
        if self.line(line)?.1 == 0 {
            self.forget_passed(line, u64::MAX)?;
            self.lines.remove(line)?;
        }
        Ok(())
    }
}

/// Sorts after every id and every flow, which are ASCII.
const LAST: &str = "\u{7f}";
