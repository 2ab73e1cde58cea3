//! Hedging: when the first step is slow to answer somebody who waits, a second one is asked. The
//! first answer wins; the other call is cancelled, and stands on the receipt with what its input is
//! estimated to cost.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Engine;
use super::ask::{Called, Form, Plan, Reply};
use super::judge::{attempt, cost_of_failure, end};
use super::place::{Departure, Placement};
use super::turn::Taken;
use super::work::Work;
use crate::domain::choice::After;
use crate::domain::job::Lane;
use crate::domain::result::{Attempt, Outcome};
use crate::domain::speed::Measure;
use crate::provider::ProviderError;
use crate::telemetry::metrics;

/// Hedges that a quiet time saves up, at the most.
const SAVED: f64 = 10.0;

/// What each route may still hedge: every call adds its share, every hedge takes one.
#[derive(Default)]
pub(super) struct Hedges(Mutex<HashMap<String, f64>>);

impl Hedges {
    fn change(&self, route: &str, by: f64) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = all.entry(route.to_owned()).or_default();
        // Tenths do not add up to one exactly.
        if *left + by < -1e-9 {
            return false;
        }
        *left = (*left + by).min(SAVED);
        true
    }
}

/// A call under way whose answer is not there yet: when it began, and where.
struct Rival {
    departure: Departure,
    taken: Taken,
    started: DateTime<Utc>,
}

impl Engine {
    /// When a second step is to be asked, if at all: only for somebody who waits, and not before
    /// it is known what is usual.
    pub(super) fn hedges_after(
        &self,
        work: &Work,
        departure: &Departure,
        form: Form,
    ) -> Option<Duration> {
        let hedge = work.route.rules.hedge.filter(|hedge| hedge.most > 0.0)?;
        if work.job.lane != Lane::Interactive {
            return None;
        }
        self.hedges.change(&work.route.name, hedge.most);
        let pace = self.paces.of(&departure.target.step.name());
        let usual = if form == Form::Pieces { pace.first_token } else { pace.latency };
        match hedge.after {
            After::Fixed(time) => Some(time),
            After::Usual(which) => Some(Duration::from_secs_f64(usual?.at(which).min(1e6))),
        }
    }

    /// A call that has begun, and another beside it once this time has passed without an answer.
    pub(super) async fn hedged(
        self: &Arc<Self>,
        work: &mut Work,
        (departure, tried): (&mut Departure, &mut Vec<String>),
        called: Called,
        (plan, after): (Plan, Duration),
    ) -> Called {
        let (prompt, first_target) = (work.prompt.clone(), Arc::clone(&departure.target));
        let mut first = pin!(self.one(&first_target, &prompt, plan));
        if let Some(answer) = within(after, first.as_mut()).await {
            return Called { answer, ..called };
        }
        let mut second = match self.second(work, departure, tried, first.as_mut()).await {
            Err(answer) => return Called { answer, ..called },
            Ok(None) => return Called { answer: first.await, ..called },
            Ok(Some(second)) => second,
        };
        let mut taken = second.taken.take().unwrap_or_else(|| Taken::over(self));
        if let Some(answer) = within(second.wait, first.as_mut()).await {
            return Called { answer, ..called };
        }
        taken.departs();
        second.begin();
        let started = self.begin(work);
        self.lead(work, &second.target);
        let plan = Plan::of(work, &second.target.step, started, plan.form);
        let second_target = Arc::clone(&second.target);
        let mut other = pin!(self.one(&second_target, &prompt, plan));
        let rival = Rival { departure: second, taken, started };
        tokio::select! {
            biased;
            answer = &mut first => match answer {
                Ok(answer) => {
                    self.lost(work, &rival.departure, rival.started);
                    metrics::hedged(&work.route.name, "first");
                    Called { answer: Ok(answer), ..called }
                }
                Err(error) => {
                    departure.pay_later(cost_of_failure(&error));
                    let won = rival.takes_over(departure, tried);
                    let Called { mut taken, started, .. } = called;
                    self.beaten(work, (&first_target, &mut taken), error, started);
                    metrics::hedged(&work.route.name, "second");
                    Called { answer: other.await, ..won }
                }
            },
            answer = &mut other => match answer {
                Ok(answer) => {
                    self.lost(work, departure, called.started);
                    metrics::hedged(&work.route.name, "second");
                    Called { answer: Ok(answer), ..rival.takes_over(departure, tried) }
                }
                Err(error) => {
                    let Rival { departure: second, mut taken, started } = rival;
                    tried.push(second.target.step.name());
                    second.pay_later(cost_of_failure(&error));
                    self.beaten(work, (&second_target, &mut taken), error, started);
                    metrics::hedged(&work.route.name, "first");
                    Called { answer: first.await, ..called }
                }
            },
        }
    }

    /// A turn at another step, when the route may hedge once more and one has room now; else the
    /// answer of the first call, when that comes meanwhile.
    async fn second(
        self: &Arc<Self>,
        work: &mut Work,
        departure: &Departure,
        tried: &[String],
        mut first: Pin<&mut impl Future<Output = Result<Reply, ProviderError>>>,
    ) -> Result<Option<Departure>, Result<Reply, ProviderError>> {
        let step = &departure.target.step;
        let most = self.most_cost(work, step);
        if (most.is_none() && work.job.max_cost_usd.is_some())
            || !self.hedges.change(&work.route.name, -1.0)
        {
            return Ok(None);
        }
        let spent = work.progress.cost_usd;
        let mut tried = tried.to_vec();
        tried.push(step.name());
        // The first call is not over: its turn and its cost are beside those of the second.
        let turn = format!("{}+", work.turn);
        let turn = std::mem::replace(&mut work.turn, turn);
        work.progress.cost_usd += most.unwrap_or_default();
        let placed = tokio::select! {
            biased;
            answer = &mut first => Err(answer),
            placed = self.seek(work, &tried, Duration::ZERO) => Ok(placed),
        };
        work.progress.cost_usd = spent;
        work.turn = turn;
        if let Ok(Ok(Placement::Go(departure))) = placed {
            return Ok(Some(*departure));
        }
        self.hedges.change(&work.route.name, 1.0);
        placed.map(|_nowhere| None)
    }

    /// Another call was answered first: this one is cancelled.
    fn lost(&self, work: &mut Work, departure: &Departure, started: DateTime<Utc>) {
        let (step, took) = (&departure.target.step, self.took(started));
        // It took at least as long. Without this, the slow calls would be missing among the usual.
        self.paces.note(&step.name(), (Measure::Latency, took.as_secs_f64()), self.clock.now());
        let cost_usd = self.price(step, work.input_tokens, 0);
        work.charge(None, cost_usd);
        // Nobody tells what it made of an answer until then.
        departure.pay_later(None);
        metrics::attempted(&step.account, &step.model, Outcome::Hedged.as_str(), took);
        let message = "Another step was asked beside this one and answered first. The cost is what \
                       the input is estimated to take.";
        let message = Some(message.to_owned());
        work.note(Attempt { cost_usd, message, ..attempt(step, Outcome::Hedged, None, took) });
    }

    /// A call failed while the other is under way.
    fn beaten(
        self: &Arc<Self>,
        work: &mut Work,
        (target, taken): (&Arc<super::catalog::Target>, &mut Taken),
        error: ProviderError,
        started: DateTime<Utc>,
    ) {
        let took = self.took(started);
        let answer = Err(error);
        taken.settle(target, end(&answer, Duration::ZERO, took));
        if let Err(error) = answer {
            // Whatever it means: the other may still answer.
            drop(self.failed(work, target, &error, (started, took)));
        }
    }
}

/// What comes within this time, if it does.
async fn within<T>(time: Duration, coming: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    // Timers are no finer than a millisecond.
    if time.is_zero() { None } else { tokio::time::timeout(time, coming).await.ok() }
}

impl Rival {
    /// The second call is the one that counts from now on.
    fn takes_over(self, departure: &mut Departure, tried: &mut Vec<String>) -> Called {
        let Self { departure: second, taken, started } = self;
        tried.push(departure.target.step.name());
        *departure = second;
        let answer: Result<Reply, ProviderError> = Err(super::ask::cancelled());
        Called { taken, started, answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_ten_is_hedged_and_a_quiet_time_saves_up_a_few() {
        let hedges = Hedges::default();
        assert!(!hedges.change("r", -1.0));
        let mut second = 0;
        for _ in 0..1_000 {
            hedges.change("r", 0.1);
            second += u32::from(hedges.change("r", -1.0));
        }
        assert_eq!(second, 100);
        for _ in 0..1_000 {
            hedges.change("r", 0.1);
        }
        let saved = (0..100).filter(|_| hedges.change("r", -1.0)).count();
        assert_eq!(saved, 10);
        assert!(!hedges.change("other", -1.0));
    }
}
