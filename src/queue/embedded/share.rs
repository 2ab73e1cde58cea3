//! What each workflow has of the lines: how many of its jobs are open and how many run, and what it
//! may have. A flow of which as many jobs run as may waits aside of the lines it has something
//! ready in, until one of its leases ends.

use redb::ReadableTable;

use super::fault::Fault;
use super::line::LAST;
use super::tables::Tables;
use crate::domain::job::Share;

/// A flow's figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowState {
    /// Jobs that have not ended.
    pub(super) open: u64,
    /// Jobs in somebody's hands.
    pub(super) running: u64,
    /// Its weight.
    pub(super) weight: f64,
    /// The most that may run.
    pub(super) most: u64,
}

impl FlowState {
    /// Whether no further job may run.
    pub(super) const fn is_at_its_cap(&self) -> bool {
        self.running >= self.most
    }

    fn set(&mut self, share: Option<Share>) {
        let share = share.unwrap_or_default();
        self.weight = share.weight;
        self.most = share.max_running.unwrap_or(u64::MAX);
    }
}

impl Tables<'_> {
    /// A flow's figures; those of an ordinary one when it has no open jobs.
    pub(super) fn flow(&self, flow: &str) -> Result<FlowState, Fault> {
        let found = self.flows.get(flow)?.map(|row| row.value());
        let (open, running, weight, most) = found.unwrap_or((0, 0, 1.0, u64::MAX));
        Ok(FlowState { open, running, weight, most })
    }

    fn save_flow(&mut self, flow: &str, state: &FlowState) -> Result<(), Fault> {
        self.flows.insert(flow, (state.open, state.running, state.weight, state.most))?;
        Ok(())
    }

    /// Counts a new job, whose share is what counts from now on.
    pub(super) fn opened(&mut self, flow: &str, share: Option<Share>) -> Result<(), Fault> {
        let mut state = self.flow(flow)?;
        let was_at_its_cap = state.is_at_its_cap();
        state.open += 1;
        state.set(share);
        self.save_flow(flow, &state)?;
        if was_at_its_cap && !state.is_at_its_cap() { self.unpark(flow) } else { Ok(()) }
    }

    /// Counts a job that is run again. What a push said since counts more than what its own said.
    pub(super) fn reopened(&mut self, flow: &str, share: Option<Share>) -> Result<(), Fault> {
        let mut state = self.flow(flow)?;
        if state.open == 0 {
            return self.opened(flow, share);
        }
        state.open += 1;
        self.save_flow(flow, &state)
    }

    /// Counts a job that ended. Of a flow without open jobs nothing is kept.
    pub(super) fn ended(&mut self, flow: &str) -> Result<(), Fault> {
        let mut state = self.flow(flow)?;
        state.open = state.open.saturating_sub(1);
        if state.open > 0 {
            return self.save_flow(flow, &state);
        }
        self.flows.remove(flow)?;
        self.forget_warm(flow)?;
        self.unpark(flow)
    }

    /// Counts a job that somebody took.
    pub(super) fn took(&mut self, flow: &str) -> Result<(), Fault> {
        let mut state = self.flow(flow)?;
        state.running += 1;
        self.save_flow(flow, &state)
    }

    /// Counts a job that is in nobody's hands any more: its flow may run another.
    pub(super) fn released(&mut self, flow: &str) -> Result<(), Fault> {
        let mut state = self.flow(flow)?;
        state.running = state.running.saturating_sub(1);
        self.save_flow(flow, &state)?;
        if state.is_at_its_cap() { Ok(()) } else { self.unpark(flow) }
    }

    /// Puts a flow aside of a line, with the tag its next item has.
    pub(super) fn park(&mut self, line: &str, flow: &str, tag: u64) -> Result<(), Fault> {
        self.rest(line, flow, tag)?;
        self.aside.insert((flow, line), ())?;
        self.press(line, flow)
    }

    /// Lets a flow take part again in all lines it waits aside of.
    fn unpark(&mut self, flow: &str) -> Result<(), Fault> {
        let lines: Vec<String> = self
            .aside
            .range((flow, "")..(flow, LAST_LINE))?
            .map(|row| Ok::<_, Fault>(row?.0.value().1.to_owned()))
            .collect::<Result<_, _>>()?;
        for line in lines {
            self.aside.remove((flow, line.as_str()))?;
            self.join(&line, flow)?;
            self.press(&line, flow)?;
            self.came.insert(line);
        }
        Ok(())
    }

    /// How many jobs ready in a line have their deadline before a moment, and in what order, is
    /// kept for the line, for each flow, and for the nearest of each flow that takes part.
    pub(super) fn hurry(
        &mut self,
        line: &str,
        flow: &str,
        (deadline, id): (u64, &str),
    ) -> Result<(), Fault> {
        self.hurried.insert((line, deadline, id), ())?;
        self.hurried_of.insert((line, flow, deadline, id), ())?;
        self.press(line, flow)
    }

    /// A ready job's deadline counts no longer.
    pub(super) fn shed(
        &mut self,
        line: &str,
        flow: &str,
        (deadline, id): (u64, &str),
    ) -> Result<(), Fault> {
        self.hurried.remove((line, deadline, id))?;
        self.hurried_of.remove((line, flow, deadline, id))?;
        self.press(line, flow)
    }

    /// The nearest deadline of a flow's ready jobs, and whose it is.
    pub(super) fn nearest_of(
        &self,
        line: &str,
        flow: &str,
    ) -> Result<Option<(u64, String)>, Fault> {
        let range = (line, flow, 0, "")..=(line, flow, u64::MAX, LAST);
        let first = self.hurried_of.range(range)?.next().transpose()?;
        Ok(first.map(|(key, _)| {
            let (_, _, deadline, id) = key.value();
            (deadline, id.to_owned())
        }))
    }

    /// The flow that takes part in a line with the nearest deadline there.
    pub(super) fn most_pressing(&self, line: &str) -> Result<Option<(u64, String)>, Fault> {
        let range = (line, 0, "")..=(line, u64::MAX, LAST);
        let first = self.pressing.range(range)?.next().transpose()?;
        Ok(first.map(|(key, _)| {
            let (_, deadline, flow) = key.value();
            (deadline, flow.to_owned())
        }))
    }

    /// Makes a flow's nearest deadline known to its line, as long as the flow takes part.
    pub(super) fn press(&mut self, line: &str, flow: &str) -> Result<(), Fault> {
        self.ease(line, flow)?;
        if let Some((deadline, _)) = self.nearest_of(line, flow)?
            && self.takes_part(line, flow)?
        {
            self.pressing.insert((line, deadline, flow), ())?;
            self.pressed.insert((line, flow), deadline)?;
        }
        Ok(())
    }

    /// Lets a flow's deadlines wait until its own turn.
    pub(super) fn ease(&mut self, line: &str, flow: &str) -> Result<(), Fault> {
        let before = self.pressed.remove((line, flow))?.map(|row| row.value());
        if let Some(before) = before {
            self.pressing.remove((line, before, flow))?;
        }
        Ok(())
    }
}

/// Sorts after every line's name, in which a route's name may have any letters.
pub(super) const LAST_LINE: &str = "s";
