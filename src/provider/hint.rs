//! When a provider says to come back. Asked only of errors: Anthropic sends `retry-after` with
//! good answers too.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use serde_json::Value;

use super::duration;
use super::fault::Fault;
use super::json::text;

/// The wait a provider asks for, the most exact place first: headers made for it, the body's own
/// field, the message, and last the reset of an axis that is used up.
pub(super) fn wait(headers: &HeaderMap, fault: &Fault, now: DateTime<Utc>) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    header("retry-after-ms")
        .and_then(|text| text.trim().parse().ok())
        .and_then(|ms: f64| Duration::try_from_secs_f64(ms / 1e3).ok())
        .or_else(|| header(RETRY_AFTER.as_str()).and_then(|text| retry_after(text, now)))
        .or_else(|| in_body(fault))
        .or_else(|| in_text(&fault.message))
        .or_else(|| exhausted(headers, now))
}

/// Whether the provider says that asking again makes sense, whatever the status.
pub(super) fn retry(headers: &HeaderMap) -> Option<bool> {
    headers.get("x-should-retry")?.to_str().ok()?.trim().parse().ok()
}

/// Seconds, also with a fraction, or a date. A date that has passed means now.
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let until = httpdate::parse_http_date(text.trim()).ok()?;
    Some(until.duration_since(SystemTime::from(now)).unwrap_or_default())
}

/// Gemini's `RetryInfo` and OpenRouter's `availability`.
fn in_body(fault: &Fault) -> Option<Duration> {
    if let Some(info) = fault.detail("google.rpc.RetryInfo") {
        return duration::parse(text(info, "/retryDelay"));
    }
    let seconds = ["/availability/retry_after", "/metadata/availability/retry_after"]
        .into_iter()
        .find_map(|place| fault.error.pointer(place).and_then(Value::as_f64))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// `try again in 1m0.36s.`, `retry in 20 seconds`.
pub(super) fn in_text(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    let (_, rest) = ["try again in ", "retry in ", "retry after "]
        .iter()
        .find_map(|p| message.split_once(p))?;
    let mut words = rest.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';']));
    let amount = duration::parse(words.next()?)?;
    let unit = words.next().unwrap_or_default();
    let times = match unit.trim_end_matches('s') {
        "minute" => 60.0,
        "hour" => 3_600.0,
        "millisecond" | "m" => 0.001,
        _ => 1.0,
    };
    Duration::try_from_secs_f64(amount.as_secs_f64() * times).ok()
}

/// The latest reset among the axes with nothing left. An axis with something left does not count:
/// its reset is when it is full again.
fn exhausted(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    headers
        .iter()
        .filter(|(_, left)| left.to_str().is_ok_and(|left| left.trim() == "0"))
        .filter_map(|(name, _)| headers.get(reset_of(name)?)?.to_str().ok())
        .filter_map(|text| reset(text.trim(), now))
        .filter(|wait| !wait.is_zero())
        .max()
}

/// The name of the reset header that belongs to a header about what remains.
fn reset_of(name: &HeaderName) -> Option<String> {
    let name = name.as_str();
    let ours = name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-");
    (ours && name.contains("remaining")).then(|| name.replace("remaining", "reset"))
}

/// A duration, a time of day, or (OpenRouter) milliseconds or (some proxies) seconds since 1970.
pub(super) fn reset(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let until = |time: DateTime<Utc>| (time - now).to_std().unwrap_or_default();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(until(time.to_utc()));
    }
    match text.parse::<i64>() {
        Ok(millis @ 1_000_000_000_000..) => DateTime::from_timestamp_millis(millis).map(until),
        Ok(seconds @ 1_000_000_000..) => DateTime::from_timestamp(seconds, 0).map(until),
        _ => duration::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000, 0).unwrap()
    }

    fn told(headers: &[(&'static str, &str)], body: &str) -> Option<f64> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        wait(&headers, &Fault::read(body.as_bytes()), now()).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn the_most_exact_hint_counts() {
        let body =
            r#"{"error":{"message":"Please try again in 9s.","availability":{"retry_after":7}}}"#;
        let date = httpdate::fmt_http_date((now() + Duration::from_secs(90)).into());
        let past = httpdate::fmt_http_date((now() - Duration::from_secs(90)).into());
        assert_eq!(told(&[("retry-after-ms", "250"), ("retry-after", "3")], body), Some(0.25));
        assert_eq!(told(&[("retry-after", "3")], body), Some(3.0));
        assert_eq!(told(&[("retry-after", "0.5")], body), Some(0.5));
        assert_eq!(told(&[("retry-after", &date)], body), Some(90.0));
        assert_eq!(told(&[("retry-after", &past)], body), Some(0.0));
        assert_eq!(told(&[("retry-after", "soon")], body), Some(7.0));
        assert_eq!(told(&[("retry-after", "-1")], ""), None);
        assert_eq!(told(&[], r#"{"message":"Please try again in 9s."}"#), Some(9.0));
        assert_eq!(told(&[], ""), None);
    }

    #[test]
    fn a_message_is_read_as_people_write() {
        for (text, seconds) in [
            ("Please try again in 1.984999999s. Visit https://x", 1.984_999_999),
            ("Please try again in 114h18m0s.", 411_480.0),
            ("Please retry in 48.939935699s.", 48.939_935_699),
            ("try again in 174ms", 0.174),
            ("Please try again in 20 seconds.", 20.0),
            ("Try again in 2 minutes", 120.0),
            ("retry after 5 ms", 0.005),
        ] {
            let read = in_text(text).map(|wait| wait.as_secs_f64());
            assert!(read.is_some_and(|read| (read - seconds).abs() < 1e-9), "{text}: {read:?}");
        }
        assert_eq!(in_text("try again in a moment"), None);
    }

    #[test]
    fn only_an_axis_that_is_used_up_tells_a_reset() {
        let mut headers = vec![
            ("x-ratelimit-remaining-requests", "5"),
            ("x-ratelimit-reset-requests", "83h10m39.057s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "1.5s"),
        ];
        assert_eq!(told(&headers, ""), Some(1.5));
        headers.extend([
            ("x-ratelimit-remaining-tokens-minute", "0"),
            ("x-ratelimit-reset-tokens-minute", "11.38"),
        ]);
        assert_eq!(told(&headers, ""), Some(11.38));
        headers.extend([
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-18T11:07:40Z"),
        ]);
        let reset = DateTime::parse_from_rfc3339("2026-11-18T11:07:40Z").unwrap().to_utc();
        let ahead = (reset - now()).as_seconds_f64();
        assert_eq!(told(&headers, ""), Some(ahead.max(11.38)));
        let millis = format!("{}", now().timestamp_millis() + 2_500);
        let own = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", millis.as_str())];
        assert_eq!(told(&own, ""), Some(2.5));
        let placeholder = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "-1"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "0"),
        ];
        assert_eq!(told(&placeholder, ""), None);
    }
}
