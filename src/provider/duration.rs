//! Durations as providers write them: `120ms`, `1m0.36s`, `83h10m39.057s`, `11.38`.

use std::time::Duration;

/// Units in the order they may follow each other, with their seconds.
const UNITS: [(&str, f64); 4] = [("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)];

/// Reads hours, minutes, seconds and milliseconds in this order, or a bare number of seconds.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(seconds) = number(text) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut rest, mut total, mut left) = (text, Duration::ZERO, UNITS.as_slice());
    while !rest.is_empty() {
        let (amount, after) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        // `m` and `ms` are told apart because the whole word is compared.
        let place = left.iter().position(|(unit, _)| *unit == name)?;
        let (_, seconds) = left.get(place)?;
        let part = Duration::try_from_secs_f64(number(amount)? * seconds).ok()?;
        total = total.checked_add(part)?;
        left = left.get(place + 1..)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// Digits with at most one point; no sign, no exponent, no `inf`.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_seen_in_the_wild_is_read() {
        for (text, ms) in [
            ("2ms", 2.0),
            ("120ms", 120.0),
            ("0s", 0.0),
            ("1.04s", 1_040.0),
            ("48s", 48_000.0),
            ("10m22.118s", 622_118.0),
            ("1h8m25.745s", 4_105_745.0),
            ("83h10m39.057s", 299_439_057.0),
            ("114h18m0s", 411_480_000.0),
            ("17.399999999s", 17_399.999_999),
            ("2m59.56s", 179_560.0),
            ("1m0.363142857s", 60_363.142_857),
            ("9m38.016s", 578_016.0),
            ("11.38", 11_380.0),
            ("33011.382867", 33_011_382.867),
            ("5m", 300_000.0),
            ("5ms", 5.0),
            ("1m5ms", 60_005.0),
            (" 7s ", 7_000.0),
        ] {
            let read = parse(text).unwrap_or_else(|| panic!("{text} is not read"));
            assert!((read.as_secs_f64() * 1e3 - ms).abs() < 1e-3, "{text} is {read:?}");
        }
    }

    #[test]
    fn what_is_no_duration_is_not_guessed_at() {
        for text in [
            "",
            " ",
            "-1",
            "-1s",
            "s",
            "ms",
            "1x",
            "1s1m",
            "1s1s",
            "1ms1s",
            "1.2.3s",
            "1e9s",
            "inf",
            "NaN",
            "s1",
            "1 s",
            "٣s",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC*") {
            let _read = parse(&text);
        }

        #[test]
        fn hours_minutes_and_seconds_add_up(h in 0u64..1_000, m in 0u64..60, s in 0u64..60) {
            let read = parse(&format!("{h}h{m}m{s}s"));
            prop_assert_eq!(read, Some(Duration::from_secs(h * 3_600 + m * 60 + s)));
        }
    }
}
