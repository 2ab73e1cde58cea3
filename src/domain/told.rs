//! What a provider says of its own limits: in the headers of every answer, or in an error's body.

use std::time::Duration;

use super::limits::Axis;

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

/// One limit as a provider tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// What it counts.
    pub axis: Axis,
    /// Over what time.
    pub per: Period,
    /// Units in that time.
    pub limit: Option<f64>,
    /// Units left when the provider looked.
    pub remaining: Option<f64>,
    /// How long until all of it is there again.
    pub reset: Option<Duration>,
}
