//! `spillway keys`.

use std::io::Write;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::app;
use crate::callback::sign;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::keys::secret;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a key and shows it once.
    Create {
        /// Who will hold it. Keys of one caller see the same jobs.
        caller: String,
    },
    /// Lists the keys, without their secrets.
    List,
    /// Revokes a key; it is refused within seconds.
    Revoke {
        /// The key's id, as listed.
        id: String,
    },
    /// Shows the secret callbacks are signed with, for your receivers.
    SigningSecret,
}

/// Works on the store's keys; the service may run meanwhile.
pub(super) async fn run(
    command: Command,
    config: Config,
    out: &mut (impl Write + Send),
) -> Result<()> {
    let keys = app::open_keys(&config.store).await?;
    match command {
        Command::Create { caller } => {
            let (key, record) = secret::generate(&caller, SystemClock.now(), &mut rand::rng());
            keys.add(record).await?;
            writeln!(out, "{key}")?;
        }
        Command::List => {
            writeln!(out, "{:<10} {:<24} CREATED", "ID", "CALLER")?;
            for record in keys.list().await? {
                let created = record.created_at.format("%Y-%m-%d %H:%M:%S UTC");
                writeln!(out, "{:<10} {:<24} {created}", record.id, record.caller)?;
            }
        }
        Command::Revoke { id } => {
            if !keys.revoke(&id).await? {
                bail!("there is no key `{id}`; `spillway keys list` shows them");
            }
            writeln!(out, "revoked {id}")?;
        }
        Command::SigningSecret => {
            let secret = match config.callbacks.secret {
                Some(secret) => secret,
                None => keys.signing_secret(&sign::generate(&mut rand::rng())).await?,
            };
            writeln!(out, "{secret}")?;
        }
    }
    Ok(())
}
