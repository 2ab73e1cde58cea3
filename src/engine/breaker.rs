//! The circuit breaker: keeps everybody off a step, an account or an org's limits for a while.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Engine;
use super::catalog::Target;
use super::judge::backoff;
use crate::domain::result::Outcome;
use crate::provider::ProviderError;

/// The longest a hinted step is kept shut.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest hold a provider's hint can cause. A longer hint is asked about again then.
const LONGEST_HOLD: Duration = Duration::from_secs(3_600);

/// Added to a provider's hint: some cut it to whole seconds.
const HINT_SLACK: Duration = Duration::from_millis(250);

/// Failures of a step in a row that are forgiven before it is cooled.
const FORGIVEN: u32 = 2;

impl Engine {
    /// Keeps everybody off a step that cannot serve now.
    pub(super) async fn cool(
        &self,
        target: &Target,
        error: &ProviderError,
        outcome: Outcome,
        started: DateTime<Utc>,
    ) {
        let name = target.step.name();
        let failed = || self.learned.failed(&name, started, self.clock.now());
        match outcome {
            Outcome::RateLimited => {
                // A hint is cut to whole seconds by some providers: come a little later.
                let hinted = error.retry_after.map(|wait| wait.min(LONGEST_HOLD) + HINT_SLACK);
                let unhinted = || {
                    failed()
                        .map(|count| backoff(Duration::from_secs(1), count, self.chance.share()))
                };
                if let Some(hold) = hinted.or_else(unhinted) {
                    self.shut(&target.limit_gates(), hold, "the provider answered 429").await;
                }
            }
            Outcome::Unauthorized => {
                tracing::error!(
                    account = target.step.account,
                    status = error.status,
                    "account disabled: {}",
                    error.message
                );
                let time = self.settings.disabled.0;
                self.shut(&[target.account_gate()], time, "the provider refused the key").await;
            }
            Outcome::Overloaded | Outcome::TimedOut | Outcome::Unreachable | Outcome::Garbled => {
                let hinted = error.retry_after.map(|wait| wait.min(LONGEST_PAUSE));
                let cooled = failed()
                    .and_then(|failures| failures.checked_sub(FORGIVEN))
                    .filter(|beyond| *beyond > 0)
                    .map(|beyond| backoff(self.settings.cooldown.0, beyond, self.chance.share()));
                if let Some(time) = hinted.max(cooled) {
                    self.shut(&[target.step_gate()], time, outcome.as_str()).await;
                }
            }
            Outcome::Answered | Outcome::InvalidOutput | Outcome::Rejected | Outcome::Refused => {}
        }
    }
}
