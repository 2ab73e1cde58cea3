//! `spillway hooks`: what would be submitted, from the settings alone.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::hooks::SHOWN;
use crate::support::spillway::SCRIPTED;

const HOOKS: &str = r#"
[hooks.issues]
task = "shown"
auth = { scheme = "github", secret = "It's a Secret to Everybody" }
when = "body.action == 'opened'"
input = { text = "{{ body.title }}", count = "{{ query.count }}" }
session = "{{ body.number }}"
callback_url = "https://hooks.example.com/private-path?token=hidden"
lane = "batch"
[hooks.form]
task = "shown"
[hooks.slack]
task = "shown"
auth = { scheme = "slack", secret = "slack's own secret" }
[hooks.local]
task = "shown"
auth = { scheme = "header", name = "X-Secret", secret = "correct horse" }
callback_url = "{{ body.url }}"
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("spillway.toml"), format!("{SCRIPTED}{SHOWN}{HOOKS}"))
            .unwrap();
        Self(folder)
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_spillway"))
            .arg("hooks")
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        process.wait_with_output().unwrap()
    }

    /// What is shown when all is well.
    fn shown(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is told when the event would be refused.
    fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn what_would_be_submitted_is_shown_and_nothing_is_stored() {
    let folder = Folder::new();
    let body = r#"{"action":"opened","title":"It crashes","number":7}"#;
    let test = [
        "test",
        "issues",
        "--body",
        "-",
        "--query",
        "?count=5",
        "--header",
        "X-GitHub-Delivery: d1",
    ];
    let shown = folder.shown(&test, body);
    for line in [
        "hook       issues → task shown",
        "auth       not checked (github): it has no header `x-hub-signature-256`",
        r#"input      {"text":"It crashes","count":5}"#,
        "workflow   issues",
        "session    7",
        "lane       batch",
        "key        d1",
        "callback   https://hooks.example.com/[redacted]",
        "caller     hook-issues",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(!shown.contains("hidden") && !shown.contains("Everybody"), "{shown}");
    assert!(!folder.0.path().join("spillway-data").exists());
    let ignored = folder.shown(&["test", "issues", "--body", "-"], r#"{"action":"closed"}"#);
    assert!(ignored.contains("event      ignored"), "{ignored}");
    let list = folder.shown(&["test", "form", "--body", "-"], r#"[{"text":"a"},{"text":"b"}]"#);
    assert!(
        list.contains("a group of 2 jobs") && list.contains(r#"input      {"text":"b"}"#),
        "{list}"
    );
    let form =
        ["test", "form", "--content-type", "application/x-www-form-urlencoded", "--body", "-"];
    let form = folder.shown(&form, "text=a&urgent=on&who__name=n");
    assert!(form.contains(r#"{"text":"a","urgent":true,"who":{"name":"n"}}"#), "{form}");
    let all = folder.shown(&["list"], "");
    assert!(
        all.lines().any(|line| line.contains("issues") && line.ends_with("/v1/hooks/issues")),
        "{all}"
    );
}

/// What the service itself would do, told before it is set up.
#[test]
fn handshakes_empty_lists_and_repeated_headers_are_told_as_the_service_takes_them() {
    let folder = Folder::new();
    let ping = ["test", "issues", "--body", "-", "--header", "X-GitHub-Event: ping"];
    let shown = folder.shown(&ping, r#"{"zen":"Design for failure."}"#);
    assert!(shown.contains("handshake  no job; answered well: GitHub's ping"), "{shown}");
    let slack = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    let shown = folder.shown(&["test", "slack", "--body", "-"], slack);
    assert!(shown.contains("handshake  no job; answered 3eZbrw1a"), "{shown}");
    let graph = ["test", "form", "--body", "-", "--query", "validationToken=abc"];
    let shown = folder.shown(&graph, "");
    assert!(shown.contains("handshake  no job; answered abc"), "{shown}");
    for body in ["[]", "null"] {
        let shown = folder.shown(&["test", "form", "--body", "-"], body);
        assert!(shown.contains("event      ignored: the body is"), "{shown}");
    }
    let twice = ["X-GitHub-Delivery: first", "x-github-delivery: second"];
    let twice = ["test", "issues", "--body", "-", "--header", twice[0], "--header", twice[1]];
    let shown = folder.shown(&twice, r#"{"action":"opened","title":"It crashes","number":7}"#);
    assert!(shown.contains("key        first"), "{shown}");
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20));
    let told = folder.refused(&["test", "form", "--body", "-"], &large);
    assert!(told.contains("1048576 bytes"), "{told}");
}

#[test]
fn what_would_be_refused_is_refused() {
    let folder = Folder::new();
    for (arguments, body, words) in [
        (&["test", "isues"] as &[&str], "{}", "did you mean `issues`"),
        (
            &["test", "issues", "--header", "X-Hub-Signature-256: sha256=00"],
            r#"{"action":"opened","title":"x"}"#,
            "401: its header `x-hub-signature-256` does not match",
        ),
        (&["test", "form"], r#"{"count":"five","text":"a"}"#, "#/input/count"),
        (&["test", "form"], "{\"text\": \"say \"hi\"\"}", "line 1 column"),
        (&["test", "local"], r#"{"text":"a","url":"http://127.0.0.1/x"}"#, "127.0.0.1"),
        (&["test", "local", "--header", "broken"], "{}", "`broken` is not `Name: value`"),
    ] {
        let told = folder.refused(&[arguments, &["--body", "-"]].concat(), body);
        assert!(told.contains(words), "{words}\n{told}");
    }
    assert!(folder.refused(&["test", "form", "--body", "none.json"], "").contains("none.json"));
}
