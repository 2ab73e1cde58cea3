//! A provider with prompt caches and limits as Anthropic has them, in virtual time. Caches are an
//! org's; a mark caches all before it, and the longest cached beginning is read wherever it ends;
//! an entry lives five minutes from its last use and is readable once the answer that wrote it
//! has begun; what is read from the cache does not count towards the limit of input tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use spillway::domain::completion::{Completion, Finish, Usage};
use spillway::domain::prompt::{CacheUse, Prompt};
use spillway::provider::{ErrorClass, Provider, ProviderError, codes};
use tokio::time::Instant;

/// How long an entry lives after its last use.
const TTL: Duration = Duration::from_secs(300);
/// Fewer tokens are not cached.
const LEAST: u64 = 1_024;
/// Blocks looked at before a mark.
const LOOK_BACK: usize = 20;
/// From the call to the answer's first token, and to its last.
const LATENCY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(9)];
/// Tokens of each answer.
const OUTPUT: u64 = 470;

/// An org's limit on uncached input: a bucket of this many tokens, filled at this rate. Whoever
/// asks for more is refused, and the whole org for as long as the stall lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) tokens: f64,
    pub(super) per_second: f64,
    pub(super) stall: Duration,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: u64,
    pub(super) refused: u64,
    pub(super) usage: Usage,
    /// Calls that read from the cache.
    pub(super) hits: u64,
}

/// An org.
pub(super) struct Org {
    limit: Limit,
    state: Mutex<State>,
}

struct State {
    left: f64,
    at: Instant,
    stalled: Instant,
    /// By digest of the beginning: when it can be read, and until when.
    cache: HashMap<String, (Instant, Instant)>,
    seen: Seen,
}

impl Org {
    pub(super) fn new(limit: Limit) -> Arc<Self> {
        let state = State {
            left: limit.tokens,
            at: Instant::now(),
            stalled: Instant::now(),
            cache: HashMap::new(),
            seen: Seen::default(),
        };
        Arc::new(Self { limit, state: Mutex::new(state) })
    }

    pub(super) fn seen(&self) -> Seen {
        self.state.lock().unwrap().seen
    }

    /// Lets a call in: what it uses.
    fn admit(&self, prompt: &Prompt) -> Result<Usage, ProviderError> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap();
        let prefixes = prompt.prefixes();
        let input = prefixes.last().map_or(0, |prefix| prefix.tokens);
        let mut marks = Vec::new();
        if prompt.cache != CacheUse::None {
            marks.extend(prefixes.iter().rposition(|prefix| prefix.shared));
        }
        if prompt.cache == CacheUse::All {
            marks.push(prefixes.len() - 1);
        }
        let readable = |index: &usize| {
            let entry = state.cache.get(&prefixes[*index].digest);
            entry.is_some_and(|(from, until)| *from <= now && now < *until)
        };
        let looked = marks.iter().flat_map(|mark| mark.saturating_sub(LOOK_BACK)..=*mark);
        let found = looked.filter(readable).max();
        let cached = found.map_or(0, |index| prefixes[index].tokens);
        let marked = marks.iter().map(|mark| prefixes[*mark].tokens);
        let written = marked.filter(|tokens| *tokens >= LEAST).max().unwrap_or(0);
        let cache_write_tokens = written.saturating_sub(cached);
        let plain = input - cached;
        state.left += (now - state.at).as_secs_f64() * self.limit.per_second;
        (state.left, state.at) = (state.left.min(self.limit.tokens), now);
        if state.left < plain as f64 {
            state.stalled = state.stalled.max(now + self.limit.stall);
        }
        if now < state.stalled {
            state.seen.refused += 1;
            let wait = (state.stalled - now).as_secs_f64();
            return Err(ProviderError {
                status: Some(429),
                retry_after: Some(Duration::from_secs_f64(wait.ceil())),
                ..ProviderError::new(
                    ErrorClass::CooldownKey,
                    codes::RATE_LIMITED,
                    "too many tokens",
                )
            });
        }
        state.left -= plain as f64;
        if let Some(index) = found {
            let entry = state.cache.get_mut(&prefixes[index].digest).unwrap();
            entry.1 = now + TTL;
        }
        for mark in marks.into_iter().filter(|mark| prefixes[*mark].tokens >= LEAST) {
            let fresh = (now + LATENCY[0], now + TTL);
            let entry = state.cache.entry(prefixes[mark].digest.clone()).or_insert(fresh);
            *entry = if now < entry.1 { (entry.0, now + TTL) } else { fresh };
        }
        let usage = Usage {
            input_tokens: input,
            cached_input_tokens: cached,
            cache_write_tokens,
            output_tokens: OUTPUT,
            ..Usage::default()
        };
        state.seen.calls += 1;
        state.seen.hits += u64::from(cached * 2 > input);
        state.seen.usage = state.seen.usage.plus(usage);
        Ok(usage)
    }
}

/// An account of an org.
pub(super) struct Key(pub(super) Arc<Org>);

#[async_trait]
impl Provider for Key {
    async fn complete(
        &self,
        model: &str,
        prompt: &Prompt,
        _timeout: Duration,
    ) -> Result<Completion, ProviderError> {
        let usage = self.0.admit(prompt)?;
        tokio::time::sleep(LATENCY[1]).await;
        Ok(Completion {
            model: model.to_owned(),
            text: "done".to_owned(),
            finish: Finish::Stop,
            usage: Some(usage),
            ..Completion::default()
        })
    }

    async fn check(&self, _timeout: Duration) -> Result<(), ProviderError> {
        Ok(())
    }
}
