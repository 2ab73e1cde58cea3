//! What a job or a live call asks of the providers, and what it has been through.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::catalog::Target;
use super::judge::{attempt, cost_of_failure, outcome_of};
use super::tie::Tie;
use super::unfit::{Repair, Unfit};
use crate::domain::completion::Usage;
use crate::domain::job::Job;
use crate::domain::prompt::Prompt;
use crate::domain::result::{Attempt, Outcome};
use crate::domain::route::Route;
use crate::domain::task::Task;
use crate::provider::ProviderError;
use crate::telemetry::metrics;

/// What is asked of the providers. A live call has a job too, which is never stored.
pub(super) struct Work {
    pub(super) job: Box<Job>,
    pub(super) task: Arc<Task>,
    /// The route it walks now.
    pub(super) route: Arc<Route>,
    /// What the next call sends.
    pub(super) prompt: Prompt,
    /// The prompt without the repair turn, while one is to be taken.
    pub(super) plain: Option<Prompt>,
    /// Names the turn it asks for next.
    pub(super) turn: String,
    /// As estimated from the prompt's size.
    pub(super) input_tokens: u64,
    /// As the task's answers usually have.
    pub(super) output_tokens: u64,
    pub(super) progress: Progress,
    /// What ties it to where its prompt is cached.
    pub(super) tie: Tie,
}

/// What a job needs to be run.
pub(super) struct Prepared {
    pub(super) task: Arc<Task>,
    pub(super) route: Arc<Route>,
    pub(super) prompt: Prompt,
}

/// What a job has been through. Kept with it when it goes back into its line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Every call so far, but for what is dropped of very many.
    pub(super) attempts: Vec<Attempt>,
    /// How many calls were made.
    #[serde(default)]
    pub(super) made: usize,
    /// What they used together.
    pub(super) usage: Option<Usage>,
    /// What they cost together, as far as known.
    pub(super) cost_usd: f64,
    /// Whether some call's cost is not known.
    pub(super) unknown_cost: bool,
    /// Failed calls that waiting does not excuse.
    pub(super) failures: u32,
    /// Calls for which there was no connection: a line that is down for a while is no reason to
    /// give a job up.
    #[serde(default)]
    pub(super) unreachable: u32,
    /// From accept to the first attempt.
    pub(super) queued_ms: Option<u64>,
    /// Steps that can never serve this job.
    pub(super) unservable: Vec<String>,
    /// The best answer so far of those that did not fit the schema.
    #[serde(default)]
    pub(super) unfit: Option<Unfit>,
    /// The repair turn that is to be taken next.
    #[serde(default)]
    pub(super) repair: Option<Repair>,
    /// Whether the route it walks has had its repair turn.
    #[serde(default)]
    pub(super) repaired: bool,
    /// Whether it walks its task's escalation route.
    #[serde(default)]
    pub(super) escalated: bool,
    /// Whether some model's window did not hold the prompt, and the largest such window that is
    /// known, else 0.
    #[serde(default)]
    pub(super) too_long_for: Option<u64>,
    /// What chance has dealt it, when its route goes by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lot: Option<u64>,
}

/// Attempts kept on a receipt; rate-limited ones beyond this are dropped, the oldest first.
const KEPT_ATTEMPTS: usize = 50;

/// Names the turn a job asks for next. The same whoever asks for it and however often, so that a
/// job waits at the limiter once.
pub(super) fn turn_of(job: &Job, progress: &Progress) -> String {
    format!("{}/{}", job.id, progress.made.max(progress.attempts.len()))
}

impl Engine {
    /// What is asked of the providers for a job that has been through `progress`.
    pub(super) fn work(&self, job: Box<Job>, prepared: Prepared, mut progress: Progress) -> Work {
        let Prepared { task, route, mut prompt } = prepared;
        let tie = self.tie(&job, &mut prompt, &route);
        progress.lot = progress.lot.or_else(|| self.lot(&route, job.provider.as_ref()));
        Work {
            turn: turn_of(&job, &progress),
            input_tokens: u64::from(prompt.estimated_input_tokens()),
            output_tokens: self.learned.output_tokens(&task),
            job,
            task,
            route,
            prompt,
            plain: None,
            progress,
            tie,
        }
    }
}

impl Work {
    /// Names the turn asked for after one more attempt.
    pub(super) fn next_turn(&mut self) {
        self.turn = turn_of(&self.job, &self.progress);
        self.tie.since = None;
    }

    /// What the last call cost, as far as known.
    pub(super) fn last_cost(&self) -> Option<f64> {
        self.progress.attempts.last().and_then(|attempt| attempt.cost_usd)
    }

    /// Adds a call to the receipt.
    pub(super) fn charge(&mut self, usage: Option<Usage>, cost_usd: Option<f64>) {
        let progress = &mut self.progress;
        if let Some(usage) = usage {
            progress.usage = Some(progress.usage.unwrap_or_default().plus(usage));
        }
        match cost_usd {
            Some(cost) => progress.cost_usd += cost,
            None => progress.unknown_cost = true,
        }
    }

    /// Puts a failed call on the receipt.
    pub(super) fn failed(
        &mut self,
        target: &Target,
        error: &ProviderError,
        took: Duration,
    ) -> Outcome {
        let (step, outcome) = (&target.step, outcome_of(error));
        self.tie.lead = None;
        if cost_of_failure(error).is_none() {
            self.charge(None, None);
        }
        metrics::attempted(&step.account, &step.model, outcome.as_str(), took);
        tracing::info!(
            job.id = %self.job.id, account = step.account, model = step.model,
            outcome = outcome.as_str(), status = error.status, code = error.code,
            duration_ms = took.as_millis(), "attempt failed: {}", error.message
        );
        self.note(Attempt {
            retry_after_ms: error
                .retry_after
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            message: Some(error.message.clone()),
            ..attempt(step, outcome, error.status, took)
        });
        outcome
    }

    pub(super) fn note(&mut self, attempt: Attempt) {
        self.progress.made = self.progress.made.max(self.progress.attempts.len()) + 1;
        self.progress.attempts.push(attempt);
        while self.progress.attempts.len() > KEPT_ATTEMPTS {
            let limited = |attempt: &Attempt| attempt.outcome == Outcome::RateLimited;
            let oldest = self.progress.attempts.iter().position(limited).unwrap_or(0);
            self.progress.attempts.remove(oldest);
        }
    }
}
