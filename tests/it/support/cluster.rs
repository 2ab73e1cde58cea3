//! A private Redis Cluster of real servers.

use std::net::TcpListener;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use spillway::keyspace::Keyspace;

use super::redis::{self, RedisServer};
use super::{free_port, until};

/// How far a node's bus is from its port.
const BUS: u16 = 10_000;

/// The tag all our keys have.
const TAG: &str = "{0}";

/// A cluster of one's own.
pub(crate) struct ClusterServers {
    nodes: Vec<RedisServer>,
}

impl ClusterServers {
    /// Starts three masters with so many replicas each.
    pub(crate) fn start(replicas: usize) -> Self {
        // Where nobody takes over, a busy machine must not look like a dead node.
        let patience = if replicas == 0 { "30000" } else { "2000" };
        let options = [
            ["--cluster-enabled", "yes"],
            ["--cluster-node-timeout", patience],
            ["--repl-diskless-sync-delay", "0"],
        ];
        let count = 3 * (1 + replicas);
        let nodes: Vec<RedisServer> =
            (0..count).map(|_| RedisServer::start_on(port(), options.as_flattened())).collect();
        let places = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create", "--cluster-yes"])
            .args(["--cluster-replicas", &replicas.to_string()])
            .args(places)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let cluster = Self { nodes };
        until("the cluster is whole", || {
            cluster.nodes.iter().all(|node| {
                let role = cli(node.port(), &["ROLE"]);
                let joined = role.starts_with("master") || role.contains("\nconnected\n");
                joined && cli(node.port(), &["CLUSTER", "INFO"]).contains("cluster_state:ok")
            })
        });
        until("the master has its replicas", || {
            let role = cli(cluster.master().port(), &["INFO", "replication"]);
            role.matches("state=online").count() == replicas
        });
        cluster
    }

    /// The cluster all tests share that do no harm to it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<ClusterServers> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(0))
    }

    /// Three of its nodes, as settings name them.
    pub(crate) fn url(&self) -> String {
        let places: Vec<String> =
            self.nodes.iter().take(3).map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", places.join(","))
    }

    /// A corner of it that no other test uses.
    pub(crate) async fn keyspace(&self) -> Keyspace {
        redis::keyspace(&self.url()).await
    }

    /// The node that serves our keys.
    pub(crate) fn master(&self) -> &RedisServer {
        &self.nodes[self.serving().expect("a node serves our keys")]
    }

    /// A node that does not.
    pub(crate) fn other(&self) -> &RedisServer {
        let serving = self.serving().expect("a node serves our keys");
        &self.nodes[(serving + 1) % self.nodes.len()]
    }

    /// Kills the node that serves our keys; which that was.
    pub(crate) fn kill_master(&mut self) -> usize {
        let serving = self.serving().expect("a node serves our keys");
        self.nodes[serving].kill();
        serving
    }

    /// Starts a killed node again, once another serves our keys.
    pub(crate) fn bring_back(&mut self, dead: usize) {
        until("a replica has taken over", || self.serving().is_some());
        self.nodes[dead].restart();
    }

    /// Has a replica take over from the node that serves our keys, with its consent.
    pub(crate) fn hand_over(&self) {
        let before = self.master().port();
        let id = cli(before, &["CLUSTER", "MYID"]);
        let replica = self.nodes.iter().find(|node| {
            let line = cli(node.port(), &["CLUSTER", "NODES"]);
            line.lines().any(|line| line.contains("myself,slave") && line.contains(id.trim()))
        });
        let replica = replica.unwrap();
        let mut asked: Option<Instant> = None;
        until("the replica has taken over", || {
            // Redis gives up after five seconds, which a busy machine may need.
            if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(6)) {
                cli(replica.port(), &["CLUSTER", "FAILOVER"]);
                asked = Some(Instant::now());
            }
            self.serving().is_some_and(|serving| self.nodes[serving].port() != before)
        });
    }

    fn serving(&self) -> Option<usize> {
        self.nodes.iter().position(|node| {
            node.is_alive()
                && cli(node.port(), &["EXISTS", TAG]).trim() == "0"
                && cli(node.port(), &["ROLE"]).starts_with("master")
        })
    }
}

/// A port with the bus's port free, too.
fn port() -> u16 {
    loop {
        let port = free_port();
        let bus = port.checked_add(BUS);
        if bus.is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
}

/// What a server answers to a command.
pub(super) fn cli(port: u16, words: &[&str]) -> String {
    let told = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output();
    String::from_utf8(told.unwrap().stdout).unwrap()
}
