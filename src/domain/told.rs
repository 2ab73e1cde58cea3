//! What a provider says of its own limits: in the headers of every answer, or in an error's body.

use std::time::Duration;

use super::limits::{Axis, Period};

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
