//! Any sequence of steps leaves a store where a simple model of it stands.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rstest::rstest;
use spillway::domain::job::{Job, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{Ended, LeaseToken, MOST_LOSSES, Replay, Replayed, Settled, Verdict};

use super::store::{
    Kind, LONG, Store, attempt, delivery, ending, ending_with_callback, job_of, line,
};

/// A step. Numbers pick one of what there is, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Push { flow: bool },
    Lease { deliver: bool, max: usize },
    Lose { lease: usize },
    Settle { lease: usize, how: How },
    End { job: usize, callback: bool },
    Replay { job: usize, run: bool },
}

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

fn step() -> impl Strategy<Value = Step> {
    let lease = 0_usize..1000;
    let job = 0_usize..1000;
    prop_oneof![
        4 => any::<bool>().prop_map(|flow| Step::Push { flow }),
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
}

impl Known {
    fn new(job: Job) -> Self {
        let (stage, place) = (Stage::Queued, Place::Ready);
        Self { job, stage, place, lease: None, losses: 0, tries: 0, replays: 0, attempts: 0 }
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
            Step::Push { flow } => {
                let job = job_of(if flow { "a" } else { "b" });
                store.add(&job).await;
                self.jobs.push(Known::new(job));
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
            }
            Step::Replay { job, run } if !self.jobs.is_empty() => {
                let index = job % self.jobs.len();
                replay(store, &mut self.jobs[index], run).await;
            }
            _ => {}
        }
    }

    async fn lease(&mut self, store: &Store, from: &Line, max: usize) {
        let ready = |known: &&Known| known.place == Place::Ready && known.line() == *from;
        let count = self.jobs.iter().filter(ready).count();
        let leases = store.lease(from, max, LONG).await.unwrap();
        assert_eq!(leases.len(), count.min(max));
        for lease in leases {
            let index = self.jobs.iter().position(|k| k.job.id.as_str() == lease.token.id).unwrap();
            let flow = self.jobs[index].job.workflow.clone();
            // All callbacks are one host's.
            let peer = |k: &&Known| *from == Line::Deliver || k.job.workflow == flow;
            let oldest = self.jobs.iter().filter(ready).find(peer).unwrap();
            assert_eq!(oldest.job.id.as_str(), lease.token.id, "the oldest of its flow");
            let known = &mut self.jobs[index];
            let told = (lease.losses, lease.tries, lease.replays);
            assert_eq!(told, (known.losses, known.tries, known.replays));
            if known.stage == Stage::Queued {
                known.stage = Stage::Running;
            }
            (known.place, known.lease) = (Place::Held, Some(self.leases.len()));
            self.leases.push((index, lease.token));
        }
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
        let expected = if known.lease == Some(lease) { known.settle(how) } else { Settled::Stale };
        assert_eq!(settled, expected);
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
        for name in [line(), Line::Deliver] {
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
            model.check(&store).await;
        }
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
