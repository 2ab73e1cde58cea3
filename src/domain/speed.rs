//! How fast a step is: histograms of what was seen in the last five minutes, and their percentiles.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// How long a slice of time is.
pub const SLICE: Duration = Duration::from_secs(30);

/// Slices that count, the one that has just begun included: five minutes and that one.
pub const SLICES: i64 = 11;

/// Fewer calls than this say nothing.
const ENOUGH: u64 = 5;

/// Buckets to every doubling: a figure is told within five percent.
const FINE: f64 = 8.0;

/// The first bucket: a millisecond, or a token in a thousand seconds.
const LEAST: f64 = 0.001;

/// What is measured of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Seconds until the first piece of a streamed answer.
    FirstToken,
    /// Seconds until the whole answer.
    Latency,
    /// Output tokens a second, over the whole call.
    Throughput,
}

impl Measure {
    /// All measures.
    pub const ALL: [Self; 3] = [Self::FirstToken, Self::Latency, Self::Throughput];

    /// The measure's name in a store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstToken => "f",
            Self::Latency => "l",
            Self::Throughput => "t",
        }
    }

    /// Reads a measure's name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.as_str() == text)
    }
}

/// The slice of time a moment is in.
pub fn slice_at(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(i64::try_from(SLICE.as_secs()).unwrap_or(i64::MAX))
}

/// The bucket a figure falls into.
pub fn bucket_of(value: f64) -> u8 {
    let steps = (value.max(LEAST) / LEAST).log2() * FINE;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is cut to what a byte holds first"
    )]
    let bucket = steps.clamp(0.0, 255.0) as u8;
    bucket
}

/// The figure in the middle of a bucket.
fn middle(bucket: u8) -> f64 {
    LEAST * ((f64::from(bucket) + 0.5) / FINE).exp2()
}

/// How often figures fell into each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(std::collections::BTreeMap<u8, u64>);

impl Histogram {
    /// So many more in this bucket.
    pub fn add(&mut self, bucket: u8, count: u64) {
        *self.0.entry(bucket).or_default() += count;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Its percentiles; `None` when too little was seen.
    pub fn spread(&self) -> Option<Spread> {
        let count = self.count();
        let figure = |which: Percentile| {
            let rank = (which.per_mille() * count).div_ceil(1_000).max(1);
            let mut before = 0;
            let found = self.0.iter().find(|(_, count)| {
                before += **count;
                before >= rank
            });
            found.map_or(0.0, |(bucket, _)| middle(*bucket))
        };
        (count >= ENOUGH).then(|| Spread(Percentile::ALL.map(figure)))
    }
}

/// A part of all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percentile {
    /// Half.
    P50,
    /// Three in four.
    P75,
    /// Nine in ten.
    P90,
    /// Nineteen in twenty.
    P95,
    /// All but one in a hundred.
    P99,
}

impl Percentile {
    /// All parts.
    pub const ALL: [Self; 5] = [Self::P50, Self::P75, Self::P90, Self::P95, Self::P99];

    const fn per_mille(self) -> u64 {
        match self {
            Self::P50 => 500,
            Self::P75 => 750,
            Self::P90 => 900,
            Self::P95 => 950,
            Self::P99 => 990,
        }
    }

    /// Reads such as `p95`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|which| format!("p{}", which.per_mille() / 10) == text)
    }
}

/// A measure's percentiles, in the order of [`Percentile::ALL`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread([f64; 5]);

impl Spread {
    /// One of them.
    pub const fn at(&self, which: Percentile) -> f64 {
        let [p50, p75, p90, p95, p99] = self.0;
        match which {
            Percentile::P50 => p50,
            Percentile::P75 => p75,
            Percentile::P90 => p90,
            Percentile::P95 => p95,
            Percentile::P99 => p99,
        }
    }

    /// The usual figure.
    pub const fn median(&self) -> f64 {
        self.at(Percentile::P50)
    }
}

/// How fast a step is, as far as enough is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Seconds until the first piece of a streamed answer.
    pub first_token: Option<Spread>,
    /// Seconds until the whole answer.
    pub latency: Option<Spread>,
    /// Output tokens a second.
    pub throughput: Option<Spread>,
}

impl Pace {
    /// The place of a measure.
    pub const fn of(&mut self, measure: Measure) -> &mut Option<Spread> {
        match measure {
            Measure::FirstToken => &mut self.first_token,
            Measure::Latency => &mut self.latency,
            Measure::Throughput => &mut self.throughput,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_told_within_five_percent() {
        let mut seen = Histogram::default();
        for value in 1..=1_000_u32 {
            seen.add(bucket_of(f64::from(value) / 100.0), 1);
        }
        let spread = seen.spread().unwrap();
        for (which, expected) in [
            (Percentile::P50, 5.0),
            (Percentile::P75, 7.5),
            (Percentile::P90, 9.0),
            (Percentile::P95, 9.5),
            (Percentile::P99, 9.9),
        ] {
            let ratio = spread.at(which) / expected;
            assert!((0.95..1.05).contains(&ratio), "{which:?} {ratio}");
        }
    }

    #[test]
    fn a_few_calls_say_nothing_and_extremes_have_a_bucket() {
        let mut seen = Histogram::default();
        seen.add(bucket_of(1.0), ENOUGH - 1);
        assert_eq!(seen.spread(), None);
        seen.add(bucket_of(f64::INFINITY), 1);
        assert!(seen.spread().is_some());
        assert_eq!((bucket_of(0.0), bucket_of(-1.0), bucket_of(f64::NAN)), (0, 0, 0));
        assert_eq!(bucket_of(f64::MAX), 255);
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(Percentile::parse("p95"), Some(Percentile::P95));
        assert_eq!(Percentile::parse("p42"), None);
        for measure in Measure::ALL {
            assert_eq!(Measure::parse(measure.as_str()), Some(measure));
        }
        let at = |seconds| slice_at(DateTime::from_timestamp(seconds, 0).unwrap());
        assert_eq!((at(0), at(29), at(30)), (0, 0, 1));
    }
}
