//! The servers under measurement.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::call::{KEY, request};
use crate::common::free_port;
use crate::common::process::Process;
use crate::common::redis::RedisServer;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The provider itself.
    Direct,
    /// Spillway with its limits in the process.
    Local,
    /// Spillway with its limits in Redis.
    Redis,
    /// LiteLLM's proxy.
    Litellm,
    /// Portkey's gateway.
    Portkey,
}

impl Kind {
    /// Its name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "nginx itself",
            Self::Local => "Spillway, local",
            Self::Redis => "Spillway, Redis",
            Self::Litellm => "LiteLLM",
            Self::Portkey => "Portkey",
        }
    }
}

/// What is needed to start them.
pub(crate) struct Servers {
    pub(crate) spillway: PathBuf,
    pub(crate) litellm: Option<PathBuf>,
    pub(crate) portkey: Option<PathBuf>,
    /// Takes settings and logs.
    pub(crate) folder: PathBuf,
}

/// One that is ready, and ended with the value.
pub(crate) struct Server {
    process: Option<Process>,
    kind: Kind,
    port: u16,
    upstream: u16,
}

impl Servers {
    /// Those that can be started, in the order of a round.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let litellm = self.litellm.as_ref().map(|_| Kind::Litellm);
        let portkey = self.portkey.as_ref().map(|_| Kind::Portkey);
        [Kind::Direct, Kind::Local, Kind::Redis].into_iter().chain(litellm).chain(portkey).collect()
    }

    /// Starts one in front of the provider at this port, and waits until it passes a call on.
    pub(crate) fn start(&self, kind: Kind, upstream: u16, redis: &RedisServer) -> Result<Server> {
        if kind == Kind::Direct {
            return Ok(Server { process: None, kind, port: upstream, upstream });
        }
        let port = free_port()?;
        let (program, arguments) = self.command(kind, port, upstream, redis)?;
        let log = self.folder.join(format!("{kind:?}.log"));
        let mut process =
            Process::start(program, arguments, &log)?.patient(Duration::from_secs(90));
        let probe = Server { process: None, kind, port, upstream };
        process.wait_until(|| passes(&probe).unwrap_or(false)).with_context(|| kind.name())?;
        Ok(Server { process: Some(process), kind, port, upstream })
    }

    fn command(
        &self,
        kind: Kind,
        port: u16,
        upstream: u16,
        redis: &RedisServer,
    ) -> Result<(OsString, Vec<OsString>)> {
        let number = OsString::from(port.to_string());
        Ok(match kind {
            Kind::Direct | Kind::Local | Kind::Redis => {
                let file = self.folder.join(format!("{kind:?}.toml"));
                let store = match kind {
                    Kind::Redis => redis.url(),
                    _ => format!("embedded:{}", self.folder.join("store").display()),
                };
                std::fs::write(&file, spillway(port, upstream, &store))?;
                let arguments = vec!["serve".into(), "--config".into(), file.into()];
                (self.spillway.clone().into(), arguments)
            }
            Kind::Litellm => {
                let file = self.folder.join("litellm.yaml");
                std::fs::write(&file, litellm(upstream, redis.port()))?;
                let program = self.litellm.as_ref().context("LiteLLM is not installed")?;
                let mut arguments: Vec<OsString> = vec!["--config".into(), file.into()];
                let further = ["--host", "127.0.0.1", "--num_workers", "1", "--port"];
                arguments.extend(further.map(OsString::from));
                arguments.push(number);
                (program.into(), arguments)
            }
            Kind::Portkey => {
                let script = self.portkey.as_ref().context("Portkey is not installed")?;
                let port = format!("--port={port}");
                ("node".into(), vec![script.into(), port.into(), "--headless".into()])
            }
        })
    }
}

impl Server {
    /// Which one it is.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Where its provider listens.
    pub(crate) const fn upstream(&self) -> u16 {
        self.upstream
    }

    /// The CPU time it has used; none for the provider itself.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.process.as_ref().map_or(Ok(Duration::ZERO), Process::cpu)
    }

    /// The bytes of memory it holds.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.process.as_ref().map_or(Ok(0), Process::resident)
    }
}

/// Spillway's settings: every call is counted on three axes, none of which is reached.
fn spillway(port: u16, upstream: u16, store: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:{port}"

[store]
url = "{store}"

[auth]
keys = ["{KEY}"]

[log]
level = "warn"

[accounts.bench]
provider = "openai-compatible"
base_url = "http://127.0.0.1:{upstream}"
api_key = "sk-bench"

[[accounts.bench.limits]]
requests = "60000000/min"
input_tokens = "60000000000/min"
output_tokens = "60000000000/min"
concurrency = 10000

[engine]
concurrency = 10000

[routes.bench]
steps = ["bench/gpt-4.1-mini"]
"#
    )
}

/// LiteLLM's settings: its limits are in Redis, none of which is reached.
fn litellm(upstream: u16, redis: u16) -> String {
    format!(
        "model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/gpt-4.1-mini\n      \
         api_base: http://127.0.0.1:{upstream}/v1\n      api_key: sk-bench\n      \
         rpm: 100000000\n      tpm: 100000000000\n\
         router_settings:\n  redis_host: 127.0.0.1\n  redis_port: {redis}\n  \
         routing_strategy: usage-based-routing-v2\n  enable_pre_call_checks: true\n\
         general_settings:\n  master_key: {KEY}\nlitellm_settings:\n  telemetry: false\n"
    )
}

/// Whether a call is answered with 200.
fn passes(server: &Server) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&request(server, false))?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}
