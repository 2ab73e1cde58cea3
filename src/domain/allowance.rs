//! What a caller may use up: money by the day and by the month, calls by the day.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};

/// Money, in billionths of a dollar: sums of it are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub u64);

const A_DOLLAR: f64 = 1e9;

/// More than anybody spends; sums of it stay exact in a double, as Lua counts.
const MOST: f64 = 1e15;

impl Money {
    /// This many dollars, rounded up: for what something may cost.
    pub fn at_most(usd: f64) -> Self {
        Self::of((usd * A_DOLLAR).ceil())
    }

    /// This many dollars.
    pub fn from_usd(usd: f64) -> Self {
        Self::of((usd * A_DOLLAR).round())
    }

    fn of(billionths: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits; what is no number becomes zero"
        )]
        let whole = billionths.clamp(0.0, MOST) as u64;
        Self(whole)
    }

    /// In dollars.
    #[expect(clippy::cast_precision_loss, reason = "for people; amounts are below 2^53")]
    pub fn usd(self) -> f64 {
        self.0 as f64 / A_DOLLAR
    }

    /// The two together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left of it after the other; nothing when that is more.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// How long an amount is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A calendar day in UTC.
    Day,
    /// A calendar month in UTC.
    Month,
}

impl Period {
    /// The period's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The period of this kind that a moment is in.
    pub fn window(self, now: DateTime<Utc>) -> Window {
        let date = now.date_naive();
        let (name, next) = match self {
            Self::Day => (date.format("%Y%m%d"), date.checked_add_days(Days::new(1))),
            Self::Month => (
                date.format("%Y%m"),
                date.with_day(1).and_then(|first| first.checked_add_months(Months::new(1))),
            ),
        };
        let name = name.to_string();
        let ends_at = next.unwrap_or(NaiveDate::MAX).and_time(chrono::NaiveTime::MIN).and_utc();
        Window { name, ends_at }
    }
}

/// One day or one month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// `20261121` or `202611`.
    pub name: String,
    /// When the next one begins.
    pub ends_at: DateTime<Utc>,
}

/// What a caller may use up.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowance {
    /// Its plan's name, when it has one.
    pub plan: Option<String>,
    /// The most it may spend in a day.
    pub day: Option<Money>,
    /// The most it may spend in a month.
    pub month: Option<Money>,
    /// The most calls it may make in a day.
    pub calls: Option<u64>,
    /// What it may ask for, as patterns of names; `None` for the ordinary.
    pub models: Option<Vec<String>>,
    /// The part of these at which it is warned.
    pub soft: f64,
    /// Whether what exceeds them is refused; otherwise it is only warned.
    pub hard: bool,
}

impl Allowance {
    /// Whether money is limited at all.
    pub const fn limits_money(&self) -> bool {
        self.day.is_some() || self.month.is_some()
    }

    /// The most for a period.
    pub const fn most(&self, period: Period) -> Option<Money> {
        match period {
            Period::Day => self.day,
            Period::Month => self.month,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_and_a_month_end_at_midnight() {
        let now = at("2026-12-31T23:59:59.999Z");
        for (period, name) in [(Period::Day, "20261231"), (Period::Month, "202612")] {
            let window = period.window(now);
            assert_eq!((window.name.as_str(), window.ends_at), (name, at("2027-01-01T00:00:00Z")));
        }
        assert_eq!(
            Period::Month.window(at("2028-01-31T12:00:00Z")).ends_at,
            at("2028-02-01T00:00:00Z")
        );
        assert_eq!(
            Period::Day.window(at("2028-02-28T00:00:00Z")).ends_at,
            at("2028-02-29T00:00:00Z")
        );
    }

    #[test]
    fn sums_of_money_are_exact() {
        let dime = Money::from_usd(0.1);
        let sum = (0..10).fold(Money::default(), |sum, _| sum.plus(dime));
        assert_eq!(sum, Money::from_usd(1.0));
        assert_eq!(Money::at_most(1.1e-9), Money(2));
        assert_eq!((Money::from_usd(-1.0), Money::from_usd(f64::NAN)), (Money(0), Money(0)));
        assert_eq!(dime.less(Money::from_usd(1.0)), Money(0));
    }
}
