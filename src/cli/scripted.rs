//! `spillway scripted`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use crate::clock::SystemClock;
use crate::provider::scripted::{Model, Settings, server};

/// How the provider behaves.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:9900")]
    listen: SocketAddr,

    /// Its limits, latency and faults as JSON, as under `[accounts.NAME.scripted]`:
    /// '{"requests":"600/min","latency":"50ms"}'.
    #[arg(long, default_value = "{}")]
    settings: String,
}

/// Serves until interrupted.
pub(super) async fn run(options: Options, out: &mut (impl Write + Send)) -> Result<()> {
    let settings: Settings = serde_json::from_str(&options.settings)
        .context("--settings cannot be read; `spillway scripted --help` shows an example")?;
    let listener = server::listen(options.listen)
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    writeln!(out, "The scripted provider listens on http://{}", listener.local_addr()?)?;
    out.flush()?;
    let model = Arc::new(Model::new(settings, Arc::new(SystemClock)));
    let interrupted = async {
        if let Err(fault) = tokio::signal::ctrl_c().await {
            tracing::warn!(%fault, "cannot listen for interrupts");
        }
    };
    Ok(server::run(listener, model, interrupted).await?)
}
