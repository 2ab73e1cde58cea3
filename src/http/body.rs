//! Reading a request's body: capped while reading, in time, UTF-8, not too deep; JSON or a form.

use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use indexmap::IndexMap;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::problem::{Kind, Problem};
use super::settings::Settings;

/// A body's fields as they came; a field given twice counts as given last.
pub(super) type Fields = IndexMap<String, Box<RawValue>>;

/// A body as it came and its fields.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) fields: Fields,
}

/// Reads a body whole and takes it apart.
pub(super) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    settings: &Settings,
) -> Result<Body, Problem> {
    let bytes = read_bytes(request, payload, settings, settings.max_body.0).await?;
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let text = utf8(&bytes)?;
    let fields = match kind.as_deref() {
        Some("application/x-www-form-urlencoded") => form(text),
        Some("multipart/form-data") => {
            let detail = "Send application/json or application/x-www-form-urlencoded.";
            return Err(Problem::new(Kind::MediaType, detail));
        }
        // Platforms often send JSON under another name or none.
        _ => json(text, settings.max_depth)?,
    };
    Ok(Body { bytes, fields })
}

/// Reads the body of a call on an open connection, which is a JSON object.
pub(super) async fn object(
    request: &HttpRequest,
    payload: web::Payload,
    settings: &Settings,
) -> Result<Map<String, Value>, Problem> {
    let bytes = read_bytes(request, payload, settings, settings.max_live_body.0).await?;
    let text = utf8(&bytes)?;
    refuse_if_deep(text, settings.max_depth)?;
    refuse_if_many(text)?;
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(text).map_err(|fault| {
        Problem::new(Kind::NotJson, format!("The body is not a JSON object: {fault}."))
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|fault| {
        let detail = format!(
            "The body is not UTF-8: the byte at offset {} is not. Send it as UTF-8.",
            fault.valid_up_to()
        );
        Problem::new(Kind::NotUtf8, detail)
    })
}

async fn read_bytes(
    request: &HttpRequest,
    mut payload: web::Payload,
    settings: &Settings,
    most: usize,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("The body may have {most} bytes at the most.");
        Problem::new(Kind::TooLarge, detail)
    };
    let told = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if told.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let reading = async {
        let mut body = BytesMut::with_capacity(told.unwrap_or(1_024).min(64 * 1_024));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|fault| {
                let detail =
                    format!("The body's framing is broken, or it ended too soon: {fault}.");
                Problem::new(Kind::BadBody, detail)
            })?;
            if body.len() + chunk.len() > most {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(settings.body_timeout.0, reading).await.unwrap_or_else(|_| {
        let detail = format!("The body must arrive within {}.", settings.body_timeout);
        Err(Problem::new(Kind::SlowBody, detail))
    })
}

/// The fields of a JSON object.
pub(super) fn json(text: &str, max_depth: usize) -> Result<Fields, Problem> {
    refuse_if_deep(text, max_depth)?;
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str::<Fields>(text).map_err(|fault| {
        let object = text.trim_start().starts_with('{');
        let hint = if text.trim_start().starts_with('[') {
            "This is a list: send one object, or many as `jobs` to /v1/groups."
        } else if object {
            "If you build the JSON in a no-code tool, quotes and line breaks inside values must be \
             escaped; application/x-www-form-urlencoded needs no escaping."
        } else {
            "Send a JSON object such as {\"task\":\"tag\",\"input\":\"some text\"}."
        };
        Problem::new(Kind::NotJson, format!("The body is not a JSON object: {fault}. {hint}"))
    })
}

/// The fields of a form. Values are texts; where an object is wanted, the text is read as JSON.
fn form(text: &str) -> Fields {
    url::form_urlencoded::parse(text.as_bytes())
        .filter_map(|(name, value)| Some((name.into_owned(), to_raw_value(&value).ok()?)))
        .collect()
}

fn refuse_if_deep(text: &str, max_depth: usize) -> Result<(), Problem> {
    if is_too_deep(text, max_depth) {
        let detail = format!("The body may be nested {max_depth} levels deep at the most.");
        return Err(Problem::new(Kind::TooDeep, detail));
    }
    Ok(())
}

/// Whether brackets nest deeper than this. Most texts have fewer brackets than that.
fn is_too_deep(text: &str, most: usize) -> bool {
    let brackets = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    brackets > most && shape(text).0 > most
}

/// The most values in a body that is taken apart into them: each takes a hundred bytes of memory,
/// however few it has in the body.
const MOST_VALUES: usize = 500_000;

fn refuse_if_many(text: &str) -> Result<(), Problem> {
    let commas = text.bytes().filter(|byte| *byte == b',').count();
    if commas > MOST_VALUES && shape(text).1 > MOST_VALUES {
        let detail = format!("The body may have {MOST_VALUES} values at the most.");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    Ok(())
}

/// How deep brackets nest outside strings, and how many commas stand there. Checked before parsing,
/// in one pass.
fn shape(text: &str) -> (usize, usize) {
    let (mut depth, mut deepest, mut commas) = (0usize, 0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            b',' if !in_string => commas += 1,
            _ => {}
        }
    }
    (deepest, commas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(shape(r#"{"a":[{"b":"[[,[\"{"},1]}"#), (3, 1));
        assert_eq!(shape("1"), (0, 0));
        assert!(refuse_if_many(&",".repeat(MOST_VALUES + 1)).is_err());
        assert!(refuse_if_many(&format!("\"{}\"", ",".repeat(MOST_VALUES + 1))).is_ok());
        assert!(json("[]", 9).unwrap_err().to_string().contains("JSON object"));
        assert!(json(&"[".repeat(1_000_000), 64).is_err());
    }
}
