//! How many commands Redis gets for each job, from lease to settle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use spillway::keyspace::script;

use super::PART;
use super::monitor::{Command, Monitor, counted};
use crate::arrivals::count;
use crate::fair::calls_only;
use crate::report::Row;
use crate::stage::Stage;
use crate::work::Job;
use crate::{Bench, patience, progress};

/// Calls a second.
const RATE: u32 = 60;

/// The jobs of a run at most.
const JOBS: usize = 2_000;

/// The most commands for each job.
const COMMANDS: f64 = 4.0;

/// What accepts jobs.
const PUSH: &str = "queue push";

/// How long the replicas are listened to when nothing waits.
const IDLE: Duration = Duration::from_secs(5);

/// What Redis was told in some time.
struct Heard {
    commands: Vec<Command>,
    time: f64,
}

/// Measures and tells.
pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    progress(&format!("{PART}: commands for each job"))?;
    let (rate, jobs) = (bench.rate(RATE), usize::try_from(bench.arguments.jobs)?.min(JOBS));
    let (scripted, limits) = calls_only(rate);
    let mut stage = bench.stage(&scripted, &limits)?;
    // Scripts are loaded and connections made by the first jobs.
    let names = names(&mut stage, 100.min(jobs), rate).await?;
    let idle = listen(&mut stage, async |_| {
        tokio::time::sleep(IDLE).await;
        Ok(())
    })
    .await?;
    let busy = listen(&mut stage, async |stage| drain(stage, jobs, rate).await).await?;
    // What the replicas do anyhow (sweeping, counting) is no job's.
    let spared = busy.time / idle.time;
    let mut each: BTreeMap<String, f64> = BTreeMap::new();
    for (sign, heard) in [(1.0, &busy.commands), (-spared, &idle.commands)] {
        for (name, calls) in counted(heard) {
            *each.entry(called(&name, &names)).or_default() += sign * figure(calls) / count(jobs);
        }
    }
    // Accepting comes before the lease.
    each.remove(PUSH);
    let all: f64 = each.values().sum();
    let mut each: Vec<(String, f64)> = each.into_iter().collect();
    each.sort_by(|one, other| other.1.total_cmp(&one.1));
    each.retain(|(_, calls)| *calls >= 0.005);
    let row = |(name, calls): &(String, f64)| vec![name.clone(), format!("{calls:.2}")];
    let mut rows: Vec<Row> = each.iter().map(row).collect();
    rows.push(vec!["all".to_owned(), format!("{all:.2}")]);
    let report = &mut bench.report;
    report.figures(
        PART,
        json!({
            "what": "commands", "jobs": jobs, "rate": rate, "commands_per_job": all,
            "idle_per_s": count(idle.commands.len()) / idle.time,
            "by_command": each.into_iter().collect::<BTreeMap<_, _>>(),
        }),
    );
    let what = "commands for each job from lease to settle at most 4".to_owned();
    report.aim(PART, what, format!("{all:.2}"), all <= COMMANDS);
    let title = format!(
        "{PART}: commands from {} replicas for each of {jobs} jobs, beyond {:.0} a second when idle",
        bench.arguments.replicas,
        count(idle.commands.len()) / idle.time
    );
    bench.report.table(&title, &["command or script", "for each job"], &rows)
}

/// Lets so many jobs without callbacks run.
async fn drain(stage: &Stage, jobs: usize, rate: f64) -> Result<()> {
    let before = stage.stats().await?.admitted();
    let work: Vec<Job> =
        (0..jobs).map(|number| Job::small(format!("workflow-{}", number % 8))).collect();
    stage.submit_alone(&work).await?;
    let deadline = Instant::now() + patience(count(jobs) / rate);
    while stage.stats().await?.admitted() < before + jobs {
        ensure!(Instant::now() < deadline, "not all of {jobs} jobs were run");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The last call is answered after 55 ms at the most; its job is settled then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// What Redis is told meanwhile.
async fn listen(
    stage: &mut Stage,
    meanwhile: impl AsyncFnOnce(&Stage) -> Result<()>,
) -> Result<Heard> {
    let before = stage.redis().calls_of("evalsha")?.all;
    let monitor = Monitor::start(stage.redis(), 2)?;
    let begin = Instant::now();
    meanwhile(stage).await?;
    let time = begin.elapsed().as_secs_f64();
    let commands = monitor.heard(stage.redis())?;
    let after = stage.redis().calls_of("evalsha")?.all;
    // Redis' own count, taken a little before and after.
    let scripts: u64 = counted(&commands)
        .iter()
        .filter(|(name, _)| name.len() == 40)
        .map(|(_, calls)| calls)
        .sum();
    let own = after.saturating_sub(before);
    let near = figure(own.abs_diff(scripts)) <= figure(own).mul_add(0.01, 50.0);
    ensure!(near, "MONITOR told of {scripts} scripts, INFO of {own}");
    Ok(Heard { commands, time })
}

/// The scripts' names by their digests: replicas that find them gone load them anew.
async fn names(stage: &mut Stage, jobs: usize, rate: f64) -> Result<BTreeMap<String, String>> {
    let monitor = Monitor::start(stage.redis(), 3)?;
    stage.redis().forget_scripts()?;
    drain(stage, jobs, rate).await?;
    let named = |command: &Command| {
        let [name, what, source] = command.as_slice() else { return None };
        let loads = name.eq_ignore_ascii_case(b"SCRIPT") && what.eq_ignore_ascii_case(b"LOAD");
        let source = String::from_utf8(source.clone()).ok().filter(|_| loads)?;
        // What a script says of a wrong call begins with its name.
        let limiter = source.rsplit_once(": wrong arity'").map(|(says, _)| ("limiter", says));
        let queue = || source.rsplit_once(" argument").map(|(says, _)| ("queue", says));
        let (part, says) = limiter.or_else(queue)?;
        let name = says.rsplit_once('\'')?.1.split(':').next()?;
        Some((script(&source).get_hash().to_owned(), format!("{part} {name}")))
    };
    Ok(monitor.heard(stage.redis())?.iter().filter_map(named).collect())
}

/// A script by its name or the beginning of its digest, another command by its name.
fn called(name: &str, names: &BTreeMap<String, String>) -> String {
    match (names.get(name), name.get(..8)) {
        (Some(known), _) => known.clone(),
        (None, Some(digest)) if name.len() == 40 => format!("script {digest}"),
        (None, _) => name.to_ascii_uppercase(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
const fn figure(calls: u64) -> f64 {
    calls as f64
}
