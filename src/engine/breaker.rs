//! Keeps everybody off a step, an account or an org's limits for a while.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Engine;
use super::catalog::Target;
use super::circuit::Standing;
use super::judge::backoff;
use crate::domain::result::Outcome;
use crate::provider::{ProviderError, codes};
use crate::telemetry::metrics;

/// The longest a hinted step is kept shut.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest hold a provider's hint can cause. A longer hint is asked about again then.
const LONGEST_HOLD: Duration = Duration::from_secs(3_600);

const MODEL_REFUSED: &str = "the key may not use this model";
const CANNOT_PAY: &str = "the account cannot pay";
const KEY_REFUSED: &str = "the provider refused the key";

/// Why a gate is shut whose provider does not accept the account.
pub(super) const REFUSED: [&str; 3] = [MODEL_REFUSED, CANNOT_PAY, KEY_REFUSED];

/// Added to a provider's hint: some cut it to whole seconds.
const HINT_SLACK: Duration = Duration::from_millis(250);

impl Engine {
    /// Keeps everybody off a step that cannot serve now. The gates are shut in the background:
    /// whoever failed goes on to the next step meanwhile.
    pub(super) fn cool(
        self: &Arc<Self>,
        target: &Target,
        error: &ProviderError,
        outcome: Outcome,
        started: DateTime<Utc>,
    ) {
        match outcome {
            Outcome::RateLimited => self.hold(target, error, started),
            Outcome::Unauthorized => self.disable(target, error),
            Outcome::Overloaded | Outcome::TimedOut | Outcome::Unreachable | Outcome::Garbled => {
                self.pause(target, error, outcome, started);
            }
            Outcome::Answered
            | Outcome::InvalidOutput
            | Outcome::Rejected
            | Outcome::Refused
            | Outcome::Hedged => {}
        }
    }

    /// A limit was reached: no fault of the step's.
    fn hold(self: &Arc<Self>, target: &Target, error: &ProviderError, started: DateTime<Utc>) {
        // A hint is cut to whole seconds by some providers: come a little later.
        let hinted = error.retry_after.map(|wait| wait.min(LONGEST_HOLD) + HINT_SLACK);
        let unhinted = || {
            let name = target.step.name();
            let count = self.learned.limited(&name, started, self.clock.now())?;
            Some(backoff(Duration::from_secs(1), count, self.chance.share()))
        };
        if let Some(hold) = hinted.or_else(unhinted) {
            let gates = target.limit_gates().into_iter().map(str::to_owned).collect();
            self.shut_soon(gates, hold, "the provider answered 429");
        }
    }

    /// The step is in trouble.
    fn pause(
        self: &Arc<Self>,
        target: &Target,
        error: &ProviderError,
        outcome: Outcome,
        started: DateTime<Utc>,
    ) {
        let (name, now) = (target.step.name(), self.clock.now());
        let hinted = error.retry_after.map(|wait| wait.min(LONGEST_PAUSE));
        let cooled = self.circuits.failed(&name, started, now);
        let cooled =
            cooled.map(|count| backoff(self.settings.cooldown.0, count, self.chance.share()));
        if hinted.is_some() {
            self.circuits.found_shut(&name, now);
        }
        if let Some(time) = hinted.max(cooled) {
            self.shut_soon(vec![target.step_gate().to_owned()], time, outcome.as_str());
        }
    }

    fn shut_soon(self: &Arc<Self>, gates: Vec<String>, time: Duration, reason: &'static str) {
        let engine = Arc::clone(self);
        self.lifecycle.spawn(async move {
            let gates: Vec<&str> = gates.iter().map(String::as_str).collect();
            engine.shut(&gates, time, reason).await;
        });
    }

    /// How a step stands on this replica.
    pub fn standing(&self, step: &str) -> Standing {
        self.circuits.standing(step)
    }

    /// Takes out a key that is not accepted or cannot pay, or the one model it may not use: until
    /// the provider said it may again, or for as long as the settings say.
    fn disable(self: &Arc<Self>, target: &Target, error: &ProviderError) {
        let (step, code) = (&target.step, error.code);
        let time = error.retry_after.unwrap_or(self.settings.disabled.0);
        let (gate, reason) = match code {
            codes::MODEL_FORBIDDEN => (target.step_gate(), MODEL_REFUSED),
            codes::INSUFFICIENT_QUOTA => (target.account_gate(), CANNOT_PAY),
            _ => (target.account_gate(), KEY_REFUSED),
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
        self.shut_soon(vec![gate.to_owned()], time, reason);
    }
}
