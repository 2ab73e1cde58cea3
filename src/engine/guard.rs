//! What keeps live calls within what their callers and the accounts may do: fields of their own
//! requests that change the price, accounts that are shut, and counts of tokens.

use std::time::Duration;

use super::Engine;
use super::allowances::ANONYMOUS;
use super::breaker::REFUSED;
use super::catalog::Target;
use super::live::LiveError;
use super::named::Named;
use super::work::Work;
use crate::domain::prompt::{Dialect, Prompt};

/// Tiers of service that cost no more than what is told of prices.
const TIERS: [&str; 4] = ["auto", "default", "standard_only", "flex"];

/// Fields of `OpenRouter`'s by which a request costs more than its model does.
const DEARER: [&str; 2] = ["models", "plugins"];

/// How long a provider may take to count.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Refuses fields of a caller's own request that make it cost more than is reserved for it,
    /// where a budget must hold.
    pub(super) fn keeps_its_price(&self, work: &Work) -> Result<(), LiveError> {
        let allowance = self.catalog.allowance(&work.job.caller);
        let must_hold = allowance.is_some_and(|allowed| allowed.hard && allowed.limits_money());
        let Some(native) = work.prompt.native.as_ref().filter(|_| must_hold) else {
            return Ok(());
        };
        let given = |name: &str| native.body.get(name).filter(|value| !value.is_null());
        let tier = given("service_tier");
        let dear_tier =
            tier.is_some_and(|tier| tier.as_str().is_none_or(|it| !TIERS.contains(&it)));
        let dearer = dear_tier.then_some("service_tier");
        match dearer.or_else(|| DEARER.into_iter().find(|name| given(name).is_some())) {
            None => Ok(()),
            Some(field) => Err(LiveError::Unpayable(format!(
                "`{field}` may make the call cost more than is known of its model, so your budget \
                 could not be kept. Leave it out."
            ))),
        }
    }

    /// Why no account serves the work before this time has passed, when that is because their
    /// providers do not accept them.
    pub(super) async fn shut_out(&self, work: &Work, wait: Duration) -> Option<String> {
        let mut why = None;
        for step in self.steps(&work.route, &work.wish()) {
            let target = self.catalog.target(step)?;
            let gates = [target.account_gate(), target.step_gate()].map(str::to_owned);
            let shut = self.limiter.shut_gates(&gates).await.ok()?;
            let refused = shut.into_iter().find(|gate| REFUSED.contains(&gate.reason.as_str()))?;
            if refused.left + Duration::from_secs(1) < wait {
                return None;
            }
            why.get_or_insert_with(|| format!("{}: {}", step.name(), refused.reason));
        }
        why
    }

    /// The tokens a prompt has: as the first step's provider counts them, else our estimate.
    pub async fn count_tokens(&self, caller: &str, named: &Named, prompt: &Prompt) -> u64 {
        let route = match named {
            Named::Task(task) => {
                let asked = task.asked_live(prompt.clone());
                let asked = asked.as_ref().unwrap_or(prompt);
                return u64::from(asked.estimated_input_tokens());
            }
            Named::Route(route) => route,
        };
        if let Some(step) = route.steps.first()
            && let Some(target) = self.catalog.target(step)
            && self.may_count(caller, &target).await
        {
            match target.provider.count_tokens(&step.model, prompt, PATIENCE).await {
                Ok(Some(tokens)) => return tokens,
                Ok(None) => {}
                Err(fault) => tracing::warn!(%fault, "tokens are estimated, not counted"),
            }
        }
        u64::from(prompt.estimated_input_tokens())
    }

    /// Whether a provider may be asked to count: that is a call, too.
    async fn may_count(&self, caller: &str, target: &Target) -> bool {
        if caller.starts_with(ANONYMOUS) || target.provider.speaks() != Some(Dialect::Anthropic) {
            return false;
        }
        let gates: Vec<String> = target.all_gates().collect();
        let open = self.limiter.shut_gates(&gates).await.is_ok_and(|shut| shut.is_empty());
        open && self.admit(caller, 1, Some(0.0)).await.is_ok()
    }
}
