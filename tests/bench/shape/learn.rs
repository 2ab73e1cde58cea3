//! Point 2: limits configured 30 % too high, and another client that takes a third of the quota.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use crate::arrivals::{count, seconds};
use crate::axes::{RATE, WORKFLOWS};
use crate::other::{Other, Taken};
use crate::provider::{self, Counting, Stats};
use crate::report::{Row, percent};
use crate::stage::Stage;
use crate::work::{Axis, Job, Limits, varied};
use crate::{Bench, patience, progress};

const PART: &str = "learn";

/// So many times too high are the configured limits.
const TOO_HIGH: f64 = 1.3;

/// The other client's share of the quota.
const OTHERS: f64 = 1.0 / 3.0;

/// The most refused of our calls, and the least used of what is left.
const AIMS: (f64, f64) = (0.01, 0.90);

/// What the provider tells of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Telling {
    /// Nothing but 429.
    Nothing,
    /// How long to wait, and how it stands, as most do.
    Hints,
}

impl Telling {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Hints => "hints",
        }
    }
}

/// How things stood at a moment of the run.
struct Moment {
    stats: Stats,
    taken: Taken,
}

impl Moment {
    async fn now(stage: &Stage, other: &Other) -> Result<Self> {
        let taken = other.taken();
        Ok(Self { stats: stage.stats().await?, taken })
    }
}

/// One run.
struct Run {
    axis: Axis,
    telling: Telling,
    rate: f64,
    /// When the first minute was over, when the jobs were nearly done, at the end.
    moments: [Moment; 3],
    succeeded: usize,
}

/// Runs the part.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let mut rows = Vec::new();
    let jobs = varied(usize::try_from(bench.arguments.jobs)?, WORKFLOWS);
    for telling in Bench::chosen(&bench.arguments.telling) {
        for axis in Bench::chosen(&bench.arguments.bind) {
            let run = one(bench, axis, telling, &jobs).await?;
            rows.push(tell(bench, &run, jobs.len()));
        }
    }
    let title = format!(
        "{PART}: limits configured 30 % too high, another client sends a third of the true quota; \
         figures from second {} on",
        bench.arguments.learning
    );
    let head = [
        "binding axis",
        "told",
        "our calls",
        "429 of them",
        "429 %",
        "used of what is left",
        "429 before",
        "of the other's",
    ];
    bench.report.table(&title, &head, &rows)
}

async fn one(bench: &Bench, axis: Axis, telling: Telling, jobs: &[Job]) -> Result<Run> {
    progress(&format!("{PART}: {} binds, told {}", axis.name(), telling.name()))?;
    let calls = bench.rate(RATE);
    let learning = Duration::from_secs(bench.arguments.learning.into());
    let expected = count(jobs.len()) / (calls * (1.0 - OTHERS));
    ensure!(
        expected > learning.as_secs_f64() * 1.3,
        "{} jobs last {expected:.0} s, of which {learning:?} do not count: raise --jobs, or lower \
         --rate or --learning",
        jobs.len(),
    );
    let factor = bench.arguments.input_token_factor;
    let limits = Limits::binding(axis, jobs, calls, factor.unwrap_or(1.0));
    let mut scripted = provider::settings(limits, Counting::Burst, factor);
    if let (Telling::Nothing, Some(settings)) = (telling, scripted.as_object_mut()) {
        settings.insert("hints".to_owned(), false.into());
        settings.insert("headers".to_owned(), false.into());
    }
    let stage = bench.stage(&scripted, &limits.times(TOO_HIGH).toml())?;
    let other = Other::start(stage.provider().base(), calls * OTHERS)?;
    stage.submit(jobs).await?;
    tokio::time::sleep(learning).await;
    let learned = Moment::now(&stage, &other).await?;
    let receiver = stage.receiver();
    ensure!(receiver.count() < jobs.len(), "all jobs had ended when the figures were to begin");
    // As long as jobs wait: what the last ones leave unused says nothing.
    let nearly = jobs.len() * 97 / 100;
    receiver.until("nearly all jobs", patience(expected), |seen| seen.count() >= nearly).await?;
    let nearly = Moment::now(&stage, &other).await?;
    receiver.until("every job", patience(10.0), |seen| seen.count() >= jobs.len()).await?;
    let end = Moment::now(&stage, &other).await?;
    ensure!(!end.taken.failed, "a call of the other client was neither answered nor refused");
    let succeeded = receiver.done().iter().filter(|done| done.ok).count();
    let rate = limits.per_second(axis);
    Ok(Run { axis, telling, rate, moments: [learned, nearly, end], succeeded })
}

impl Run {
    /// Our calls and those refused, from the end of the first minute to the end.
    fn ours(&self) -> (u64, u64) {
        let [learned, _, end] = &self.moments;
        let calls = |moment: &Moment| moment.stats.calls.saturating_sub(moment.taken.sent);
        (calls(end).saturating_sub(calls(learned)), refused(end).saturating_sub(refused(learned)))
    }

    /// The used share of what the other client left, from the end of the first minute until the
    /// jobs were nearly done.
    fn used(&self) -> f64 {
        let [learned, nearly, _] = &self.moments;
        let ends = learned.stats.last_at.zip(nearly.stats.last_at);
        let time = ends.map_or(0.0, |(from, to)| seconds(to - from));
        let all = nearly.stats.units(self.axis) - learned.stats.units(self.axis);
        let others = nearly.taken.units(self.axis) - learned.taken.units(self.axis);
        (all - others) / self.rate.mul_add(time, -others)
    }
}

/// Our calls that were refused until then.
const fn refused(moment: &Moment) -> u64 {
    moment.stats.rate_limited.saturating_sub(moment.taken.refused)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn tell(bench: &mut Bench, run: &Run, jobs: usize) -> Row {
    let name = format!("{}, told {}", run.axis.name(), run.telling.name());
    let (calls, limited) = run.ours();
    let (share, used) = (limited as f64 / (calls as f64).max(1.0), run.used());
    let [learned, _, end] = &run.moments;
    let before = refused(learned);
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "binding_axis": run.axis.name(), "told": run.telling.name(), "jobs": jobs,
            "succeeded": run.succeeded, "calls_after": calls, "rate_limited_after": limited,
            "rate_limited_before": before, "rate_limited_share_after": share,
            "used_of_what_is_left": used, "other_sent": end.taken.sent,
            "other_rate_limited": end.taken.refused,
        }),
    );
    let mut aim = |what: &str, found, met| report.aim(PART, format!("{name}: {what}"), found, met);
    aim("under 1 % of our calls 429 after the first minute", percent(share), share < AIMS.0);
    aim("at least 90 % of what is left used", percent(used), used >= AIMS.1);
    let all = run.succeeded == jobs;
    aim("every job succeeded", format!("{} of {jobs}", run.succeeded), all);
    vec![
        run.axis.name().to_owned(),
        run.telling.name().to_owned(),
        calls.to_string(),
        limited.to_string(),
        percent(share),
        percent(used),
        before.to_string(),
        end.taken.refused.to_string(),
    ]
}
