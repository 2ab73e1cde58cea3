//! A redis-server of the benchmark's own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ::redis::{Client, Connection, FromRedisValue, InfoDict};
use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::free_port;
use super::process::Process;

/// When Redis syncs its append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// Once a second.
    Everysec,
    /// Before it answers.
    Always,
}

impl Fsync {
    /// Redis' word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}

/// How Redis has fared with a command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    /// How often it came.
    pub(crate) all: u64,
    /// How often it failed.
    pub(crate) failed: u64,
    /// The µs spent on it.
    pub(crate) micros: u64,
}

/// A redis-server with an append-only file.
pub(crate) struct RedisServer {
    process: Process,
    connection: Connection,
    port: u16,
    _folder: TempDir,
}

impl RedisServer {
    /// What redis-server says of its version.
    pub(crate) fn version() -> Result<String> {
        let output = Command::new("redis-server").arg("--version").output();
        let output = output.context("redis-server is missing: install it, or run `make bench`")?;
        let said = String::from_utf8(output.stdout)?;
        let version = said.split_whitespace().find_map(|word| word.strip_prefix("v="));
        Ok(version.context("redis-server does not tell its version")?.to_owned())
    }

    /// Starts one with its files below `folder`.
    pub(crate) fn start(fsync: Fsync, folder: &Path) -> Result<Self> {
        let (port, folder) = (free_port()?, tempfile::tempdir_in(folder)?);
        let (number, files) = (port.to_string(), folder.path().display().to_string());
        // A rewrite of the file in the middle of a measurement would be noise.
        let arguments = [
            ["--port", &number],
            ["--bind", "127.0.0.1"],
            ["--dir", &files],
            ["--save", ""],
            ["--appendonly", "yes"],
            ["--appendfsync", fsync.as_str()],
            ["--auto-aof-rewrite-percentage", "0"],
        ];
        let log = folder.path().join("log");
        let mut process = Process::start("redis-server", arguments.as_flattened(), &log)?;
        let client = client(port)?;
        let mut connection = None;
        process.wait_until(|| {
            connection = client.get_connection().ok();
            connection.is_some()
        })?;
        let connection = connection.context("redis-server")?;
        Ok(Self { process, connection, port, _folder: folder })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port of it.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Empties it and its file, so that each measurement finds the same.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.ask::<()>(&["FLUSHALL", "SYNC"])?;
        self.ask::<()>(&["BGREWRITEAOF"])?;
        let since = Instant::now();
        loop {
            let info: InfoDict = self.ask(&["INFO", "persistence"])?;
            let fields = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
            if fields.iter().all(|field| info.get::<u8>(field) == Some(0)) {
                return Ok(());
            }
            ensure!(since.elapsed() < Duration::from_secs(20), "Redis does not rewrite its file");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The bytes its data and buffers take.
    pub(crate) fn used_memory(&mut self) -> Result<u64> {
        let info: InfoDict = self.ask(&["INFO", "memory"])?;
        info.get("used_memory").context("no used_memory")
    }

    /// Says something to it.
    pub(crate) fn echo(&mut self, text: &str) -> Result<()> {
        self.ask::<String>(&["ECHO", text]).map(drop)
    }

    /// Makes it forget every script.
    pub(crate) fn forget_scripts(&mut self) -> Result<()> {
        self.ask(&["SCRIPT", "FLUSH"])
    }

    /// How it has fared with a command since its start.
    pub(crate) fn calls_of(&mut self, command: &str) -> Result<Calls> {
        let info: InfoDict = self.ask(&["INFO", "commandstats"])?;
        let told: String = info.get(&format!("cmdstat_{command}")).unwrap_or_default();
        let field = |name: &str| {
            let mut fields = told.split(',').filter_map(|field| field.split_once('='));
            let value = fields.find(|(key, _)| *key == name).map(|(_, value)| value.parse());
            value.unwrap_or(Ok(0))
        };
        Ok(Calls { all: field("calls")?, failed: field("failed_calls")?, micros: field("usec")? })
    }

    /// The CPU time it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }

    fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T> {
        let mut command = ::redis::Cmd::new();
        command.arg(words);
        Ok(command.query(&mut self.connection)?)
    }
}

/// The way to a Redis on this machine.
#[expect(clippy::disallowed_methods, reason = "what Spillway is measured against has no keyspace")]
pub(crate) fn client(port: u16) -> Result<Client> {
    Ok(Client::open(("127.0.0.1", port))?)
}
