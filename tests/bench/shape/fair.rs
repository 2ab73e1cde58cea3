//! Point 3: a small workflow beside a large one, and many equal ones.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::arrivals::{count, jain, seconds};
use crate::report::Row;
use crate::work::Job;
use crate::{Bench, patience, progress};

const PART: &str = "fair";

/// Calls a second.
const RATE: u32 = 60;

/// The small workflow's jobs.
const SMALL: usize = 100;

/// Equal workflows.
const WORKFLOWS: usize = 50;

/// The most times longer, and the least index.
const AIMS: (f64, f64) = (2.2, 0.98);

/// Runs the part.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let rows = vec![beside_a_large_one(bench).await?, among_equals(bench).await?];
    let head = ["what", "jobs", "calls/s", "found", "aim"];
    bench.report.table(&format!("{PART}: a small workflow, and equal ones"), &head, &rows)
}

/// A provider that limits calls alone.
pub(crate) fn calls_only(rate: f64) -> (Value, String) {
    let requests = format!("{:.0}/min", rate * 60.0);
    let scripted = json!({ "requests": requests, "burst": "1s", "latency": "50ms" });
    (scripted, format!("requests = \"{requests}\"\n"))
}

/// A has queued its jobs and is being served when B comes with a hundred.
async fn beside_a_large_one(bench: &mut Bench) -> Result<Row> {
    progress(&format!("{PART}: a small workflow beside a large one"))?;
    let (rate, jobs) = (bench.rate(RATE), usize::try_from(bench.arguments.jobs)?);
    let (scripted, limits) = calls_only(rate);
    let stage = bench.stage(&scripted, &limits)?;
    let of = |workflow: &str, jobs| vec![Job::small(workflow.to_owned()); jobs];
    stage.submit(&of("a", jobs)).await?;
    let receiver = stage.receiver();
    receiver.until("the large workflow's first job", patience(1.0), |r| r.count() > 0).await?;
    stage.submit(&of("b", SMALL)).await?;
    let alone = count(SMALL) / (rate / 2.0);
    receiver
        .until("the small workflow", patience(alone * 3.0), |seen| seen.count_of("b") >= SMALL)
        .await?;
    let mut small = receiver.done();
    let large_done = small.iter().filter(|done| done.workflow == "a").count();
    small.retain(|done| done.workflow == "b");
    let first = small.iter().map(|done| done.created_at).min().context("no job of b")?;
    let last = small.iter().map(|done| done.finished_at).max().context("no job of b")?;
    let took = seconds(last - first);
    let times = took / alone;
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "what": "beside", "large": jobs, "small": SMALL, "rate": rate, "took_s": took,
            "alone_at_half_s": alone, "times": times, "large_done_by_then": large_done,
        }),
    );
    let met = times <= AIMS.0 && small.iter().all(|done| done.ok);
    let what = "B done within 2.2 times what it takes alone at half the rate".to_owned();
    report.aim(PART, what, format!("{times:.2}"), met);
    Ok(vec![
        format!("{SMALL} jobs behind {jobs} of another"),
        (jobs + SMALL).to_string(),
        format!("{rate:.0}"),
        format!("{took:.2} s = {times:.2} × {alone:.2} s"),
        "2.2 ×".to_owned(),
    ])
}

/// Fifty workflows, queued one after another, each whole: by age alone the first would get all.
async fn among_equals(bench: &mut Bench) -> Result<Row> {
    progress(&format!("{PART}: {WORKFLOWS} equal workflows"))?;
    let rate = bench.rate(RATE);
    let each = (usize::try_from(bench.arguments.jobs)? / 2 / WORKFLOWS).max(2);
    let (scripted, limits) = calls_only(rate);
    let stage = bench.stage(&scripted, &limits)?;
    let jobs: Vec<Job> = (0..WORKFLOWS * each)
        .map(|number| Job::small(format!("workflow-{:02}", number / each)))
        .collect();
    stage.submit(&jobs).await?;
    let half = jobs.len() / 2;
    let receiver = stage.receiver();
    let patience = patience(count(half) / rate);
    receiver.until("half of the jobs", patience, |seen| seen.count() >= half).await?;
    let mut done = receiver.done();
    done.sort_by_key(|done| done.finished_at);
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for done in done.into_iter().take(half) {
        *shares.entry(done.workflow).or_default() += 1;
    }
    let mut shares: Vec<f64> = shares.into_values().map(count).collect();
    shares.resize(WORKFLOWS, 0.0);
    let index = jain(&shares);
    let (least, most) =
        shares.iter().fold((f64::MAX, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "what": "equals", "workflows": WORKFLOWS, "jobs": jobs.len(), "rate": rate,
            "jain": index, "least": least, "most": most,
        }),
    );
    let what = format!("Jain's index over {WORKFLOWS} equal workflows at least 0.98");
    report.aim(PART, what, format!("{index:.4}"), index >= AIMS.1);
    Ok(vec![
        format!("{WORKFLOWS} equal workflows, at half"),
        jobs.len().to_string(),
        format!("{rate:.0}"),
        format!("Jain {index:.4}, {least:.0} to {most:.0} jobs each"),
        "0.98".to_owned(),
    ])
}
