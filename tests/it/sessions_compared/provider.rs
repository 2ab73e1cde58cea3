//! A provider with prompt caches and limits as Anthropic has them, in virtual time. Caches are an
//! org's; a mark caches all before it, and the longest cached beginning is read wherever it ends;
//! an entry lives five minutes from its last use and is readable once the answer that wrote it
//! has begun; what is read from the cache does not count towards the limit of input tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use spillway::domain::completion::{Completion, Finish, Usage};
use spillway::domain::prompt::{CacheUse, Dialect, Prompt};
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
/// asks for more stalls the whole org; after the stall the bucket is full.
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
        let asked = Asked::of(prompt);
        let mut state = self.state.lock().unwrap();
        let cached = asked.ends.iter().filter(|end| state.reads(end, now)).max_by_key(|end| end.1);
        let (found, cached) = cached.map_or((None, 0), |(digest, tokens)| (Some(digest), *tokens));
        if let Err(wait) = state.count(self.limit, asked.input - cached, now) {
            return Err(limited(wait));
        }
        for key in found.into_iter().chain(asked.marks.iter().map(|(digest, _)| digest)) {
            let fresh = (now + LATENCY[0], now + TTL);
            let entry = state.cache.entry(key.clone()).or_insert(fresh);
            *entry = if now < entry.1 { (entry.0, now + TTL) } else { fresh };
        }
        let usage = Usage {
            input_tokens: asked.input,
            cached_input_tokens: cached,
            cache_write_tokens: asked.marked().saturating_sub(cached),
            output_tokens: OUTPUT,
            ..Usage::default()
        };
        state.seen.calls += 1;
        state.seen.hits += u64::from(cached * 2 > asked.input);
        state.seen.usage = state.seen.usage.plus(usage);
        Ok(usage)
    }
}

impl State {
    fn reads(&self, (digest, _): &(String, u64), now: Instant) -> bool {
        self.cache.get(digest).is_some_and(|(from, until)| *from <= now && now < *until)
    }

    /// Counts what is not read from the cache, or tells how long to wait.
    fn count(&mut self, limit: Limit, tokens: u64, now: Instant) -> Result<(), Duration> {
        let tokens = f64::from(u32::try_from(tokens).unwrap());
        self.left += now.saturating_duration_since(self.at).as_secs_f64() * limit.per_second;
        (self.left, self.at) = (self.left.min(limit.tokens), now.max(self.at));
        if now >= self.stalled && self.left < tokens {
            self.stalled = now + limit.stall;
            (self.left, self.at) = (limit.tokens, self.stalled);
        }
        if now < self.stalled {
            self.seen.refused += 1;
            return Err(self.stalled - now);
        }
        self.left -= tokens;
        Ok(())
    }
}

/// A prompt as a cache sees it: digests and tokens of its beginnings.
struct Asked {
    input: u64,
    /// Those that are marked to be kept, and long enough.
    marks: Vec<(String, u64)>,
    /// Those that are looked for.
    ends: Vec<(String, u64)>,
}

impl Asked {
    fn of(prompt: &Prompt) -> Self {
        let all: Vec<_> = prompt.prefixes();
        let own = (prompt.cache == CacheUse::All).then_some(all.len() - 1);
        let shared = all.iter().rposition(|prefix| prefix.shared);
        let marks: Vec<usize> =
            shared.filter(|_| prompt.cache != CacheUse::None).into_iter().chain(own).collect();
        let named = |index: usize| (all[index].digest.clone(), all[index].tokens);
        let before = marks.iter().flat_map(|mark| mark.saturating_sub(LOOK_BACK)..=*mark);
        Self {
            input: all.last().map_or(0, |prefix| prefix.tokens),
            ends: before.map(named).collect(),
            marks: marks.iter().copied().map(named).filter(|mark| mark.1 >= LEAST).collect(),
        }
    }

    fn marked(&self) -> u64 {
        self.marks.iter().map(|mark| mark.1).max().unwrap_or(0)
    }
}

/// Too many tokens: when to come back.
fn limited(wait: Duration) -> ProviderError {
    ProviderError {
        status: Some(429),
        retry_after: Some(Duration::from_secs_f64(wait.as_secs_f64().ceil())),
        ..ProviderError::new(ErrorClass::CooldownKey, codes::RATE_LIMITED, "too many tokens")
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

    fn speaks(&self) -> Option<Dialect> {
        Some(Dialect::Anthropic)
    }

    async fn check(&self, _timeout: Duration) -> Result<(), ProviderError> {
        Ok(())
    }
}
