//! The master of a Redis Cluster, and the one behind Sentinel, is killed in the middle of 2,000 jobs:
//! no job that got its 202 is lost, and the provider's limit is kept.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::MACHINE;
use super::support::burst::provider;
use super::support::cluster::ClusterServers;
use super::support::receiver::Receiver;
use super::support::scripted::ScriptedServer;
use super::support::sentinel::SentinelServers;
use super::support::spillway::{Spillway, answer, settings};

const JOBS: usize = 2_000;

/// How many jobs have been accepted when the master is killed.
const BEFORE: usize = 700;

/// What is submitted, and may be called, each second.
const RATE: f64 = 100.0;

/// What the limit lets through at once.
const BURST: f64 = RATE / 2.0;

/// Submits jobs through a failover.
struct Load {
    replicas: [Spillway; 2],
    callback: String,
    began: Instant,
    accepted: AtomicUsize,
    refused: AtomicUsize,
    /// When the master was killed, and when the first 202 came for what was sent after that.
    killed: Mutex<Option<Instant>>,
    resumed: Mutex<Option<Instant>>,
}

impl Load {
    /// Submits one job at its time, again and again under the same key until it is accepted; its id.
    async fn submit(&self, number: usize) -> String {
        tokio::time::sleep_until(
            (self.began + Duration::from_secs(1).mul_f64(number as f64 / RATE)).into(),
        )
        .await;
        let body = json!({
            "task": "tag", "input": format!("text {number}"),
            "workflow": format!("w{}", number % 5), "callback_url": self.callback,
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut attempt = number;
        loop {
            assert!(Instant::now() < deadline, "job {number} was not accepted in a minute");
            let sent = Instant::now();
            let replica = &self.replicas[attempt % 2];
            attempt += 1;
            let request = replica.request(Method::POST, "/v1/jobs").json(&body);
            let request = request.header("idempotency-key", format!("job-{number}"));
            let response = request.send().await.unwrap();
            let header = |name: &str| {
                response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
            };
            if response.status() == 202 {
                assert_eq!(header("spillway-durability").unwrap(), "replicated");
                self.accepted(sent);
                let told: Value = response.json().await.unwrap();
                return told["id"].as_str().unwrap().to_owned();
            }
            assert_eq!(response.status(), 503);
            assert!(header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
            self.refused.fetch_add(1, Ordering::Relaxed);
            // Sooner than told, to be there when it is over.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn accepted(&self, sent: Instant) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if self.killed.lock().unwrap().is_some_and(|killed| sent > killed) {
            self.resumed.lock().unwrap().get_or_insert_with(Instant::now);
        }
    }

    async fn kill(&self, kill: impl FnOnce(&dyn Fn())) {
        while self.accepted.load(Ordering::Relaxed) < BEFORE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let killed = || *self.killed.lock().unwrap() = Some(Instant::now());
        // The submits are tasks of their own and go on meanwhile.
        tokio::task::block_in_place(|| kill(&killed));
    }

    /// How long nothing was accepted.
    fn gap(&self) -> Duration {
        self.resumed.lock().unwrap().unwrap() - self.killed.lock().unwrap().unwrap()
    }
}

/// In every window of length t at most two bursts, one of them for the failover, and rate * t.
async fn keeps_the_limit(server: &ScriptedServer) {
    let stats = server.stats().await;
    let mut arrivals: Vec<i64> = serde_json::from_value(stats["arrivals"].clone()).unwrap();
    arrivals.sort_unstable();
    assert!(arrivals.len() >= JOBS);
    for (from, start) in arrivals.iter().enumerate() {
        for (to, end) in arrivals.iter().enumerate().skip(from) {
            let allowed = 2.0 * BURST + RATE * (end - start) as f64 / 1e6;
            assert!((to - from + 1) as f64 <= allowed + 1e-6, "window {from}..{to}");
        }
    }
}

/// Runs the jobs over two replicas, kills the master among them (`kill` tells when it has), and
/// checks what became of all.
async fn through(what: &str, url: &str, kill: impl FnOnce(&dyn Fn())) {
    let server = ScriptedServer::start(&json!({ "latency": "20ms" }));
    let limits = "[[accounts.main.limits]]\nrequests = \"6000/min\"\nburst = \"500ms\"\n\
                  [engine]\nlease = \"10s\"";
    let store = format!("url = \"{url}\"\ndurability = \"replicated\"");
    let settings = settings(&store, &provider(&server, limits));
    let replicas = [Spillway::start(&settings), Spillway::start(&settings)];
    let receiver = Receiver::start();
    let load = Arc::new(Load {
        replicas,
        callback: receiver.url("/"),
        began: Instant::now(),
        accepted: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        killed: Mutex::default(),
        resumed: Mutex::default(),
    });
    let mut submits = JoinSet::new();
    for number in 0..JOBS {
        let load = Arc::clone(&load);
        submits.spawn(async move { load.submit(number).await });
    }
    load.kill(kill).await;
    let ids: HashSet<String> = submits.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), JOBS, "each job has an id of its own");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut taken = receiver.taken();
    while !ids.iter().all(|id| taken.contains_key(id)) {
        let missing = ids.iter().filter(|id| !taken.contains_key(*id)).count();
        assert!(Instant::now() < deadline, "{missing} of {JOBS} callbacks are missing");
        tokio::time::sleep(Duration::from_millis(100)).await;
        taken = receiver.taken();
    }
    futures::stream::iter(&ids)
        .for_each_concurrent(16, |id| ends_well(&load.replicas[0], id))
        .await;
    keeps_the_limit(&server).await;
    let repeats: usize = taken.values().map(|count| count - 1).sum();
    let (gap, refused) = (load.gap().as_secs_f64(), load.refused.load(Ordering::Relaxed));
    println!(
        "{what}: {JOBS} jobs, {refused} x 503, failover took {gap:.1} s, {repeats} repeated \
         callbacks, {} calls, all in {:.0} s",
        server.stats().await["calls"],
        load.began.elapsed().as_secs_f64()
    );
    assert!(refused > 0, "somebody was told to come again");
}

async fn ends_well(spillway: &Spillway, id: &str) {
    let (status, job) = answer(spillway.request(Method::GET, &format!("/v1/jobs/{id}"))).await;
    assert_eq!(status, 200, "{job}");
    assert_eq!((&job["id"], &job["status"]), (&json!(id), &json!("succeeded")), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_job_is_lost_when_a_cluster_loses_the_master() {
    let _machine = MACHINE.lock().await;
    let mut cluster = ClusterServers::start(1);
    let url = cluster.url();
    through("cluster", &url, |killed| {
        let dead = cluster.kill_master();
        killed();
        // With one replica for each master, the new one has none until the old one is back.
        cluster.bring_back(dead);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_job_is_lost_when_sentinels_replace_the_master() {
    let _machine = MACHINE.lock().await;
    let mut servers = SentinelServers::start();
    let url = servers.url();
    through("sentinel", &url, |killed| {
        servers.kill_master();
        killed();
    })
    .await;
}
