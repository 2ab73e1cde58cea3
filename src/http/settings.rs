//! The operator's settings for the HTTP entrance.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::units::{Size, Span};

/// `[server]` in the settings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port to listen on.
    #[schemars(regex(pattern = r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+|localhost):[0-9]{1,5}$"))]
    pub listen: String,
    /// How this service is reached from outside: the beginning of `status_url`. Default: as the
    /// request's `Host` says.
    pub public_url: Option<String>,
    /// Networks of proxies in front of this service, such as `10.0.0.0/8`: of their requests
    /// `X-Forwarded-For` tells the caller's address. Nobody else's is believed.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// The largest request body.
    pub max_body: Size,
    /// The largest body of a group.
    pub max_group_body: Size,
    /// The largest body of a call on an open connection: it may carry images.
    pub max_live_body: Size,
    /// The deepest nesting of a JSON body.
    #[schemars(range(min = 4, max = 120))]
    pub max_depth: usize,
    /// The most jobs in one group.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_group: usize,
    /// The longest a client may take to send its request's head.
    pub header_timeout: Span,
    /// The longest a client may take to send its request's body.
    pub body_timeout: Span,
    /// The longest `Prefer: wait` and `?wait` hold a request.
    pub max_wait: Span,
    /// How long an idempotency key is remembered.
    pub idempotency: Span,
    /// Worker threads; default one for each core.
    pub workers: Option<usize>,
    /// The longest a stopping service waits for what it holds.
    pub drain_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            public_url: None,
            trusted_proxies: Vec::new(),
            max_body: Size(1 << 20),
            max_group_body: Size(16 << 20),
            max_live_body: Size(32 << 20),
            max_depth: 64,
            max_group: 1_000,
            header_timeout: Span::secs(10),
            body_timeout: Span::secs(30),
            max_wait: Span::secs(60),
            idempotency: Span::secs(86_400),
            workers: None,
            drain_timeout: Span::secs(30),
        }
    }
}
