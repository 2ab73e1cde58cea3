//! The provider behind all gateways: an nginx that answers at once, the same to everybody.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context, Result};

use crate::common::free_port;
use crate::common::process::Process;

/// What is answered.
const ANSWER: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"gpt-4.1-mini","choices":[{"index":0,"message":{"role":"assistant","content":"I am sorry for the trouble. The second charge is being returned to your account and should be there within three working days.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":152,"completion_tokens":27,"total_tokens":179,"prompt_tokens_details":{"cached_tokens":0}}}"#;

/// An nginx of the benchmark's own.
pub(crate) struct Nginx {
    _process: Process,
    port: u16,
}

impl Nginx {
    /// Starts it with its files below `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let (port, files) = (free_port()?, folder.join("nginx"));
        fs::create_dir_all(&files)?;
        let settings = files.join("nginx.conf");
        fs::write(&settings, configuration(port, &files))?;
        let program = ["/usr/sbin/nginx", "nginx"];
        let program = program.iter().find(|path| Path::new(path).exists()).unwrap_or(&"nginx");
        let arguments = ["-c".into(), settings.into_os_string()];
        let mut process = Process::start(program, arguments, &files.join("log"))
            .context("nginx is missing: install it, or run `make bench`")?;
        process.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { _process: process, port })
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

fn configuration(port: u16, files: &Path) -> String {
    let files = files.display();
    format!(
        "worker_processes 1;\ndaemon off;\npid {files}/pid;\nerror_log {files}/errors warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n\
         client_body_temp_path {files}/a; proxy_temp_path {files}/b;\n\
         fastcgi_temp_path {files}/c; uwsgi_temp_path {files}/d; scgi_temp_path {files}/e;\n\
         server {{\n    listen 127.0.0.1:{port} backlog=4096;\n\
         location = /v1/chat/completions {{\n      default_type application/json;\n\
         return 200 '{ANSWER}';\n    }}\n  }}\n}}\n"
    )
}
