//! A private redis-server, started on a free port and killed with the test.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock, mpsc};
use std::time::{Duration, Instant};

use spillway::keyspace::{Keyspace, Timeouts};
use tempfile::TempDir;

use super::free_port;

/// A redis-server of one's own.
pub(crate) struct RedisServer {
    port: u16,
    folder: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts one with an append-only file and these further options.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_on(free_port(), options)
    }

    /// The same on this port.
    pub(crate) fn start_on(port: u16, options: &[&str]) -> Self {
        let mut server = Self {
            port,
            folder: tempfile::tempdir().unwrap(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            process: None,
        };
        server.restart();
        server
    }

    /// The server all tests share that do no harm to it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Whether it was not killed.
    pub(crate) const fn is_alive(&self) -> bool {
        self.process.is_some()
    }

    /// The process' number, for signals.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Kills it the hard way.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again on the same port with what it had on disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        // A test run that is killed leaves no server behind: setpriv asks the kernel to end it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "redis-server", "--port", &self.port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "everysec", "--dir"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = spawn(command);
        self.process =
            Some(process.expect("redis-server is not installed: run the tests with `make test`"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.answers() {
            assert!(Instant::now() < deadline, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        use std::io::{Read, Write};
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && [b"+PONG", b"-NOAU"].contains(&&answer)
    }

    /// A corner of it that no other test uses.
    pub(crate) async fn keyspace(&self) -> Keyspace {
        keyspace(&self.url()).await
    }
}

/// A corner of this Redis that no other test uses.
pub(crate) async fn keyspace(url: &str) -> Keyspace {
    let timeouts = Timeouts { connect: Duration::from_secs(5), response: Duration::from_secs(5) };
    Keyspace::open(url, &unique_prefix(), timeouts).await.unwrap()
}

/// Starts a process from a thread that never ends: the kernel takes the end of the thread that
/// started it for the end of its parent, and a test's thread ends with the test.
pub(super) fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                answer.send(command.spawn()).unwrap();
            }
        });
        orders
    });
    let (answer, started) = mpsc::channel();
    STARTER.send((command, answer)).unwrap();
    started.recv().unwrap()
}

/// A key prefix that no other test uses.
pub(crate) fn unique_prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
