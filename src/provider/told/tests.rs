//! What providers really sent, and what is read out of it.

use super::*;
use reqwest::header::HeaderName;
use serde_json::json;

use Axis::{InputTokens, OutputTokens, Requests, Tokens};
use Period::{Day, Minute};

/// Axis, period, limit, remaining, reset in seconds.
type Line = (Axis, Period, Option<f64>, Option<f64>, Option<f64>);

fn now() -> DateTime<Utc> {
    "2025-06-02T15:14:45Z".parse().unwrap()
}

fn lines(told: &[Told]) -> Vec<Line> {
    let line =
        |t: &Told| (t.axis, t.per, t.limit, t.remaining, t.reset.map(|reset| reset.as_secs_f64()));
    told.iter().map(line).collect()
}

/// `prefix` stands before every name; a value holds limit, remaining and reset.
fn headers(pattern: &str, values: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in values {
        for (what, value) in ["limit", "remaining", "reset"].iter().zip(values.split(' ')) {
            let name = pattern.replace("WHAT", what).replace("NAME", name);
            if value != "none" {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.insert(name, value.parse().unwrap());
            }
        }
    }
    headers
}

fn kin(vendor: Vendor, values: &[(&str, &str)]) -> Vec<Line> {
    lines(&in_headers(vendor, &headers("x-ratelimit-WHAT-NAME", values), now()))
}

fn line(axis: Axis, per: Period, limit: f64, remaining: f64, reset: f64) -> Line {
    (axis, per, Some(limit), Some(remaining), Some(reset))
}

fn body(vendor: Vendor, status: u16, body: &str) -> Vec<Line> {
    lines(&in_fault(vendor, status, &Fault::read(body.as_bytes()), now()))
}

fn message(vendor: Vendor, message: &str) -> Vec<Line> {
    body(vendor, 429, &json!({ "error": { "message": message } }).to_string())
}

#[test]
fn anthropics_headers_and_what_its_plain_tokens_are() {
    let read = |values: &[(&str, &str)]| {
        let headers = headers("anthropic-ratelimit-NAME-WHAT", values);
        lines(&in_headers(Vendor::Anthropic, &headers, now()))
    };
    let mut values = vec![
        ("input-tokens", "200000 0 2025-06-02T15:15:48Z"),
        ("output-tokens", "80000 80000 2025-06-02T15:14:45Z"),
        ("requests", "4000 4000 2025-06-02T15:14:45Z"),
        ("tokens", "280000 80000 2025-06-02T15:14:45Z"),
    ];
    let three = vec![
        line(Requests, Minute, 4_000.0, 4_000.0, 0.0),
        line(InputTokens, Minute, 200_000.0, 0.0, 63.0),
        line(OutputTokens, Minute, 80_000.0, 80_000.0, 0.0),
    ];
    assert_eq!(read(&values), three);
    // A workspace's own limit.
    values[3] = ("tokens", "100000 40000 2025-06-02T15:15:21Z");
    let own = line(Tokens, Minute, 100_000.0, 40_000.0, 36.0);
    assert_eq!(read(&values), [three, vec![own]].concat());
    assert_eq!(read(&values[3..]), [own]);
    assert_eq!(read(&values[1..2]).len(), 1);
    assert_eq!(read(&[]), []);
}

#[test]
fn a_time_is_meant_by_the_providers_own_clock() {
    let values = [("requests", "10 4 2025-06-02T17:00:30Z")];
    let mut headers = headers("anthropic-ratelimit-NAME-WHAT", &values);
    headers.insert(DATE, "Mon, 02 Jun 2025 17:00:00 GMT".parse().unwrap());
    let read = lines(&in_headers(Vendor::Anthropic, &headers, now()));
    assert_eq!(read, [line(Requests, Minute, 10.0, 4.0, 30.0)]);
}

#[test]
fn openais_headers_name_no_period() {
    for (values, expected) in [
        ("30000 29999 2ms", line(Requests, Minute, 30_000.0, 29_999.0, 0.002)),
        ("500 499 120ms", line(Requests, Minute, 500.0, 499.0, 0.12)),
        ("60 0 1m0s", line(Requests, Minute, 60.0, 0.0, 60.0)),
        ("10000 9999 8.64s", line(Requests, Day, 10_000.0, 9_999.0, 8.64)),
        ("200 199 7m12s", line(Requests, Day, 200.0, 199.0, 432.0)),
        ("200 150 6h0m0s", line(Requests, Day, 200.0, 150.0, 21_600.0)),
        ("10000 0 83h10m39.057s", line(Requests, Day, 10_000.0, 0.0, 299_439.057)),
        ("100 100 0s", line(Requests, Minute, 100.0, 100.0, 0.0)),
        ("100 250 0s", line(Requests, Minute, 100.0, 100.0, 0.0)),
        ("100 none none", (Requests, Minute, Some(100.0), None, None)),
        ("none 5 1s", (Requests, Minute, None, Some(5.0), Some(1.0))),
        ("none 0 1s", (Requests, Minute, None, Some(0.0), Some(1.0))),
    ] {
        assert_eq!(kin(Vendor::OpenAi, &[("requests", values)]), [expected], "{values}");
    }
    let both = kin(Vendor::OpenAi, &[("tokens", "9 8 0s"), ("input-images", "5 4 1s")]);
    assert_eq!(both, [line(Tokens, Minute, 9.0, 8.0, 0.0)]);
    // An hour is none of the periods known.
    assert_eq!(kin(Vendor::OpenAi, &[("requests", "1000 990 36s")]), []);
    assert_eq!(kin(Vendor::OpenAi, &[("requests", "1000 0 50m0s")]), []);
}

#[test]
fn others_may_count_in_windows_whose_reset_implies_nothing() {
    for (values, expected) in [
        ("1440 1439 60", line(Requests, Minute, 1_440.0, 1_439.0, 60.0)),
        ("100 99 59", line(Requests, Minute, 100.0, 99.0, 59.0)),
        ("100 40 1748877315", line(Requests, Minute, 100.0, 40.0, 30.0)),
        ("1000 400 6h0m0s", line(Requests, Day, 1_000.0, 400.0, 21_600.0)),
    ] {
        let told = kin(Vendor::OpenAiCompatible, &[("requests", values)]);
        assert_eq!(told, [expected], "{values}");
    }
    assert_eq!(kin(Vendor::OpenAiCompatible, &[("requests", "100 99 50m0s")]), []);
}

#[test]
fn what_only_stands_in_for_something_tells_nothing() {
    for values in ["-1 -1 -1", "0 0 0", "-1 0 0s", "0 0 1s", "none 0 0s", "none -1 none", "x y z"] {
        let headers = [("requests", values), ("tokens", values)];
        assert_eq!(kin(Vendor::OpenAi, &headers), [], "{values}");
    }
    assert_eq!(kin(Vendor::OpenAi, &[("requests", "nan inf 1s")]), []);
}

#[test]
fn groqs_requests_are_per_day_and_its_tokens_per_minute() {
    let values = [("requests", "14400 14397 17.399999999s"), ("tokens", "30000 29987 26ms")];
    let expected = [
        line(Requests, Day, 14_400.0, 14_397.0, 17.399_999_999),
        line(Tokens, Minute, 30_000.0, 29_987.0, 0.026),
    ];
    assert_eq!(kin(Vendor::Groq, &values), expected);
    let fresh = kin(Vendor::Groq, &[("requests", "1000 1000 0s")]);
    assert_eq!(fresh, [line(Requests, Day, 1_000.0, 1_000.0, 0.0)]);
}

#[test]
fn cerebras_names_its_periods_and_counts_seconds() {
    let values = [
        ("requests-day", "14400 14399 33011.382867"),
        ("tokens-minute", "60000 59000 11.38"),
        ("requests-minute", "30 29 11.38"),
    ];
    let expected = [
        line(Requests, Minute, 30.0, 29.0, 11.38),
        line(Requests, Day, 14_400.0, 14_399.0, 33_011.382_867),
        line(Tokens, Minute, 60_000.0, 59_000.0, 11.38),
    ];
    assert_eq!(kin(Vendor::Cerebras, &values), expected);
}

#[test]
fn openrouter_tells_only_when_it_refuses() {
    let error = |message: &str, reset: &str| {
        let headers = json!({ "X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0",
                              "X-RateLimit-Reset": reset });
        let error = json!({ "error": { "message": message, "code": 429,
                                       "metadata": { "headers": headers } } });
        body(Vendor::OpenRouter, 429, &error.to_string())
    };
    let day = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000";
    let midnight = "1748908800000";
    let expected = [line(Requests, Day, 50.0, 0.0, 31_515.0)];
    assert_eq!(error(day, midnight), expected);
    assert_eq!(error("Rate limit exceeded", midnight), expected);
    let minute = error("Rate limit exceeded: free-models-per-min. ", "1748877300000");
    assert_eq!(minute, [line(Requests, Minute, 50.0, 0.0, 15.0)]);
    let mut given = HeaderMap::new();
    given.insert("x-ratelimit-limit", "20".parse().unwrap());
    given.insert("x-ratelimit-remaining", "0".parse().unwrap());
    given.insert("x-ratelimit-reset", "1748877300000".parse().unwrap());
    let read = lines(&in_headers(Vendor::OpenRouter, &given, now()));
    assert_eq!(read, [line(Requests, Minute, 20.0, 0.0, 15.0)]);
}

fn told(axis: Axis, per: Period, limit: f64, left: Option<f64>) -> Vec<Line> {
    vec![(axis, per, Some(limit), left, None)]
}

#[test]
fn messages_name_the_limit_that_was_reached() {
    for (text, expected) in [
        (
            "Rate limit reached for model `x` in organization `o` on tokens per minute (TPM): \
             Limit 6000, Used 5500, Requested 700. Please try again in 2s. Visit https://x",
            told(Tokens, Minute, 6_000.0, Some(500.0)),
        ),
        (
            "Rate limit reached for model `llama3-70b-8192` in organization `org_123` on tokens \
             per minute (TPM): Limit 5000, Used 5747, Requested ~4251. Please try again in \
             59.977s. Visit https://console.groq.com/docs/rate-limits for more information.",
            told(Tokens, Minute, 5_000.0, Some(0.0)),
        ),
        (
            "Rate limit reached for gpt-4o in organization org-1 on requests per day (RPD): \
             Limit 200, Used 200, Requested 1. Please try again in 7m12s.",
            told(Requests, Day, 200.0, Some(0.0)),
        ),
        (
            "Rate limit reached for model `llama-3.3-70b-versatile` in organization `o` on \
             tokens per day (TPD): Limit 100000, Used 98960, Requested 1500.",
            told(Tokens, Day, 100_000.0, Some(1_040.0)),
        ),
        // Said to be per minute, and the wait belies it.
        (
            "Rate limit reached for gpt-4o-mini in organization o on tokens per min (TPM): \
             Limit 100000, Used 96749, Requested 19126. Please try again in 114h18m0s.",
            told(Tokens, Day, 100_000.0, Some(3_251.0)),
        ),
        (
            "Request too large for gpt-4o in organization o on tokens per min (TPM): Limit \
             30,000, Requested 39,060.",
            told(Tokens, Minute, 30_000.0, None),
        ),
    ] {
        assert_eq!(message(Vendor::OpenAi, text), expected, "{text}");
    }
    let other = json!({ "error": { "message": "on tokens per minute (TPM): Limit 6000" } });
    assert_eq!(body(Vendor::OpenAi, 400, &other.to_string()), []);
}

#[test]
fn anthropic_names_the_limit_in_words_of_its_own() {
    for (text, expected) in [
        (
            "This request would exceed your organization's rate limit of 30,000 input tokens \
             per minute (org: o, model: claude-sonnet-5).",
            told(InputTokens, Minute, 30_000.0, None),
        ),
        (
            "This request would exceed the rate limit for your organization (o) of 8,000 \
             output tokens per minute. For details, refer to: https://x",
            told(OutputTokens, Minute, 8_000.0, None),
        ),
        (
            "This request would exceed your organization's maximum usage increase rate for \
             input tokens per minute (org: o). Your current limit is 58,276 input tokens per \
             minute, and will increase to 68,276 at the next minute boundary. Please scale up \
             your input tokens usage more gradually to stay within the acceleration limit.",
            Vec::new(),
        ),
        ("Requests per minute limit exceeded - too many requests sent.", Vec::new()),
        ("Requests per second limit exceeded - too many requests sent.", Vec::new()),
        ("Tokens per hour (TPH): Limit 1000000, Used 1000000", Vec::new()),
        ("Rate limited", Vec::new()),
    ] {
        assert_eq!(message(Vendor::Anthropic, text), expected, "{text}");
    }
}

#[test]
fn geminis_quotas_tell_by_their_names() {
    let error = |id: &str, metric: &str, value: Option<&str>| {
        let mut violation = json!({ "quotaId": id, "quotaMetric": metric });
        if let Some(value) = value {
            violation["quotaValue"] = value.into();
        }
        let body = json!({ "error": { "code": 429,
            "message": format!("* Quota exceeded for metric: {metric}, limit: 250, model: m\n"),
            "details": [{ "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                          "violations": [violation] }] } });
        body_of(&body)
    };
    let input = "GenerateContentPaidTierInputTokensPerModelPerMinute";
    let told = |axis, per, limit| vec![(axis, per, Some(limit), None, None)];
    let metric = "g.com/generate_content_free_tier_requests";
    let day = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
    assert_eq!(error(input, "m", Some("1000000")), told(InputTokens, Minute, 1_000_000.0));
    assert_eq!(error(day, metric, Some("20")), told(Requests, Day, 20.0));
    assert_eq!(error(day, metric, None), told(Requests, Day, 250.0));
    assert_eq!(error("XPerMinute", metric, None), told(Requests, Minute, 250.0));
    assert_eq!(error("X", metric, Some("5")), []);
    assert_eq!(error(day, metric, Some("0")), []);
    assert_eq!(error(day, "", None), []);
}

fn body_of(error: &Value) -> Vec<Line> {
    body(Vendor::Gemini, 429, &error.to_string())
}

#[test]
fn of_one_limit_the_first_word_counts() {
    let told =
        |axis, limit| Told { axis, per: Minute, limit: Some(limit), remaining: None, reset: None };
    let (first, second) = (vec![told(Tokens, 1.0)], vec![told(Tokens, 2.0), told(Requests, 3.0)]);
    assert_eq!(joined(first, second), [told(Tokens, 1.0), told(Requests, 3.0)]);
}
