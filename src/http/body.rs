//! Reading a request's body: capped while reading, in time, UTF-8, not too deep; JSON or a form.

use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

use super::nested::{Fields, numbered};
use super::problem::{Kind, Problem};
use super::settings::Settings;

/// A body as it came and its fields.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) fields: Fields,
    /// In a form every value is a text.
    pub(super) is_form: bool,
}

/// What a body is made of.
pub(super) enum Content<'a> {
    /// Fields of a form, in order.
    Form(Vec<(String, String)>),
    /// JSON, or whatever else is sent under another name or none: platforms are careless.
    Text(&'a str),
}

/// Reads the body of one job, or of many, whole and takes it apart.
pub(super) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    settings: &Settings,
    many: bool,
) -> Result<Body, Problem> {
    let most = if many { settings.max_group_body.0 } else { settings.max_body.0 };
    let bytes = read_bytes(request, payload, settings, most).await?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (fields, is_form) = match content(&bytes, kind).await? {
        Content::Form(pairs) => (form(pairs), true),
        Content::Text(text) => {
            refuse_if_many(text)?;
            (json(text, settings.max_depth, many)?, false)
        }
    };
    Ok(Body { bytes, fields, is_form })
}

/// Takes a body apart by its content type.
pub(super) async fn content<'a>(
    bytes: &'a Bytes,
    kind: Option<&str>,
) -> Result<Content<'a>, Problem> {
    let kind = kind.unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => {
            let text = utf8(bytes)?;
            // curl's `-d` says form whatever it sends, and forms write these two as %7B and %5B.
            if text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '[']) {
                return Ok(Content::Text(text));
            }
            let pairs = url::form_urlencoded::parse(text.as_bytes()).into_owned();
            Ok(Content::Form(counted(pairs.collect())?))
        }
        "multipart/form-data" => Ok(Content::Form(counted(parts(bytes, kind).await?)?)),
        _ => Ok(Content::Text(utf8(bytes)?)),
    }
}

/// The most fields of a form.
const MOST_FIELDS: usize = 20_000;

fn counted(pairs: Vec<(String, String)>) -> Result<Vec<(String, String)>, Problem> {
    if pairs.len() > MOST_FIELDS {
        let detail = format!("A form may have {MOST_FIELDS} fields at the most.");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    Ok(numbered(pairs))
}

/// The parts of a multipart form, each a text.
async fn parts(bytes: &Bytes, kind: &str) -> Result<Vec<(String, String)>, Problem> {
    let bad = |fault: multer::Error| {
        let detail = format!("The multipart form cannot be read: {fault}.");
        Problem::new(Kind::BadBody, detail)
    };
    let boundary = multer::parse_boundary(kind).map_err(bad)?;
    let whole = futures::stream::iter([Ok::<_, std::io::Error>(bytes.clone())]);
    let mut form = multer::Multipart::new(whole, boundary);
    let mut pairs = Vec::new();
    while let Some(part) = form.next_field().await.map_err(bad)? {
        if pairs.len() > MOST_FIELDS {
            break;
        }
        let name = part.name().unwrap_or_default().to_owned();
        let value = part.bytes().await.map_err(bad)?;
        let Ok(text) = std::str::from_utf8(&value) else {
            let shown: String = name.chars().take(64).collect();
            let detail = format!("The part `{shown}` is not UTF-8 text, and files are not taken.");
            return Err(Problem::new(Kind::NotUtf8, detail));
        };
        pairs.push((name, text.to_owned()));
    }
    Ok(pairs)
}

/// Reads the body of a call on an open connection, which is a JSON object.
pub(super) async fn object(
    request: &HttpRequest,
    payload: web::Payload,
    settings: &Settings,
) -> Result<Map<String, Value>, Problem> {
    let bytes = read_bytes(request, payload, settings, settings.max_live_body.0).await?;
    let text = utf8(&bytes)?;
    refuse_if_huge(text, settings.max_depth)?;
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

/// Reads a body whole: no longer than this, in time.
pub(super) async fn read_bytes(
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

/// The fields of a JSON object. A list is many jobs; where one is wanted, it may hold just that.
fn json(text: &str, max_depth: usize, many: bool) -> Result<Fields, Problem> {
    refuse_if_deep(text, max_depth)?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let read = if !text.starts_with('[') {
        serde_json::from_str(text)
    } else if many {
        serde_json::from_str(text).map(|jobs| Fields::from_iter([("jobs".to_owned(), jobs)]))
    } else {
        let read = serde_json::from_str::<Vec<Fields>>(text).map(|mut jobs| (jobs.pop(), jobs));
        match read {
            Ok((Some(only), others)) if others.is_empty() => Ok(only),
            Ok(_) => {
                let detail = format!("The body is not a JSON object. {A_LIST}");
                return Err(Problem::new(Kind::NotJson, detail));
            }
            Err(fault) => Err(fault),
        }
    };
    read.map_err(|fault| not_json(text, &fault))
}

const A_LIST: &str = "This is a list: send one object, or many as `jobs` to /v1/groups.";

/// What is wrong with a text that should be JSON, and what to do.
pub(super) fn not_json(text: &str, fault: &serde_json::Error) -> Problem {
    let start = text.trim_start();
    let hint = if start.starts_with('[') && fault.is_data() {
        A_LIST
    } else if start.starts_with(['{', '[']) {
        "If you build the JSON in a no-code tool, quotes and line breaks inside values must be \
         escaped; application/x-www-form-urlencoded needs no escaping."
    } else {
        "Send a JSON object such as {\"task\":\"tag\",\"input\":\"some text\"}."
    };
    Problem::new(Kind::NotJson, format!("The body is not a JSON object: {fault}. {hint}"))
}

/// The fields of a form. Values are texts; where an object is wanted, the text is read as JSON.
fn form(pairs: Vec<(String, String)>) -> Fields {
    let raw = |(name, value)| Some((name, to_raw_value(&Value::String(value)).ok()?));
    pairs.into_iter().filter_map(raw).collect()
}

/// Refuses JSON that is nested too deeply or is more than one body should be taken apart into.
pub(super) fn refuse_if_huge(text: &str, max_depth: usize) -> Result<(), Problem> {
    refuse_if_deep(text, max_depth)?;
    refuse_if_many(text)
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
        assert!(json("[]", 9, false).unwrap_err().to_string().contains("This is a list"));
        assert!(json("[{},{}]", 9, false).unwrap_err().to_string().contains("/v1/groups"));
        assert!(json(&"[".repeat(1_000_000), 64, true).is_err());
    }

    #[test]
    fn a_list_is_many_jobs_or_just_one() {
        let one = json(r#"[{"task":"tag"}]"#, 9, false).unwrap();
        assert_eq!(one["task"].get(), "\"tag\"");
        let many = json(r#"[{"task":"tag"},{"task":"plan"}]"#, 9, true).unwrap();
        assert!(many["jobs"].get().contains("plan"));
        let broken = json("[{\"task\":\"say \"hi\"\"}]", 9, true).unwrap_err().to_string();
        assert!(broken.contains("line 1 column") && broken.contains("form-urlencoded"), "{broken}");
    }

    #[tokio::test]
    async fn multipart_is_read_part_by_part() {
        let body = "--x\r\nContent-Disposition: form-data; name=\"task\"\r\n\r\ntag\r\n--x\r\n\
                    Content-Disposition: form-data; name=\"tags[]\"\r\n\r\nü\r\n--x--\r\n";
        let bytes = Bytes::from_static(body.as_bytes());
        let Ok(Content::Form(pairs)) =
            content(&bytes, Some("multipart/form-data; boundary=x")).await
        else {
            panic!("no form")
        };
        let expected = [("task", "tag"), ("tags[0]", "ü")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (kind, body) in
            [("multipart/form-data", body), ("multipart/form-data; boundary=x", "--x\r\nA")]
        {
            assert!(content(&Bytes::from(body), Some(kind)).await.is_err(), "{kind}");
        }
    }
}
