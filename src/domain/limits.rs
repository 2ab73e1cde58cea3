//! An org's limits at a provider: pools of buckets, and what a call takes from them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bucket::{Quota, Resets, URGENT_ROOM};
use super::units::{Growth, Rate, Span, TimeOfDay};

/// What a provider counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Calls.
    Requests,
    /// Tokens sent.
    InputTokens,
    /// Tokens received.
    OutputTokens,
    /// Tokens sent and received together.
    Tokens,
}

impl Axis {
    /// The axis' name in metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Tokens => "tokens",
        }
    }
}

/// Over what time a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// A minute, or less.
    Minute,
    /// A day.
    Day,
}

impl Period {
    /// The period's name in metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
        }
    }

    /// How long it is.
    pub const fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Day => Duration::from_secs(86_400),
        }
    }
}

/// One entry of an account's `limits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Models that share these buckets; `*` stands for any text.
    #[serde(default = "any_model")]
    pub models: Vec<String>,
    /// Calls: `50/min`.
    #[serde(default)]
    pub requests: Option<Rate>,
    /// Tokens sent: `50000/min`.
    #[serde(default)]
    pub input_tokens: Option<Rate>,
    /// Tokens received: `10000/min`.
    #[serde(default)]
    pub output_tokens: Option<Rate>,
    /// Tokens sent and received together, as OpenAI, Groq and Cerebras count: `30000/min`.
    #[serde(default)]
    pub tokens: Option<Rate>,
    /// Calls in a day.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub requests_per_day: Option<u64>,
    /// Tokens sent and received in a day.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub tokens_per_day: Option<u64>,
    /// The time of day (UTC, `08:00`) at which a day's limits begin anew. Default: they come back
    /// evenly over the day, as Groq and most others have it.
    #[serde(default)]
    pub day_resets: Option<TimeOfDay>,
    /// Calls at the same time.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// How much of the rate the provider lets through at once. Spillway itself uses half of it:
    /// the other half absorbs the uneven way of requests through the network.
    #[serde(default = "one_second")]
    pub burst: Span,
    /// How fast use may grow from idle: `2x/10s`, begun at a tenth of the limits.
    #[serde(default)]
    pub ramp: Option<Growth>,
    /// Whether tokens read from the provider's prompt cache count. Default: as the provider counts.
    #[serde(default)]
    pub cached_input: Option<CachedInput>,
    /// Which way the provider's own words may correct these limits. Default: down.
    #[serde(default)]
    pub learn: Option<Learn>,
}

/// Whether tokens read from a provider's prompt cache count as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CachedInput {
    /// They do not.
    Free,
    /// They do.
    Counted,
}

/// Which way a provider's own words may correct a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Learn {
    /// Not at all: the figures are pinned.
    Off,
    /// Down only: the operator may have left room for other software on purpose.
    #[default]
    Down,
    /// Both ways: the figures were guessed.
    Both,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            models: any_model(),
            requests: None,
            input_tokens: None,
            output_tokens: None,
            tokens: None,
            requests_per_day: None,
            tokens_per_day: None,
            day_resets: None,
            concurrency: None,
            burst: one_second(),
            ramp: None,
            cached_input: None,
            learn: None,
        }
    }
}

fn any_model() -> Vec<String> {
    vec!["*".to_owned()]
}

const fn one_second() -> Span {
    Span::secs(1)
}

/// The part of a provider's burst that we use ourselves; see [`LimitSettings::burst`].
const BURST_SHARE: f64 = 0.5;

/// A provider may count a minute as it slides rather than leak: what leaves at once and what leaks
/// in a minute must then fit together. The rate gives way by the burst, by one part in 200 at
/// least and one in 80 at most: a burst larger than that speaks of a bucket.
const GIVES_WAY: (f64, f64) = (0.005, 0.0125);

impl LimitSettings {
    /// Whether these limits count this model.
    pub fn counts(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| glob(pattern, model))
    }

    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.rates().iter().all(|(_, rate)| rate.is_none())
            && self.days().iter().all(|(_, amount)| amount.is_none())
            && self.concurrency.is_none()
    }

    /// The axis that has a daily limit twice, as an amount and as a rate.
    pub fn said_twice(&self) -> Option<Axis> {
        let daily = |wanted: Axis| {
            let said = |(axis, rate): (Axis, Option<Rate>)| {
                axis == wanted && rate.is_some_and(|rate| rate.per >= Period::Day.length())
            };
            self.rates().into_iter().any(said)
        };
        let both = |(axis, amount): &(Axis, Option<u64>)| amount.is_some() && daily(*axis);
        self.days().into_iter().find(both).map(|(axis, _)| axis)
    }

    /// The rates, by axis.
    pub const fn rates(&self) -> [(Axis, Option<Rate>); 4] {
        [
            (Axis::Requests, self.requests),
            (Axis::InputTokens, self.input_tokens),
            (Axis::OutputTokens, self.output_tokens),
            (Axis::Tokens, self.tokens),
        ]
    }

    /// A day's amounts, by axis.
    pub const fn days(&self) -> [(Axis, Option<u64>); 2] {
        [(Axis::Requests, self.requests_per_day), (Axis::Tokens, self.tokens_per_day)]
    }

    /// The buckets these limits stand for, in an org's name.
    pub fn pool(&self, org: &str) -> Pool {
        let limited = self.rates().into_iter();
        let rated = limited.filter_map(|(axis, rate)| Some(self.bucket(axis, rate?)));
        let twice = self.said_twice();
        let days = self.days().into_iter().filter(|(axis, _)| Some(*axis) != twice);
        let daily = days.filter_map(|(axis, amount)| {
            Some(self.day_bucket(axis, Rate { amount: amount?, per: Period::Day.length() }))
        });
        Pool {
            id: format!("{org}/{}", self.models.join(",")),
            buckets: rated.chain(daily).collect(),
            concurrency: self.concurrency,
            counts_cached_input: self.cached_input != Some(CachedInput::Free),
            learn: self.learn.unwrap_or_default(),
        }
    }

    fn bucket(&self, axis: Axis, rate: Rate) -> Bucket {
        if rate.per >= Period::Day.length() {
            return self.day_bucket(axis, rate);
        }
        let per_second = rate.per_second();
        #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
        let limit = rate.amount as f64 * 60.0 / rate.per.as_secs_f64();
        let burst = (per_second * self.burst.0.as_secs_f64() * BURST_SHARE).max(1.0);
        let most = burst * URGENT_ROOM;
        let beside = if axis == Axis::Requests { most - 1.0 } else { most };
        let in_period = per_second * rate.per.as_secs_f64();
        let gives_way = (beside / in_period).clamp(GIVES_WAY.0, GIVES_WAY.1);
        let ramp = self.ramp.map(Into::into);
        let leaks = per_second / 1e6 * (1.0 - gives_way);
        // What is counted by the hour may take an hour's worth at once.
        let most = limit * (rate.per.as_secs_f64() / 60.0).max(1.0);
        let quota = Quota { rate: leaks, burst, ramp, resets: None };
        Bucket { axis, per: Period::Minute, limit, most, quota }
    }

    fn day_bucket(&self, axis: Axis, rate: Rate) -> Bucket {
        let day = Period::Day.length().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^53")]
        let limit = rate.amount as f64 * day / rate.per.as_secs_f64();
        let resets = self.day_resets.map(|at| Resets {
            period: day * 1e6,
            offset: at.since_midnight().as_secs_f64() * 1e6,
        });
        let quota = Quota { resets, ..Quota::even(limit / day / 1e6, limit) };
        Bucket { axis, per: Period::Day, limit, most: limit, quota }
    }
}

/// One limit on one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// What it counts.
    pub axis: Axis,
    /// Over what time.
    pub per: Period,
    /// Units in that time, as configured.
    pub limit: f64,
    /// The most that one call may take. One of more can never be served.
    pub most: f64,
    /// Its arithmetic.
    pub quota: Quota,
}

impl Bucket {
    /// The bucket's name within its pool, as it stands in the store.
    pub const fn key(&self) -> &'static str {
        match (self.per, self.axis) {
            (Period::Minute, Axis::Requests) => "r",
            (Period::Minute, Axis::InputTokens) => "i",
            (Period::Minute, Axis::OutputTokens) => "o",
            (Period::Minute, Axis::Tokens) => "t",
            (Period::Day, Axis::Requests) => "R",
            (Period::Day, Axis::InputTokens) => "I",
            (Period::Day, Axis::OutputTokens) => "O",
            (Period::Day, Axis::Tokens) => "T",
        }
    }

    /// The bucket as it is now: as far as a learned limit and what refusals have left go. A day's
    /// bucket knows no rate that refusals could find.
    pub fn quota_at(&self, learned: f64, share: f64) -> Quota {
        match self.per {
            Period::Minute => self.quota.scaled(learned * share),
            Period::Day => self.quota.scaled(learned),
        }
    }
}

/// Buckets that are charged together: one org's limits for one family of models, or one
/// callback host's.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name; pools of one name are one, whoever asks.
    pub id: String,
    /// A bucket for each limit.
    pub buckets: Vec<Bucket>,
    /// Calls at the same time.
    pub concurrency: Option<u32>,
    /// Whether tokens read from the provider's prompt cache count as sent.
    pub counts_cached_input: bool,
    /// Which way the provider's own words may correct the limits.
    pub learn: Learn,
}

impl Pool {
    /// What a call takes from one of the pool's buckets.
    pub fn units(&self, bucket: &Bucket, cost: &Cost) -> f64 {
        let input = if self.counts_cached_input { cost.input } else { cost.input - cost.cached };
        match bucket.axis {
            Axis::Requests => cost.requests,
            Axis::InputTokens => input,
            Axis::OutputTokens => cost.output,
            Axis::Tokens => input + cost.output,
        }
    }

    /// The first bucket whose whole limit is less than this call takes: the call can never be
    /// served.
    pub fn too_small_for(&self, cost: &Cost) -> Option<&Bucket> {
        self.buckets.iter().find(|bucket| self.units(bucket, cost) > bucket.most)
    }

    /// How long the slowest of the buckets needs for this cost on average.
    pub fn drain_time(&self, cost: &Cost) -> Duration {
        let micros = self
            .buckets
            .iter()
            .map(|bucket| self.units(bucket, cost) / bucket.quota.rate)
            .fold(0.0, f64::max);
        Duration::from_secs_f64((micros / 1e6).min(1e9))
    }
}

/// What a call takes from its pools.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Calls: one, or none when nothing was sent.
    pub requests: f64,
    /// Tokens sent, cached or not.
    pub input: f64,
    /// The part of them that was read from the provider's prompt cache.
    pub cached: f64,
    /// Tokens received.
    pub output: f64,
}

impl Cost {
    /// One call with this many tokens.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub const fn call(input_tokens: u64, output_tokens: u64) -> Self {
        let (input, output) = (input_tokens as f64, output_tokens as f64);
        Self { requests: 1.0, input, cached: 0.0, output }
    }
}

/// Whether `text` fits a pattern in which `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    let mut rest = rest;
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("*", ""),
            ("claude-haiku-*", "claude-haiku-4-5"),
            ("a", "a"),
            ("*b*d", "abcd"),
            ("a**", "ab"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*", "ba"), ("*b", "abc"), ("a*a", "a")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn each_limit_is_a_bucket_of_its_own() {
        let settings = LimitSettings {
            requests: Rate::parse("600/min"),
            tokens: Rate::parse("6000/min"),
            requests_per_day: Some(1_000),
            ..LimitSettings::default()
        };
        let pool = settings.pool("acme");
        let keys: Vec<&str> = pool.buckets.iter().map(Bucket::key).collect();
        assert_eq!(keys, ["r", "t", "R"]);
        let cost = Cost { cached: 300.0, ..Cost::call(500, 50) };
        let units: Vec<f64> = pool.buckets.iter().map(|b| pool.units(b, &cost)).collect();
        assert_eq!(units, [1.0, 550.0, 1.0]);
        let free = LimitSettings { cached_input: Some(CachedInput::Free), ..settings };
        let pool = free.pool("acme");
        assert!((pool.units(&pool.buckets[1], &cost) - 250.0).abs() < 1e-9);
        assert!(pool.too_small_for(&Cost::call(5_000, 1_001)).is_some());
        assert!(pool.too_small_for(&Cost::call(5_000, 999)).is_none());
    }

    #[test]
    fn what_leaves_in_a_minute_stays_within_the_limit() {
        for text in ["600/min", "6000/min", "1000000/min"] {
            let rate = Rate::parse(text).unwrap();
            let pool =
                LimitSettings { input_tokens: Some(rate), ..LimitSettings::default() }.pool("acme");
            let quota = pool.buckets[0].quota;
            let most = quota.burst + quota.rate * 60e6;
            let used = most / (rate.per_second() * 60.0);
            assert!((0.97..=1.0).contains(&used), "{text}: {used}");
        }
    }
}
