//! The headers of a callback: ours, and those its caller asked to send along.

use std::collections::{BTreeMap, HashSet};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// The most headers a caller may add.
const MAX_COUNT: usize = 20;
/// The longest value of one.
const MAX_VALUE: usize = 4_096;

/// Headers that are ours or the connection's.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_BEGINNINGS: [&str; 2] = ["webhook-", "spillway-"];

fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    RESERVED.contains(&name) || RESERVED_BEGINNINGS.iter().any(|start| name.starts_with(start))
}

/// Checks the headers a caller wants sent with the callback. What is wrong is told without the
/// value, which is often a password.
pub fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    if headers.len() > MAX_COUNT {
        return Err(format!("a callback may have {MAX_COUNT} headers, not {}", headers.len()));
    }
    let mut seen = HashSet::new();
    for (name, value) in headers {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_fault| format!("{name:?} is not a header's name"))?;
        if is_reserved(&parsed) {
            return Err(format!("the header {parsed} is set by Spillway"));
        }
        if value.len() > MAX_VALUE {
            return Err(format!("the header {parsed} is longer than {MAX_VALUE} bytes"));
        }
        if !value.is_ascii() || HeaderValue::from_str(value).is_err() {
            return Err(format!("the header {parsed} has characters other than plain ASCII"));
        }
        if !seen.insert(parsed.clone()) {
            return Err(format!("the header {parsed} is given twice"));
        }
    }
    Ok(())
}

/// What Spillway itself says in the headers of one attempt.
pub(super) struct Own<'a> {
    /// The same at every attempt of one delivery.
    pub(super) id: &'a str,
    /// The time of this attempt.
    pub(super) timestamp: i64,
    /// The signature over id, timestamp and body.
    pub(super) signature: &'a str,
    /// Counts the attempts from one.
    pub(super) attempt: u32,
}

/// All headers of one attempt; `None` when the id cannot stand in a header. Callers' headers were
/// checked when the job was submitted; what would not pass today is left out.
pub(super) fn compose(callers: &BTreeMap<String, String>, own: &Own<'_>) -> Option<HeaderMap> {
    let mut all = HeaderMap::new();
    for (name, value) in callers.iter().take(MAX_COUNT) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !is_reserved(name));
        if let (Some(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) {
            value.set_sensitive(true);
            all.insert(name, value);
        }
    }
    let version = concat!("spillway/", env!("CARGO_PKG_VERSION"));
    all.insert("accept-encoding", HeaderValue::from_static("identity"));
    all.insert("content-type", HeaderValue::from_static("application/json"));
    all.insert("user-agent", HeaderValue::from_static(version));
    all.insert("webhook-id", HeaderValue::from_str(own.id).ok()?);
    all.insert("webhook-timestamp", HeaderValue::from(own.timestamp));
    all.insert("webhook-signature", HeaderValue::from_str(own.signature).ok()?);
    all.insert("spillway-attempt", HeaderValue::from(own.attempt));
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&str, &str)]) -> BTreeMap<String, String> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_callers_headers_are_checked() {
        let good = map(&[("Authorization", "Bearer a b"), ("X-Key", "1"), ("Cookie", "a=b")]);
        assert_eq!(check_headers(&good), Ok(()));
        assert_eq!(check_headers(&BTreeMap::new()), Ok(()));
        let long = "a".repeat(MAX_VALUE + 1);
        let cases = [
            (("Host", "a"), "set by Spillway"),
            (("content-LENGTH", "1"), "set by Spillway"),
            (("Transfer-Encoding", "chunked"), "set by Spillway"),
            (("Webhook-Anything", "1"), "set by Spillway"),
            (("spillway-attempt", "1"), "set by Spillway"),
            (("", "1"), "not a header's name"),
            (("a b", "1"), "not a header's name"),
            (("x\r\ny", "1"), "not a header's name"),
            (("x", "secret\r\nhost: evil"), "plain ASCII"),
            (("x", "sécret"), "plain ASCII"),
            (("x", long.as_str()), "longer than"),
        ];
        for (header, reason) in cases {
            let refusal = check_headers(&map(&[header])).unwrap_err();
            assert!(refusal.contains(reason), "{header:?}: {refusal}");
            assert!(!refusal.contains("cret"), "{refusal}");
        }
        assert!(check_headers(&map(&[("x-a", "1"), ("X-A", "2")])).unwrap_err().contains("twice"));
        let many = (0..=MAX_COUNT).map(|n| (format!("x-{n}"), String::new())).collect();
        assert!(check_headers(&many).is_err());
    }

    #[test]
    fn ours_cannot_be_overridden() {
        let callers =
            map(&[("Content-Type", "text/html"), ("WEBHOOK-ID", "forged"), ("X-Key", "1")]);
        let own = Own { id: "job_0_1", timestamp: 7, signature: "v1,x", attempt: 2 };
        let all = compose(&callers, &own).unwrap();
        assert_eq!(all["content-type"], "application/json");
        assert_eq!(all["webhook-id"], "job_0_1");
        assert_eq!(all["webhook-timestamp"], "7");
        assert_eq!(all["spillway-attempt"], "2");
        assert_eq!(all["x-key"], "1");
        assert!(!format!("{all:?}").contains("\"1\""), "{all:?}");
        assert!(compose(&callers, &Own { id: "a\nb", ..own }).is_none());
    }
}
