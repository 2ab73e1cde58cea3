//! One `spillway serve`.

use std::path::Path;

use anyhow::{Context, Result};

use crate::common::process::Process;

/// The API key of the benchmark's jobs.
pub(crate) const KEY: &str = "sw_bench_0123456789abcdef0123456789abcdef";

/// A replica that is ready.
pub(crate) struct Replica {
    _process: Process,
    base: String,
}

impl Replica {
    /// Starts one with the settings in `file` and waits until it listens.
    pub(crate) fn start(spillway: &Path, file: &Path, log: &Path) -> Result<Self> {
        let arguments = ["serve".as_ref(), "--config".as_ref(), file.as_os_str()];
        let mut process = Process::start(spillway, arguments, log)?;
        let base = process.wait_for_line("Spillway listens on ").context("spillway serve")?;
        Ok(Self { _process: process, base })
    }

    /// Where it listens.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }
}

/// Settings: everything goes to one model of the provider at `provider`, limited as given.
pub(crate) fn settings(redis: &str, provider: &str, limits: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
max_body = "32MiB"

[store]
url = "{redis}"

[auth]
keys = ["{KEY}"]

[callbacks]
allow_networks = ["127.0.0.0/8"]
per_host_rate = "5000/s"
per_host_concurrency = 64

[log]
level = "error"

[accounts.main]
provider = "openai-compatible"
base_url = "{provider}"
api_key = "none"

[[accounts.main.limits]]
{limits}

[routes.bench]
steps = ["main/tiny-1"]

[tasks.work]
route = "bench"
max_output_tokens = 400
"#
    )
}
