//! `spillway simulate`: the real binary, in virtual time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Ten calls a second, of which five may leave at once; its secrets are nowhere.
const SETTINGS: &str = r#"
[store]
url = "redis://:${NO_SUCH_PASSWORD}@nowhere:1"
[auth]
keys_file = "no/such/file"
[accounts.claude]
provider = "anthropic"
api_key = "${NO_SUCH_KEY}"
org = "acme"
[accounts.second]
provider = "anthropic"
org = "acme"
[[accounts.claude.limits]]
models = ["claude-haiku-*"]
requests = "600/min"
input_tokens = "9000000/min"
[routes.cheap]
steps = ["claude/claude-haiku-4-5", "second/claude-haiku-4-5"]
"#;

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("spillway.toml", SETTINGS)].iter().chain(files) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
        command.args(["simulate", "--date", "2026-11-20"]).args(arguments);
        let steady = [("--latency", "1s"), ("--latency-per-output-token", "0s"), ("--jitter", "0")];
        for (name, value) in steady {
            if !arguments.contains(&name) {
                command.args([name, value]);
            }
        }
        command.current_dir(self.0.path()).env_clear().output().unwrap()
    }

    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let told = self.told(&[arguments, &["--json"]].concat());
        serde_json::from_str(&told).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A row of `lanes` or `workflows`.
fn part<'a>(report: &'a Value, table: &str, name: &str) -> &'a Value {
    let parts = report[table].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn near(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() <= expected * 0.02, "{value} is not {expected}");
}

#[test]
fn a_burst_is_drained_when_arithmetic_says() {
    let folder = Folder::new(&[]);
    let report = folder.json(&["--burst", "task=tag,jobs=150,at=09:00,input=1000,output=20"]);
    // Five at once, then ten a second; the last takes a second.
    near(&report["drained_in_s"], 15.5);
    let counts = ["jobs", "answered", "calls", "rate_limited", "not_answered", "still_open"];
    assert_eq!(counts.map(|key| report[key].as_u64().unwrap()), [150, 150, 150, 0, 0, 0]);
    near(&report["cost_usd"], 150.0 * (1_000.0 + 20.0 * 5.0) / 1e6);
    assert_eq!(report["without_price"], 0);
    near(&part(&report, "lanes", "standard")["wait_p50_s"], 7.0);
    let binding = &report["binding"];
    assert_eq!((&binding["org"], &binding["axis"]), (&"acme".into(), &"requests".into()));
    assert!(binding["used"].as_f64().unwrap() > 0.97, "{binding}");
    assert!(binding["used"].as_f64().unwrap() <= 1.0, "{binding}");
    let limits = report["limits"].as_array().unwrap();
    let input = limits.iter().find(|limit| limit["axis"] == "input_tokens").unwrap();
    near(&input["used"], 600.0 * 1_000.0 / 9e6);
    assert_eq!(report["drained_at"].as_str().unwrap().get(..18), Some("2026-11-20T09:00:1"));
}

#[test]
fn a_limit_on_tokens_binds_when_it_is_the_lowest() {
    let tokens = SETTINGS.replace("9000000/min", "120000/min");
    let folder = Folder::new(&[("tokens.toml", &tokens)]);
    let burst = "task=tag,jobs=100,at=09:00,input=500,output=20";
    let report = folder.json(&["--config", "tokens.toml", "--burst", burst]);
    // Two thousand tokens a second are four jobs; half a second's worth may leave at once.
    near(&report["drained_in_s"], 98.0 / 4.0 + 1.0);
    assert_eq!(report["binding"]["axis"], "input_tokens");
    assert_eq!(report["rate_limited"], 0);
}

#[test]
fn the_same_run_gives_the_same_output() {
    let folder = Folder::new(&[]);
    let arguments = |chart| {
        let burst = "task=tag,jobs=50,workflows=3,at=09:00,over=2s";
        ["--burst", burst, "--jitter", "0.5", "--chart", chart]
    };
    let runs = ["one.svg", "two.svg"].map(|chart| {
        let told = folder.told(&arguments(chart));
        (told.replace(chart, "it"), std::fs::read_to_string(folder.path(chart)).unwrap())
    });
    assert!(runs[0] == runs[1], "{}\n{}", runs[0].0, runs[1].0);
    let (told, chart) = &runs[0];
    assert!(told.contains("50 jobs from 3 workflows at 09:00:00: drained at 09:00:0"), "{told}");
    assert!(told.contains("0 × 429"), "{told}");
    for part in
        ["<svg", "prefers-color-scheme", "Arrivals", "Departures", "Backlog", "Bucket levels"]
    {
        assert!(chart.contains(part), "{part} is missing in the chart");
    }
    let other = folder.told(&[&arguments("three.svg")[..], &["--seed", "2"]].concat());
    assert!(other.replace("three.svg", "it") != *told, "another seed, another run");
}

#[test]
fn workflows_share_evenly() {
    let folder = Folder::new(&[]);
    let (long, short) =
        ("task=tag,workflow=long,jobs=80,at=09:00", "task=tag,workflow=short,jobs=20,at=09:00:02");
    let report = folder.json(&["--burst", long, "--burst", short]);
    // Twenty at half of the ten a second that leave.
    let short = part(&report, "workflows", "short")["wait_max_s"].as_f64().unwrap();
    assert!(short > 2.0 && short < 4.5, "{short}");
    let long = part(&report, "workflows", "long")["wait_max_s"].as_f64().unwrap();
    assert!(long > 9.0, "{long}");
}

#[test]
fn whoever_waits_goes_first() {
    let folder = Folder::new(&[]);
    let (long, person) = (
        "task=tag,workflow=long,jobs=60,at=09:00",
        "task=tag,workflow=person,jobs=10,at=09:00:01,over=5s,lane=interactive",
    );
    let report = folder.json(&["--burst", long, "--burst", person]);
    let waited =
        |lane: &str| part(&report, "lanes", lane)["wait_p99_s"].as_f64().unwrap_or_default();
    assert!(waited("interactive") <= 0.3 && waited("standard") > 5.0, "{report}");
    let headline = report["headline"].as_str().unwrap();
    assert!(headline.contains("70 jobs from 2 workflows at 09:00:00: drained at"), "{headline}");
    assert!(headline.contains("interactive waits p99 0."), "{headline}");
    assert!(headline.contains("the binding axis is requests at org acme (claude-haiku-*)"));
}

#[test]
fn arrivals_come_from_a_file() {
    let text = "# from the log\n\
        at, task, workflow, lane, input_tokens, output_tokens, deliver_by, count\n\
        09:00, tag, a, , 100, 10, , 30\n\
        09:00:00.500, tag, b, batch, , , +1s, 20\n\
        2026-11-20T09:00:01Z, summarize\n\
        32402.5, tag, a, interactive\n";
    let folder = Folder::new(&[("arrivals.csv", text)]);
    let report = folder.json(&["--arrivals", "arrivals.csv"]);
    let count = |key: &str| report[key].as_u64().unwrap();
    // An answer takes a second, and these are wanted within one.
    assert_eq!(report["reasons"], serde_json::json!({ "expired": 20 }));
    assert_eq!((count("jobs"), count("answered"), count("not_answered")), (52, 32, 20));
    assert!((32..=52).contains(&count("calls")), "{report}");
    assert_eq!(part(&report, "lanes", "interactive")["jobs"], 1);
    assert_eq!(part(&report, "workflows", "(no workflow)")["answered"], 1);
    assert_eq!(part(&report, "workflows", "a")["answered"], 31);
}

#[test]
fn every_fault_is_told_at_once() {
    let text = "at,task,lane,output_tokens,deliver_by\n\
        25:00,tag,,,\n\
        09:00,tga,quick,,\n\
        09:00,tag,,9000,08:59\n\
        09:00,tag,,,,9\n";
    let folder = Folder::new(&[("a.csv", text), ("b.csv", "when,task\n09:00,tag\n")]);
    let told = folder.refused(&["--arrivals", "a.csv", "--burst", "jobs=x,at=09:00,task=nothing"]);
    for fault in [
        "--burst 1: count `x` cannot be: expected a whole number of at least 1",
        "a.csv:2: at `25:00` cannot be: expected a time of day such as 09:00",
        "a.csv:3: lane `quick` cannot be: expected interactive, standard or batch",
        "a.csv:4: output_tokens 9000 cannot be: expected at most 200",
        "a.csv:4: deliver_by is not after the arrival",
        "a.csv:5: has 6 fields, the first line names 5",
    ] {
        assert!(told.contains(fault), "{fault}\nis missing in\n{told}");
    }
    let told = folder.refused(&["--arrivals", "b.csv", "--burst", "task=tga,at=09:00,jobs=999999"]);
    for fault in [
        "b.csv:1: the column `when` is not known",
        "--burst 1: there is no task `tga`; did you mean `tag`?",
        "jobs: 999999 are more than the 100000 one run can hold",
    ] {
        assert!(told.contains(fault), "{fault}\nis missing in\n{told}");
    }
    assert!(folder.refused(&[]).contains("nothing arrives: give --arrivals FILE"));
    let missing = folder.refused(&["--arrivals", "none.csv", "--config", "none.toml"]);
    assert!(missing.contains("none.csv: cannot be read"), "{missing}");
    assert!(missing.contains("none.toml: cannot be read"), "{missing}");
}

#[test]
fn a_run_that_does_not_end_is_given_up() {
    let folder = Folder::new(&[]);
    let burst = ["--burst", "task=tag,jobs=100,at=09:00", "--patience", "5s"];
    let told = folder.told(&burst);
    assert!(told.contains("NOT drained"), "{told}");
    let report = folder.json(&burst);
    assert_eq!((&report["drained_at"], &report["drained_in_s"]), (&Value::Null, &Value::Null));
    let (answered, open) = (&report["answered"], &report["still_open"]);
    assert_eq!(answered.as_u64().unwrap() + open.as_u64().unwrap(), 100);
    assert!(open.as_u64().unwrap() > 40, "{report}");
}

#[test]
fn answers_that_take_too_long_count_as_calls_without_an_answer() {
    let folder = Folder::new(&[]);
    let burst = ["--burst", "task=tag,jobs=2,at=09:00,deliver_by=+20s", "--latency", "40s"];
    let report = folder.json(&burst);
    assert_eq!((&report["answered"], &report["not_answered"]), (&0.into(), &2.into()));
    assert_eq!(report["reasons"], serde_json::json!({ "expired": 2 }));
}

#[test]
fn the_readmes_example_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let block = |fence: &str, part: &str| {
        let blocks = readme.split(fence).skip(1).map(|rest| rest.split("```").next().unwrap());
        blocks.into_iter().find(|block| block.contains(part)).unwrap().to_owned()
    };
    let command = block("```sh\n", "spillway simulate").replace("\\\n", " ");
    let arguments: Vec<&str> = command.split_whitespace().skip(2).collect();
    let settings = block("```toml\n", "[accounts.claude]");
    let csv = block("```csv\n", "at,task");
    let folder = Folder::new(&[("readme.toml", &settings), ("arrivals.csv", &csv)]);
    let told = folder.told(&[&arguments[..], &["--config", "readme.toml"]].concat());
    let came = "205 jobs from 4 workflows at 09:00:00: drained at 09:0";
    assert!(told.starts_with(came) && readme.contains(came), "{told}");
    assert!(folder.path("burst.svg").exists());
    let told = folder.told(&["--arrivals", "arrivals.csv", "--config", "readme.toml"]);
    assert!(told.starts_with("2 jobs from 2 workflows at 09:00:00"), "{told}");
}
