//! What a schema cannot say of the server, the store, the engine, callbacks, keys and the log.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::document::Document;
use super::fault::{Faults, instead, joined, listed};
use super::settings::{AuthKey, LogSettings};
use crate::domain::units::Span;
use crate::keyspace::{self, Address};
use crate::{callback, engine, http, queue};

/// Tells what is wrong in every section that can be read at all.
pub(super) fn check(document: &mut Document, faults: &mut Faults) {
    check_networks(document, faults);
    if let Some(server) = section(document, "server") {
        check_server(&server, faults);
    }
    if let Some(store) = section(document, "store") {
        check_store(&store, faults);
    }
    if let Some(engine) = section(document, "engine") {
        check_engine(&engine, faults);
    }
    if let Some(callbacks) = section(document, "callbacks") {
        check_callbacks(&callbacks, faults);
    }
    if let Some(log) = section::<LogSettings>(document, "log")
        && EnvFilter::try_new(&log.level).is_err()
    {
        let source = document.source_of("log.level");
        let expected = "expected a level such as `info`, or `warn,spillway=debug`";
        faults.add("log.level", format!("`{}` is no log level: {expected}{source}", log.level));
    }
    check_keys(document, faults);
    check_plans(document, faults);
}

/// A section's settings, the defaults in place of what the schema has refused.
fn section<T: DeserializeOwned>(document: &Document, name: &str) -> Option<T> {
    let empty = Value::Object(serde_json::Map::new());
    T::deserialize(document.sound.get(name).unwrap_or(&empty)).ok()
}

fn check_server(server: &http::settings::Settings, faults: &mut Faults) {
    let numeric = server.listen.replace("localhost", "127.0.0.1");
    if numeric.parse::<SocketAddr>().is_err() {
        let expected = "expected an address and a port such as 127.0.0.1:8080 or [::1]:8080";
        faults.add("server.listen", format!("`{}` cannot be: {expected}", server.listen));
    }
    if let Some(url) = &server.public_url {
        check_http_url("server.public_url", url, faults);
    }
    if server.workers == Some(0) {
        faults.add("server.workers", "`0` is not a whole number of at least 1");
    }
    for (name, span) in [
        ("header_timeout", server.header_timeout),
        ("body_timeout", server.body_timeout),
        ("idempotency", server.idempotency),
    ] {
        check_least(&format!("server.{name}"), span, Span::millis(1), faults);
    }
}

fn check_store(store: &queue::settings::Settings, faults: &mut Faults) {
    match store.url.split_once(':') {
        Some(("embedded", folder)) if !folder.is_empty() => {}
        Some((scheme, _)) if scheme.starts_with("redis") => {
            if let Err(fault) = Address::parse(&store.url) {
                faults.add("store.url", fault.to_string());
            }
        }
        _ => {
            let stores: Vec<&str> =
                std::iter::once("embedded:./folder").chain(keyspace::FORMS).collect();
            let expected = format!("expected one of {}", listed(&stores));
            faults.add("store.url", format!("leads to no store: {expected}"));
        }
    }
    check_least("store.connect_timeout", store.connect_timeout, Span::millis(1), faults);
    check_least("store.response_timeout", store.response_timeout, Span::millis(1), faults);
}

fn check_engine(engine: &engine::settings::Settings, faults: &mut Faults) {
    // A worker renews its lease every third of it, and Redis may take a moment.
    check_least("engine.lease", engine.lease, Span::secs(1), faults);
    check_least("engine.retention", engine.retention, engine.lease, faults);
    check_least("engine.cooldown", engine.cooldown, Span::millis(1), faults);
    check_least("engine.disabled", engine.disabled, Span::millis(1), faults);
}

fn check_callbacks(callbacks: &callback::settings::Settings, faults: &mut Faults) {
    let secrets = callbacks.secret.iter().map(|secret| ("callbacks.secret".to_owned(), secret));
    let old = callbacks.old_secrets.iter().enumerate();
    let old = old.map(|(index, secret)| (format!("callbacks.old_secrets[{index}]"), secret));
    for (key, secret) in secrets.chain(old) {
        if !is_signing_secret(secret) {
            faults.add(key, "is not `whsec_` and 24 to 64 bytes in base64");
        }
    }
    check_least("callbacks.timeout", callbacks.timeout, Span::millis(1), faults);
    if callbacks.schedule.as_ref().is_some_and(Vec::is_empty) {
        faults.add("callbacks.schedule", "is empty: expected pauses such as [\"1s\", \"1m\"]");
    }
}

fn check_networks(document: &mut Document, faults: &mut Faults) {
    for (section, name) in [("callbacks", "allow_networks"), ("server", "trusted_proxies")] {
        let Some(table) = document.sound.get_mut(section).and_then(Value::as_object_mut) else {
            continue;
        };
        let networks = table.get(name).and_then(Value::as_array).cloned();
        for (index, network) in networks.into_iter().flatten().enumerate() {
            if network.as_str().is_none_or(|network| network.parse::<IpNet>().is_err()) {
                let expected = "expected a network such as 10.0.0.0/8 or fd00::/8";
                let problem = format!("{network} is no network: {expected}");
                faults.add(format!("{section}.{name}[{index}]"), problem);
                table.shift_remove(name);
            }
        }
    }
}

fn is_signing_secret(text: &str) -> bool {
    let encoded = text.strip_prefix("whsec_");
    let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    bytes.is_some_and(|bytes| (24..=64).contains(&bytes.len()))
}

fn check_keys(document: &Document, faults: &mut Faults) {
    let keys = document.root.get("auth").and_then(|auth| auth.get("keys"));
    let mut seen = BTreeSet::new();
    for (index, entry) in keys.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let place = format!("auth.keys[{index}]");
        let Ok(key) = AuthKey::deserialize(entry) else { continue };
        let text = key.key();
        if text.expose_secret().is_empty() {
            if entry.get("key_file").is_none() {
                faults.add(format!("{place}.key"), "is missing: expected `key` or `key_file`");
            }
            continue;
        }
        if !fits_a_header(text.expose_secret()) {
            faults.add(&place, "is not a key: expected letters, digits and signs without spaces");
        }
        if !seen.insert(text.expose_secret().to_owned()) {
            faults.add(&place, "is given twice: each key has one caller");
        }
    }
}

/// Every plan that is named is there.
fn check_plans(document: &Document, faults: &mut Faults) {
    let known: Vec<&str> = document.entries("plans").map(|(name, _)| name.as_str()).collect();
    let mut check = |place: String, plan: Option<&Value>| {
        if let Some(name) = plan.and_then(Value::as_str).filter(|name| !known.contains(name)) {
            let hint = instead(name, known.iter().copied());
            faults.add(place, format!("there is no plan `{name}`{hint}"));
        }
    };
    for (name, caller) in document.entries("callers") {
        check(format!("{}.plan", joined("callers", name)), caller.get("plan"));
    }
    let anonymous = document.root.get("auth").and_then(|auth| auth.get("anonymous"));
    check("auth.anonymous".to_owned(), anonymous);
}

/// Whether a key can stand in an HTTP header as it is.
pub(super) fn fits_a_header(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}

/// Tells when an address is not one of an HTTP service, or holds what addresses should not.
pub(super) fn check_http_url(key: &str, text: &str, faults: &mut Faults) {
    let Ok(url) = Url::parse(text) else {
        return faults.add(key, "is not an address such as https://host.example");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        faults.add(key, "is not an address that begins with http:// or https://");
    } else if !url.username().is_empty() || url.password().is_some() {
        faults.add(key, "has a user name or a password: expected an address without");
    } else if url.query().is_some() || url.fragment().is_some() {
        faults.add(key, "has a query or fragment: expected an address that paths can follow");
    }
}

/// Tells when a duration is too short to work with.
pub(super) fn check_least(key: &str, span: Span, least: Span, faults: &mut Faults) {
    if span < least {
        faults.add(key, format!("`{span}` is too short: expected at least {least}"));
    }
}
