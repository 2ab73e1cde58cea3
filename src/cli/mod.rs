//! The command line.

mod check;
pub mod demo;
mod hooks;
mod keys;
mod scripted;
mod serve;
mod simulate;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::config::{self, Loaded};
use crate::telemetry;

/// Takes bursts of language-model jobs, runs them at the rate the providers bear, and posts each
/// result to its callback.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// The settings file; default spillway.toml in the working folder, if there is one.
    #[arg(long, global = true, env = "SPILLWAY_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service.
    Serve,
    /// Shows what the settings come to, and tries the store and the accounts.
    Check(check::Options),
    /// Makes, lists and revokes callers' API keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Lists hooks, and shows what one would make of a request.
    #[command(subcommand)]
    Hooks(hooks::Command),
    /// Runs a burst in virtual time against the settings: when it is drained, how long jobs wait,
    /// what it costs, what binds. Needs no keys and asks nobody.
    Simulate(simulate::Options),
    /// Shows the product at work, with no key, no network and no Redis.
    Demo(demo::Options),
    /// Serves the built-in provider over HTTP, to try things against.
    Scripted(scripted::Options),
    /// Prints the OpenAPI document.
    Openapi,
}

/// Runs a command; what goes wrong is told on standard error.
pub fn run(cli: Cli) -> ExitCode {
    // Both reqwest and redis take the process' provider; a second install changes nothing.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
    let mut out = std::io::stdout();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(command(cli, &mut out)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough of it, as `head` does.
        Err(fault) if is_broken_pipe(&fault) => ExitCode::SUCCESS,
        Err(fault) => {
            // Nothing is left to do when standard error is closed.
            let _told = writeln!(std::io::stderr(), "spillway: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(fault: &anyhow::Error) -> bool {
    let io = fault.downcast_ref::<std::io::Error>();
    io.is_some_and(|fault| fault.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn command(cli: Cli, out: &mut (impl Write + Send)) -> Result<()> {
    match cli.command {
        Command::Serve => serve::run(load(cli.config)?, out).await,
        Command::Check(options) if options.template => {
            Ok(out.write_all(config::TEMPLATE.as_bytes())?)
        }
        Command::Check(options) => check::run(load(cli.config)?, &options, out).await,
        // Keys can be managed before there is an account.
        Command::Keys(command) => {
            keys::run(command, config::load_config(cli.config, &config::environment())?, out).await
        }
        Command::Hooks(command) => {
            hooks::run(config::load(cli.config, &config::environment())?, command, out).await
        }
        Command::Simulate(options) => simulate::run(cli.config, options, out).await,
        Command::Demo(options) => demo::run(options, out).await,
        Command::Scripted(options) => scripted::run(options, out).await,
        Command::Openapi => {
            let document = crate::http::openapi::document();
            Ok(writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?)
        }
    }
}

/// Settings to run jobs by.
fn load(file: Option<PathBuf>) -> Result<Loaded> {
    let loaded = config::load(file, &config::environment())?;
    let log = &loaded.config.log;
    telemetry::start_logging(log.format, &log.level);
    Ok(loaded)
}
