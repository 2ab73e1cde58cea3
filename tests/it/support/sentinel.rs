//! A private Redis with replicas, watched by sentinels.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::cluster::cli;
use super::redis::{RedisServer, spawn};
use super::spillway::signal;
use super::{free_port, until};

/// What the sentinels call the master.
pub(crate) const NAME: &str = "main";

/// What the Redis servers ask for, and the sentinels do not.
pub(crate) const PASSWORD: &str = "hunter2";

/// A master with two replicas, and three sentinels.
pub(crate) struct SentinelServers {
    nodes: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    port: u16,
    process: Child,
    _folder: TempDir,
}

impl SentinelServers {
    /// Starts them.
    pub(crate) fn start() -> Self {
        let options = [
            ["--requirepass", PASSWORD],
            ["--masterauth", PASSWORD],
            ["--repl-diskless-sync-delay", "0"],
        ];
        let options = options.as_flattened();
        let master = RedisServer::start(options);
        let port = master.port().to_string();
        let replica = [options, &["--replicaof", "127.0.0.1", &port]].concat();
        let mut nodes = vec![master];
        nodes.extend((0..2).map(|_| RedisServer::start(&replica)));
        until("the replicas take part", || {
            let told = cli(nodes[0].port(), &["-a", PASSWORD, "INFO", "replication"]);
            told.matches("state=online").count() == 2
        });
        let sentinels = (0..3).map(|_| Sentinel::start(nodes[0].port())).collect();
        let servers = Self { nodes, sentinels };
        until("the sentinels know all", || {
            servers.sentinels.iter().all(|sentinel| {
                let told = cli(sentinel.port, &["SENTINEL", "MASTER", NAME]);
                let is = |key: &str| told.contains(&format!("\n{key}\n2\n"));
                is("num-slaves") && is("num-other-sentinels")
            })
        });
        servers
    }

    /// The sentinels, as settings name them.
    pub(crate) fn url(&self) -> String {
        let places: Vec<String> =
            self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        format!("redis+sentinel://:{PASSWORD}@{}/{NAME}", places.join(","))
    }

    /// The same under a name they do not know.
    pub(crate) fn wrong_url(&self) -> String {
        self.url().replace("/main", "/nobody")
    }

    /// Kills the master.
    pub(crate) fn kill_master(&mut self) {
        self.master_mut().kill();
    }

    /// Stops the master until it is sent `CONT`; its process' number.
    pub(crate) fn pause_master(&mut self) -> u32 {
        let pid = self.master_mut().pid();
        signal(pid, "STOP");
        pid
    }

    fn master_mut(&mut self) -> &mut RedisServer {
        let told = cli(self.sentinels[0].port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        let master = self.nodes.iter_mut().find(|node| told.contains(&node.port().to_string()));
        master.expect("one of them is the master")
    }
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {NAME} 127.0.0.1 {master} 2\n\
             sentinel auth-pass {NAME} {PASSWORD}\n\
             sentinel down-after-milliseconds {NAME} 2000\n\
             sentinel failover-timeout {NAME} 2000\n\
             sentinel parallel-syncs {NAME} 2\n",
            folder.path().display()
        );
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "redis-server"])
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = spawn(command).unwrap();
        Self { port, process, _folder: folder }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
