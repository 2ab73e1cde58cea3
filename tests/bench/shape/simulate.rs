//! Point 8: what `spillway simulate` predicts of the runs of `axes`.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::provider::Counting;
use crate::report::{Row, percent};
use crate::work::{Axis, Job, usual_output};
use crate::{Bench, axes, progress};

const PART: &str = "simulate";

/// By how much the drain time may be missed.
const MISSED: f64 = 0.05;

/// A run that has been measured.
pub(crate) struct Measured {
    pub(crate) axis: Axis,
    pub(crate) counting: Counting,
    /// The replicas' settings.
    pub(crate) settings: String,
    pub(crate) drain_s: f64,
    pub(crate) jobs: Vec<Job>,
}

/// What is read of the prediction.
#[derive(Deserialize)]
struct Predicted {
    drained_in_s: Option<f64>,
    rate_limited: u64,
    headline: String,
}

/// Runs the part, on the runs of `axes` when that was run before.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    if bench.measured.is_empty() {
        bench.arguments.counting = vec![Counting::Burst];
        axes::run(bench).await?;
    }
    let mut rows = Vec::new();
    for measured in std::mem::take(&mut bench.measured) {
        rows.push(tell(bench, &measured)?);
    }
    let head =
        ["binding axis", "provider counts", "drained in s", "predicted s", "missed by", "429"];
    bench.report.table(&format!("{PART}: predicted before, beside measured"), &head, &rows)
}

fn tell(bench: &mut Bench, measured: &Measured) -> Result<Row> {
    let (axis, counting) = (measured.axis.name(), measured.counting.name());
    progress(&format!("{PART}: {axis} binds, {counting}"))?;
    let predicted = predict(bench, measured)?;
    let drained = predicted.drained_in_s.context(predicted.headline)?;
    let missed = (drained - measured.drain_s) / measured.drain_s;
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "binding_axis": axis, "counting": counting, "drain_s": measured.drain_s,
            "predicted_s": drained, "missed_by": missed,
            "predicted_rate_limited": predicted.rate_limited,
        }),
    );
    let what = format!("{axis}, {counting}: drain time predicted within 5 %");
    report.aim(PART, what, percent(missed), missed.abs() <= MISSED);
    Ok(vec![
        axis.to_owned(),
        counting.to_owned(),
        format!("{:.1}", measured.drain_s),
        format!("{drained:.1}"),
        percent(missed),
        predicted.rate_limited.to_string(),
    ])
}

/// Lets `spillway simulate` predict the run: it knows the prompts' lengths and the answers' usual
/// one.
fn predict(bench: &Bench, measured: &Measured) -> Result<Predicted> {
    let mut arrivals = "at,task,workflow,input_tokens,output_tokens\n".to_owned();
    for Job { workflow, input_tokens, .. } in &measured.jobs {
        writeln!(arrivals, "09:00,work,{workflow},{input_tokens},{:.0}", usual_output())?;
    }
    let [settings, file] =
        ["simulate.toml", "arrivals.csv"].map(|name| bench.folder.path().join(name));
    std::fs::write(&settings, &measured.settings)?;
    std::fs::write(&file, arrivals)?;
    let output = Command::new(&bench.spillway)
        .arg("simulate")
        .arg("--config")
        .arg(settings)
        .arg("--arrivals")
        .arg(file)
        .args(["--latency", "150ms", "--latency-per-output-token", "0ms", "--jitter", "0.3"])
        .arg("--json")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "spillway simulate: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("what spillway simulate printed")
}
