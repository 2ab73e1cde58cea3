//! Why a job has no answer, in words that tell what to do.

use super::work::Work;
use crate::domain::result::{JobError, Outcome};
use crate::provider::codes;

/// So many times more calls may find no connection before a job is given up: about an hour.
const UNREACHABLE_MORE: u32 = 5;

impl Work {
    /// Failed too often?
    pub(super) fn given_up(&self, most: u32) -> Option<JobError> {
        let progress = &self.progress;
        let enough = progress.failures >= most
            || progress.unreachable >= most.saturating_mul(UNREACHABLE_MORE);
        enough.then(|| self.all_failed())
    }

    /// Nobody has answered.
    pub(super) fn all_failed(&self) -> JobError {
        let last = self.progress.attempts.last().map(|attempt| attempt.outcome);
        if let Some(best) = &self.progress.unfit
            && last == Some(Outcome::InvalidOutput)
        {
            return invalid_output(&best.told());
        }
        JobError {
            code: "providers_failed".to_owned(),
            message: format!(
                "All {} attempts failed; the last: {}",
                self.progress.attempts.len(),
                self.last()
            ),
            retryable: true,
            hint: Some("Replay the job once the providers are well again.".to_owned()),
        }
    }

    /// The last attempt in words.
    pub(super) fn last(&self) -> String {
        self.progress.attempts.last().map_or_else(
            || "there was none".to_owned(),
            |last| {
                let said = last.message.as_deref().unwrap_or(last.outcome.as_str());
                format!("{}/{} said: {said}", last.account, last.model)
            },
        )
    }
}

/// Nobody is left who could answer.
pub(super) fn nobody(work: &Work) -> JobError {
    let last = work.progress.attempts.last();
    let is_unfit = last.is_some_and(|last| last.outcome == Outcome::InvalidOutput);
    match &work.progress.unfit {
        Some(best) => invalid_output(&best.told()),
        None if is_unfit => invalid_output(&work.last()),
        None => no_step(work),
    }
}

/// No answer fits.
pub(super) fn invalid_output(told: &str) -> JobError {
    JobError {
        code: "invalid_output".to_owned(),
        message: format!(
            "No model's answer fits the task's output schema. The best one so far, which stands in \
             `text`: {told}"
        ),
        retryable: true,
        hint: Some(
            "Check the violations against the task's output_schema and max_output_tokens, or name a \
             route of stronger models in its escalate_to; then replay the job."
                .to_owned(),
        ),
    }
}

/// No step of the route can serve the job.
fn no_step(work: &Work) -> JobError {
    if let Some(window) = work.progress.too_long_for {
        return too_long(work, window);
    }
    JobError {
        code: "no_step".to_owned(),
        message: format!(
            "No step of route `{}` can serve this job; the last: {}",
            work.route.name,
            work.last()
        ),
        retryable: false,
        hint: Some("Check the route's models and the job's `provider` object.".to_owned()),
    }
}

/// No step's window holds the prompt.
fn too_long(work: &Work, window: u64) -> JobError {
    let widest = match window {
        0 => String::new(),
        window => format!(" (the largest window asked holds {window})"),
    };
    JobError {
        code: codes::CONTEXT_LENGTH.to_owned(),
        message: format!(
            "The prompt has about {} tokens and its answer may have {}; no step of route `{}` holds \
             that{widest}. The last: {}",
            work.input_tokens,
            work.prompt.max_output_tokens,
            work.route.name,
            work.last()
        ),
        retryable: false,
        hint: Some(
            "Shorten the prompt, or add a step with a larger window to the route.".to_owned(),
        ),
    }
}
