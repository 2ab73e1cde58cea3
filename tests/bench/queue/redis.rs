//! The redis-server that is measured.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::process::Process;

/// A redis-server with an append-only file.
pub(crate) struct RedisServer {
    process: Process,
    port: u16,
}

impl RedisServer {
    /// Starts one with its files in `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (number, files) = (port.to_string(), folder.display().to_string());
        // A rewrite of the file in the middle of a measurement would be noise.
        let arguments = [
            ["--port", &number],
            ["--bind", "127.0.0.1"],
            ["--dir", &files],
            ["--save", ""],
            ["--appendonly", "yes"],
            ["--appendfsync", "everysec"],
            ["--auto-aof-rewrite-percentage", "0"],
        ];
        let mut process =
            Process::start("redis-server", arguments.as_flattened(), &folder.join("log"))?;
        process.wait_until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { process, port })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The CPU time it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }

    /// The bytes of memory it holds.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.process.resident()
    }
}
