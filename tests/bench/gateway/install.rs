//! The gateways that Spillway is measured beside, installed from their registries below the target
//! folder, once for each version.

use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

/// The version of LiteLLM (PyPI).
pub(crate) const LITELLM: &str = "1.106.2";

/// The version of Portkey's gateway (npm).
pub(crate) const PORTKEY: &str = "1.15.2";

/// The `litellm` to run; `None` when it cannot be had.
pub(crate) fn litellm(failures: &mut Vec<String>) -> Result<Option<PathBuf>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("litellm");
    let program = folder.join("bin/litellm");
    if is_done(&folder, LITELLM) {
        return Ok(Some(program));
    }
    writeln!(stderr(), "installing LiteLLM {LITELLM}…")?;
    let venv = run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    let wanted = format!("litellm[proxy]=={LITELLM}");
    let installed = venv.and_then(|()| {
        let arguments = ["install", "--quiet", "--disable-pip-version-check", &wanted];
        run(Command::new(folder.join("bin/pip")).args(arguments))
    });
    finish(&folder, LITELLM, installed, failures, "LiteLLM")?;
    Ok(is_done(&folder, LITELLM).then_some(program))
}

/// The script that starts Portkey's gateway; `None` when it cannot be had.
pub(crate) fn portkey(failures: &mut Vec<String>) -> Result<Option<PathBuf>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("portkey");
    let script = folder.join("node_modules/@portkey-ai/gateway/build/start-server.js");
    if is_done(&folder, PORTKEY) {
        return Ok(Some(script));
    }
    writeln!(stderr(), "installing Portkey {PORTKEY}…")?;
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), "{\"private\": true}")?;
    let wanted = format!("@portkey-ai/gateway@{PORTKEY}");
    let arguments =
        ["install", "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts", &wanted];
    let installed = run(Command::new("npm").args(arguments).current_dir(&folder));
    finish(&folder, PORTKEY, installed, failures, "Portkey")?;
    Ok(is_done(&folder, PORTKEY).then_some(script))
}

fn is_done(folder: &Path, version: &str) -> bool {
    fs::read_to_string(folder.join("installed")).is_ok_and(|done| done == version)
}

fn finish(
    folder: &Path,
    version: &str,
    outcome: Result<(), String>,
    failures: &mut Vec<String>,
    name: &str,
) -> Result<()> {
    match outcome {
        Ok(()) => fs::write(folder.join("installed"), version)?,
        Err(fault) => failures.push(format!("{name} is left out: {fault}")),
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|fault| fault.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().rev().take(3).collect::<Vec<_>>().join(" | "))
}
