//! BullMQ behind Fastify, installed from the npm registry by its lock file.

use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

/// Where it is installed, and the Node that runs it.
pub(crate) struct Bullmq {
    pub(crate) script: PathBuf,
    pub(crate) node: String,
}

/// Installs it below the target folder, once for each lock file. `None` when that cannot be: a
/// missing Node is only said, an installation that fails is a failure.
pub(crate) fn install(failures: &mut Vec<String>) -> Result<Option<Bullmq>> {
    let Some(node) = version("node").filter(|_| version("npm").is_some()) else {
        let how = "BullMQ is left out: install Node 20 or newer and npm (nodejs and npm in Debian)";
        writeln!(stderr(), "{how}")?;
        return Ok(None);
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/bullmq");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bullmq");
    let script = folder.join("server.mjs");
    fs::create_dir_all(&folder)?;
    let lock = fs::read(source.join("package-lock.json"))?;
    let done = folder.join("installed-lock.json");
    for file in ["package.json", "package-lock.json", "server.mjs"] {
        fs::copy(source.join(file), folder.join(file))?;
    }
    if fs::read(&done).ok().as_ref() == Some(&lock) {
        return Ok(Some(Bullmq { script, node }));
    }
    let output = Command::new("npm")
        .args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let errors = said.lines().filter(|line| line.starts_with("npm error")).take(3);
        let errors: Vec<&str> = errors.collect();
        failures.push(format!("npm ci for BullMQ, left out: {}", errors.join(" | ")));
        return Ok(None);
    }
    fs::write(done, lock)?;
    Ok(Some(Bullmq { script, node }))
}

/// What a program says of its version; `None` when it is not there.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().trim_start_matches('v').to_owned())
}
