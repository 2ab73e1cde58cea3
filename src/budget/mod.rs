//! What callers have used up. The whole of budgets as the engine sees it.
//!
//! Money is reserved before a call, at the most the call can cost, and settled after it at what it
//! did cost: what all replicas have spent and reserved together never exceeds a limit, however many
//! calls run at the same time. A reservation counts in the day and the month it was made in. One
//! whose holder vanished comes free when its term is over; should its holder settle it after all,
//! within a day, that still counts. Days and months are those of UTC, by the clock of the replica.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::allowance::{Money, Period, Window};

mod file;
pub mod local;
pub mod redis;
pub mod settings;

/// Keeps count.
#[async_trait]
pub trait Budget: Send + Sync + 'static {
    /// Sets money aside in the day and in the month, or in neither.
    async fn reserve(&self, ask: &Ask) -> Result<Reserved, BudgetError>;

    /// Puts what was spent in the place of what was reserved; `None` when nobody knows, which
    /// leaves it at what was reserved. Only the first settling counts.
    async fn settle(&self, hold: &Hold, spent: Option<Money>) -> Result<(), BudgetError>;

    /// Counts calls in the day: all of them, or none when they would be more than `most`.
    async fn count(
        &self,
        caller: &str,
        calls: u64,
        most: Option<u64>,
    ) -> Result<Counted, BudgetError>;

    /// Takes back calls that were counted and not made.
    async fn uncount(&self, caller: &str, calls: u64) -> Result<(), BudgetError>;

    /// What a caller has used up.
    async fn standing(&self, caller: &str) -> Result<Standing, BudgetError>;
}

/// A budget many hold.
pub type SharedBudget = Arc<dyn Budget>;

/// Why nothing could be counted.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The store cannot be reached.
    #[error("the budgets are not available: {0}")]
    Unavailable(String),
    /// It answers, but not as it should.
    #[error("the budgets are broken: {0}")]
    Broken(String),
}

/// What is to be reserved.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Names the reservation; never used twice.
    pub id: String,
    /// Who pays.
    pub caller: String,
    /// The most the call can cost.
    pub cost: Money,
    /// The most the caller may spend in the day.
    pub day: Option<Money>,
    /// The most the caller may spend in the month.
    pub month: Option<Money>,
    /// How long it is held without being settled.
    pub term: Duration,
}

/// Money set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The reservation's name.
    pub id: String,
    /// Who pays.
    pub caller: String,
    /// How much.
    pub cost: Money,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Set aside. The standing is the one after it.
    Granted(Hold, Standing),
    /// It would be too much for this period.
    Refused(Period, Standing),
}

/// What came of counting calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whether they were counted.
    pub granted: bool,
    /// The standing after that.
    pub standing: Standing,
}

/// What a caller has used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Money of this day.
    pub day: Level,
    /// Money of this month.
    pub month: Level,
    /// Calls of this day.
    pub calls: u64,
}

/// Money of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// What was spent.
    pub spent: Money,
    /// What is set aside for calls under way.
    pub held: Money,
    /// When the next period begins.
    pub resets_at: DateTime<Utc>,
}

impl Standing {
    /// Money of a period.
    pub const fn of(&self, period: Period) -> &Level {
        match period {
            Period::Day => &self.day,
            Period::Month => &self.month,
        }
    }
}

impl Level {
    /// Spent and set aside.
    pub const fn used(&self) -> Money {
        self.spent.plus(self.held)
    }
}

/// How long after its term a reservation can still be settled. Nothing is set aside for it then.
const LATE: Duration = Duration::from_secs(86_400);

/// How long a period is remembered after its end, for reservations that are settled late.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// The day and the month a moment is in.
fn windows(now: DateTime<Utc>) -> [Window; 2] {
    [Period::Day, Period::Month].map(|period| period.window(now))
}
