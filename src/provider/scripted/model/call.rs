//! One call to the model, from its arrival to its end.

use std::sync::Arc;
use std::time::Duration;

use super::super::answer::Answer;
use super::super::cache::Found;
use super::super::chance;
use super::super::dialect::Dialect;
use super::super::fault::Fault;
use super::super::limits::Units;
use super::super::refusal::Limited;
use super::Model;
use crate::domain::told::Told;

/// One call, from its arrival to its end: while it is held, it counts as under way.
pub struct Call {
    pub(super) outcome: Outcome,
    /// Of an answer that goes wrong in the middle: what it would have been.
    pub(super) partial: Option<Answer>,
    pub(super) cut_after: Option<usize>,
    pub(super) first: Duration,
    pub(super) latency: Duration,
    pub(super) told: Vec<Told>,
    pub(super) number: u64,
    pub(super) found: Option<Found>,
    pub(super) place: Option<(Arc<Model>, u64)>,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is answered.
    Answer(Answer),
    /// It goes wrong.
    Fault(Fault),
    /// There is no room for it.
    Limited(Limited),
}

impl Call {
    /// What becomes of it.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// How long that takes.
    pub const fn latency(&self) -> Duration {
        self.latency
    }

    /// How long it takes until the first word.
    pub const fn first(&self) -> Duration {
        self.first
    }

    /// What was said, or would have been if it did not go wrong in the middle.
    pub(in crate::provider::scripted) const fn said(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answer(answer) => Some(answer),
            Outcome::Fault(_) | Outcome::Limited(_) => self.partial.as_ref(),
        }
    }

    /// How it goes wrong.
    pub(in crate::provider::scripted) const fn fault(&self) -> Option<Fault> {
        match self.outcome {
            Outcome::Fault(fault) => Some(fault),
            Outcome::Answer(_) | Outcome::Limited(_) => None,
        }
    }

    /// After how many of so many units it is cut: where it was told, or anywhere.
    pub(in crate::provider::scripted) fn cut_after(&self, units: usize) -> usize {
        let anywhere = chance::scatter(self.number ^ 0xC07) % as_u64(units).max(1);
        let told = self.cut_after.unwrap_or_else(|| usize::try_from(anywhere).unwrap_or_default());
        told.min(units.saturating_sub(1))
    }

    /// Its first word leaves: from now on the prompt cache has what it wrote.
    pub(in crate::provider::scripted) fn begin(&mut self) {
        let found = self.found.take();
        let Some((found, (model, _))) = found.zip(self.place.as_ref()) else { return };
        let mut state = model.state();
        let now = model.clock.now().timestamp_micros();
        if let Some(cache) = &mut state.cache {
            cache.begun(&found, now);
        }
    }

    /// The call's number; the first is 1.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What the limits' headers tell.
    pub(in crate::provider::scripted) fn told(&self) -> &[Told] {
        &self.told
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some((model, place)) = self.place.take() {
            model.state().running.remove(&place);
        }
    }
}

/// What is decided about a call before the limits are asked.
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) fault: Option<Fault>,
    pub(super) dialect: Dialect,
    pub(super) first: Duration,
    pub(super) latency: Duration,
    /// What counts towards the limits.
    pub(super) units: Units,
    /// All tokens sent.
    pub(super) sent: u64,
    pub(super) found: Option<Found>,
}

impl Plan {
    pub(super) const fn call(&self, outcome: Outcome) -> Call {
        Call {
            outcome,
            partial: None,
            cut_after: None,
            first: self.first,
            latency: self.latency,
            told: Vec::new(),
            number: self.number,
            found: None,
            place: None,
        }
    }
}

fn as_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
