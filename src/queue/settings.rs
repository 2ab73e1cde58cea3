//! The operator's settings for the store.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Durability;
use crate::domain::units::Span;
use crate::keyspace;

/// `[store]` in the settings.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `embedded:./folder`, `redis://user:password@host:port/db`, `redis+cluster://host:port,host:port`
    /// (some of a cluster's nodes) or `redis+sentinel://host:port,host:port/NAME` (sentinels and what
    /// they call the master; `?db=1`, `?sentinel_password=…`). `rediss` in place of `redis` is TLS.
    pub url: String,
    /// What every Redis key begins with; services with different prefixes share nothing.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,32}$"))]
    pub prefix: String,
    /// The longest Redis may take to accept a connection.
    pub connect_timeout: Span,
    /// The longest Redis may take to answer a command.
    pub response_timeout: Span,
    /// What a 202 promises at least, beyond what the store does by itself: `fsynced` (Redis 7.2 or
    /// newer, or Valkey) and `replicated` (one replica has the job) make every accept wait for it,
    /// and answer 503 when it is not confirmed in time.
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
    /// The address without its passwords.
    pub fn redacted_url(&self) -> String {
        keyspace::hidden(&self.url)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("url", &self.redacted_url()).finish_non_exhaustive()
    }
}
