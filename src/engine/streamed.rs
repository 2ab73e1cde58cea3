//! A live call's answer as it comes: passed on piece by piece, and accounted for at its end however
//! it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::Stream;

use super::Engine;
use super::ask::{Called, Form, Reply};
use super::catalog::Target;
use super::circuit::Probe;
use super::judge::{cost_of_failure, end};
use super::money::Purse;
use super::next::Next;
use super::place::Departure;
use super::run::Permit;
use super::turn::Taken;
use super::work::Work;
use crate::domain::completion::Completion;
use crate::domain::id::JobId;
use crate::domain::result::{Status, millis_between};
use crate::lifecycle::Lifecycle;
use crate::provider::ProviderError;
use crate::provider::stream::{Assembly, Event, Piece, Pieces, at_once, checked};

/// A stream whose first piece is there.
pub(super) struct Begun {
    pieces: Pieces,
    taken: Taken,
    waited: Duration,
    target: Arc<Target>,
    started: DateTime<Utc>,
    /// Its place at a step that is being tried is kept to the end.
    _probe: Option<Probe>,
    purse: Option<Purse>,
}

impl Begun {
    /// An answer that is there already, and accounted for.
    pub(super) fn whole(
        engine: &Arc<Engine>,
        completion: Completion,
        departure: &Departure,
    ) -> Self {
        Self {
            pieces: at_once(completion),
            taken: Taken::over(engine),
            waited: departure.wait,
            target: Arc::clone(&departure.target),
            started: engine.clock.now(),
            _probe: None,
            purse: None,
        }
    }
}

impl Begun {
    fn pay(&self, cost_usd: Option<f64>) {
        if let Some(purse) = &self.purse {
            purse.settle_later(cost_usd);
        }
    }
}

impl Engine {
    /// One call to a provider that answers piece by piece, up to the first piece.
    pub(super) async fn attempt_streamed(
        self: &Arc<Self>,
        work: &mut Work,
        departure: &mut Departure,
        tried: &mut Vec<String>,
    ) -> Result<Begun, Next> {
        let called = self.ask(work, departure, tried, Form::Pieces).await;
        let Called { mut taken, started, answer } = called;
        let (target, waited) = (Arc::clone(&departure.target), departure.wait);
        let error = match answer {
            Ok(reply) => {
                let pieces = match reply {
                    Reply::Pieces(pieces) => checked(pieces),
                    Reply::Whole(completion) => at_once(*completion),
                };
                work.tie.begun();
                let probe = departure.probe.take();
                let purse = departure.purse.take();
                return Ok(Begun { pieces, taken, waited, target, started, _probe: probe, purse });
            }
            Err(error) => error,
        };
        departure.pay_later(cost_of_failure(&error));
        let took = self.took(started);
        let next = self.failed(work, &target, &error, (started, took));
        taken.settle(&target, end(&Err(error), waited, took));
        Err(next)
    }
}

/// An answer as it comes.
pub struct Streamed {
    engine: Arc<Engine>,
    work: Work,
    begun: Begun,
    assembly: Option<Assembly>,
    warnings: Vec<String>,
    _permit: Permit,
}

impl Streamed {
    pub(super) fn new(engine: Arc<Engine>, work: Work, begun: Begun, permit: Permit) -> Self {
        let assembly = Some(Assembly::default());
        Self { engine, work, begun, assembly, warnings: Vec::new(), _permit: permit }
    }

    /// An answer that is there already, and accounted for.
    pub(super) fn of_whole(engine: Arc<Engine>, work: Work, begun: Begun, permit: Permit) -> Self {
        Self { engine, work, begun, assembly: None, warnings: Vec::new(), _permit: permit }
    }

    pub(super) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// What its caller is to be warned of: the end of its budget is near.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn lifecycle(&self) -> Lifecycle {
        self.engine.lifecycle.clone()
    }

    /// Names the call.
    pub fn id(&self) -> &JobId {
        &self.work.job.id
    }

    /// The model that answers.
    pub fn model(&self) -> &str {
        &self.begun.target.step.model
    }

    /// Whose model it is.
    pub fn provider(&self) -> &str {
        &self.begun.target.step.provider
    }

    /// Calls made to providers for it, the one that answers included.
    pub fn attempts(&self) -> usize {
        self.work.progress.attempts.len() + 1
    }

    /// The end has come: the turn is settled, and the receipt told.
    fn ended(&mut self, answer: Result<Completion, ProviderError>) {
        let Begun { target, started, taken, waited, .. } = &mut self.begun;
        let took = Duration::from_millis(millis_between(*started, self.engine.clock.now()));
        taken.settle(target, end(&answer, *waited, took));
        let (engine, target, started) = (Arc::clone(&self.engine), Arc::clone(target), *started);
        match answer {
            Ok(completion) => {
                engine.account(&mut self.work, &target, &completion, took);
                self.begun.pay(self.work.last_cost());
                let answer = engine.answer(&self.work, &target.step, completion, None);
                let result = engine.result_with(&self.work, answer);
                engine.told(&self.work.job, &result);
            }
            Err(error) => {
                // What was sent is paid for, and nobody tells how much that was.
                self.begun.pay(None);
                self.work.charge(None, None);
                let outcome = self.work.failed(&target, &error, took);
                let failed = self.work.all_failed();
                let result = engine.result_without(&self.work, Status::Failed, failed);
                engine.told(&self.work.job, &result);
                engine.cool(&target, &error, outcome, started);
            }
        }
    }
}

impl Stream for Streamed {
    type Item = Result<Piece, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.begun.pieces.as_mut().poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(piece))) => {
                if let Some(assembly) = &mut self.assembly {
                    piece.events.iter().for_each(|event| assembly.add(event));
                }
                if piece.events.iter().any(|event| matches!(event, Event::End(_)))
                    && let Some(assembly) = self.assembly.take()
                {
                    self.ended(Ok(assembly.completion()));
                }
            }
            Poll::Ready(Some(Err(error))) => {
                if self.assembly.take().is_some() {
                    self.ended(Err(error.clone()));
                }
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }
}

/// A caller that hangs up pays for what was sent: the charge stays as it was made.
impl Drop for Streamed {
    fn drop(&mut self) {
        if self.assembly.is_some() {
            tracing::info!(job.id = %self.work.job.id, "the caller is gone, call cancelled");
        }
    }
}
