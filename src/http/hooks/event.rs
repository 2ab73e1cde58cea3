//! What a platform sent, in the one form that templates and tasks work with.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::body::{self, Content};
use crate::http::coerce::json_within;
use crate::http::nested::{Fields, nest, path};
use crate::http::problem::{Kind, Problem};
use crate::http::settings::Settings;

/// A request to a hook as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Headers, by names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The query's parameters, in order.
    pub query: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Request {
    /// A header, whatever the case of its name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// What templates see of one thing that happened.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    /// The body: as it came, and flat names nested beside it.
    pub(super) body: Value,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) query: Map<String, Value>,
    /// The body with its flat names nested, without them; `None` when it has none.
    #[serde(skip)]
    pub(super) nested: Option<Value>,
    /// The body as it came.
    #[serde(skip)]
    pub(super) plain: Value,
}

/// What one request told.
pub(super) struct Told {
    /// The whole of it: what a group's templates see.
    pub(super) whole: Event,
    /// One for each item of a list; `None` for a single event.
    pub(super) each: Option<Vec<Event>>,
    pub(super) warnings: Vec<String>,
}

/// Headers whose values are secrets: not for templates, and so not for jobs.
const HIDDEN: [&str; 4] = ["authorization", "proxy-authorization", "x-api-key", "cookie"];

/// Reads a request's body, whatever it is written in. What shows the hook's secret stays out of it.
/// A list is as many events, unless lists are wanted as they are.
pub(super) async fn read(
    request: &Request,
    secret: Option<&str>,
    settings: &Settings,
    lists_stay: bool,
) -> Result<Told, Problem> {
    let content = body::content(&request.body, request.header("content-type")).await?;
    let body = match content {
        Content::Form(pairs) => form(pairs),
        Content::Text(text) => text_body(text, request.header("content-type"), settings.max_depth)?,
    };
    let outer = Frame::around(request, secret);
    let mut warnings = Vec::new();
    let (whole, each) = match body {
        Value::Array(items) if !lists_stay && !items.is_empty() => {
            refuse_if_many(items.len(), settings.max_group)?;
            let each = items.into_iter().map(|item| outer.event(item, &mut warnings));
            let each: Vec<Event> = each.collect();
            let bodies = each.iter().map(|event| event.body.clone()).collect();
            (outer.event(bodies, &mut Vec::new()), Some(each))
        }
        body => (outer.event(body, &mut warnings), None),
    };
    warnings.dedup();
    Ok(Told { whole, each, warnings })
}

/// Before any work is done for each of them.
fn refuse_if_many(count: usize, most: usize) -> Result<(), Problem> {
    if count > most {
        let detail = format!("A list may have {most} events at the most.");
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    Ok(())
}

/// Headers and query around a body, without secrets.
struct Frame<'a> {
    headers: BTreeMap<String, String>,
    query: Map<String, Value>,
    /// The header or parameter that holds the hook's own.
    secret: Option<&'a str>,
}

impl<'a> Frame<'a> {
    fn around(request: &Request, secret: Option<&'a str>) -> Self {
        let mut frame = Self { headers: BTreeMap::new(), query: Map::new(), secret };
        let headers = request.headers.iter().filter(|(name, _)| frame.shows(name));
        let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
        let query = request.query.iter().filter(|(name, _)| frame.shows(name)).cloned();
        frame.query = query.map(|(name, value)| (name, Value::String(value))).collect();
        frame.headers = headers;
        frame
    }

    /// Whether a header or parameter of this name may be seen.
    fn shows(&self, name: &str) -> bool {
        let is = |hidden: &str| hidden.eq_ignore_ascii_case(name);
        !HIDDEN.into_iter().any(is) && !self.secret.is_some_and(is)
    }

    /// Whether a flat name leads to a header or parameter that may not be seen.
    fn leads_to_hidden(&self, name: &str) -> bool {
        path(name).is_some_and(|parts| {
            let hides = parts.last().is_some_and(|last| !self.shows(last));
            hides && parts.iter().any(|part| is_frame(part))
        })
    }

    /// A workflow that passes on what it got passes on its caller's secrets, wherever it puts them.
    fn hide(&self, body: &mut Value) {
        match body {
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Object(table) => {
                table.retain(|name, _| !self.leads_to_hidden(name));
                for (name, inner) in table {
                    if let Some(inner) = inner.as_object_mut().filter(|_| is_frame(name)) {
                        inner.retain(|name, _| self.shows(name));
                    }
                    self.hide(inner);
                }
            }
            _ => {}
        }
    }

    /// An event. A whole item of n8n's Webhook node brings its own headers and query.
    fn event(&self, body: Value, warnings: &mut Vec<String>) -> Event {
        let (mut headers, mut query, mut plain) = (self.headers.clone(), self.query.clone(), body);
        self.hide(&mut plain);
        if let Some(item) = plain.as_object_mut().filter(|table| is_item(table)) {
            warnings.push("the event was taken from `body` of a whole webhook item".to_owned());
            if let Some(Value::Object(inner)) = item.shift_remove("headers") {
                let text =
                    |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                headers = inner
                    .into_iter()
                    .map(|(name, value)| (name.to_lowercase(), text(value)))
                    .collect();
            }
            if let Some(Value::Object(inner)) = item.shift_remove("query") {
                query = inner;
            }
            plain = item.shift_remove("body").unwrap_or_default();
        }
        let nested = plain.as_object().and_then(|table| nested(table, |_| true));
        let mut body = plain.clone();
        if let (Some(table), Some(Value::Object(more))) = (body.as_object_mut(), &nested) {
            for (name, value) in more {
                table.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        Event { body, headers, query, nested, plain }
    }
}

fn is_frame(name: &str) -> bool {
    ["headers", "query"].iter().any(|part| part.eq_ignore_ascii_case(name))
}

fn is_item(table: &Map<String, Value>) -> bool {
    ["headers", "query"].iter().all(|name| table.get(*name).is_some_and(Value::is_object))
        && table.contains_key("body")
        && table.contains_key("params")
}

/// The same fields with those flat names nested whose first part is known; `None` without such.
pub(super) fn nested(table: &Map<String, Value>, known: impl Fn(&str) -> bool) -> Option<Value> {
    // Most have none: they are not copied to find that out.
    if !table.keys().any(|name| path(name).is_some()) {
        return None;
    }
    let fields: Fields = serde_json::from_value(Value::Object(table.clone())).ok()?;
    let (fields, any) = nest(fields, known);
    any.then(|| serde_json::to_value(fields).ok()).flatten()
}

/// A form's fields. A name given several times is a list; GitHub and Slack send JSON as `payload`.
/// What else there is stands beside what is in that.
fn form(pairs: Vec<(String, String)>) -> Value {
    let mut table = Map::new();
    for (name, value) in pairs {
        let value = Value::String(value);
        match table.get_mut(&name) {
            Some(Value::Array(several)) => several.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
            None => _ = table.insert(name, value),
        }
    }
    match table.get("payload").and_then(Value::as_str).and_then(json_within) {
        Some(payload) if table.len() == 1 => return payload,
        Some(Value::Object(payload)) => {
            table.shift_remove("payload");
            table.extend(payload);
        }
        _ => {}
    }
    Value::Object(table)
}

/// JSON, or a text that is none: `{"text": …}`. No body is an empty object.
fn text_body(text: &str, kind: Option<&str>, max_depth: usize) -> Result<Value, Problem> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    body::refuse_if_huge(text, max_depth)?;
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        // What says that it is JSON, or begins so, was meant to be.
        Err(fault)
            if ["json", "urlencoded"].iter().any(|word| kind.contains(word))
                || (kind.is_empty() && text.trim().starts_with(['{', '['])) =>
        {
            Err(body::not_json(text, &fault))
        }
        Err(_) if kind.contains("octet-stream") => {
            let detail = "Send JSON, a form or text: other files are not read.";
            Err(Problem::new(Kind::MediaType, detail))
        }
        Err(_) => Ok(Value::Object(Map::from_iter([("text".to_owned(), Value::from(text))]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn told(kind: &str, body: &str) -> Result<Told, Problem> {
        read_so(kind, body, false).await
    }

    async fn read_so(kind: &str, body: &str, lists_stay: bool) -> Result<Told, Problem> {
        let headers = [("content-type".to_owned(), kind.to_owned())].into();
        let query =
            [("a", "b"), ("token", "t")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let query = query.to_vec();
        read(
            &Request { headers, query, body: body.to_owned().into() },
            Some("Token"),
            &Settings::default(),
            lists_stay,
        )
        .await
    }

    async fn body(kind: &str, text: &str) -> Value {
        told(kind, text).await.unwrap_or_else(|fault| panic!("{fault}")).whole.body
    }

    #[tokio::test]
    async fn every_kind_of_body_is_read() {
        let form = "application/x-www-form-urlencoded";
        for kind in
            ["application/json; charset=iso-8859-1", "", "text/plain", "application/vnd.x+json"]
        {
            assert_eq!(body(kind, "\u{feff}{\"a\":1}").await, json!({ "a": 1 }), "{kind}");
        }
        assert_eq!(body("text/plain", "{not json").await, json!({ "text": "{not json" }));
        assert_eq!(body("", "hello").await, json!({ "text": "hello" }));
        assert_eq!(body("", "").await, json!({}));
        assert_eq!(body(form, "t=a&t=b&u=c").await, json!({ "t": ["a", "b"], "u": "c" }));
        assert_eq!(body(form, "payload=%7B%22zen%22%3A1%7D").await, json!({ "zen": 1 }));
        assert_eq!(
            body(form, "payload=%7B%22zen%22%3A1%7D&zen=2&more=3").await,
            json!({ "zen": 1, "more": "3" })
        );
        assert_eq!(body(form, "payload=%7B&more=3").await, json!({ "payload": "{", "more": "3" }));
        assert_eq!(body(form, "{\"a\":\"b=c&d\"}").await, json!({ "a": "b=c&d" }));
        assert!(told(form, "{\"a\":\"b=c&d}").await.is_err());
        assert!(told("application/json", "{\"a\": \"say \"x\"\"}").await.is_err());
        assert!(told("", "{\"a\"").await.is_err());
    }

    #[tokio::test]
    async fn flat_names_are_seen_both_ways() {
        let told = told(
            "application/x-www-form-urlencoded",
            "a__b=1&c%5Bd%5D%5B%5D=2&c%5Bd%5D%5B%5D=3&e.f=4",
        )
        .await;
        let Ok(Told { whole, .. }) = told else { panic!("not read") };
        assert_eq!(whole.body["a"], json!({ "b": "1" }));
        assert_eq!(whole.body["a__b"], "1");
        assert_eq!(
            whole.nested.unwrap(),
            json!({ "a": {"b": "1"}, "c": {"d": ["2", "3"]}, "e": {"f": "4"} })
        );
        assert_eq!((&whole.query["a"], whole.query.len()), (&json!("b"), 1));
    }

    #[tokio::test]
    async fn a_list_is_many_events_and_n8ns_items_are_unwrapped() {
        let item = json!({ "headers": { "X-A": "1" }, "params": {}, "query": { "q": "2" }, "body": { "b": 3 },
            "webhookUrl": "http://x", "executionMode": "production" });
        let list = json!([item, { "b": 4 }]).to_string();
        let Ok(Told { each, warnings, .. }) = told("application/json", &list).await else {
            panic!("not read")
        };
        let each = each.unwrap();
        assert_eq!((&each[0].body, each[0].headers["x-a"].as_str()), (&json!({ "b": 3 }), "1"));
        assert_eq!((&each[1].body, &each[1].query["a"]), (&json!({ "b": 4 }), &json!("b")));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for (list, count) in [("[1,{}]", Some(2)), ("[[1],null]", Some(2)), ("[]", None)] {
            for (lists_stay, count) in [(false, count), (true, None)] {
                let read = read_so("application/json", list, lists_stay).await;
                let each = read.unwrap_or_else(|fault| panic!("{fault}")).each;
                assert_eq!(each.map(|each| each.len()), count, "{list}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_passed_on_keeps_no_secret() {
        let headers = json!({ "Authorization": "s3", "proxy-authorization": "s3", "cookie": "s3",
            "X-Api-Key": "s3", "TOKEN": "s3", "x-a": "1" });
        let query = json!({ "token": "s3", "q": "2" });
        let whole = json!({ "headers": headers, "params": {}, "query": query, "body": { "b": 3 } });
        let part = json!({ "headers": headers, "query": query });
        let twice = json!({ "headers": headers, "params": {}, "query": query, "body": part });
        let flat = json!({ "headers.authorization": "s3", "query[token]": "s3",
            "a__headers__cookie": "s3", "headers.x-a": "1" });
        let deeper = json!({ "json": whole, "all": [{ "of": { "Headers": headers } }] });
        for body in [json!([whole, part]), whole.clone(), part, twice, flat, deeper] {
            for lists_stay in [false, true] {
                let read = read_so("application/json", &body.to_string(), lists_stay).await;
                let told = read.unwrap_or_else(|fault| panic!("{fault}"));
                let seen = json!([told.whole, told.whole.plain, told.each]).to_string();
                assert!(!seen.contains("s3") && seen.contains("x-a"), "{seen}");
            }
        }
    }
}
