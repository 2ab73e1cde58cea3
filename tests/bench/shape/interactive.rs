//! Point 4: interactive calls while background jobs wait on the same bucket.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::arrivals::{count, percentile};
use crate::fair::calls_only;
use crate::receiver::Receiver;
use crate::stage::Stage;
use crate::work::{Job, share};
use crate::{Bench, patience, progress};

const PART: &str = "interactive";

/// Calls a second.
const RATE: u32 = 20;

/// Interactive calls.
const CALLS: usize = 100;

/// Runs the part.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    progress(PART)?;
    let (rate, jobs) = (bench.rate(RATE), usize::try_from(bench.arguments.jobs)?);
    let (scripted, limits) = calls_only(rate);
    let stage = bench.stage(&scripted, &limits)?;
    let background: Vec<Job> =
        (0..jobs).map(|number| Job::small(format!("background-{}", number % 8))).collect();
    stage.submit(&background).await?;
    let receiver = stage.receiver();
    // The bucket's burst is used up by then.
    let begun = (rate * 2.0).min(count(jobs) / 4.0);
    receiver.until("the background", patience(5.0), |seen| count(seen.count()) >= begun).await?;
    ask(&stage, rate).await?;
    let waiting = jobs.saturating_sub(receiver.count() - CALLS);
    ensure!(waiting > 0, "no background job was left waiting: raise --jobs or lower --rate");
    let mut asked = receiver.done();
    asked.retain(|done| done.workflow == "asking");
    let refused = stage.stats().await?.rate_limited;
    let mut waits: Vec<f64> = asked.iter().map(|done| done.queued_ms).collect();
    let [p50, p99, most] =
        [50, 99, 100].map(|percent| percentile(&mut waits, percent).unwrap_or(f64::INFINITY));
    let allowed = 2_000.0 / rate;
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "background": jobs, "background_left": waiting, "calls": CALLS, "rate": rate,
            "p50_ms": p50, "p99_ms": p99, "most_ms": most, "two_departures_ms": allowed,
            "rate_limited": refused,
        }),
    );
    let met = p99 <= allowed && asked.iter().all(|done| done.ok);
    let what = format!("p99 of the wait at most two departures ({allowed:.0} ms)");
    report.aim(PART, what, format!("{p99:.0} ms"), met);
    report.aim(PART, "0 × 429".to_owned(), refused.to_string(), refused == 0);
    let head =
        ["calls/s", "background left", "p50 ms", "p99 ms", "most ms", "two departures", "429"];
    let row = vec![
        format!("{rate:.0}"),
        waiting.to_string(),
        format!("{p50:.0}"),
        format!("{p99:.0}"),
        format!("{most:.0}"),
        format!("{allowed:.0} ms"),
        refused.to_string(),
    ];
    let title = format!(
        "{PART}: {CALLS} calls at a quarter of the rate beside {jobs} background jobs; from accept \
         to the first call"
    );
    report.table(&title, &head, &[row])
}

/// Makes the interactive calls and waits for them.
async fn ask(stage: &Stage, rate: f64) -> Result<()> {
    let call = Job { lane: "interactive", ..Job::small("asking".to_owned()) };
    let apart = 4.0 / rate;
    let mut at = tokio::time::Instant::now();
    for number in 0..CALLS {
        tokio::time::sleep_until(at).await;
        stage.submit_one(number, &call).await?;
        // A quarter of the rate, but not in step with the bucket.
        at += Duration::from_secs_f64(apart * (0.5 + share(number)));
    }
    let all = |seen: &Receiver| seen.count_of("asking") >= CALLS;
    stage.receiver().until("the interactive calls", patience(5.0), all).await
}
