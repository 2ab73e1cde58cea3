//! Providers that need no key and no network: each org enforces the limits configured for it,
//! answers after a latency and uses the tokens the arrival says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::arrivals::Arrival;
use super::meter::{Meter, Refusal};
use crate::clock::SharedClock;
use crate::config::Account;
use crate::domain::completion::{Completion, Finish, Usage};
use crate::domain::prompt::Prompt;
use crate::provider::{ErrorClass, Provider, ProviderError, SharedProvider, codes};

/// Makes the prompt of a simulated job: its row and tokens, then as many spaces as make the
/// prompt's estimate what the arrival says.
pub(super) const TEMPLATE: &str = "{{ row }} {{ input }} {{ output }}{{ ' ' * padding }}";

/// A job's input, for [`TEMPLATE`].
pub(super) fn input(row: usize, arrival: &Arrival) -> serde_json::Value {
    let (input, output) = (arrival.input_tokens, arrival.output_tokens);
    let said = format!("{row} {input} {output}");
    // Four bytes are a token, and a message counts as sixteen bytes more.
    let spoken = u64::try_from(said.len()).unwrap_or_default() + 16;
    let padding = (input * 4).saturating_sub(spoken);
    serde_json::json!({ "row": row, "input": input, "output": output, "padding": padding })
}

/// How long answers take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) base: Duration,
    pub(super) per_output_token: Duration,
    /// By which share it varies to both sides.
    pub(super) jitter: f64,
}

impl Latency {
    fn of(&self, output: u64, chance: f64) -> Duration {
        let each = self.per_output_token.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let whole = self.base.as_secs_f64() + each * output as f64;
        let swing = 1.0 + self.jitter * (2.0 * chance - 1.0);
        Duration::try_from_secs_f64(whole * swing).unwrap_or(Duration::MAX)
    }
}

/// A call a provider has seen. Moments are microseconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Which arrival it is for.
    pub(super) row: usize,
    pub(super) at: f64,
    pub(super) ended: f64,
    pub(super) input: u64,
    pub(super) output: u64,
    /// The pools that counted it.
    pub(super) pools: Vec<String>,
    /// The pool and axis for which it was answered 429.
    pub(super) refused: Option<(String, &'static str)>,
}

/// All providers, and what they have seen.
pub(super) struct World {
    clock: SharedClock,
    seed: u64,
    orgs: BTreeMap<String, Arc<Mutex<Vec<Meter>>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl World {
    /// The orgs of these accounts.
    pub(super) fn new(accounts: &[Account], clock: SharedClock, seed: u64) -> Self {
        let meters = |account: &Account| {
            let meters = account.limits.iter().map(|limits| Meter::new(limits, &account.org));
            (account.org.clone(), Arc::new(Mutex::new(meters.collect())))
        };
        let orgs = accounts.iter().map(meters).collect();
        Self { clock, seed, orgs, calls: Arc::default() }
    }

    /// The provider of an account.
    pub(super) fn provider(&self, account: &Account, latency: Latency) -> SharedProvider {
        Arc::new(Simulated {
            clock: Arc::clone(&self.clock),
            seed: self.seed,
            meters: self.orgs.get(&account.org).map(Arc::clone).unwrap_or_default(),
            calls: Arc::clone(&self.calls),
            latency,
        })
    }

    /// What was seen, in the order of the calls.
    pub(super) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.calls))
    }
}

/// One account's provider.
struct Simulated {
    clock: SharedClock,
    seed: u64,
    meters: Arc<Mutex<Vec<Meter>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    latency: Latency,
}

impl Simulated {
    /// Counts the call, unless a limit stands against it.
    fn admit(&self, model: &str, now: f64, tokens: (u64, u64)) -> Result<Running, Refused> {
        let mut meters = lock(&self.meters);
        let concerned = || meters.iter().filter(|meter| meter.counts(model));
        let refusals = concerned().filter_map(|meter| {
            let refusal = meter.look(now, tokens)?;
            Some(Refused { pool: meter.id().to_owned(), refusal })
        });
        if let Some(refused) = refusals.max_by_key(|refused| refused.refusal.wait) {
            return Err(refused);
        }
        let pools = concerned().map(|meter| meter.id().to_owned()).collect();
        for meter in meters.iter_mut().filter(|meter| meter.counts(model)) {
            meter.enter(now, tokens);
        }
        drop(meters);
        Ok(Running { meters: Arc::clone(&self.meters), model: model.to_owned(), pools })
    }

    fn latency(&self, row: usize, output: u64) -> Duration {
        let row = u64::try_from(row).unwrap_or_default();
        let seed = self.seed.wrapping_add(row.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        self.latency.of(output, StdRng::seed_from_u64(seed).random())
    }
}

/// A 429 and whose.
struct Refused {
    pool: String,
    refusal: Refusal,
}

/// A call under way. It leaves however it ends.
struct Running {
    meters: Arc<Mutex<Vec<Meter>>>,
    model: String,
    pools: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for meter in lock(&self.meters).iter_mut().filter(|meter| meter.counts(&self.model)) {
            meter.leave();
        }
    }
}

#[async_trait]
impl Provider for Simulated {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let (row, input, output) = read(prompt).ok_or_else(not_ours)?;
        #[expect(clippy::cast_precision_loss, reason = "exact up to the year 2255")]
        let now = self.clock.now().timestamp_micros() as f64;
        let call =
            Call { row, at: now, ended: now, input, output, pools: Vec::new(), refused: None };
        let running = match self.admit(model, now, (input, output)) {
            Ok(running) => running,
            Err(Refused { pool, refusal }) => {
                lock(&self.calls).push(Call { refused: Some((pool, refusal.axis)), ..call });
                return Err(ProviderError {
                    status: Some(429),
                    retry_after: Some(refusal.wait),
                    ..ProviderError::new(
                        ErrorClass::CooldownKey,
                        codes::RATE_LIMITED,
                        format!("the limit of {} is used up", refusal.axis),
                    )
                });
            }
        };
        let time = self.latency(row, output);
        let ended = now + time.min(timeout).as_secs_f64() * 1e6;
        lock(&self.calls).push(Call { ended, pools: running.pools.clone(), ..call });
        tokio::time::sleep(time.min(timeout)).await;
        drop(running);
        if time > timeout {
            let (class, code) = (ErrorClass::FailoverProvider, codes::TIMED_OUT);
            return Err(ProviderError::new(class, code, "no answer in time"));
        }
        let usage = Usage { input_tokens: input, output_tokens: output, ..Usage::default() };
        Ok(Completion {
            model: model.to_owned(),
            text: "simulated".to_owned(),
            tool_calls: Vec::new(),
            finish: Finish::Stop,
            usage: Some(usage),
            cost_usd: None,
            ..Completion::default()
        })
    }

    async fn check(&self, _timeout: Duration) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// Row and tokens, as [`TEMPLATE`] has written them.
fn read(prompt: &Prompt) -> Option<(usize, u64, u64)> {
    let text = prompt.messages.first()?.content.text();
    let mut words = text.split_ascii_whitespace();
    let row = words.next()?.parse().ok()?;
    Some((row, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn not_ours() -> ProviderError {
    let message = "the prompt is not a simulated one";
    ProviderError::new(ErrorClass::CallerError, codes::INVALID_REQUEST, message)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
