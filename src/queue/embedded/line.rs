//! Start-time fair queueing. A line has a virtual time and each of its flows a tag: the virtual
//! time its next item starts at. The flow with the lowest tag is served; that makes its tag the
//! virtual time and its next tag a turn more, divided by its weight. A flow that has become empty
//! keeps its tag until virtual time has passed it, and comes back at the later of both: it can
//! neither save up turns nor get more of them by submitting one item at a time. So does a flow that
//! waits aside because it runs all it may. When a whole line is empty nothing of it is remembered.
//!
//! Every second time at most, the job whose deadline is nearest is taken instead when it is near.
//! Its flow pays for it as for any other, and may be ahead of the others by so much and no more.
//!
//! Of a flow whose turn it is, those that begin as the one before did go first (see `together`).

use redb::ReadableTable;

use super::fault::Fault;
use super::place::micros;
use super::tables::{Change, Tables, flows_in, pulled_in};
use crate::domain::job::Owner;
use crate::queue::{MOST_AHEAD, MOST_PAST, NEAR};

/// What a turn of a flow of weight one adds to its tag.
const TURN: f64 = 1_048_576.0;

/// Whose turn it is.
struct Next {
    flow: String,
    tag: u64,
    by_deadline: bool,
}

impl Tables<'_> {
    /// How many items are ready in a line.
    pub(super) fn ready_in(&self, line: &str) -> Result<u64, Fault> {
        Ok(self.line(line)?.1)
    }

    /// How many of them are a flow's.
    pub(super) fn ready_of(&self, line: &str, flow: &str) -> Result<u64, Fault> {
        Ok(self.counts.get((line, flow))?.map_or(0, |count| count.value()))
    }

    /// Puts an item in its flow's part of a line.
    pub(super) fn line_up(
        &mut self,
        line: &str,
        flow: &str,
        id: &str,
        since: u64,
    ) -> Result<(), Fault> {
        let own = self.ready_of(line, flow)?;
        self.counts.insert((line, flow), own + 1)?;
        if own == 0 {
            self.count(&flows_in(line), 1)?;
        }
        let (time, count) = self.line(line)?;
        self.ready.insert((line, flow, id), since)?;
        self.waiting.insert((since, id), ())?;
        self.lines.insert(line, (time, count + 1))?;
        self.came.insert(line.to_owned());
        self.changed(Change::Light);
        self.join(line, flow)
    }

    /// A flow with something ready takes part in its line, unless it waits aside.
    pub(super) fn join(&mut self, line: &str, flow: &str) -> Result<(), Fault> {
        let known = self.tags.get((line, flow))?.map(|tag| tag.value());
        if matches!(known, Some((_, true))) || self.aside.get((flow, line))?.is_some() {
            return Ok(());
        }
        let finish = known.map_or(0, |(finish, _)| finish);
        self.idle.remove((line, finish, flow))?;
        let time = self.line(line)?.0;
        self.activate(line, flow, time.max(finish))
    }

    /// Whether a flow takes part in a line.
    pub(super) fn takes_part(&self, line: &str, flow: &str) -> Result<bool, Fault> {
        Ok(self.tags.get((line, flow))?.is_some_and(|tag| tag.value().1))
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
            self.aside.remove((flow, line))?;
            if self.takes_part(line, flow)? {
                let tag = self.tags.get((line, flow))?.map_or(0, |tag| tag.value().0);
                self.rest(line, flow, tag)?;
            }
        }
        self.forget_if_empty(line)
    }

    /// Takes out the item whose turn it is, but for these owners'.
    pub(super) fn serve(&mut self, line: &str, past: &[Owner]) -> Result<Option<String>, Fault> {
        while let Some(next) = self.next(line, past)? {
            let (flow, tag) = (next.flow.as_str(), next.tag);
            let state = self.flow(flow)?;
            let step = step(state.weight);
            if state.is_at_its_cap() {
                self.park(line, flow, tag)?;
            } else if next.by_deadline && self.is_far_ahead(line, tag, step)? {
                // Its next own turn presses it again.
                self.ease(line, flow)?;
            } else {
                return self.serve_flow(line, &next, step).map(Some);
            }
        }
        Ok(None)
    }

    /// The flow whose turn it is, by its deadline or by its tag.
    fn next(&self, line: &str, past: &[Owner]) -> Result<Option<Next>, Fault> {
        let near = self.now.saturating_add(micros(NEAR));
        if self.facts.get(pulled_in(line).as_str())?.is_none()
            && let Some((deadline, flow)) = self.most_pressing(line)?
            && deadline <= near
        {
            let tag = self.tags.get((line, flow.as_str()))?.map_or(0, |tag| tag.value().0);
            return Ok(Some(Next { flow, tag, by_deadline: true }));
        }
        for row in self.active.range((line, 0, "")..=(line, u64::MAX, LAST))?.take(MOST_PAST) {
            let row = row?;
            let (_, tag, flow) = row.0.value();
            if !past.iter().any(|owner| owner.has(flow)) {
                return Ok(Some(Next { flow: flow.to_owned(), tag, by_deadline: false }));
            }
        }
        Ok(None)
    }

    fn is_far_ahead(&self, line: &str, tag: u64, step: u64) -> Result<bool, Fault> {
        let first = self.active.range((line, 0, "")..=(line, u64::MAX, LAST))?.next();
        let stands = first.transpose()?.map_or(tag, |(key, _)| key.value().1);
        Ok(tag.saturating_sub(stands) > step.saturating_mul(MOST_AHEAD.into()))
    }

    /// Takes out a flow's oldest item, one that begins as the one before did, or the one whose
    /// deadline is nearest.
    fn serve_flow(&mut self, line: &str, next: &Next, step: u64) -> Result<String, Fault> {
        let (flow, tag) = (next.flow.as_str(), next.tag);
        let mut start = tag;
        let missing = || Fault::Odd(format!("flow {flow} is active in {line} and has nothing"));
        let (id, since) = if next.by_deadline {
            let (_, id) = self.nearest_of(line, flow)?.ok_or_else(missing)?;
            let since = self.ready.get((line, flow, id.as_str()))?.map(|since| since.value());
            (id, since.ok_or_else(missing)?)
        } else {
            self.next_of(line, flow)?.ok_or_else(missing)?
        };
        self.remove(line, flow, &id, since)?;
        let was_pulled = pulled_in(line);
        if next.by_deadline {
            self.facts.insert(was_pulled.as_str(), 1)?;
        } else {
            let (time, count) = self.line(line)?;
            // A flow that was looked past does not save up turns.
            start = tag.max(time);
            self.lines.insert(line, (start, count))?;
            self.facts.remove(was_pulled.as_str())?;
        }
        let next_tag = start.saturating_add(step);
        self.active.remove((line, tag, flow))?;
        if self.first_of(line, flow)?.is_some() {
            self.activate(line, flow, next_tag)?;
        } else {
            self.rest(line, flow, next_tag)?;
        }
        self.press(line, flow)?;
        let time = self.line(line)?.0;
        self.forget_passed(line, time)?;
        self.forget_if_empty(line)?;
        Ok(id)
    }

    /// A line's virtual time and how many are ready in it.
    fn line(&self, line: &str) -> Result<(u64, u64), Fault> {
        Ok(self.lines.get(line)?.map(|value| value.value()).unwrap_or_default())
    }

    /// The oldest item of a flow, and since when it waits.
    pub(super) fn first_of(&self, line: &str, flow: &str) -> Result<Option<(String, u64)>, Fault> {
        let mut range = self.ready.range((line, flow, "")..=(line, flow, LAST))?;
        let first = range.next().transpose()?;
        Ok(first.map(|(key, since)| (key.value().2.to_owned(), since.value())))
    }

    fn remove(&mut self, line: &str, flow: &str, id: &str, since: u64) -> Result<(), Fault> {
        self.ready.remove((line, flow, id))?;
        self.waiting.remove((since, id))?;
        let (time, count) = self.line(line)?;
        self.lines.insert(line, (time, count.saturating_sub(1)))?;
        let own = self.ready_of(line, flow)?;
        if own > 1 {
            self.counts.insert((line, flow), own - 1)?;
        } else {
            self.counts.remove((line, flow))?;
            self.count(&flows_in(line), -1)?;
        }
        self.changed(Change::Light);
        Ok(())
    }

    fn activate(&mut self, line: &str, flow: &str, tag: u64) -> Result<(), Fault> {
        self.active.insert((line, tag, flow), ())?;
        self.tags.insert((line, flow), (tag, true))?;
        Ok(())
    }

    /// A flow takes part no longer; its next item has this tag.
    pub(super) fn rest(&mut self, line: &str, flow: &str, tag: u64) -> Result<(), Fault> {
        let before = self.tags.get((line, flow))?.map(|tag| tag.value());
        if let Some((before, true)) = before {
            self.active.remove((line, before, flow))?;
        }
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
            self.facts.remove(pulled_in(line).as_str())?;
            self.facts.remove(flows_in(line).as_str())?;
        }
        Ok(())
    }
}

/// Sorts after every id and every flow, which are ASCII.
pub(super) const LAST: &str = "\u{7f}";

/// What a flow's turn adds to its tag.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and a cast keeps to what fits"
)]
fn step(weight: f64) -> u64 {
    ((TURN / weight).round() as u64).max(1)
}
