//! OpenAI's and Anthropic's own SDKs, unmodified, against the real binary. What they are to find is
//! asserted in `tests/sdk`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rstest::rstest;

use super::Stage;
use crate::support::spillway::KEY;

/// Accounts whose limit is soon used up.
const SLOW: &str = r#"
slow-openai = { steps = ["slow-oai/gpt-4.1-mini"] }
slow-anthropic = { steps = ["slow-ant/claude-haiku-4-5"] }
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the SDKs are installed, by `make`, unless they are already.
fn installed() -> PathBuf {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let made = Command::new("make").args(["--silent", "sdk"]).current_dir(root()).output();
        let made = made.expect("`make` installs the SDKs");
        assert!(made.status.success(), "make sdk: {}", String::from_utf8_lossy(&made.stderr));
    });
    root().join("target/sdk")
}

/// Starts a service and runs a program against it, which must end well.
async fn well(command: impl FnOnce(&str) -> Command + Send + 'static) {
    installed();
    let vendor = |name: &str, vendor: &str, url: &str| {
        format!(
            "[accounts.{name}]\nprovider = \"{vendor}\"\nbase_url = \"{url}\"\napi_key = \"k\"\n\
             [[accounts.{name}.limits]]\nrequests = \"30/min\"\nburst = \"1s\"\n"
        )
    };
    let stage = Stage::with_vendor(|url| {
        let oai = vendor("slow-oai", "openai", url);
        format!("{SLOW}{oai}{}", vendor("slow-ant", "anthropic", url))
    });
    let mut command = command(stage.spillway.base());
    command.env("BASE", stage.spillway.base()).env("KEY", KEY).env("SPILLWAY_KEY", KEY);
    let run = tokio::task::spawn_blocking(move || command.output());
    let run = run.await.unwrap().unwrap();
    let told = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(run.status.success(), "{}\n{}", told[0], told[1]);
}

fn python(program: &Path) -> Command {
    let mut command = Command::new(installed().join("python/bin/python"));
    command.arg("-B").arg(program);
    command
}

/// Node looks for packages beside the program.
fn node(name: &str, program: &str) -> Command {
    let place = installed().join("node").join(name);
    std::fs::write(&place, program).unwrap();
    let mut command = Command::new("node");
    command.arg(place);
    command
}

#[rstest]
#[case::openai("openai_sdk.py")]
#[case::anthropic("anthropic_sdk.py")]
#[tokio::test]
async fn the_python_sdk_works_unmodified(#[case] name: &'static str) {
    well(move |_base| python(&root().join("tests/sdk/python").join(name))).await;
}

#[rstest]
#[case::openai("openai_sdk.mjs")]
#[case::anthropic("anthropic_sdk.mjs")]
#[tokio::test]
async fn the_typescript_sdk_works_unmodified(#[case] name: &'static str) {
    let program = std::fs::read_to_string(root().join("tests/sdk/node").join(name)).unwrap();
    well(move |_base| node(name, &program)).await;
}

/// The README's lines, as they stand, with our address for theirs.
fn readme(language: &str, base: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("\n## ").find(|part| part.starts_with("Use it as your OpenAI"));
    let block = section.unwrap().split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().replace("http://127.0.0.1:8080", base)
}

#[tokio::test]
async fn the_readmes_python_works_as_it_stands() {
    well(|base| {
        let place = tempfile::tempdir().unwrap().keep().join("readme.py");
        std::fs::write(&place, readme("python", base)).unwrap();
        python(&place)
    })
    .await;
}

#[tokio::test]
async fn the_readmes_typescript_works_as_it_stands() {
    well(|base| node("readme.mjs", &readme("typescript", base))).await;
}

#[tokio::test]
async fn the_readmes_curl_works_as_it_stands() {
    well(|base| {
        let mut command = Command::new("sh");
        command.arg("-ec").arg(readme("sh", base));
        command
    })
    .await;
}
