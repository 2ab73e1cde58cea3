//! Point 1: varied jobs through several replicas against a provider that enforces limits on every
//! axis, each binding in turn.

use anyhow::Result;
use serde_json::json;

use crate::arrivals::{count, seconds, span, total};
use crate::provider::{self, Counting, Stats};
use crate::receiver::Done;
use crate::report::{Row, percent};
use crate::simulate::Measured;
use crate::stage::Stage;
use crate::work::{Axis, Job, Limits, usual_output, varied};
use crate::{Bench, patience, progress};

const PART: &str = "axes";

/// Calls a second the binding axis lets through: ten thousand jobs take 75 seconds.
pub(crate) const RATE: u32 = 133;

/// The workflows the jobs come from.
pub(crate) const WORKFLOWS: usize = 8;

/// The least used share of the binding axis.
const USED: f64 = 0.97;

/// One run.
struct Run {
    axis: Axis,
    counting: Counting,
    limits: Limits,
    stats: Stats,
    done: Vec<Done>,
}

/// Runs the part.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let mut rows = Vec::new();
    for counting in Bench::chosen(&bench.arguments.counting) {
        for axis in Bench::chosen(&bench.arguments.bind) {
            let (stage, jobs, limits) = prepare(bench, axis, counting)?;
            let run = drain(&stage, axis, counting, limits, &jobs).await?;
            rows.push(tell(bench, &run, jobs.len()));
            bench.measured.push(Measured {
                axis,
                counting,
                settings: stage.settings().to_owned(),
                drain_s: run.drain_time(),
                jobs,
            });
        }
    }
    let head = [
        "binding axis",
        "provider counts",
        "jobs",
        "calls",
        "429",
        "used",
        "of burst + rate",
        "drain s",
        "fullest window",
    ];
    let title = format!(
        "{PART}: {} jobs of {WORKFLOWS} workflows, all submitted at once, {} replicas",
        bench.arguments.jobs, bench.arguments.replicas
    );
    bench.report.table(&title, &head, &rows)?;
    let rate = bench.rate(RATE);
    let in_a_minute = rate * 60.0 > f64::from(bench.arguments.jobs);
    if in_a_minute && rows.iter().any(|row| row.contains(&Counting::Minute.name().to_owned())) {
        bench
            .report
            .line("The jobs are done in a minute, so no minute's limit was put to the test.")?;
    }
    Ok(())
}

/// Starts servers with limits of which this axis binds.
fn prepare(bench: &Bench, axis: Axis, counting: Counting) -> Result<(Stage, Vec<Job>, Limits)> {
    progress(&format!("{PART}: {} binds, {}", axis.name(), counting.name()))?;
    let jobs = varied(usize::try_from(bench.arguments.jobs)?, WORKFLOWS);
    let factor = bench.arguments.input_token_factor;
    let limits = Limits::binding(axis, &jobs, bench.rate(RATE), factor.unwrap_or(1.0));
    let scripted = provider::settings(limits, counting, factor);
    let stage = bench.stage(&scripted, &limits.toml())?;
    Ok((stage, jobs, limits))
}

/// Submits the jobs and waits until all have ended.
async fn drain(
    stage: &Stage,
    axis: Axis,
    counting: Counting,
    limits: Limits,
    jobs: &[Job],
) -> Result<Run> {
    let units = match axis {
        Axis::Requests => count(jobs.len()),
        Axis::InputTokens => jobs.iter().map(|job| count(job.input_tokens)).sum(),
        Axis::OutputTokens => count(jobs.len()) * usual_output(),
    };
    let patience = patience(units / limits.per_second(axis));
    stage.submit(jobs).await?;
    stage.receiver().until("every job", patience, |seen| seen.count() >= jobs.len()).await?;
    let stats = stage.stats().await?;
    Ok(Run { axis, counting, limits, stats, done: stage.receiver().done() })
}

impl Run {
    /// Units let through against what the rate alone lets through between the first arrival and
    /// the last, and against what rate and burst let through.
    fn used(&self) -> (f64, f64) {
        let arrivals = self.stats.arrivals(self.axis);
        let rate = self.limits.per_second(self.axis);
        let (units, time) = (total(&arrivals), span(&arrivals));
        let burst = match self.counting {
            Counting::Burst => rate,
            Counting::Minute => 0.0,
        };
        (units / (rate * time), units / rate.mul_add(time, burst))
    }

    /// How near any window of any axis came to its limit.
    fn fullest(&self) -> f64 {
        let each = Axis::ALL.into_iter().map(|axis| {
            self.counting.fullest(&self.stats.arrivals(axis), self.limits.per_second(axis))
        });
        each.fold(0.0, f64::max)
    }

    /// Seconds from the first accept to the last end.
    fn drain_time(&self) -> f64 {
        let first = self.done.iter().map(|done| done.created_at).min();
        let last = self.done.iter().map(|done| done.finished_at).max();
        first.zip(last).map_or(0.0, |(first, last)| seconds(last - first))
    }
}

fn tell(bench: &mut Bench, run: &Run, jobs: usize) -> Row {
    let name = format!("{}, {}", run.axis.name(), run.counting.name());
    let (used, of_allowed) = run.used();
    let (fullest, drain) = (run.fullest(), run.drain_time());
    let refused = run.stats.rate_limited;
    let succeeded = run.done.iter().filter(|done| done.ok).count();
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "binding_axis": run.axis.name(), "counting": run.counting.name(), "jobs": jobs,
            "succeeded": succeeded, "calls": run.stats.calls, "rate_limited": refused,
            "used": used, "used_of_burst_and_rate": of_allowed, "drain_s": drain,
            "fullest_window": fullest, "limits": run.limits.settings(),
        }),
    );
    let mut aim = |what: &str, found, met| report.aim(PART, format!("{name}: {what}"), found, met);
    aim("0 × 429", refused.to_string(), refused == 0);
    aim("used at least 97 %", percent(used), used >= USED);
    aim("no window over the limit", percent(fullest), fullest <= 1.0 + 1e-9);
    aim("every job succeeded", format!("{succeeded} of {jobs}"), succeeded == jobs);
    vec![
        run.axis.name().to_owned(),
        run.counting.name().to_owned(),
        jobs.to_string(),
        run.stats.calls.to_string(),
        refused.to_string(),
        percent(used),
        percent(of_allowed),
        format!("{drain:.1}"),
        percent(fullest),
    ]
}
