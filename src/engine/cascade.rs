//! Walking a job's route: one attempt after another until one answers.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::judge::backoff;
use super::next::Next;
use super::place::{Departure, Placement};
use super::run::{Permit, Run};
use super::unanswered::nobody;
use super::upkeep::expired;
use super::work::Work;
use crate::domain::result::Status;
use crate::queue::Verdict;

/// The longest pause before a job that every step has failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Walks the route from this departure on. The permit is held until the job leaves our hands.
pub(super) async fn walk(engine: Arc<Engine>, mut run: Run, departure: Departure, permit: Permit) {
    let mut tried = Vec::new();
    let mut departure = departure;
    loop {
        match engine.attempt(&mut run.work, &mut departure, &mut tried, &run.lost).await {
            Next::End(answer) => break engine.finish_answered(&run, *answer).await,
            Next::Fail(error) => break engine.finish_without(&run, Status::Failed, error).await,
            Next::Expire => {
                break engine.finish_without(&run, Status::Expired, expired()).await;
            }
            Next::Dropped => break,
            Next::Again => {}
            Next::Escalate => {
                engine.escalate(&mut run.work);
                tried.clear();
            }
            Next::Step => tried.push(departure.target.step.name()),
        }
        run.work.next_turn();
        if let Some(error) = run.work.given_up(engine.settings.max_attempts) {
            break engine.finish_without(&run, Status::Failed, error).await;
        }
        match engine.place(&mut run.work, &mut tried, Duration::ZERO).await {
            Ok(Placement::Go(next)) => departure = *next,
            Ok(Placement::Later(later)) => break engine.put_back(&run, later.wait).await,
            Ok(Placement::Nowhere) => break engine.after_last_step(&run).await,
            Ok(Placement::TooDear(error)) => {
                break engine.finish_without(&run, Status::Failed, error).await;
            }
            Ok(Placement::Spent(over)) => {
                break engine.finish_without(&run, Status::Failed, over.error()).await;
            }
            Err(fault) => {
                tracing::warn!(%fault, job.id = %run.work.job.id, "no turn could be asked for");
                break engine.put_back(&run, engine.settings.cooldown.0).await;
            }
        }
    }
    engine.held.remove(&run.lease);
    drop(permit);
}

impl Engine {
    /// Whether no step of its route can ever serve it.
    pub(super) fn is_hopeless(&self, work: &Work) -> bool {
        let steps = self.steps(&work.route, &work.wish());
        steps.iter().all(|step| work.progress.unservable.contains(&step.name()))
    }

    /// Every step was tried or cannot serve: pause, or fail when none ever can.
    async fn after_last_step(&self, run: &Run) {
        if self.is_hopeless(&run.work) {
            let error = nobody(&run.work);
            self.finish_without(run, Status::Failed, error).await;
        } else {
            let failures = run.work.progress.failures.saturating_add(run.work.progress.unreachable);
            let pause = backoff(self.settings.cooldown.0, failures / 2, self.chance.share());
            self.put_back(run, pause).await;
        }
    }

    /// Back into its line, with what it has been through.
    pub(super) async fn put_back(&self, run: &Run, after: Duration) {
        // A little apart, so that those put back together do not come back together.
        let spread = after.mul_f64(0.1 * self.chance.share());
        let after = (after + spread).clamp(Duration::from_millis(5), LONGEST_PAUSE);
        let progress = serde_json::to_vec(&run.work.progress).ok().map(Into::into);
        self.settle_surely(&run.lease, Verdict::Back { after, progress }).await;
    }
}
