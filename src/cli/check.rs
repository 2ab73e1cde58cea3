//! `spillway check`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::app;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Loaded, show};
use crate::lifecycle::Lifecycle;
use crate::queue::QueueError;

/// How long an account may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to check.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Ask each account whether its key is accepted. Costs nothing.
    #[arg(long)]
    online: bool,

    /// Print a settings file with every default in it, and nothing else.
    #[arg(long)]
    pub(super) template: bool,
}

/// Shows the settings and tries what they name.
pub(super) async fn run(
    loaded: Loaded,
    options: &Options,
    out: &mut (impl Write + Send),
) -> Result<()> {
    write!(out, "{}", show::resolved(&loaded))?;
    let clock: SharedClock = Arc::new(SystemClock);
    let mut failed = 0;
    match try_store(&loaded, &clock).await {
        Ok(durability) => writeln!(out, "store      ok, jobs survive as `{durability}`")?,
        Err(fault) if matches!(fault.downcast_ref(), Some(QueueError::InUse)) => {
            writeln!(out, "store      in use by a running spillway, as it should be")?;
        }
        Err(fault) => {
            failed += 1;
            writeln!(out, "store      FAILED: {fault:#}")?;
        }
    }
    if options.online {
        for account in &loaded.plan.accounts {
            let answer = match app::provider(account, &clock) {
                Ok(provider) => provider.check(PATIENCE).await.map_err(|fault| fault.to_string()),
                Err(fault) => Err(format!("{fault:#}")),
            };
            match answer {
                Ok(()) => writeln!(out, "account    {}: ok", account.name)?,
                Err(fault) => {
                    failed += 1;
                    writeln!(out, "account    {}: FAILED: {fault}", account.name)?;
                }
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of the checks failed");
    }
    Ok(())
}

async fn try_store(loaded: &Loaded, clock: &SharedClock) -> Result<&'static str> {
    let lifecycle = Lifecycle::default();
    let stores = app::open(&loaded.config.store, clock, &lifecycle).await?;
    stores.queue.ping().await?;
    let durability = stores.queue.durability().as_str();
    drop(stores);
    lifecycle.stop(Duration::from_secs(2)).await;
    Ok(durability)
}
