//! An org's limits at a provider: pools of buckets, and what a call takes from them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bucket::Quota;
use super::units::{Rate, Span};

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
    /// All axes, in the order the limiter stores them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::InputTokens, Self::OutputTokens];

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
    /// Calls at the same time.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// How much of the rate the provider lets through at once. Spillway itself uses half of it:
    /// the other half absorbs the uneven way of requests through the network.
    #[serde(default = "one_second")]
    pub burst: Span,
}

fn any_model() -> Vec<String> {
    vec!["*".to_owned()]
}

const fn one_second() -> Span {
    Span::secs(1)
}

/// The part of a provider's burst that we use ourselves; see [`LimitSettings::burst`].
const BURST_SHARE: f64 = 0.5;

impl LimitSettings {
    /// Whether these limits count this model.
    pub fn counts(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| glob(pattern, model))
    }

    /// The buckets these limits stand for, in an org's name.
    pub fn pool(&self, org: &str) -> Pool {
        let quota = |rate: Option<Rate>| {
            rate.map(|rate| {
                let per_second = rate.per_second();
                let burst = per_second * self.burst.0.as_secs_f64() * BURST_SHARE;
                Quota { rate: per_second / 1e6, burst: burst.max(1.0) }
            })
        };
        Pool {
            id: format!("{org}/{}", self.models.join(",")),
            quotas: [quota(self.requests), quota(self.input_tokens), quota(self.output_tokens)],
            concurrency: self.concurrency,
        }
    }
}

/// Buckets that are charged together: one org's limits for one family of models, or one
/// callback host's.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name; pools of one name are one, whoever asks.
    pub id: String,
    /// A bucket for each axis that is limited, in the order of [`Axis::ALL`].
    pub quotas: [Option<Quota>; 3],
    /// Calls at the same time.
    pub concurrency: Option<u32>,
}

impl Pool {
    /// How long its fullest bucket is over its burst, at these levels.
    pub fn full_for(&self, units: [Option<f64>; 3]) -> Duration {
        let over = |(quota, level): (&Option<Quota>, Option<f64>)| {
            quota.map(|quota| (level.unwrap_or_default() - quota.burst).max(0.0) / quota.rate)
        };
        let micros = self.quotas.iter().zip(units).filter_map(over).fold(0.0, f64::max);
        Duration::from_secs_f64((micros / 1e6).min(1e9))
    }
}

/// What a call takes from its pools, in the order of [`Axis::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost(pub [f64; 3]);

impl Cost {
    /// One call with this many tokens.
    pub fn call(input_tokens: u64, output_tokens: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        Self([1.0, input_tokens as f64, output_tokens as f64])
    }

    /// How long the slowest of a pool's axes needs for this cost on average.
    pub fn drain_time(&self, pool: &Pool) -> Duration {
        let micros = pool
            .quotas
            .iter()
            .zip(self.0)
            .filter_map(|(quota, cost)| quota.map(|quota| cost / quota.rate))
            .fold(0.0, f64::max);
        Duration::from_secs_f64((micros / 1e6).min(1e9))
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
}
