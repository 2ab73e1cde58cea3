//! The real binary, started on a free port and killed with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::schema::check_result;

/// The key tests use.
pub(crate) const KEY: &str = "sw_testtest_0123456789abcdefghijABCDEFGHIJ";

/// What callbacks are signed with in tests.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A running `spillway serve`.
pub(crate) struct Spillway {
    process: Child,
    base: String,
    key: String,
    client: reqwest::Client,
    log: PathBuf,
}

/// The parts of a settings file most tests need.
pub(crate) fn settings(store: &str, more: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
[store]
{store}
[auth]
keys = ["{KEY}", {{ caller = "other", key = "sw_otherkey_0123456789abcdefghijABCDEFGHIJ" }}]
[callbacks]
secret = "{SECRET}"
allow_networks = ["127.0.0.0/8"]
per_host_rate = "5000/s"
per_host_concurrency = 64
[log]
level = "info"
{more}
"#
    )
}

/// An embedded store in this folder.
pub(crate) fn embedded(folder: &Path) -> String {
    format!("url = \"embedded:{}\"", folder.join("data").display())
}

/// A route `cheap` and a route `premium` over one account each of the built-in provider.
pub(crate) const SCRIPTED: &str = r#"
[accounts.small]
provider = "scripted"
scripted = { latency = "5ms" }
[accounts.large]
provider = "scripted"
scripted = { latency = "5ms" }
[routes.cheap]
steps = ["small/tiny-1"]
[routes.premium]
steps = ["large/grand-1"]
"#;

impl Spillway {
    /// Starts the binary with this settings file.
    pub(crate) fn start(settings: &str) -> Self {
        Self::start_with(settings, &[])
    }

    /// The same with these environment variables.
    pub(crate) fn start_with(settings: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let file = folder.join("spillway.toml");
        std::fs::write(&file, settings).unwrap();
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_spillway"), "serve", "--config"])
            .arg(&file)
            .envs(environment.iter().copied())
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let base = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Spillway listens on ").map(str::to_owned))
            .unwrap_or_else(|| {
                let log = std::fs::read_to_string(folder.join("log")).unwrap();
                panic!("spillway did not start:\n{log}")
            });
        // Keep the pipe read so that the service never blocks on it.
        std::thread::spawn(move || lines.count());
        let client = super::http_client();
        Self { process, base, key: KEY.to_owned(), client, log: folder.join("log") }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The same service as another caller.
    pub(crate) fn request_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(key)
    }

    /// A request with the test's key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(&self.key, method, path)
    }

    /// Where it listens: `http://127.0.0.1:port`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// GET, as status and JSON.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// POST of JSON, as status and JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Submits a job that must be accepted; its id.
    pub(crate) async fn submit(&self, body: &Value) -> String {
        let (status, answer) = self.post("/v1/jobs", body).await;
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Submits a job and waits for its result.
    pub(crate) async fn run(&self, body: &Value) -> Value {
        let id = self.submit(body).await;
        self.finished(&id).await
    }

    /// A job's result, once it has ended.
    pub(crate) async fn finished(&self, id: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (status, job) = self.get(&format!("/v1/jobs/{id}?wait=5")).await;
            assert_eq!(status, 200, "{job}");
            check_result(&job);
            if !["queued", "running"].contains(&job["status"].as_str().unwrap()) {
                return job;
            }
            assert!(Instant::now() < deadline, "job did not end: {job}");
        }
    }

    /// Kills it the hard way.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// Waits for its end after a signal; whether it ended well.
    pub(crate) fn ended(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }
}

impl Drop for Spillway {
    fn drop(&mut self) {
        if self.process.try_wait().ok().flatten().is_none() {
            self.kill();
        }
    }
}

/// Sends a process a signal.
pub(crate) fn signal(pid: u32, name: &str) {
    // The shell's own kill: a small Debian has no other.
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(sent.success());
}

/// Sends a request; status and JSON, `null` when the body is none.
pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    (
        status,
        serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))),
    )
}
