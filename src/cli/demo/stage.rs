//! The demo's stage: three models that limit like real ones, and a Spillway in front of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::direct::{Target, Targets};
use super::receiver::{self, Receiver};
use super::summary::AtProvider;
use crate::app::Service;
use crate::clock::{SharedClock, SystemClock};
use crate::config;
use crate::lifecycle::Lifecycle;
use crate::provider::scripted::{Model, Settings, server};

/// The models: name, what they enforce, and what Spillway is told of it.
const MODELS: [(&str, &str, &str); 3] = [
    // Somebody else uses the same key: one call in twenty is answered 429 below our own limit.
    (
        "swift-small",
        r#"{"requests":"600/min","latency":"120ms","faults":[{"every":20,"answer":"429"}]}"#,
        "600/min",
    ),
    ("steady-small", r#"{"requests":"360/min","latency":"250ms"}"#, "360/min"),
    ("deep-large", r#"{"requests":"120/min","latency":"900ms"}"#, "120/min"),
];

/// Everything the demo plays with.
pub(super) struct Stage {
    models: Vec<(SocketAddr, Arc<Model>)>,
    /// Receives results.
    pub(super) receiver: Arc<Receiver>,
    /// Where it listens.
    pub(super) callback: SocketAddr,
    lifecycle: Lifecycle,
}

impl Stage {
    /// Starts the models and the receiver.
    pub(super) fn set(secret: &str) -> Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let lifecycle = Lifecycle::default();
        let mut models = Vec::new();
        for (_, settings, _) in MODELS {
            let settings: Settings = serde_json::from_str(settings)?;
            let listener = server::listen(loopback())?;
            let address = listener.local_addr()?;
            let model = Arc::new(Model::new(settings, Arc::clone(&clock)));
            let (until, served) = (lifecycle.clone(), Arc::clone(&model));
            lifecycle.spawn(async move {
                let ended = server::run(listener, served, async move { until.draining().await });
                tell(ended.await);
            });
            models.push((address, model));
        }
        let receiver = Arc::new(Receiver::new(secret, clock)?);
        let listener = server::listen(loopback())?;
        let callback = listener.local_addr()?;
        let (until, receiving) = (lifecycle.clone(), Arc::clone(&receiver));
        lifecycle.spawn(async move {
            let ended = receiver::run(listener, receiving, async move { until.draining().await });
            tell(ended.await);
        });
        Ok(Self { models, receiver, callback, lifecycle })
    }

    /// Starts a Spillway in front of the models.
    pub(super) async fn spillway(
        &self,
        listen: &str,
        folder: &Path,
        key: &str,
        secret: &str,
    ) -> Result<Service> {
        let text = self.settings(listen, folder, key, secret);
        let loaded = config::load::parse(&text, folder, &config::Environment::new())?;
        Service::start(&loaded.config, loaded.plan).await.context("Spillway could not be started")
    }

    fn settings(&self, listen: &str, folder: &Path, key: &str, secret: &str) -> String {
        let account =
            |((name, _, requests), (address, _)): (&(&str, &str, &str), &(SocketAddr, _))| {
                format!(
                    "[accounts.{name}]\nprovider = \"openai-compatible\"\n\
                 base_url = \"http://{address}\"\napi_key = \"none\"\n\
                 [[accounts.{name}.limits]]\nrequests = \"{requests}\"\n"
                )
            };
        let accounts: Vec<String> = MODELS.iter().zip(&self.models).map(account).collect();
        let accounts = accounts.concat();
        let data = toml::Value::String(format!("embedded:{}", folder.display()));
        format!(
            "[server]\nlisten = \"{listen}\"\n[store]\nurl = {data}\n[auth]\nkeys = [\"{key}\"]\n\
             [callbacks]\nsecret = \"{secret}\"\nallow_networks = [\"127.0.0.0/8\"]\n\
             per_host_rate = \"500/s\"\nper_host_concurrency = 32\n{accounts}\
             [routes.cheap]\npatience = \"2s\"\n\
             steps = [\"swift-small/swift-small\", \"steady-small/steady-small\"]\n\
             [routes.premium]\nsteps = [\"deep-large/deep-large\"]\n\
             [[prices]]\nprovider = \"*\"\nmodel = \"*-small\"\ninput = 0.5\noutput = 2.0\n\
             [[prices]]\nprovider = \"*\"\nmodel = \"*-large\"\ninput = 3.0\noutput = 15.0\n"
        )
    }

    /// The same models, to be called without Spillway.
    pub(super) fn targets(&self) -> Option<Targets> {
        let target = |index: usize| {
            let (address, _) = self.models.get(index)?;
            let (name, _, _) = MODELS.get(index)?;
            Some(Target { base_url: format!("http://{address}"), model: (*name).to_owned() })
        };
        Some(Targets { cheap: target(0)?, premium: target(2)? })
    }

    /// What the models have seen so far.
    pub(super) fn seen(&self) -> AtProvider {
        self.models.iter().map(|(_, model)| model.stats()).fold(
            AtProvider::default(),
            |sum, stats| AtProvider {
                calls: sum.calls + stats.calls,
                rate_limited: sum.rate_limited + stats.rate_limited,
            },
        )
    }

    /// Gives the models full buckets and clean counts again.
    pub(super) fn reset(&self) {
        for (_, model) in &self.models {
            model.reset();
        }
    }

    /// Ends the models and the receiver.
    pub(super) async fn strike(self) {
        self.lifecycle.stop(std::time::Duration::from_secs(3)).await;
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn tell(ended: std::io::Result<()>) {
    if let Err(fault) = ended {
        tracing::error!(%fault, "a part of the demo ended");
    }
}
