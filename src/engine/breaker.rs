//! The circuit breaker: keeps everybody off a step, an account or an org's limits for a while.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Engine;
use super::catalog::Target;
use super::judge::backoff;
use crate::domain::result::Outcome;
use crate::provider::{ProviderError, codes};
use crate::telemetry::metrics;

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
            Outcome::Unauthorized => self.disable(target, error).await,
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
    /// Takes out a key that is not accepted or cannot pay, or the one model it may not use: until
    /// the provider said it may again, or for as long as the settings say.
    async fn disable(&self, target: &Target, error: &ProviderError) {
        let (step, code) = (&target.step, error.code);
        let time = error.retry_after.unwrap_or(self.settings.disabled.0);
        let (gate, reason) = match code {
            codes::MODEL_FORBIDDEN => (target.step_gate(), "the key may not use this model"),
            codes::INSUFFICIENT_QUOTA | codes::INSUFFICIENT_CREDITS => {
                (target.account_gate(), "the account cannot pay")
            }
            _ => (target.account_gate(), "the provider refused the key"),
        };
        metrics::disabled(&step.account, code);
        tracing::error!(
            account = step.account,
            model = step.model,
            status = error.status,
            code,
            seconds = time.as_secs(),
            "{reason}, so it is not asked for a while: {}",
            error.message
        );
        self.shut(&[gate], time, reason).await;
    }
}
