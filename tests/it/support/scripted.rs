//! The built-in provider, served over HTTP by the real binary.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A provider on loopback that enforces its limits.
pub(crate) struct ScriptedServer {
    process: Child,
    base: String,
}

impl ScriptedServer {
    /// Starts one with these settings.
    pub(crate) fn start(settings: &Value) -> Self {
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_spillway"), "scripted"])
            .args(["--listen", "127.0.0.1:0", "--settings", &settings.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let base = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.strip_prefix("The scripted provider listens on ").map(str::to_owned)
            })
            .expect("the scripted provider did not start");
        std::thread::spawn(move || lines.count());
        Self { process, base }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// What it saw.
    pub(crate) async fn stats(&self) -> Value {
        let client = super::http_client();
        client.get(format!("{}/stats", self.base)).send().await.unwrap().json().await.unwrap()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
