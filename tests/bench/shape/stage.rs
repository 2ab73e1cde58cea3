//! The servers of one run: Redis, the provider, replicas of Spillway, the callbacks' receiver.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::redis::{Fsync, RedisServer};
use crate::provider::{Provider, Stats};
use crate::receiver::Receiver;
use crate::replica::{KEY, Replica, settings};
use crate::work::{Job, groups};

/// Requests that submit jobs at the same time.
const SUBMITS: usize = 16;

/// Servers that are ready, and ended with the value.
pub(crate) struct Stage {
    // In the order in which they are ended.
    replicas: Vec<Replica>,
    provider: Provider,
    redis: RedisServer,
    receiver: Receiver,
    client: reqwest::Client,
    settings: String,
    _folder: TempDir,
}

impl Stage {
    /// Starts everything, with files below `folder`.
    pub(crate) fn start(
        spillway: &Path,
        folder: &Path,
        scripted: &Value,
        limits: &str,
        replicas: usize,
    ) -> Result<Self> {
        let folder = tempfile::tempdir_in(folder)?;
        let redis = RedisServer::start(Fsync::Everysec, folder.path())?;
        let provider = Provider::start(spillway, scripted, &folder.path().join("scripted.log"))?;
        let file = folder.path().join("spillway.toml");
        let settings = settings(&redis.url(), provider.base(), limits);
        std::fs::write(&file, &settings)?;
        let replica = |number: usize| {
            Replica::start(spillway, &file, &folder.path().join(format!("replica-{number}.log")))
        };
        let replicas = (0..replicas).map(replica).collect::<Result<_>>()?;
        let client = client()?;
        Ok(Self {
            replicas,
            provider,
            redis,
            receiver: Receiver::start()?,
            client,
            settings,
            _folder: folder,
        })
    }

    /// The replicas' settings.
    pub(crate) fn settings(&self) -> &str {
        &self.settings
    }

    /// The callbacks' receiver.
    pub(crate) const fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// The provider.
    pub(crate) const fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The Redis.
    pub(crate) const fn redis(&mut self) -> &mut RedisServer {
        &mut self.redis
    }

    /// What the provider has seen.
    pub(crate) async fn stats(&self) -> Result<Stats> {
        self.provider.stats(&self.client).await
    }

    /// Submits jobs, in turn to each replica, as quickly as they are taken.
    pub(crate) async fn submit(&self, jobs: &[Job]) -> Result<()> {
        self.submit_all("/v1/groups", groups(jobs, Some(self.receiver.url()))).await
    }

    /// The same one by one and without callbacks.
    pub(crate) async fn submit_alone(&self, jobs: &[Job]) -> Result<()> {
        self.submit_all("/v1/jobs", jobs.iter().map(|job| job.body(None)).collect()).await
    }

    async fn submit_all(&self, path: &str, bodies: Vec<Value>) -> Result<()> {
        let submits = bodies
            .into_iter()
            .enumerate()
            .map(|(number, body)| async move { self.post(number, path, &body).await });
        futures::stream::iter(submits).buffer_unordered(SUBMITS).try_collect().await
    }

    /// Submits one job to a replica.
    pub(crate) async fn submit_one(&self, number: usize, job: &Job) -> Result<()> {
        self.post(number, "/v1/jobs", &job.body(Some(self.receiver.url()))).await
    }

    /// Posts to a replica what must be accepted.
    pub(crate) async fn post(&self, number: usize, path: &str, body: &Value) -> Result<()> {
        let replica = self.replicas.iter().cycle().nth(number % self.replicas.len().max(1));
        let base = replica.context("no replica")?.base();
        let request = self.client.post(format!("{base}{path}")).bearer_auth(KEY).json(body);
        let answer = request.send().await?;
        let status = answer.status();
        ensure!(status == 202, "a submit was answered {status}: {}", answer.text().await?);
        Ok(())
    }
}

/// A client that asks no proxy.
#[expect(clippy::disallowed_methods, reason = "talks to the benchmark's own servers")]
pub(crate) fn client() -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120));
    Ok(builder.build()?)
}
