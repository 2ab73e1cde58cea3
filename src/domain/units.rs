//! Durations, rates and sizes as people write them: `250ms`, `50/min`, `1MiB`.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A length of time: `250ms`, `2s`, `15m`, `72h`, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// So many per second, minute, hour or day: `50/min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many.
    pub amount: u64,
    /// In how long.
    pub per: Duration,
}

/// How fast use may grow: `2x/10s` is twice as much every ten seconds, begun at a tenth of the
/// limit; `2x/10s from 5%` begins lower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// So many times as much…
    pub factor: f64,
    /// … after this long.
    pub per: Duration,
    /// The share of the limit that is always allowed.
    pub from: f64,
}

/// A time of day, in UTC: `08:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    minutes: u16,
}

/// A number of bytes: `64KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

const SPAN_FORM: &str = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$";
const RATE_FORM: &str = r"^[1-9][0-9]*/(s|sec|min|m|h|hour|d|day)$";
const GROWTH_FORM: &str =
    r"^[0-9]+(\.[0-9]+)?x/[0-9]+(\.[0-9]+)?(ms|s|m|h)( from [0-9]+(\.[0-9]+)?%)?$";
const TIME_FORM: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";
const SIZE_FORM: &str = r"^[0-9]+(B|KiB|MiB|GiB)?$";

impl Span {
    /// From whole milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// From whole seconds.
    pub const fn secs(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }

    /// Reads `250ms`, `1.5s`, `15m`, `72h`, `30d`.
    pub fn parse(text: &str) -> Option<Self> {
        let at = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = text.split_at(at);
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let seconds = number.parse::<f64>().ok().filter(|_| plain)? * unit;
        Duration::try_from_secs_f64(seconds).ok().map(Self)
    }
}

impl Rate {
    /// Reads `10/s`, `50/min`, `1000/h`, `14400/day`.
    pub fn parse(text: &str) -> Option<Self> {
        let (amount, unit) = text.split_once('/')?;
        let amount = amount.parse().ok().filter(|n| *n > 0)?;
        let per = match unit {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" | "hour" => 3_600,
            "d" | "day" => 86_400,
            _ => return None,
        };
        Some(Self { amount, per: Duration::from_secs(per) })
    }

    /// Units per second.
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
    pub fn per_second(self) -> f64 {
        self.amount as f64 / self.per.as_secs_f64()
    }
}

impl Growth {
    /// Reads `2x/10s`, `1.5x/1m from 5%`.
    pub fn parse(text: &str) -> Option<Self> {
        let (growth, from) = text.split_once(" from ").unwrap_or((text, "10%"));
        let (factor, per) = growth.split_once("x/")?;
        let plain = |text: &str| {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            text.parse::<f64>().ok().filter(|_| plain)
        };
        let factor = plain(factor).filter(|factor| *factor > 1.0 && *factor <= 1e3)?;
        let per = Span::parse(per).filter(|span| !span.0.is_zero())?.0;
        let from = plain(from.strip_suffix('%')?)? / 100.0;
        (from > 0.0 && from <= 1.0).then_some(Self { factor, per, from })
    }
}

impl TimeOfDay {
    /// Reads `08:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':').filter(|_| text.len() == 5)?;
        let hours = hours.parse::<u16>().ok().filter(|hours| *hours < 24)?;
        let minutes = minutes.parse::<u16>().ok().filter(|minutes| *minutes < 60)?;
        Some(Self { minutes: hours * 60 + minutes })
    }

    /// How long after midnight it is.
    pub fn since_midnight(self) -> Duration {
        Duration::from_secs(u64::from(self.minutes) * 60)
    }
}

impl Size {
    /// Reads `1048576`, `64KiB`, `1MiB`.
    pub fn parse(text: &str) -> Option<Self> {
        let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let unit = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.parse::<usize>().ok()?.checked_mul(unit).map(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let unit = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
        match unit {
            Some((unit, name)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "min",
            3_600 => "h",
            _ => "day",
        };
        write!(f, "{}/{unit}", self.amount)
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x/{} from {}%", self.factor, Span(self.per), self.from * 100.0)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match unit {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

macro_rules! as_text {
    ($name:ident, $form:ident, $what:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::parse(&text)
                    .ok_or_else(|| D::Error::custom(format!("`{text}` is not {}", $what)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $form, "description": $what })
            }
        }
    };
}

as_text!(Span, SPAN_FORM, "a duration such as 250ms, 2s, 15m, 72h or 30d");
as_text!(Rate, RATE_FORM, "a rate such as 10/s, 50/min, 1000/h or 14400/day");
as_text!(Growth, GROWTH_FORM, "a growth such as 2x/10s or 1.5x/1m from 5%");
as_text!(TimeOfDay, TIME_FORM, "a time of day such as 08:00");
as_text!(Size, SIZE_FORM, "a size such as 64KiB or 1MiB");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_units_and_read_them_back() {
        assert_eq!(Span::parse("1.5s"), Some(Span::millis(1_500)));
        assert_eq!(Span::parse("15m").map(|s| s.to_string()), Some("15m".to_owned()));
        assert_eq!(Rate::parse("50/min").map(|r| r.to_string()), Some("50/min".to_owned()));
        assert_eq!(Size::parse("1MiB"), Some(Size(1_048_576)));
        let growth = Growth::parse("2x/10s").unwrap();
        assert_eq!(growth.to_string(), "2x/10s from 10%");
        assert_eq!(Growth::parse("1.5x/1m from 5%").map(|growth| growth.from), Some(0.05));
        assert_eq!(TimeOfDay::parse("08:30").map(|at| at.to_string()), Some("08:30".to_owned()));
        for bad in ["8:00", "24:00", "08:60", "08-00", ""] {
            assert_eq!(TimeOfDay::parse(bad), None, "{bad}");
        }
        for bad in ["2/10s", "1x/10s", "0.5x/1s", "2x/0s", "2x/10", "2x/10s from 0%", "-2x/1s"] {
            assert_eq!(Growth::parse(bad), None, "{bad}");
        }
        for bad in ["", "s", "-1s", "1 s", "2 minutes", "infs", "1e3s"] {
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
        for bad in ["", "0/s", "x/min", "5", "5/week", "-5/s"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }
}
