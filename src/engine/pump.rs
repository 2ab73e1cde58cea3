//! Takes jobs out of a line in fair order, gets each its turn, and sends it on its way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Engine;
use super::cascade::walk;
use super::held::For;
use super::place::{Departure, Later, Placement};
use super::run::{Permit, Run};
use super::unanswered::nobody;
use super::work::Prepared;
use crate::domain::job::{Job, Lane, Line};
use crate::domain::result::{JobError, Status};
use crate::queue::{Item, Lease, QueueError, Verdict};
use crate::telemetry::metrics;

/// A job whose turn comes within this time is kept; one whose turn is farther away goes back into
/// its line.
const IN_HAND: Duration = Duration::from_secs(1);

/// Jobs put back one after another before the pump pauses: it looks past a job that must wait
/// for a step of its own, but does not churn through a line that must wait as a whole.
const LOOK_PAST: u32 = 8;

/// Jobs of a line that may wait aside at the same time.
const ASIDE: usize = 8;

/// How long a job may wait aside before it takes its place in the line again.
const LONGEST_ASIDE: Duration = Duration::from_secs(5);

/// How long a job waits that could be neither run nor ended.
const UNTAKEN: Duration = Duration::from_secs(1);

/// A turn that comes within this time is asked for at once: timers are no finer.
const SHORT_REST: Duration = Duration::from_millis(2);

/// The longest a pump sleeps without looking.
const IDLE: Duration = Duration::from_millis(500);

/// Starts a pump for each lane and route, and for lines in the store whose route is gone.
pub(super) fn start(engine: &Arc<Engine>) {
    let mut lines: BTreeSet<Line> = BTreeSet::new();
    for route in engine.catalog.routes() {
        for lane in Lane::ALL {
            lines.insert(Line::Run { lane, route: route.name.clone() });
        }
    }
    for line in lines.clone() {
        spawn(engine, line);
    }
    let engine = Arc::clone(engine);
    engine.lifecycle.clone().spawn(async move {
        while engine.lifecycle.sleep(Duration::from_secs(5)).await {
            for line in engine.load.lines() {
                if line != Line::Deliver && lines.insert(line.clone()) {
                    spawn(&engine, line);
                }
            }
        }
    });
}

fn spawn(engine: &Arc<Engine>, line: Line) {
    let aside = Arc::new(Semaphore::new(ASIDE));
    let alone = match &line {
        Line::Run { route, .. } => engine.catalog.route(route).is_some_and(|r| r.steps.len() == 1),
        Line::Deliver => false,
    };
    let (engine_of, rest_until) = (Arc::clone(engine), None);
    let pump = Pump { engine: engine_of, line, aside, put_back: 0, alone, rest_until };
    engine.lifecycle.spawn(pump.run());
}

struct Pump {
    engine: Arc<Engine>,
    line: Line,
    aside: Arc<Semaphore>,
    put_back: u32,
    /// Whether the route has one step only, so that its next turn is the line's.
    alone: bool,
    /// There is no turn before this moment, unless others leave theirs.
    rest_until: Option<Instant>,
}

/// How a step of the pump went.
enum Stepped {
    /// Look again at once.
    Moved,
    /// Nothing is in the line.
    Empty,
    /// It makes no sense to look again before this.
    Pause(Duration),
}

/// What became of trying to send a job on its way.
enum Tried {
    Go(Box<Departure>),
    Later(Later),
    /// No step can serve it: it has ended.
    Ended,
}

impl Pump {
    async fn run(mut self) {
        let mut hints = self.engine.queue.hints(&self.line);
        let mut failures = 0u32;
        while !self.engine.is_draining() {
            match self.step().await {
                Ok(Stepped::Moved) => failures = 0,
                Ok(Stepped::Pause(time)) => {
                    failures = 0;
                    self.engine.lifecycle.sleep(time).await;
                }
                Ok(Stepped::Empty) => {
                    failures = 0;
                    tokio::select! {
                        () = self.engine.lifecycle.draining() => {}
                        () = tokio::time::sleep(IDLE) => {}
                        changed = hints.changed() => if changed.is_err() {
                            self.engine.lifecycle.sleep(IDLE).await;
                        }
                    }
                }
                Err(fault) => {
                    failures += 1;
                    metrics::store_error("lease");
                    tracing::warn!(%fault, line = self.line.name(), "the pump pauses");
                    let pause = Duration::from_millis(100 << failures.min(4));
                    self.engine.lifecycle.sleep(pause.min(IDLE * 2)).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Stepped, QueueError> {
        let Line::Run { lane, .. } = self.line else {
            return Ok(Stepped::Empty);
        };
        if let Some(moment) = self.rest_until.take() {
            self.engine.lifecycle.sleep(moment.saturating_duration_since(Instant::now())).await;
        }
        let Some(permit) = self.engine.permit(lane).await else {
            return Ok(Stepped::Empty);
        };
        let leases = self.engine.queue.lease(&self.line, 1, self.engine.settings.lease.0).await?;
        let Some(lease) = leases.into_iter().next() else {
            return Ok(Stepped::Empty);
        };
        let Some(run) = self.engine.take_up(lease).await else {
            return Ok(Stepped::Moved);
        };
        Ok(self.depart(run, permit).await)
    }

    /// Sends a job on its way, or keeps it in hand while whoever comes next would have to wait as
    /// well. One that waits for something of its own does so aside.
    async fn depart(&mut self, mut run: Run, permit: Permit) -> Stepped {
        loop {
            match self.engine.send_on(&mut run).await {
                Tried::Go(departure) => {
                    self.put_back = 0;
                    if self.alone && !run.work.progress.escalated && departure.next > SHORT_REST {
                        self.rest_until = Some(Instant::now() + departure.next.min(IN_HAND));
                    }
                    let engine = Arc::clone(&self.engine);
                    self.engine.lifecycle.spawn(walk(engine, run, *departure, permit));
                    return Stepped::Moved;
                }
                Tried::Ended => return Stepped::Moved,
                Tried::Later(later) if later.for_all && later.wait <= IN_HAND => {
                    let rested = tokio::select! {
                        rested = self.engine.lifecycle.sleep(later.wait) => rested,
                        () = run.lost.cancelled() => false,
                    };
                    if !rested {
                        return self.give_back(&run, Duration::ZERO).await;
                    }
                }
                Tried::Later(later) => {
                    let place = Arc::clone(&self.aside).try_acquire_owned();
                    let Some(place) = place.ok().filter(|_| later.wait <= IN_HAND) else {
                        return self.give_back(&run, later.wait).await;
                    };
                    let engine = Arc::clone(&self.engine);
                    self.engine.lifecycle.spawn(async move {
                        stand_aside(engine, run, later).await;
                        drop(place);
                    });
                    return Stepped::Moved;
                }
            }
        }
    }

    async fn give_back(&mut self, run: &Run, wait: Duration) -> Stepped {
        self.engine.put_back(run, wait).await;
        self.engine.held.remove(&run.lease);
        self.put_back += 1;
        if self.put_back < LOOK_PAST || wait.is_zero() {
            return Stepped::Moved;
        }
        self.put_back = 0;
        Stepped::Pause(wait.min(IN_HAND))
    }
}

/// Waits beside the line for what a job needs, for a while; then the job goes back into it.
async fn stand_aside(engine: Arc<Engine>, mut run: Run, mut later: Later) {
    let until = Instant::now() + LONGEST_ASIDE;
    loop {
        let crowded = later.crowded;
        tokio::select! {
            () = run.lost.cancelled() => return engine.held.remove(&run.lease),
            () = engine.lifecycle.draining() => break,
            () = engine.freed.notified(), if crowded => {}
            () = tokio::time::sleep(later.wait) => {}
        }
        let Some(permit) = engine.permit(run.work.job.lane).await else {
            break;
        };
        match engine.send_on(&mut run).await {
            Tried::Go(departure) => return walk(engine, run, *departure, permit).await,
            Tried::Ended => return,
            Tried::Later(next) if next.wait <= IN_HAND && Instant::now() < until => later = next,
            Tried::Later(next) => {
                later = next;
                break;
            }
        }
    }
    engine.put_back(&run, later.wait).await;
    engine.held.remove(&run.lease);
}

impl Engine {
    /// Gets a job its turn, as far as its patience goes, or ends it when no step can serve it.
    async fn send_on(self: &Arc<Self>, run: &mut Run) -> Tried {
        let age = (self.clock.now() - run.work.job.created_at).to_std().unwrap_or_default();
        let patience = run.work.route.patience(run.work.job.lane).saturating_sub(age);
        let error = match self.place(&mut run.work, &mut Vec::new(), patience).await {
            Ok(Placement::Go(departure)) => return Tried::Go(departure),
            Ok(Placement::Later(later)) => return Tried::Later(later),
            Ok(Placement::Nowhere) => nobody(&run.work),
            Ok(Placement::TooDear(error)) => error,
            Ok(Placement::Spent(over)) => over.error(),
            Err(fault) => {
                metrics::store_error("turn");
                tracing::warn!(%fault, job.id = %run.work.job.id, "no turn could be asked for");
                let wait = self.settings.cooldown.0.max(IN_HAND + Duration::from_millis(1));
                return Tried::Later(Later { wait, for_all: false, crowded: false });
            }
        };
        self.finish_without(run, Status::Failed, error).await;
        self.held.remove(&run.lease);
        Tried::Ended
    }

    /// Makes a leased job ready to run, or ends it when it cannot be run.
    async fn take_up(&self, lease: Lease) -> Option<Run> {
        let lost = self.held.add(&lease.token, For::Run);
        let Item::Job(mut job, _) = lease.item else {
            // A group never waits in a line to be run.
            self.settle_surely(&lease.token, Verdict::back(UNTAKEN)).await;
            self.held.remove(&lease.token);
            return None;
        };
        let token = lease.token;
        if lease.replays > 0 {
            // Who replays a job wants it although its time has passed.
            job.deliver_by = job.deliver_by.filter(|by| *by > self.clock.now());
        }
        match self.prepare(&job) {
            Ok(prepared) => {
                let progress = lease
                    .progress
                    .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                    .unwrap_or_default();
                let mut work = self.work(job, prepared, progress);
                self.resume(&mut work);
                Some(Run { work, lease: token, lost })
            }
            Err((status, error)) => {
                if let Err(fault) = self.end(&job, status, error).await {
                    metrics::store_error("end");
                    tracing::warn!(%fault, job.id = %job.id, "a job could not be ended");
                    self.settle_surely(&token, Verdict::back(UNTAKEN)).await;
                }
                self.held.remove(&token);
                None
            }
        }
    }

    /// The job's task and prompt, or why it ends here.
    fn prepare(&self, job: &Job) -> Result<Prepared, (Status, JobError)> {
        if job.deliver_by.is_some_and(|by| by <= self.clock.now()) {
            return Err((Status::Expired, super::upkeep::expired()));
        }
        let failed = |code: &str, message: String, hint: &str| {
            let (code, hint) = (code.to_owned(), Some(hint.to_owned()));
            (Status::Failed, JobError { code, message, retryable: true, hint })
        };
        let Some(task) = self.catalog.task(&job.task) else {
            let message = format!("The task `{}` is not in the settings any more.", job.task);
            return Err(failed("unknown_task", message, "Declare it again and replay the job."));
        };
        let Some(route) = self.catalog.route(&job.route) else {
            let message = format!("The route `{}` is not in the settings any more.", job.route);
            return Err(failed("unknown_route", message, "Declare it again and replay the job."));
        };
        let prompt = serde_json::from_str(job.input.get())
            .map_err(|fault| fault.to_string())
            .and_then(|input| task.prompt(&input))
            .map_err(|fault| {
                let message = format!("No prompt can be made of the input: {fault}");
                failed("invalid_input", message, "Check the task's template against its input.")
            })?;
        Ok(Prepared { task: Arc::clone(task), route: Arc::clone(route), prompt })
    }
}
