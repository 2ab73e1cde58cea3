//! Any sequence of steps leaves a store where a simple model of it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::job::{CachedPrefix, Flow, Job, Line, Share, Stage};
use spillway::domain::result::Status;
use spillway::queue::{
    Ahead, Ended, LeaseToken, MOST_ALIKE, MOST_LOSSES, Pushed, Replay, Replayed, Settled, Verdict,
};

use super::store::{
    Kind, LONG, Store, attempt, delivery, ending, ending_with_callback, job_of, line, one,
};

/// A step. Numbers pick one of what there is, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Push { flow: usize, deadline: Deadline, prefix: usize },
    Lease { deliver: bool, max: usize },
    Lose { lease: usize },
    Settle { lease: usize, how: How },
    End { job: usize, callback: bool },
    Replay { job: usize, run: bool },
}

/// When a job is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    None,
    Near,
    Far,
}

/// The flows: an ordinary one, one with a weight that may run two at a time, one that may have three
/// open jobs and run one.
const SHARES: [(&str, Option<Share>); 3] = [
    ("a", None),
    ("b", Some(Share { weight: 2.0, max_queued: None, max_running: Some(2) })),
    ("c", Some(Share { weight: 0.5, max_queued: Some(3), max_running: Some(1) })),
];

/// What their prompts begin with.
const PREFIXES: [Option<&str>; 3] = [None, Some("x"), Some("y")];

/// How a lease ends.
#[derive(Clone, Copy, Debug)]
enum How {
    Finish { callback: bool },
    Back,
    Delivered,
    Redeliver,
    Undeliverable,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => any::<bool>().prop_map(|callback| How::Finish { callback }),
        2 => Just(How::Back),
        2 => Just(How::Delivered),
        2 => Just(How::Redeliver),
        1 => Just(How::Undeliverable),
    ]
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![3 => Just(Deadline::None), 2 => Just(Deadline::Near), 1 => Just(Deadline::Far)]
}

fn step() -> impl Strategy<Value = Step> {
    let lease = 0_usize..1000;
    let job = 0_usize..1000;
    prop_oneof![
        5 => (0_usize..3, deadline(), 0_usize..3)
            .prop_map(|(flow, deadline, prefix)| Step::Push { flow, deadline, prefix }),
        6 => (any::<bool>(), 1_usize..3).prop_map(|(deliver, max)| Step::Lease { deliver, max }),
        3 => lease.clone().prop_map(|lease| Step::Lose { lease }),
        6 => (lease, how()).prop_map(|(lease, how)| Step::Settle { lease, how }),
        1 => (job.clone(), any::<bool>()).prop_map(|(job, callback)| Step::End { job, callback }),
        2 => (job, any::<bool>()).prop_map(|(job, run)| Step::Replay { job, run }),
    ]
}

/// Where an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    Held,
    Lost,
    Nowhere,
}

/// A job as the model knows it.
#[derive(Debug)]
struct Known {
    job: Job,
    deadline: Deadline,
    stage: Stage,
    place: Place,
    /// The lease that may still be settled, by its place in the list of all leases.
    lease: Option<usize>,
    losses: u32,
    tries: u32,
    replays: u32,
    attempts: usize,
}

#[derive(Default)]
struct Model {
    jobs: Vec<Known>,
    /// Every lease there ever was: which job's, and its proof.
    leases: Vec<(usize, LeaseToken)>,
    /// Whether the job leased last was pulled forward.
    pulled: bool,
    /// By flow, the prefix that was answered last, and how many went before the oldest in a row.
    warm: BTreeMap<Flow, (CachedPrefix, u32)>,
}

impl Known {
    fn new(job: Job, deadline: Deadline) -> Self {
        let (stage, place, lease) = (Stage::Queued, Place::Ready, None);
        let (losses, tries, replays, attempts) = (0, 0, 0, 0);
        Self { job, deadline, stage, place, lease, losses, tries, replays, attempts }
    }

    fn is_ready_in(&self, line: &Line) -> bool {
        self.place == Place::Ready && self.line() == *line
    }

    fn is_near(&self) -> bool {
        self.deadline == Deadline::Near && self.is_ready_in(&line())
    }

    fn moves(&mut self, stage: Stage, place: Place) {
        (self.stage, self.place, self.lease) = (stage, place, None);
    }

    fn ends(&mut self, callback: bool) {
        (self.losses, self.tries) = (0, 0);
        if callback {
            self.moves(Stage::Delivering, Place::Ready);
        } else {
            self.moves(Stage::Done, Place::Nowhere);
        }
    }

    fn line(&self) -> Line {
        if self.stage == Stage::Delivering { Line::Deliver } else { line() }
    }

    /// What is to come of a settle under the right lease.
    fn settle(&mut self, how: How) -> Settled {
        let delivering = self.stage == Stage::Delivering;
        match how {
            How::Finish { callback } if !delivering => self.ends(callback),
            How::Back if delivering => self.moves(Stage::Delivering, Place::Ready),
            How::Back => self.moves(Stage::Queued, Place::Ready),
            How::Delivered if delivering => self.moves(Stage::Done, Place::Nowhere),
            How::Undeliverable if delivering => self.moves(Stage::Dead, Place::Nowhere),
            How::Redeliver if delivering => {
                self.tries += 1;
                self.moves(Stage::Delivering, Place::Ready);
            }
            _ => return Settled::Stale,
        }
        if !matches!(how, How::Back | How::Finish { .. }) {
            self.attempts += 1;
        }
        Settled::Done
    }
}

impl Model {
    async fn take(&mut self, store: &Store, step: Step) {
        match step {
            Step::Push { flow, deadline, prefix } => {
                self.push(store, (flow, prefix), deadline).await;
            }
            Step::Lease { deliver: true, max } => self.lease(store, &Line::Deliver, max).await,
            Step::Lease { deliver: false, max } => self.lease(store, &line(), max).await,
            Step::Lose { lease } if !self.leases.is_empty() => {
                self.lose(store, lease % self.leases.len()).await;
            }
            Step::Settle { lease, how } if !self.leases.is_empty() => {
                self.settle(store, lease % self.leases.len(), how).await;
            }
            Step::End { job, callback } if !self.jobs.is_empty() => {
                let index = job % self.jobs.len();
                end(store, &mut self.jobs[index], callback).await;
                self.forget_what_ended();
            }
            Step::Replay { job, run } if !self.jobs.is_empty() => {
                let index = job % self.jobs.len();
                replay(store, &mut self.jobs[index], run).await;
            }
            _ => {}
        }
    }

    async fn push(&mut self, store: &Store, (flow, prefix): (usize, usize), deadline: Deadline) {
        let (workflow, share) = SHARES[flow];
        // Later ones are wanted later, and all of them only after the test.
        let by = |minutes: i64| {
            let more = i64::try_from(self.jobs.len()).unwrap();
            Some(SystemClock.now() + chrono::Duration::seconds(60 * minutes + more))
        };
        let deliver_by = match deadline {
            Deadline::None => None,
            Deadline::Near => by(1),
            Deadline::Far => by(30),
        };
        let prefix = PREFIXES[prefix].map(|prefix| CachedPrefix::of(&[prefix], LONG));
        let job = Job { share, deliver_by, prefix, ..job_of(workflow) };
        let of_flow = |known: &&Known| known.job.flow() == job.flow();
        let count = |holds: &dyn Fn(&&Known) -> bool| -> u64 {
            self.jobs.iter().filter(holds).count().try_into().unwrap()
        };
        let open = count(&|known| of_flow(known) && !known.stage.has_ended());
        let expected = match share.and_then(|share| share.max_queued) {
            Some(most) if open >= most => {
                Pushed::WorkflowFull { workflow: job.workflow.clone(), open, most }
            }
            _ => Pushed::Stored {
                ahead: Ahead {
                    line: count(&|known| known.is_ready_in(&line())),
                    own: count(&|known| of_flow(known) && known.is_ready_in(&line())),
                    flows: self.flows(&line(), Some(&job)),
                },
                durability: store.durability(),
            },
        };
        assert_eq!(store.push(one(&job)).await.unwrap(), expected);
        if matches!(expected, Pushed::Stored { .. }) {
            self.jobs.push(Known::new(job, deadline));
        }
    }

    /// How many flows have something ready in a line, with this job's.
    fn flows(&self, line: &Line, with: Option<&Job>) -> u64 {
        let ready = self.jobs.iter().filter(|known| known.is_ready_in(line));
        // All callbacks are one host's.
        let flow = |job: &Job| if *line == Line::Deliver { delivery().flow } else { job.flow() };
        let flows: BTreeSet<_> = ready.map(|known| &known.job).chain(with).map(flow).collect();
        flows.len().try_into().unwrap()
    }

    /// How many more of a job's flow may run.
    fn room(&self, job: &Job) -> usize {
        let of_flow = |known: &&Known| known.job.flow() == job.flow();
        let runs = |known: &&Known| known.stage == Stage::Running && known.place == Place::Held;
        let running = self.jobs.iter().filter(of_flow).filter(runs).count();
        let most = job.share.and_then(|share| share.max_running).unwrap_or(u64::MAX);
        usize::try_from(most).unwrap() - running
    }

    /// How many items of a line can be handed out now.
    fn can_be_leased(&self, from: &Line) -> usize {
        let ready: Vec<&Known> = self.jobs.iter().filter(|k| k.is_ready_in(from)).collect();
        if *from == Line::Deliver {
            return ready.len();
        }
        let mut by_flow: BTreeMap<Flow, Vec<&Job>> = BTreeMap::new();
        for known in ready {
            by_flow.entry(known.job.flow()).or_default().push(&known.job);
        }
        by_flow.values().map(|jobs| jobs.len().min(self.room(jobs[0]))).sum()
    }

    async fn lease(&mut self, store: &Store, from: &Line, max: usize) {
        let count = self.can_be_leased(from);
        let leases = store.lease(from, max, LONG).await.unwrap();
        assert_eq!(leases.len(), count.min(max));
        for lease in leases {
            let expected = self.expected(from, &lease.token.id);
            let index = self.jobs.iter().position(|k| k.job.id.as_str() == lease.token.id).unwrap();
            assert_eq!(expected, index, "{:#?}", self.jobs);
            let known = &mut self.jobs[index];
            let told = (lease.losses, lease.tries, lease.replays);
            assert_eq!(told, (known.losses, known.tries, known.replays));
            if known.stage == Stage::Queued {
                known.stage = Stage::Running;
            }
            (known.place, known.lease) = (Place::Held, Some(self.leases.len()));
            self.leases.push((index, lease.token));
            self.no_pull_outlasts_its_line();
        }
    }

    /// Which job is to be leased: the one whose near deadline is the earliest, unless the one
    /// before was such a one; else the oldest of its flow, those with its warm prefix first.
    fn expected(&mut self, from: &Line, chosen: &str) -> usize {
        let ready = |known: &&(usize, &Known)| known.1.is_ready_in(from);
        let chosen = self.jobs.iter().find(|known| known.job.id.as_str() == chosen).unwrap();
        let all: Vec<(usize, &Known)> = self.jobs.iter().enumerate().collect();
        if *from == Line::Deliver {
            return all.iter().find(ready).unwrap().0;
        }
        assert!(self.room(&chosen.job) > 0, "its flow runs all it may");
        let near = all.iter().filter(|known| known.1.is_near() && self.room(&known.1.job) > 0);
        let earliest = near.min_by_key(|known| known.1.job.deliver_by).filter(|_| !self.pulled);
        let peer = |known: &&(usize, &Known)| known.1.job.flow() == chosen.job.flow();
        let oldest = all.iter().filter(ready).find(peer);
        let warm = self.warm.get(&chosen.job.flow()).filter(|warm| warm.1 < MOST_ALIKE);
        let mut ready = all.iter().filter(ready).filter(peer);
        let alike = warm.and_then(|warm| ready.find(|k| k.1.job.prefix.as_ref() == Some(&warm.0)));
        let index = earliest.or(alike).or(oldest).unwrap().0;
        self.pulled = earliest.is_some();
        let goes_before = alike.is_some() && alike.map(|k| k.0) != oldest.map(|k| k.0);
        let flow = self.jobs[index].job.flow();
        if let Some(warm) = self.warm.get_mut(&flow).filter(|_| !self.pulled) {
            warm.1 = if goes_before { warm.1 + 1 } else { 0 };
        }
        index
    }

    fn forget_what_ended(&mut self) {
        let open = self.jobs.iter().filter(|known| !known.stage.has_ended());
        let open: BTreeSet<Flow> = open.map(|known| known.job.flow()).collect();
        self.warm.retain(|flow, _| open.contains(flow));
    }

    /// An empty line begins anew.
    fn no_pull_outlasts_its_line(&mut self) {
        if !self.jobs.iter().any(|known| known.is_ready_in(&line())) {
            self.pulled = false;
        }
    }

    /// Ends everything: whoever is passed over now comes later.
    async fn drain(&mut self, store: &Store) {
        for lease in 0..self.leases.len() {
            self.settle(store, lease, How::Finish { callback: false }).await;
        }
        while self.can_be_leased(&line()) > 0 {
            let first = self.leases.len();
            self.lease(store, &line(), 3).await;
            for lease in first..self.leases.len() {
                self.settle(store, lease, How::Finish { callback: false }).await;
            }
            self.check(store).await;
        }
        assert!(!self.jobs.iter().any(|known| known.is_ready_in(&line())), "some were forgotten");
    }

    async fn lose(&mut self, store: &Store, lease: usize) {
        let (index, token) = self.leases[lease].clone();
        let known = &mut self.jobs[index];
        if known.lease != Some(lease) || known.place != Place::Held {
            let lost = store.renew(std::slice::from_ref(&token), LONG).await.unwrap();
            assert_eq!(lost, [token]);
            return;
        }
        // Not `Store::lose`: other jobs lost too often are told by the same sweeps.
        store.renew(std::slice::from_ref(&token), Duration::from_millis(1)).await.unwrap();
        crate::support::eventually("the lease runs out", || async {
            store.sweep(100).await.unwrap();
            !store
                .renew(std::slice::from_ref(&token), Duration::from_millis(1))
                .await
                .unwrap()
                .is_empty()
        })
        .await;
        known.losses += 1;
        known.place = Place::Ready;
        if known.stage == Stage::Running {
            known.stage = Stage::Queued;
            if known.losses >= MOST_LOSSES {
                known.place = Place::Lost;
            }
        }
    }

    async fn settle(&mut self, store: &Store, lease: usize, how: How) {
        let (index, token) = self.leases[lease].clone();
        let known = &mut self.jobs[index];
        let log = attempt(1);
        let verdict = match how {
            How::Finish { callback: true } => Verdict::Finish(ending_with_callback(&known.job)),
            How::Finish { callback: false } => {
                Verdict::Finish(ending(&known.job, Status::Succeeded))
            }
            How::Back => Verdict::Back { after: Duration::ZERO, progress: None },
            How::Delivered => Verdict::Delivered { log },
            How::Redeliver => Verdict::Redeliver { after: Duration::ZERO, log },
            How::Undeliverable => Verdict::Undeliverable { log },
        };
        let settled = store.settle(&token, verdict).await.unwrap();
        let runs = known.stage != Stage::Delivering && known.lease == Some(lease);
        if let (How::Finish { .. }, Some(prefix), true) = (how, &known.job.prefix, runs) {
            let warm = self.warm.entry(known.job.flow()).or_insert_with(|| (prefix.clone(), 0));
            warm.0 = prefix.clone();
        }
        let expected = if known.lease == Some(lease) { known.settle(how) } else { Settled::Stale };
        assert_eq!(settled, expected);
        self.forget_what_ended();
    }

    /// Compares all that can be seen.
    async fn check(&self, store: &Store) {
        for known in &self.jobs {
            let record = store.record(&known.job.id).await;
            let seen = (record.stage, record.result.is_some(), record.deliveries.len());
            let expected = (known.stage, known.stage.has_ended(), known.attempts);
            assert_eq!(seen, expected, "{known:?}");
        }
        let count = |holds: &dyn Fn(&Known) -> bool| -> u64 {
            self.jobs.iter().filter(|known| holds(known)).count().try_into().unwrap()
        };
        let depths = store.depths().await.unwrap();
        assert_eq!(depths.leased, count(&|known| known.place == Place::Held));
        assert_eq!(depths.dead, count(&|known| known.stage == Stage::Dead));
        assert_eq!(depths.open, count(&|known| !known.stage.has_ended()));
        assert_eq!(depths.delayed, 0);
        let soon = SystemClock.now() + chrono::Duration::minutes(10);
        let near = count(&Known::is_near);
        assert_eq!(store.due_before(&line(), soon).await.unwrap(), near);
        for name in [line(), Line::Deliver] {
            let flows = depths.flows.iter().filter(|(line, _)| *line == name);
            assert_eq!(flows.map(|(_, count)| count).sum::<u64>(), self.flows(&name, None));
            let ready = count(&|known| known.place == Place::Ready && known.line() == name);
            assert_eq!(store.ready(&name).await, ready, "{name:?}");
        }
        let swept = store.sweep(1000).await.unwrap();
        let lost = count(&|known| known.place == Place::Lost);
        assert_eq!((swept.lost.len() as u64, swept.freed, swept.due), (lost, 0, 0));
    }
}

async fn end(store: &Store, known: &mut Known, callback: bool) {
    let ending = if callback {
        ending_with_callback(&known.job)
    } else {
        ending(&known.job, Status::Cancelled)
    };
    let ended = store.end(&known.job.id, ending).await.unwrap();
    if known.stage.has_ended() {
        assert_eq!(ended, Ended::Before);
    } else {
        assert_eq!(ended, Ended::Now);
        known.ends(callback);
    }
}

async fn replay(store: &Store, known: &mut Known, run: bool) {
    let what = if run { Replay::Run } else { Replay::Post(delivery()) };
    let replayed = store.replay(&known.job.id, what).await.unwrap();
    if !known.stage.has_ended() {
        assert_eq!(replayed, Replayed::NotEnded);
        return;
    }
    assert_eq!(replayed, Replayed::Done);
    (known.losses, known.tries) = (0, 0);
    if run {
        (known.replays, known.attempts) = (known.replays + 1, 0);
        known.moves(Stage::Queued, Place::Ready);
    } else {
        known.moves(Stage::Delivering, Place::Ready);
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_steps_ends_where_the_model_does(#[case] kind: Kind) {
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let run = async |steps: Vec<Step>| {
        let (store, mut model) = (kind.open().await, Model::default());
        for step in steps {
            model.take(&store, step).await;
            model.no_pull_outlasts_its_line();
            model.check(&store).await;
        }
        model.drain(&store).await;
    };
    tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Handle::current();
        let outcome = TestRunner::new(config).run(&vec(step(), 1..50), |steps| {
            runtime.block_on(run(steps));
            Ok::<(), TestCaseError>(())
        });
        outcome.unwrap();
    });
}
