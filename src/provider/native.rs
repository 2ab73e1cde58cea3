//! A caller's own request, sent as it came to a provider that speaks its language: nothing we do
//! not know is lost.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::domain::prompt::Native;

/// Headers that are ours: whose key it is, and how the bytes travel.
const OURS: [&str; 16] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-goog-api-key",
];

/// The caller's request with the model that is asked. Whether the answer is to come as a stream is
/// for us to say: the caller may have been promised another form than the provider is asked for.
pub(super) fn body(native: &Native, model: &str, streamed: bool) -> Map<String, Value> {
    let mut body = native.body.clone();
    body.insert("model".to_owned(), model.into());
    if streamed || body.contains_key("stream") {
        body.insert("stream".to_owned(), streamed.into());
    }
    body
}

/// The caller's headers that go along.
pub(super) fn headers(native: &Native) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &native.headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            continue;
        };
        if !OURS.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::prompt::Dialect;

    fn native(headers: &[(&str, &str)]) -> Native {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let body = Map::from_iter([("x".to_owned(), 1.into())]);
        Native { dialect: Dialect::Anthropic, body, headers: headers.collect() }
    }

    #[test]
    fn only_the_model_and_the_stream_are_ours() {
        let text = |body: Map<String, Value>| Value::Object(body).to_string();
        let mut native = native(&[]);
        assert_eq!(text(body(&native, "m", false)), r#"{"x":1,"model":"m"}"#);
        assert_eq!(text(body(&native, "m", true)), r#"{"x":1,"model":"m","stream":true}"#);
        native.body.insert("stream".to_owned(), true.into());
        assert_eq!(text(body(&native, "m", false)), r#"{"x":1,"stream":false,"model":"m"}"#);
    }

    #[test]
    fn no_header_of_the_callers_takes_the_place_of_ours() {
        let native = native(&[
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("x-api-key", "theirs"),
            ("authorization", "Bearer theirs"),
            ("accept-encoding", "gzip"),
            ("bad name", "x"),
            ("x-bad", "a\nb"),
        ]);
        let headers = headers(&native);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers.get_all("anthropic-beta").iter().count(), 2);
    }
}
