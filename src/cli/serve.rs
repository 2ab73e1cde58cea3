//! `spillway serve`.

use std::io::Write;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::Service;
use crate::config::Loaded;
use crate::queue::Durability;

/// Runs the service until it is told to stop; a second signal stops it at once.
pub(super) async fn run(loaded: Loaded, out: &mut (impl Write + Send)) -> Result<()> {
    let mut signals = Signals::listen()?;
    let service = Service::start(&loaded.config, loaded.plan).await?;
    if let Some(key) = &service.first_key {
        writeln!(out, "No API key existed, so this one was made. It is shown only now:\n")?;
        writeln!(out, "    {key}\n")?;
        if let Some(wanted) = &service.held_back {
            writeln!(
                out,
                "Until the next start Spillway listens on loopback only, not on {wanted}."
            )?;
        }
    }
    if service.engine.queue().durability() == Durability::Volatile {
        tracing::warn!(
            "Redis keeps nothing on disk (appendonly no): a restart of it loses accepted jobs; \
             set `appendonly yes`"
        );
    }
    for address in &service.addresses {
        writeln!(out, "Spillway listens on http://{address}")?;
    }
    out.flush()?;
    signals.next().await;
    tracing::info!("stopping: finishing what is held; a second signal stops at once");
    tokio::select! {
        finished = service.stop() => {
            if !finished {
                tracing::warn!("some jobs were not finished in time; they run again elsewhere");
            }
        }
        () = signals.next() => {
            tracing::warn!("stopped at once; what was held runs again");
            service.stop_now().await;
        }
    }
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
