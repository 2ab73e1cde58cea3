//! Every known way to fail, at every kind of provider: the job is answered all the same, and what
//! was done about the failing one is told and held to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use futures::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};

use crate::jobs::{Store, start};
use crate::support::free_port;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::Spillway;

/// The columns: the provider's name in the settings, where it is below the scripted server, and
/// what its models are called.
const COLUMNS: [(&str, &str, &str); 6] = [
    ("anthropic", "/anthropic", "claude-sonnet-5"),
    ("openai", "/openai", "gpt-6-luna"),
    ("groq", "/groq", "openai/gpt-oss"),
    ("cerebras", "/cerebras", "gpt-oss"),
    ("gemini", "/gemini", "gemini-3.5-flash"),
    ("openrouter", "/openrouter", "some/model"),
];

/// With this on a route its steps are asked by stream.
const BY_STREAM: &str = "first_token = \"20s\"";

/// A byte in the middle of every stream's words.
const MIDDLE: usize = 900;

/// How a cell's first step fails.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// As the scripted provider does under this name.
    Scripted(&'static str),
    /// The same, asked by stream.
    Streamed(&'static str),
    /// Nobody listens.
    Refused,
    /// Whoever listens speaks no TLS.
    NoTls,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    /// Nothing: it may pass.
    Open,
    /// The limit is left alone until the provider's own time.
    Held,
    /// The limit is left alone for a moment of ours.
    Paused,
    /// The account is.
    Account,
}

struct Row {
    title: &'static str,
    how: How,
    outcomes: &'static [&'static str],
    gate: Gate,
}

const fn row(title: &'static str, how: How, outcomes: &'static [&'static str], gate: Gate) -> Row {
    Row { title, how, outcomes, gate }
}

const ROWS: [Row; 20] = [
    row("429 with a hint", How::Scripted("429"), &["rate_limited"], Gate::Held),
    row("429 without a hint", How::Scripted("429_no_hint"), &["rate_limited"], Gate::Paused),
    row("quota gone", How::Scripted("quota"), &["unauthorized"], Gate::Account),
    row("500", How::Scripted("500"), &["overloaded"], Gate::Open),
    row("502", How::Scripted("502"), &["overloaded"], Gate::Open),
    row("503 in plain text", How::Scripted("503_text"), &["overloaded"], Gate::Open),
    row("529", How::Scripted("529"), &["overloaded"], Gate::Open),
    row("401", How::Scripted("401"), &["unauthorized"], Gate::Account),
    row("402", How::Scripted("402"), &["unauthorized"], Gate::Account),
    row("403", How::Scripted("403"), &["unauthorized"], Gate::Account),
    row("404 model", How::Scripted("404"), &["rejected"], Gate::Open),
    row("413", How::Scripted("413"), &["rejected"], Gate::Open),
    row("connection refused", How::Refused, &["unreachable"], Gate::Open),
    row("connection reset", How::Scripted("reset"), &["unreachable"], Gate::Open),
    row("TLS failure", How::NoTls, &["unreachable"], Gate::Open),
    row("no first byte", How::Scripted("hang"), &["timed_out"], Gate::Open),
    row("half a body", How::Scripted("half"), &["unreachable", "garbled"], Gate::Open),
    row("HTML with 200", How::Scripted("html"), &["garbled"], Gate::Open),
    row("error inside a 200", How::Scripted("error_in_200"), &["overloaded"], Gate::Open),
    row("outside the schema", How::Scripted("invalid_output"), &["invalid_output"], Gate::Open),
];

/// Rows that are asked by stream.
const STREAMED: [Row; 1] =
    [row("a stream cut in the middle", How::Streamed("cut"), &["garbled"], Gate::Open)];

/// A row in a column.
struct Cell {
    row: &'static Row,
    column: usize,
    name: String,
    model: String,
}

impl Cell {
    fn all() -> Vec<Self> {
        let cell = |row: &'static Row, column: usize| {
            let (vendor, _, model) = COLUMNS[column];
            let fault = match row.how {
                How::Scripted(fault) | How::Streamed(fault) => fault,
                How::Refused => "refused",
                How::NoTls => "tls",
            };
            let (name, model) = (format!("{vendor}-{fault}"), format!("{model}-{fault}"));
            Self { row, column, name, model }
        };
        let columns = move |row| (0..COLUMNS.len()).map(move |column| cell(row, column));
        ROWS.iter().chain(&STREAMED).flat_map(columns).collect()
    }

    /// An account that fails, a route on which a good one comes next, and a task that takes it.
    fn settings(&self, server: &str, nobody: &str) -> String {
        let (vendor, path, _) = COLUMNS[self.column];
        let base = match self.row.how {
            How::Scripted(_) | How::Streamed(_) => format!("{server}{path}"),
            How::Refused => format!("{nobody}{path}"),
            How::NoTls => format!("{}{path}", server.replace("http:", "https:")),
        };
        let timeout = if self.row.how == How::Scripted("hang") { "1s" } else { "30s" };
        let by_stream = if matches!(self.row.how, How::Streamed(_)) { BY_STREAM } else { "" };
        let Self { name, model, .. } = self;
        format!(
            r#"
[accounts."{name}"]
provider = "{vendor}"
base_url = "{base}"
api_key = "sk-none"
[routes."{name}"]
steps = ["{name}/{model}", "well/m"]
{by_stream}
[tasks."{name}"]
route = "{name}"
timeout = "{timeout}"
output_schema = {{ type = "object", required = ["tags"], additionalProperties = false, properties = {{ tags = {{ type = "array", items = {{ type = "string" }} }} }} }}
"#
        )
    }

    /// What its job is about; a stream is told where to break off.
    fn input(&self) -> String {
        match self.row.how {
            How::Streamed(fault) => {
                format!("The invoice of May. #scripted:{fault}@{} {MIDDLE}", self.model)
            }
            How::Scripted(_) | How::Refused | How::NoTls => "The invoice of May.".to_owned(),
        }
    }

    /// Runs a job in it: its result, and what is shut afterwards.
    async fn run(&self, spillway: &Spillway) -> (Value, Vec<Value>) {
        let result = spillway.run(&json!({ "task": self.name, "input": self.input() })).await;
        let (_, limits) = spillway.get("/v1/limits").await;
        let shut = limits["shut"].as_array().unwrap().iter();
        let mine = |gate: &&Value| {
            let name = gate["name"].as_str().unwrap();
            name.split('/').nth(1) == Some(self.name.as_str())
        };
        (result, shut.filter(mine).cloned().collect())
    }
}

/// What was done about the failing step, in words.
fn told(result: &Value, shut: &[Value], cell: &Cell) -> String {
    let attempts = result["attempts"].as_array().unwrap();
    let last = attempts.last().unwrap();
    let failed = attempts.iter().filter(|attempt| attempt["outcome"] != "answered").count();
    let first = &attempts[0];
    let status = first["status"].as_u64().map_or_else(|| "-".to_owned(), |s| s.to_string());
    let outcome = first["outcome"].as_str().unwrap();
    let then = if last["account"] == cell.name.as_str() { "repaired" } else { "next step" };
    let mut text = format!("{status} {outcome}: {then}");
    if failed > 1 {
        write!(text, " after {failed}").unwrap();
    }
    if outcome == "rejected" {
        text.push_str("; never again");
    }
    for gate in shut {
        let kind = match gate["name"].as_str().unwrap().split('/').next().unwrap() {
            "account" => "account off",
            "step" => "step off",
            _ => "limit held",
        };
        let seconds = gate["for_ms"].as_f64().unwrap() / 1e3;
        write!(text, "; {kind} {seconds:.0}s").unwrap();
    }
    text
}

/// What is not as it should be.
fn faults(result: &Value, shut: &[Value], cell: &Cell) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |holds: bool, what: String| {
        if !holds {
            faults.push(format!("{} {}: {what}", COLUMNS[cell.column].0, cell.row.title));
        }
    };
    hold(result["status"] == "succeeded", format!("{result:#}"));
    hold(result["data"]["tags"].is_array(), format!("no data in {result:#}"));
    let first = &result["attempts"][0];
    hold(first["account"] == cell.name.as_str(), format!("first asked was {first}"));
    let outcome = first["outcome"].as_str().unwrap_or_default();
    hold(cell.row.outcomes.contains(&outcome), format!("the first attempt is {first}"));
    let kinds: Vec<&str> =
        shut.iter().map(|gate| gate["name"].as_str().unwrap().split('/').next().unwrap()).collect();
    let ms = shut.first().map_or(0.0, |gate| gate["for_ms"].as_f64().unwrap());
    let as_it_should = match cell.row.gate {
        Gate::Open => kinds.is_empty(),
        Gate::Held => kinds == ["org"] && (20_000.0..31_000.0).contains(&ms),
        // It may be over by now; what was shut at all is counted elsewhere.
        Gate::Paused => kinds.iter().all(|kind| *kind == "org"),
        Gate::Account => kinds == ["account"] || kinds == ["step"],
    };
    hold(as_it_should, format!("shut are {shut:?}"));
    faults
}

/// How often a fault's provider is asked: each attempt on the receipt is one call.
fn calls(result: &Value, cell: &Cell) -> u64 {
    if matches!(cell.row.how, How::Refused | How::NoTls) {
        return 0;
    }
    let attempts = result["attempts"].as_array().unwrap().iter();
    attempts.filter(|attempt| attempt["account"] == cell.name.as_str()).count() as u64
}

fn server() -> ScriptedServer {
    let rule = |cell: Cell| match cell.row.how {
        How::Scripted(fault) => Some(json!({ "model": format!("*-{fault}"), "answer": fault })),
        How::Streamed(_) | How::Refused | How::NoTls => None,
    };
    let rules: Vec<Value> = Cell::all().into_iter().filter_map(rule).collect();
    ScriptedServer::start(&json!({ "latency": "1ms", "retry_after": "30s", "faults": rules }))
}

fn table(cells: &BTreeMap<(usize, usize), String>) -> String {
    let rows: Vec<&Row> = ROWS.iter().chain(&STREAMED).collect();
    let mut lines = vec![];
    let titles = COLUMNS.iter().map(|(name, ..)| (*name).to_owned());
    lines.push(std::iter::once(String::new()).chain(titles).collect::<Vec<_>>());
    for (index, row) in rows.iter().enumerate() {
        let texts = (0..COLUMNS.len()).map(|column| cells[&(index, column)].clone());
        lines.push(std::iter::once(row.title.to_owned()).chain(texts).collect());
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap();
    let widths: Vec<usize> = (0..=COLUMNS.len()).map(width).collect();
    let line = |line: &Vec<String>| {
        let padded = line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        padded.collect::<Vec<_>>().join(" | ")
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn one_healthy_step_answers_whatever_the_other_does() {
    let server = server();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let cells = Cell::all();
    let mut settings = "[accounts.well]\nprovider = \"scripted\"\n\
        scripted = { latency = \"1ms\" }\n[routes.cheap]\nsteps = [\"well/m\"]\n\
        [routes.premium]\nsteps = [\"well/m\"]\n"
        .to_owned();
    for cell in &cells {
        settings.push_str(&cell.settings(server.url(), &nobody));
    }
    let (spillway, _folder) = start(Store::Embedded, &settings);
    let spillway = &spillway;
    let done: Vec<_> = stream::iter(&cells)
        .map(|cell| async move { cell.run(spillway).await })
        .buffered(16)
        .collect()
        .await;
    let stats = server.stats().await;
    let metrics = spillway.request(Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let (mut texts, mut wrong) = (BTreeMap::new(), Vec::new());
    for (index, (cell, (result, shut))) in cells.iter().zip(&done).enumerate() {
        texts.insert((index / COLUMNS.len(), cell.column), told(result, shut, cell));
        wrong.extend(faults(result, shut, cell));
        let name = format!("{} {}", COLUMNS[cell.column].0, cell.row.title);
        let (seen, expected) = (stats["by_model"][&cell.model].as_u64(), calls(result, cell));
        if seen.unwrap_or_default() != expected || expected > 2 {
            wrong.push(format!("{name}: asked {seen:?} times, {expected} on the receipt"));
        }
        let held = metrics.contains(&format!("holds_total{{name=\"org/{}/", cell.name));
        if cell.row.gate == Gate::Paused && !held {
            wrong.push(format!("{name}: the limit was not held"));
        }
    }
    println!("\n{}\n", table(&texts));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
