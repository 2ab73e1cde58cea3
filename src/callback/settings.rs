//! The operator's settings for callbacks.

use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::units::{Rate, Span};

/// `[callbacks]` in the settings.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Signs every callback: `whsec_` and 24 to 64 bytes in base64. Without one, Spillway makes one
    /// and keeps it in the store.
    pub secret: Option<String>,
    /// Secrets that are being retired: callbacks are signed with these too.
    pub old_secrets: Vec<String>,
    /// Addresses callbacks may reach although they are loopback, private or otherwise special:
    /// `10.0.0.0/8`, `127.0.0.1/32`.
    #[schemars(with = "Vec<String>")]
    pub allow_networks: Vec<IpNet>,
    /// Whether callbacks may use plain `http`.
    pub allow_http: bool,
    /// The longest one POST may take, from the first DNS question to the end of the answer.
    pub timeout: Span,
    /// Pauses between tries; after the last one the callback is kept for replay.
    pub schedule: Option<Vec<Span>>,
    /// Posts to one host.
    pub per_host_rate: Rate,
    /// How much of that rate may leave at once.
    pub per_host_burst: Span,
    /// Posts to one host at the same time.
    #[schemars(range(min = 1))]
    pub per_host_concurrency: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            secret: None,
            old_secrets: Vec::new(),
            allow_networks: Vec::new(),
            allow_http: true,
            timeout: Span::secs(15),
            schedule: None,
            // Zapier takes 30 a second, Make 300 in ten seconds (platforms.md, section C).
            per_host_rate: Rate { amount: 25, per: std::time::Duration::from_secs(1) },
            per_host_burst: Span::secs(1),
            per_host_concurrency: 8,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("secret", &self.secret.as_ref().map(|_| "[redacted]"))
            .field("old_secrets", &self.old_secrets.len())
            .field("allow_networks", &self.allow_networks)
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}
