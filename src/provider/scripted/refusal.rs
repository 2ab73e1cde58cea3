//! A call for which there is no room, and what is told about it.

use std::time::Duration;

use crate::domain::limits::{Axis, Period};
use crate::domain::told::Told;
use crate::provider::{ErrorClass, codes};

/// A call for which there is no room.
#[derive(Clone, Debug, PartialEq)]
pub struct Limited {
    /// What there is not enough of.
    pub short: Short,
    /// The limit; `None` when nothing is to be told about it.
    pub limit: Option<u64>,
    /// When there is room again, if nobody else takes it.
    pub wait: Option<Duration>,
}

/// What there is not enough of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Units in a period.
    Rate(Axis, Period),
    /// Use that has grown so much already.
    Growth(Axis),
    /// Places for calls at the same time.
    Places,
    /// The whole limit is less than these units of one call.
    TooLarge(Axis, Period, u64),
}

impl Limited {
    /// What is told about it, in OpenAI's words.
    pub(super) fn message(&self, model: &str) -> String {
        let what = match self.short {
            Short::TooLarge(..) => "Request too large",
            _ => "Rate limit reached",
        };
        let on = match self.short {
            Short::Rate(axis, per) | Short::TooLarge(axis, per, _) => on(axis, per),
            Short::Places => " on concurrent requests".to_owned(),
            Short::Growth(axis) => {
                format!(": use of {} grows too fast for the acceleration limit", words(axis))
            }
        };
        let limit = match (self.limit, self.short) {
            (None, _) | (_, Short::Growth(_)) => String::new(),
            (Some(limit), Short::TooLarge(_, _, requested)) => {
                format!(": Limit {limit}, Requested {requested}")
            }
            (Some(limit), _) => format!(": Limit {limit}"),
        };
        let wait = self.wait.map(|wait| format!(" Please try again in {}ms.", wait.as_millis()));
        let wait = wait.unwrap_or_default();
        format!("{what} for {model} in organization org-scripted{on}{limit}.{wait}")
    }

    /// The limit that its message tells of.
    pub(super) fn told(&self) -> Option<Told> {
        let (Short::Rate(axis, per) | Short::TooLarge(axis, per, _)) = self.short else {
            return None;
        };
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        let limit = Some(self.limit? as f64);
        Some(Told { axis, per, limit, remaining: None, reset: None })
    }

    /// The error's `type` and `code`.
    pub(super) const fn kind(&self) -> (&'static str, &'static str) {
        match self.short {
            Short::Growth(_) => ("rate_limit_error", "slow_down"),
            Short::Places
            | Short::Rate(Axis::Requests, _)
            | Short::TooLarge(Axis::Requests, ..) => ("requests", "rate_limit_exceeded"),
            Short::Rate(..) | Short::TooLarge(..) => ("tokens", "rate_limit_exceeded"),
        }
    }

    /// The class and code that the same answer on HTTP leads to.
    pub(super) const fn class(&self) -> (ErrorClass, &'static str) {
        match self.short {
            Short::TooLarge(..) => (ErrorClass::CallerError, codes::LARGER_THAN_LIMIT),
            Short::Growth(_) => (ErrorClass::CooldownKey, codes::SLOW_DOWN),
            Short::Places => (ErrorClass::CooldownKey, codes::CONCURRENCY),
            Short::Rate(..) => (ErrorClass::CooldownKey, codes::RATE_LIMITED),
        }
    }
}

const fn words(axis: Axis) -> &'static str {
    match axis {
        Axis::Requests => "requests",
        Axis::InputTokens => "input tokens",
        Axis::OutputTokens => "output tokens",
        Axis::Tokens => "tokens",
    }
}

/// ` on tokens per min (TPM)`.
fn on(axis: Axis, per: Period) -> String {
    let of = match axis {
        Axis::Requests => "RP",
        Axis::InputTokens => "ITP",
        Axis::OutputTokens => "OTP",
        Axis::Tokens => "TP",
    };
    let (period, letter) = match per {
        Period::Minute => ("min", 'M'),
        Period::Day => ("day", 'D'),
    };
    format!(" on {} per {period} ({of}{letter})", words(axis))
}
