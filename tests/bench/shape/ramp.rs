//! Point 5: from idle to full at a provider that refuses steep growth.

use anyhow::Result;
use serde_json::json;

use crate::arrivals::{count, reached, span};
use crate::work::{Axis, Job};
use crate::{Bench, patience, progress};

const PART: &str = "ramp";

/// Calls a second, once grown.
const RATE: u32 = 60;

/// How fast use may grow: doubled every ten seconds, from a tenth.
const RAMP: &str = "2x/10s";

/// Seconds after which the full rate is allowed: a tenth doubles 3.32 times.
const GROWN: f64 = 33.2;

/// Runs the part.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    progress(PART)?;
    let rate = bench.rate(RATE);
    // What the ramp lets through, and half a minute at full rate.
    let enough = rate.mul_add(30.0, rate * 0.9 * 10.0 / std::f64::consts::LN_2);
    let jobs = usize::try_from(bench.arguments.jobs)?;
    let jobs = (0..jobs).take_while(|number| count(*number) < enough).count();
    let requests = format!("{:.0}/min", rate * 60.0);
    let scripted = json!({ "requests": requests, "burst": "1s", "latency": "50ms", "ramp": RAMP });
    let limits = format!("requests = \"{requests}\"\nramp = \"{RAMP}\"\n");
    let stage = bench.stage(&scripted, &limits)?;
    let work: Vec<Job> =
        (0..jobs).map(|number| Job::small(format!("workflow-{}", number % 8))).collect();
    stage.submit(&work).await?;
    let expected = GROWN + count(jobs) / rate;
    let receiver = stage.receiver();
    receiver.until("every job", patience(expected), |seen| seen.count() >= jobs).await?;
    let stats = stage.stats().await?;
    let arrivals = stats.arrivals(Axis::Requests);
    let (refused, took) = (stats.rate_limited, span(&arrivals));
    let grown = reached(&arrivals, 2_000_000, rate * 0.9);
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "jobs": jobs, "rate": rate, "ramp": RAMP, "calls": stats.calls, "rate_limited": refused,
            "reached_90_percent_s": grown, "took_s": took,
        }),
    );
    report.aim(PART, "0 × 429".to_owned(), refused.to_string(), refused == 0);
    let head = ["ramp", "calls/s", "calls", "429", "90 % reached after s", "at the earliest s"];
    // From a tenth to nine tenths are 3.17 doublings.
    let earliest = 10.0 * 9.0_f64.log2();
    let row = vec![
        RAMP.to_owned(),
        format!("{rate:.0}"),
        stats.calls.to_string(),
        refused.to_string(),
        grown.map_or_else(|| "never".to_owned(), |at| format!("{at:.1}")),
        format!("{earliest:.1}"),
    ];
    report.table(&format!("{PART}: from idle to full"), &head, &[row])
}
