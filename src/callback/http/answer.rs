//! What a receiver's answer means: taken, gone, or again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::domain::job::Callback;

/// How much of an answer is kept for the log.
const KEPT: usize = 2_048;
/// The longest `Retry-After` that is honoured.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a receiver that is starting is left alone. n8n takes calls about a second before it has
/// settled what it left, and may then take an execution that a call has woken for crashed.
const STARTING: Duration = Duration::from_secs(15);
/// Shorter parts of a query are words, not secrets.
const SECRET: usize = 8;

/// What to do with a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Taken,
    /// Try later.
    Again,
    /// The receiver wants no more of it.
    Gone,
}

/// A receiver's answer, as far as it was read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The beginning of the body.
    pub(super) body: Vec<u8>,
    /// Why the body was not read to its end, when that is the receiver's fault.
    pub(super) broken_off: Option<&'static str>,
    /// How many bytes were posted.
    pub(super) sent: usize,
}

impl Answer {
    /// The verdict, and what went wrong in words.
    pub(super) fn judge(&self, callback: &Callback) -> (Verdict, Option<String>) {
        let status = self.status;
        if self.is_put_off() {
            return (Verdict::Again, Some("200: but n8n is only starting up".to_owned()));
        }
        let asked_for = callback.success_statuses.contains(&status.as_u16());
        if status.is_success() || asked_for {
            return (Verdict::Taken, self.broken_off.map(str::to_owned));
        }
        let abort = self.headers.get("webhook-delivery");
        if abort.is_some_and(|value| value.as_bytes() == b"abort-message") {
            return (Verdict::Gone, Some("the receiver asked to stop".to_owned()));
        }
        if status == StatusCode::GONE {
            return (Verdict::Gone, Some("410: the receiver is gone".to_owned()));
        }
        // n8n: `has finished already`, or `has finished with error`.
        if status == StatusCode::CONFLICT && self.says("has finished") {
            let repeat = "409: the receiver had it already; this was a repeat";
            return (Verdict::Taken, Some(repeat.to_owned()));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return (Verdict::Again, Some(too_large(self.sent)));
        }
        let hint = match status.as_u16() {
            300..=399 => ": redirects are not followed; give the address they lead to",
            401 => ": the receiver does not know us; was part of the URL's query lost?",
            404 => ": nobody waits here, or not for a POST",
            409 => ": the receiver is not ready",
            429 => ": the receiver has too much to do",
            _ => "",
        };
        (Verdict::Again, Some(format!("{}{hint}", status.as_u16())))
    }

    fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).to_lowercase().contains(words)
    }

    /// Whether nobody has seen the callback although the status says so: what n8n answers to every
    /// request while it brings its database up to date (n8n 2.41, `abstract-server.ts`).
    fn is_put_off(&self) -> bool {
        self.status == StatusCode::OK && self.body.starts_with(b"n8n is starting up")
    }

    /// Whether the receiver has only begun to start: it has no routes yet, as Express says then.
    fn is_starting(&self) -> bool {
        let no_routes = self.status == StatusCode::NOT_FOUND && self.says("<pre>cannot post ");
        no_routes || self.is_put_off()
    }

    /// When the receiver wants to be asked again, or is likely to be ready.
    pub(super) fn retry_after(&self, now: DateTime<Utc>) -> Option<Duration> {
        let starting = self.is_starting().then_some(STARTING);
        self.asked_pause(now).max(starting)
    }

    /// `Retry-After`: seconds, or a date.
    fn asked_pause(&self, now: DateTime<Utc>) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than fit are a long time.
            text.parse().map_or(LONGEST, Duration::from_secs)
        } else {
            let date: DateTime<Utc> = httpdate::parse_http_date(text).ok()?.into();
            (date - now).to_std().unwrap_or_default()
        };
        Some(pause.min(LONGEST))
    }

    /// The beginning of the body as text for the log, without the callback's secrets, which some
    /// receivers repeat. What is not text is left out.
    pub(super) fn excerpt(&self, callback: &Callback) -> Option<String> {
        let encoding = self.headers.get("content-encoding");
        if self.body.is_empty() || encoding.is_some_and(|value| value != "identity") {
            return None;
        }
        let mut text = String::from_utf8_lossy(&self.body).into_owned();
        for secret in secrets(callback) {
            text = text.replace(&secret, "[redacted]");
        }
        let mut kept = String::new();
        for c in text.chars() {
            if kept.len() + c.len_utf8() > KEPT {
                break;
            }
            kept.push(if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c });
        }
        Some(kept)
    }
}

/// The receiver's limit may be raised while we try.
fn too_large(sent: usize) -> String {
    let (whole, tenths) = (sent / 1_000_000, sent / 100_000 % 10);
    let size =
        if sent < 100_000 { format!("{sent} bytes") } else { format!("{whole}.{tenths} MB") };
    format!(
        "413: the result ({size}) is too large for the receiver: raise its limit there, have \
         the task answer less, or fetch it from its status_url"
    )
}

/// What of a callback must not be shown, the longest first: the query as a whole (also as HTML
/// writes it), its values, and the caller's headers.
fn secrets(callback: &Callback) -> Vec<String> {
    let query = callback.url.split_once('?').map_or("", |(_, query)| query);
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let mut all: Vec<String> = values
        .chain(callback.headers.values().map(String::as_str))
        .chain(callback.headers.values().filter_map(|value| value.split(' ').nth(1)))
        .filter(|text| text.len() >= SECRET)
        .map(str::to_owned)
        .collect();
    if !query.is_empty() {
        all.extend([query.replace('&', "&amp;"), query.to_owned()]);
    }
    all.sort_by_key(|text| std::cmp::Reverse(text.len()));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::job::CallbackBody;

    fn callback() -> Callback {
        Callback {
            url: "http://n8n:5678/webhook-waiting/1?signature=0123456789abcdef&a=b".to_owned(),
            headers: BTreeMap::from([(
                "authorization".to_owned(),
                "Bearer hunter2hunter2".to_owned(),
            )]),
            body: CallbackBody::default(),
            min_delay: None,
            success_statuses: vec![404],
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers
                .iter()
                .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
                .collect(),
            body: body.as_bytes().to_vec(),
            broken_off: None,
            sent: 6_123_456,
        }
    }

    #[test]
    fn what_is_too_large_is_told_with_its_size_and_tried_again() {
        let (verdict, error) = answer(413, &[], "Request Entity Too Large").judge(&callback());
        assert_eq!(verdict, Verdict::Again);
        let error = error.unwrap();
        assert!(error.contains("6.1 MB") && error.contains("status_url"), "{error}");
        assert!(too_large(99_999).contains("(99999 bytes)"));
    }

    #[test]
    fn statuses_are_judged_as_the_platforms_mean_them() {
        for status in [200, 201, 202, 204, 299, 404] {
            assert_eq!(answer(status, &[], "").judge(&callback()), (Verdict::Taken, None));
        }
        let again =
            [301, 302, 303, 307, 308, 400, 401, 403, 405, 408, 409, 413, 422, 425, 429, 500, 503];
        for status in again {
            let (verdict, error) = answer(status, &[], "").judge(&callback());
            assert_eq!(verdict, Verdict::Again, "{status}");
            assert!(error.unwrap().starts_with(&status.to_string()));
        }
        assert_eq!(answer(410, &[], "").judge(&callback()).0, Verdict::Gone);
        let mut plain = callback();
        plain.success_statuses.clear();
        assert_eq!(answer(404, &[], "").judge(&plain).0, Verdict::Again);
    }

    #[test]
    fn a_409_is_a_repeat_only_when_it_says_finished() {
        for end in ["already", "with error"] {
            let body = format!(r#"{{"message":"The execution \"7\" has finished {end}."}}"#);
            let (verdict, error) = answer(409, &[], &body).judge(&callback());
            assert_eq!(verdict, Verdict::Taken);
            assert!(error.unwrap().contains("repeat"));
        }
        let body = r#"{"message":"The execution \"7\" is running already."}"#;
        assert_eq!(answer(409, &[], body).judge(&callback()).0, Verdict::Again);
        assert_eq!(answer(500, &[], "has finished already").judge(&callback()).0, Verdict::Again);
    }

    #[test]
    fn an_n8n_that_is_starting_has_nothing_and_is_left_alone_for_a_moment() {
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        let put_off = answer(200, &[], "n8n is starting up. Please wait");
        let (verdict, error) = put_off.judge(&callback());
        assert!(verdict == Verdict::Again && error.unwrap().contains("starting"));
        assert_eq!(put_off.retry_after(now), Some(STARTING));
        let page = "<html><body><pre>Cannot POST /webhook-waiting/7</pre></body></html>";
        assert_eq!(answer(404, &[], page).retry_after(now), Some(STARTING));
        let own = [("retry-after", "60")];
        assert_eq!(answer(404, &own, page).retry_after(now), Some(Duration::from_secs(60)));
        assert_eq!(answer(404, &[], "not found").retry_after(now), None);
        let other = answer(200, &[], "The workflow says: n8n is starting up");
        assert_eq!(other.judge(&callback()).0, Verdict::Taken);
    }

    #[test]
    fn a_receiver_may_ask_to_stop() {
        let abort = [("webhook-delivery", "abort-message")];
        assert_eq!(answer(500, &abort, "").judge(&callback()).0, Verdict::Gone);
        assert_eq!(answer(200, &abort, "").judge(&callback()).0, Verdict::Taken);
        let other = [("webhook-delivery", "please")];
        assert_eq!(answer(500, &other, "").judge(&callback()).0, Verdict::Again);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_within_a_day() {
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        let cases = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86401", Some(86_400)),
            ("99999999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Tue, 06 Nov 2035 08:49:37 GMT", Some(86_400)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let told = answer(503, &[("retry-after", text)], "").retry_after(now);
            assert_eq!(told, expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(answer(503, &[], "").retry_after(now), None);
    }

    #[test]
    fn an_excerpt_is_short_and_shows_no_secret() {
        let body = "Cannot POST /webhook-waiting/1?signature=0123456789abcdef&amp;a=b \
                    signature=0123456789abcdef&a=b {\"signature\":\"0123456789abcdef\"} \
                    Bearer hunter2hunter2 hunter2hunter2 \u{1b}[31m";
        let kept = answer(404, &[], body).excerpt(&callback()).unwrap();
        for secret in ["0123456789abcdef", "hunter2", "\u{1b}"] {
            assert!(!kept.contains(secret), "{kept}");
        }
        assert!(kept.starts_with("Cannot POST /webhook-waiting/1?[redacted]"), "{kept}");
        let long = answer(500, &[], &"é".repeat(5_000)).excerpt(&callback()).unwrap();
        assert_eq!(long.len(), KEPT);
        let zipped = answer(500, &[("content-encoding", "gzip")], "??").excerpt(&callback());
        assert_eq!(zipped, None);
        assert_eq!(answer(200, &[], "").excerpt(&callback()), None);
    }
}
