//! When a new day begins for Gemini: at midnight in California.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc, Weekday};

/// Hours that California is behind UTC in winter; one less in summer.
const BEHIND: u32 = 8;

/// How long until then.
pub(super) fn until_new(now: DateTime<Utc>) -> Duration {
    let today = now.date_naive();
    let days = [0, 1].into_iter().filter_map(|ahead| today.checked_add_days(Days::new(ahead)));
    days.filter_map(|day| day.and_hms_opt(BEHIND - u32::from(is_summer(day)), 0, 0))
        .find_map(|time| (time.and_utc() - now).to_std().ok().filter(|wait| !wait.is_zero()))
        .unwrap_or_default()
}

/// Whether a day begins in summer time, which lasts from the second Sunday of March to the first of
/// November, from two o'clock to two o'clock.
fn is_summer(day: NaiveDate) -> bool {
    let sunday =
        |month, which| NaiveDate::from_weekday_of_month_opt(day.year(), month, Weekday::Sun, which);
    let (Some(from), Some(to)) = (sunday(3, 2), sunday(11, 1)) else { return false };
    from < day && day <= to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_an_hour_earlier_in_summer() {
        for (now, begins) in [
            ("2026-11-20T12:00:00Z", "2026-11-21T08:00:00Z"),
            ("2026-11-20T07:59:00Z", "2026-11-20T08:00:00Z"),
            ("2026-07-01T06:59:59Z", "2026-07-01T07:00:00Z"),
            ("2026-07-01T07:00:00Z", "2026-07-02T07:00:00Z"),
            ("2026-12-31T23:00:00Z", "2027-01-01T08:00:00Z"),
            // The clocks go forward on 8 March 2026 and back on 1 November.
            ("2026-03-08T07:30:00Z", "2026-03-08T08:00:00Z"),
            ("2026-03-08T09:00:00Z", "2026-03-09T07:00:00Z"),
            ("2026-11-01T06:30:00Z", "2026-11-01T07:00:00Z"),
            ("2026-11-01T07:30:00Z", "2026-11-02T08:00:00Z"),
        ] {
            let now: DateTime<Utc> = now.parse().unwrap();
            assert_eq!((now + until_new(now)).to_rfc3339().replace("+00:00", "Z"), begins, "{now}");
        }
    }
}
