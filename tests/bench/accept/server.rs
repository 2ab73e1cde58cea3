//! The servers under measurement: Spillway, the bare handler, BullMQ behind Fastify.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bullmq::Bullmq;
use crate::common::free_port;
use crate::common::process::Process;
use crate::load::KEY;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `spillway serve`.
    Spillway,
    /// The bare handler.
    Bare,
    /// BullMQ behind Fastify.
    Bullmq,
}

impl Kind {
    /// Its name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Spillway => "Spillway",
            Self::Bare => "bare XADD",
            Self::Bullmq => "BullMQ",
        }
    }
}

/// What is needed to start them.
pub(crate) struct Servers {
    spillway: PathBuf,
    bullmq: Option<Bullmq>,
    folder: PathBuf,
}

/// One that is ready, and ended with the value.
pub(crate) struct Server {
    process: Process,
    port: u16,
    ready_after: Duration,
}

impl Servers {
    /// `folder` takes settings and logs.
    pub(crate) fn new(spillway: PathBuf, bullmq: Option<Bullmq>, folder: &Path) -> Self {
        Self { spillway, bullmq, folder: folder.to_owned() }
    }

    /// The version of Node that runs BullMQ.
    pub(crate) fn node(&self) -> Option<&str> {
        self.bullmq.as_ref().map(|bullmq| bullmq.node.as_str())
    }

    /// Those that can be started, in the order of a round.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let bullmq = self.bullmq.as_ref().map(|_| Kind::Bullmq);
        [Kind::Spillway, Kind::Bare].into_iter().chain(bullmq).collect()
    }

    /// Starts one on the store at `url` and waits until it is ready.
    pub(crate) fn start(&self, kind: Kind, url: &str) -> Result<Server> {
        let port = free_port()?;
        let log = self.folder.join("server.log");
        let (program, arguments) = self.command(kind, port, url)?;
        let mut process = Process::start(program, arguments, &log)?;
        let ready_after =
            process.wait_until(|| is_ready(port).unwrap_or(false)).with_context(|| kind.name())?;
        Ok(Server { process, port, ready_after })
    }

    fn command(&self, kind: Kind, port: u16, url: &str) -> Result<(OsString, Vec<OsString>)> {
        let redis = url.rsplit(':').next().unwrap_or_default();
        Ok(match kind {
            Kind::Spillway => {
                let file = self.folder.join("spillway.toml");
                std::fs::write(&file, settings(port, url))?;
                let arguments = vec!["serve".into(), "--config".into(), file.into()];
                (self.spillway.clone().into(), arguments)
            }
            Kind::Bare => {
                let arguments = vec!["bare".into(), port.to_string().into(), redis.into()];
                (std::env::current_exe()?.into(), arguments)
            }
            Kind::Bullmq => {
                let bullmq = self.bullmq.as_ref().context("BullMQ is not installed")?;
                let script = bullmq.script.clone().into();
                ("node".into(), vec![script, port.to_string().into(), redis.into()])
            }
        })
    }
}

impl Server {
    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// How long after its start it was ready.
    pub(crate) const fn ready_after(&self) -> Duration {
        self.ready_after
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

/// Spillway's settings. The provider lets one job through in an hour: what is measured is
/// accepting, with the jobs kept waiting.
fn settings(port: u16, url: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:{port}"

[store]
url = "{url}"

[auth]
keys = ["{KEY}"]

[callbacks]
allow_networks = ["127.0.0.0/8"]

[accounts.bench]
provider = "scripted"

[[accounts.bench.limits]]
requests = "1/h"

[routes.bench]
steps = ["bench/slow"]

[tasks.tag]
route = "bench"
"#
    )
}

/// Whether `GET /health/ready` is answered with 200.
fn is_ready(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}
