//! What providers tell of their limits: in the headers of every answer, and in the bodies of
//! errors. What is left open or stands in for nothing (`-1`, 0 of 0) tells nothing.

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap};
use serde_json::Value;

use super::fault::Fault;
use super::hint;
use super::json::{list, text};
use super::settings::Vendor;
use crate::domain::limits::{Axis, Period};
use crate::domain::told::Told;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;

/// Longer than any limit per minute takes to be whole again, also when it was overdrawn.
const NO_MINUTE: f64 = 600.0;

/// What Anthropic's headers are called, without `tokens`, which is a sum.
const ANTHROPIC: [(&str, Axis); 3] = [
    ("requests", Axis::Requests),
    ("input-tokens", Axis::InputTokens),
    ("output-tokens", Axis::OutputTokens),
];

/// What OpenAI and its kin call an axis behind `x-ratelimit-limit-`.
const OPENAI: [(&str, Axis); 4] = [
    ("requests", Axis::Requests),
    ("input-tokens", Axis::InputTokens),
    ("output-tokens", Axis::OutputTokens),
    ("tokens", Axis::Tokens),
];

/// A period told by name behind the axis; Cerebras does.
const SUFFIXES: [(&str, Option<Period>); 3] =
    [("", None), ("-minute", Some(Period::Minute)), ("-day", Some(Period::Day))];

/// What messages call an axis. The longer name stands first: it ends in the shorter.
const WORDS: [(&str, Axis); 4] = [
    ("input tokens per ", Axis::InputTokens),
    ("output tokens per ", Axis::OutputTokens),
    ("tokens per ", Axis::Tokens),
    ("requests per ", Axis::Requests),
];

/// What the headers tell, of good answers and of errors alike.
pub(super) fn in_headers(vendor: Vendor, headers: &HeaderMap, now: DateTime<Utc>) -> Vec<Told> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Its own clock is the one a provider's times are meant by.
    let date = header(DATE.as_str()).and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    let now = date.map_or(now, |date| date.to_utc());
    match vendor {
        Vendor::Anthropic => anthropic(&header, now),
        // It tells nothing in headers.
        Vendor::Gemini => Vec::new(),
        Vendor::OpenRouter => openrouter(&header, "", now).into_iter().collect(),
        Vendor::OpenAi
        | Vendor::Groq
        | Vendor::Cerebras
        | Vendor::Ollama
        | Vendor::OpenAiCompatible
        | Vendor::Scripted => openai(vendor, &header, now),
    }
}

/// What an error that is about limits tells in its body.
pub(super) fn in_fault(
    vendor: Vendor,
    status: u16,
    fault: &Fault,
    now: DateTime<Utc>,
) -> Vec<Told> {
    if !matches!(status, 413 | 429) {
        return Vec::new();
    }
    match vendor {
        Vendor::Gemini => gemini(fault),
        Vendor::OpenRouter => {
            // The headers stand in the body too, written as OpenRouter writes them.
            let header = |name: &str| {
                let headers = fault.error.pointer("/metadata/headers")?.as_object()?;
                let told = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                told.and_then(|(_, value)| value.as_str())
            };
            openrouter(&header, &fault.message, now).into_iter().collect()
        }
        _ => in_text(fault).into_iter().collect(),
    }
}

/// Both together: of one limit the first word counts.
pub(super) fn joined(mut first: Vec<Told>, second: Vec<Told>) -> Vec<Told> {
    for told in second {
        if !first.iter().any(|known| (known.axis, known.per) == (told.axis, told.per)) {
            first.push(told);
        }
    }
    first
}

/// One limit's three headers as they stand there.
struct Trio<'a> {
    limit: Option<&'a str>,
    remaining: Option<&'a str>,
    reset: Option<&'a str>,
}

impl Trio<'_> {
    /// Reads them; `None` when they say nothing or only stand in for something.
    fn read(&self, axis: Axis, now: DateTime<Utc>) -> Option<Told> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        let limit = self.limit.map(|text| number(text).filter(|limit| *limit > 0.0));
        if limit == Some(None) {
            return None;
        }
        let limit = limit.flatten();
        let remaining = self.remaining.and_then(number).filter(|left| *left >= 0.0);
        let remaining = remaining.map(|left| left.min(limit.unwrap_or(f64::INFINITY)));
        let reset = self.reset.and_then(|text| hint::reset(text.trim(), now));
        let says = limit.is_some()
            || remaining.is_some_and(|left| left > 0.0)
            || remaining.is_some() && reset.is_some_and(|reset| !reset.is_zero());
        says.then_some(Told { axis, per: Period::Minute, limit, remaining, reset })
    }
}

/// Limits are per minute, and the reset is when all is there again. The plain `tokens` are those
/// of the limit that presses most: a workspace's own where it has one, else the sum of input and
/// output, which is no limit and is left out. What remains is rounded to thousands.
fn anthropic<'a>(header: &dyn Fn(&str) -> Option<&'a str>, now: DateTime<Utc>) -> Vec<Told> {
    let trio = |name: &str, axis| {
        let of = |what: &str| header(&format!("anthropic-ratelimit-{name}-{what}"));
        Trio { limit: of("limit"), remaining: of("remaining"), reset: of("reset") }.read(axis, now)
    };
    let mut told: Vec<Told> =
        ANTHROPIC.into_iter().filter_map(|(name, axis)| trio(name, axis)).collect();
    let limit = |axis| told.iter().find(|told| told.axis == axis).and_then(|told| told.limit);
    let sum = limit(Axis::InputTokens).zip(limit(Axis::OutputTokens)).map(|(a, b)| a + b);
    let own =
        |tokens: &Told| tokens.limit.zip(sum).is_none_or(|(limit, sum)| (limit - sum).abs() > 0.5);
    told.extend(trio("tokens", Axis::Tokens).filter(own));
    told
}

/// `x-ratelimit-limit-requests`, `x-ratelimit-reset-tokens-minute`, ….
fn openai<'a>(
    vendor: Vendor,
    header: &dyn Fn(&str) -> Option<&'a str>,
    now: DateTime<Utc>,
) -> Vec<Told> {
    let mut told = Vec::new();
    for (name, axis) in OPENAI {
        for (suffix, named) in SUFFIXES {
            let of = |what: &str| header(&format!("x-ratelimit-{what}-{name}{suffix}"));
            let trio = Trio { limit: of("limit"), remaining: of("remaining"), reset: of("reset") };
            let Some(read) = trio.read(axis, now) else { continue };
            let per = match (named, vendor, axis) {
                (Some(named), _, _) => Some(named),
                (None, Vendor::Groq, Axis::Requests) => Some(Period::Day),
                (None, Vendor::Groq, _) => Some(Period::Minute),
                (None, _, _) => period(&read, vendor == Vendor::OpenAi),
            };
            told = joined(told, per.map(|per| Told { per, ..read }).into_iter().collect());
        }
    }
    told
}

/// Only on errors, for the whole account, and counting requests.
fn openrouter<'a>(
    header: &dyn Fn(&str) -> Option<&'a str>,
    message: &str,
    now: DateTime<Utc>,
) -> Option<Told> {
    let of = |what: &str| header(&format!("x-ratelimit-{what}"));
    let trio = Trio { limit: of("limit"), remaining: of("remaining"), reset: of("reset") };
    let read = trio.read(Axis::Requests, now)?;
    let per = match message.split_once("per-").map(|(_, rest)| rest) {
        Some(rest) if rest.starts_with("day") => Period::Day,
        Some(rest) if rest.starts_with("min") => Period::Minute,
        _ => period(&read, false)?,
    };
    Some(Told { per, ..read })
}

/// The period a provider does not name, from its figures. A minute, where nothing speaks against
/// it; between that and a day lies what we know no name for, and it is not told at all.
fn period(told: &Told, evenly: bool) -> Option<Period> {
    let reset = told.reset.map_or(0.0, |reset| reset.as_secs_f64());
    let used = told.limit.zip(told.remaining).filter(|(limit, left)| left < limit);
    // Where what is used comes back evenly, all of it takes `limit / used` times as long. Of a
    // window that is counted anew this tells nothing.
    let implied = used.filter(|_| evenly).map(|(limit, left)| reset * limit / (limit - left));
    let about = |period: f64| implied.is_some_and(|it| (it / period - 1.0).abs() < 0.1);
    if about(DAY) || reset > HOUR {
        Some(Period::Day)
    } else if about(HOUR) || reset > NO_MINUTE {
        None
    } else {
        Some(Period::Minute)
    }
}

/// `on tokens per minute (TPM): Limit 6000, Used 5500, Requested 700`, and Anthropic's `rate limit
/// of 30,000 input tokens per minute`. How fast use may grow is told in the same words and is
/// another matter.
fn in_text(fault: &Fault) -> Option<Told> {
    if fault.says(&["usage increase rate", "acceleration limit"]) {
        return None;
    }
    let message = fault.message.to_ascii_lowercase();
    let found = |(word, axis): (&str, Axis)| {
        message.split_once(word).map(|(before, after)| (axis, before.to_owned(), after.to_owned()))
    };
    let (axis, before, after) = WORDS.into_iter().find_map(found)?;
    let named = if after.starts_with("min") {
        Period::Minute
    } else if after.starts_with("day") {
        Period::Day
    } else {
        return None;
    };
    let stands_before = before.split_whitespace().next_back().and_then(number);
    let limit = stands_before.or_else(|| after_word(&after, "limit "));
    let limit = limit.filter(|limit| *limit > 0.0)?;
    let used = after_word(&after, "used ");
    let remaining = used.map(|used| (limit - used).max(0.0));
    let over = used.zip(after_word(&after, "requested ")).map(|(a, b)| a + b - limit);
    let per = over.map_or(Some(named), |over| belied(named, limit, over, fault))?;
    Some(Told { axis, per, limit: Some(limit), remaining, reset: None })
}

/// The period as told, unless it is a minute and the wait for what is over speaks of hours: one
/// provider says `per min` of a limit that it counts over much longer.
fn belied(named: Period, limit: f64, over: f64, fault: &Fault) -> Option<Period> {
    let wait = hint::in_text(&fault.message).map_or(0.0, |wait| wait.as_secs_f64());
    let implied = if over > 0.0 { wait * limit / over } else { 0.0 };
    match named {
        Period::Minute if implied > 10.0 * HOUR => Some(Period::Day),
        Period::Minute if implied > 10.0 * MINUTE => None,
        named => Some(named),
    }
}

/// The number behind a word, if it is there; a tilde says that it is an estimate.
fn after_word(text: &str, word: &str) -> Option<f64> {
    let (_, rest) = text.split_once(word)?;
    number(rest.split_whitespace().next()?.trim_start_matches('~'))
}

/// `30000`, `30,000` and what punctuation follows it.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_end_matches([',', '.', ';', ')']).replace(',', "");
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// Every quota that was exceeded, by its name: `GenerateRequestsPerDayPerProjectPerModel`.
fn gemini(fault: &Fault) -> Vec<Told> {
    let violations =
        fault.detail("google.rpc.QuotaFailure").map_or(&[][..], |d| list(d, "/violations"));
    let told = violations.iter().filter_map(|one| {
        let (id, metric) = (text(one, "/quotaId"), text(one, "/quotaMetric"));
        let per = if id.contains("PerDay") || id.contains("Daily") {
            Period::Day
        } else if id.contains("PerMinute") {
            Period::Minute
        } else {
            return None;
        };
        let axis = gemini_axis(id).or_else(|| gemini_axis(metric))?;
        let told = match one.get("quotaValue") {
            Some(Value::String(limit)) => number(limit),
            _ => in_message(&fault.message, metric),
        };
        let limit = told.filter(|limit| *limit > 0.0)?;
        Some(Told { axis, per, limit: Some(limit), remaining: None, reset: None })
    });
    joined(Vec::new(), told.collect())
}

fn gemini_axis(name: &str) -> Option<Axis> {
    let name = name.to_ascii_lowercase().replace('_', "");
    [
        ("inputtoken", Axis::InputTokens),
        ("outputtoken", Axis::OutputTokens),
        ("token", Axis::Tokens),
        ("request", Axis::Requests),
    ]
    .into_iter()
    .find(|(word, _)| name.contains(word))
    .map(|(_, axis)| axis)
}

/// `Quota exceeded for metric: …/x, limit: 1000000, model: …`.
fn in_message(message: &str, metric: &str) -> Option<f64> {
    let (_, rest) = message.split_once(metric).filter(|_| !metric.is_empty())?;
    let (line, _) = rest.split_once('\n').unwrap_or((rest, ""));
    after_word(line, "limit: ")
}

#[cfg(test)]
mod tests;
