//! What ties a call to where its prompt is cached: its session and its beginnings.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Engine;
use super::warm::{Lead, Seen};
use crate::domain::choice::ProviderChoice;
use crate::domain::id::digest16;
use crate::domain::job::Job;
use crate::domain::prefix::Prefix;
use crate::domain::prompt::{CacheUse, Prompt, Role};
use crate::domain::route::{Route, Step};
use crate::domain::walk;
use crate::memory::{Bond, Known};

/// No provider caches less (Anthropic and OpenAI: from 512 or 1,024 tokens on, by model).
pub(super) const LEAST_TOKENS: u64 = 1_024;

/// How long a prompt is cached whose caller marks it for an hour.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// The latest boundaries that are looked for: providers look back no further (Anthropic: 20).
const LOOKED_FOR: usize = 24;

/// The latest boundaries that are bound: whoever goes on keeps all but the last of them.
const BOUND: usize = 4;

/// What ties a call to where its prompt is cached.
#[derive(Default)]
pub(super) struct Tie {
    /// The session the caller names.
    pub(super) session: Option<String>,
    /// What counts as one session: that, or how the conversation opens.
    root: String,
    /// The beginnings that are long enough to be cached, the shortest first.
    pub(super) prefixes: Vec<Prefix>,
    /// How long it stays cached.
    pub(super) time: Duration,
    /// Whether there is a choice between accounts.
    has_choice: bool,
    pub(super) looked: Mutex<Option<(DateTime<Utc>, Arc<Known>)>>,
    pub(super) since: Option<DateTime<Utc>>,
    /// The longest that its caller waits.
    pub(super) may_wait: Option<Duration>,
    /// What its call writes, while it is under way.
    pub(super) lead: Option<Arc<Lead>>,
}

impl Tie {
    /// All keys it may be bound by: the session, then beginnings.
    pub(super) fn keys(&self) -> Vec<String> {
        let old = self.prefixes.len().saturating_sub(LOOKED_FOR);
        let kept =
            |(index, prefix): &(usize, &Prefix)| *index >= old || prefix.shared || prefix.opening;
        let prefixes = self.prefixes.iter().enumerate().filter(kept);
        self.session.iter().cloned().chain(prefixes.map(|(_, p)| p.digest.clone())).collect()
    }

    /// What a success binds: all that a later call may begin with, if any of it was written.
    pub(super) fn bond(&self, place: &str, written: bool) -> Bond {
        let old = self.prefixes.len().saturating_sub(BOUND);
        let kept = |(index, prefix): &(usize, &Prefix)| {
            written && (*index >= old || prefix.shared || prefix.opening)
        };
        let prefixes = self.prefixes.iter().enumerate().filter(kept);
        let keys = self.session.iter().cloned().chain(prefixes.map(|(_, p)| p.digest.clone()));
        Bond {
            keys: keys.collect(),
            session: self.root.clone(),
            place: place.to_owned(),
            time: self.time,
        }
    }

    /// Whether there is nothing to be tied by.
    pub(super) fn is_loose(&self) -> bool {
        self.session.is_none() && self.prefixes.is_empty()
    }

    /// Whether it may go to several accounts.
    pub(super) fn has_choice(&self) -> bool {
        self.has_choice && !self.is_loose()
    }

    /// The answer has begun: others can read what was written.
    pub(super) fn begun(&self) {
        if let Some(lead) = &self.lead {
            lead.begun();
        }
    }

    pub(super) fn prefix(&self, key: &str) -> Option<&Prefix> {
        self.prefixes.iter().find(|prefix| prefix.digest == key)
    }

    /// How long it has waited for its turn.
    pub(super) fn waited(&self, now: DateTime<Utc>) -> Duration {
        self.since.and_then(|since| (now - since).to_std().ok()).unwrap_or_default()
    }
}

impl Engine {
    /// What ties a call to accounts, and what its prompt is to tell caches. Looks nothing up.
    pub(super) fn tie(&self, job: &Job, prompt: &mut Prompt, route: &Route) -> Tie {
        let session = job.session.as_ref().map(|name| digest16(&["session", &job.caller, name]));
        let long = u64::from(prompt.estimated_input_tokens()) >= LEAST_TOKENS;
        if session.is_none() && !long {
            return Tie::default();
        }
        let all = if long { prompt.prefixes() } else { Vec::new() };
        let opening = all.iter().find(|prefix| prefix.opening).map(|p| p.digest.clone());
        let prefixes: Vec<Prefix> =
            all.into_iter().filter(|prefix| prefix.tokens >= LEAST_TOKENS).collect();
        let goes_on =
            session.is_some() || prompt.messages.iter().any(|message| message.role != Role::User);
        prompt.cache = self.cache_use(job, &prefixes, goes_on);
        if prompt.cache_key.is_none() {
            let shared = prefixes.iter().rev().find(|prefix| prefix.shared);
            let shared = shared.map(|prefix| prefix.digest.clone());
            let own = if goes_on { opening.clone() } else { shared };
            prompt.cache_key = session.clone().or(own);
        }
        let hour = prompt.is_marked_for_an_hour().then_some(HOUR);
        Tie {
            root: session.clone().or(opening).unwrap_or_default(),
            session,
            prefixes,
            time: hour.unwrap_or(self.settings.sessions.ttl.0),
            has_choice: decides(route, job.provider.as_ref())
                && route.steps.windows(2).any(|pair| matches!(pair, [a, b] if alike(a, b))),
            ..Tie::default()
        }
    }

    /// How much of a prompt is worth being written to a cache: what is expected to come again
    /// before it is forgotten. A task's own instructions are expected the first time.
    fn cache_use(&self, job: &Job, prefixes: &[Prefix], goes_on: bool) -> CacheUse {
        let (now, id) = (self.clock.now(), job.id.as_str());
        let lately =
            |seen: Seen| matches!(seen, Seen::Ago(ago) if ago < self.settings.sessions.ttl.0);
        let own = self.catalog.task(&job.task).is_some_and(|task| task.system.is_some());
        let mut found = CacheUse::None;
        for prefix in prefixes {
            let seen = self.warmth.see(&prefix.digest, id, now);
            let first = prefix.shared && seen == Seen::Never && own;
            if lately(seen) || first {
                found = if prefix.shared { CacheUse::Shared } else { CacheUse::All };
            }
        }
        if goes_on && !prefixes.is_empty() { CacheUse::All } else { found }
    }
}

/// Whether two steps name the same model at the same vendor.
pub(super) fn alike(a: &Step, b: &Step) -> bool {
    a.provider == b.provider && a.model == b.model
}

/// Whether it is left to us which account comes first.
fn decides(route: &Route, choice: Option<&ProviderChoice>) -> bool {
    choice.is_none_or(|choice| choice.order.is_empty()) && !walk::by_chance(route, choice)
}
