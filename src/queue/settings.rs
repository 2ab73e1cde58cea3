//! The operator's settings for the store.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Durability;
use crate::domain::units::Span;

/// `[store]` in the settings.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `embedded:./folder`, `redis://host:port/db` or `rediss://…`.
    pub url: String,
    /// What every Redis key begins with; services with different prefixes share nothing.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,32}$"))]
    pub prefix: String,
    /// The longest Redis may take to accept a connection.
    pub connect_timeout: Span,
    /// The longest Redis may take to answer a command.
    pub response_timeout: Span,
    /// What a 202 promises at least, beyond what the store does by itself: `fsynced` (Redis 7.2 or
    /// newer, or Valkey) and `replicated` make every accept wait for it.
    pub durability: Option<Durability>,
    /// Start although Redis may evict keys (`maxmemory-policy` is not `noeviction`).
    pub allow_eviction: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "embedded:./spillway-data".to_owned(),
            prefix: "sw".to_owned(),
            connect_timeout: Span::secs(1),
            response_timeout: Span::secs(2),
            durability: None,
            allow_eviction: false,
        }
    }
}

impl Settings {
    /// The address without its password.
    pub fn redacted_url(&self) -> String {
        let Ok(mut url) = url::Url::parse(&self.url) else {
            return self.url.clone();
        };
        if url.password().is_some() && url.set_password(Some("redacted")).is_err() {
            return format!("{}://[redacted]", url.scheme());
        }
        url.to_string()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("url", &self.redacted_url()).finish_non_exhaustive()
    }
}
