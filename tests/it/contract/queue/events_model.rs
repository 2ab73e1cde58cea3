//! Any sequence of steps on ended jobs leaves their callbacks and events where a simple model has them,
//! and once all is done nothing of it.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::id::SubscriptionId;
use spillway::domain::job::{Flow, Job, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{
    Delivery, Ended, Ending, EventDelivery, LeaseToken, Replay, Replayed, Settled, Verdict,
};

use super::store::{IDS, Kind, LONG, Store, attempt, delivery, ending, job};
use crate::support::eventually;

/// A step. Numbers pick one of what there is, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Push,
    End { job: usize, callback: bool, events: usize },
    Lease { max: usize },
    Lose { lease: usize },
    Settle { lease: usize, how: How },
    Replay { job: usize, run: bool },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Back,
    Again,
    Taken,
    GivenUp,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![Just(How::Back), Just(How::Again), Just(How::Taken), Just(How::GivenUp)];
    let index = 0_usize..1000;
    prop_oneof![
        2 => Just(Step::Push),
        4 => (index.clone(), any::<bool>(), 0_usize..4)
            .prop_map(|(job, callback, events)| Step::End { job, callback, events }),
        5 => (1_usize..4).prop_map(|max| Step::Lease { max }),
        1 => index.clone().prop_map(|lease| Step::Lose { lease }),
        6 => (index.clone(), how).prop_map(|(lease, how)| Step::Settle { lease, how }),
        2 => (index, any::<bool>()).prop_map(|(job, run)| Step::Replay { job, run }),
    ]
}

/// What waits in the line of callbacks, or is held: a job's callback or one of its events.
#[derive(Clone, Debug)]
struct Waiting {
    id: String,
    of: usize,
    flow: Flow,
    is_held: bool,
    /// The lease that may still be settled, by its place in the list of all leases.
    lease: Option<usize>,
    tries: u32,
    losses: u32,
}

#[derive(Debug)]
struct Known {
    job: Job,
    stage: Stage,
    attempts: usize,
    of_events: usize,
}

struct Model {
    subscriptions: Vec<SubscriptionId>,
    jobs: Vec<Known>,
    line: Vec<Waiting>,
    leases: Vec<LeaseToken>,
}

impl Model {
    fn new() -> Self {
        let subscriptions = (0..3).map(|_| IDS.subscription(SystemClock.now())).collect();
        Self { subscriptions, jobs: Vec::new(), line: Vec::new(), leases: Vec::new() }
    }

    fn waits(&mut self, id: String, of: usize, flow: Flow) {
        let (is_held, lease, tries, losses) = (false, None, 0, 0);
        self.line.push(Waiting { id, of, flow, is_held, lease, tries, losses });
    }

    async fn take(&mut self, store: &Store, step: Step) {
        let (jobs, leases) = (self.jobs.len(), self.leases.len());
        match step {
            Step::Push => {
                let job = job();
                store.add(&job).await;
                self.jobs.push(Known { job, stage: Stage::Queued, attempts: 0, of_events: 0 });
            }
            Step::End { job, callback, events } if jobs > 0 => {
                self.end(store, job % jobs, callback, events).await;
            }
            Step::Lease { max } => self.lease(store, max).await,
            Step::Lose { lease } if leases > 0 => self.lose(store, lease % leases).await,
            Step::Settle { lease, how } if leases > 0 => {
                self.settle(store, lease % leases, how).await;
            }
            Step::Replay { job, run } if jobs > 0 => self.replay(store, job % jobs, run).await,
            _ => {}
        }
    }

    async fn end(&mut self, store: &Store, of: usize, callback: bool, events: usize) {
        let to = self.subscriptions.iter().take(events);
        let events: Vec<EventDelivery> = to
            .map(|subscription| EventDelivery {
                id: IDS.event(SystemClock.now()),
                subscription: subscription.clone(),
                delivery: Delivery {
                    flow: Flow::of(&[subscription.as_str()]),
                    after: Duration::ZERO,
                },
            })
            .collect();
        let known = &mut self.jobs[of];
        let plain = ending(&known.job, Status::Succeeded);
        let delivery = callback.then(delivery);
        let keep = Duration::from_millis(1);
        let ending = Ending { delivery: delivery.clone(), events: events.clone(), keep, ..plain };
        let ended = store.end(&known.job.id, ending).await.unwrap();
        if known.stage.has_ended() {
            // One that is done with may be purged by now.
            assert_ne!(ended, Ended::Now);
            return;
        }
        assert_eq!(ended, Ended::Now);
        known.stage = if callback { Stage::Delivering } else { Stage::Done };
        let id = known.job.id.to_string();
        if let Some(delivery) = delivery {
            self.waits(id, of, delivery.flow);
        }
        for event in events {
            self.waits(event.id.to_string(), of, event.delivery.flow);
        }
    }

    async fn lease(&mut self, store: &Store, max: usize) {
        let ready = self.line.iter().filter(|one| !one.is_held).count();
        let leases = store.lease(&Line::Deliver, max, LONG).await.unwrap();
        assert_eq!(leases.len(), ready.min(max));
        for lease in leases {
            let place = self.leases.len();
            let found = self.line.iter_mut().find(|one| one.id == lease.token.id);
            let one = found.expect("only what waits is handed out");
            assert!(!one.is_held, "{one:?}");
            assert_eq!((lease.tries, lease.losses), (one.tries, one.losses), "{one:?}");
            (one.is_held, one.lease) = (true, Some(place));
            self.leases.push(lease.token);
        }
    }

    async fn lose(&mut self, store: &Store, lease: usize) {
        let Some(one) = self.line.iter_mut().find(|one| one.is_held && one.lease == Some(lease))
        else {
            let lost = store.renew(&self.leases[lease..=lease], LONG).await.unwrap();
            assert_eq!(lost, self.leases[lease..=lease]);
            return;
        };
        store.lose(&self.leases[lease]).await;
        (one.is_held, one.losses) = (false, one.losses + 1);
    }

    async fn settle(&mut self, store: &Store, lease: usize, how: How) {
        let log = attempt(1);
        let verdict = match how {
            How::Back => Verdict::back(Duration::ZERO),
            How::Again => Verdict::Redeliver { after: Duration::ZERO, log },
            How::Taken => Verdict::Delivered { log },
            How::GivenUp => Verdict::Undeliverable { log },
        };
        let settled = store.settle(&self.leases[lease], verdict).await.unwrap();
        let Some(place) = self.line.iter().position(|one| one.lease == Some(lease)) else {
            assert_eq!(settled, Settled::Stale);
            return;
        };
        assert_eq!(settled, Settled::Done);
        let one = &mut self.line[place];
        (one.is_held, one.lease) = (false, None);
        let known = &mut self.jobs[one.of];
        let is_event = one.id.starts_with("evt_");
        match how {
            How::Back => return,
            How::Again => one.tries += 1,
            How::Taken if !is_event => known.stage = Stage::Done,
            How::GivenUp if !is_event => known.stage = Stage::Dead,
            How::Taken | How::GivenUp => {}
        }
        *if is_event { &mut known.of_events } else { &mut known.attempts } += 1;
        if !matches!(how, How::Again) {
            self.line.remove(place);
        }
    }

    async fn replay(&mut self, store: &Store, of: usize, run: bool) {
        let known = &mut self.jobs[of];
        let what = if run { Replay::Run } else { Replay::Post(delivery()) };
        let replayed = store.replay(&known.job.id, what).await.unwrap();
        if !known.stage.has_ended() {
            assert_eq!(replayed, Replayed::NotEnded);
            return;
        }
        let id = known.job.id.to_string();
        if replayed == Replayed::Unknown {
            assert!(!self.line.iter().any(|one| one.of == of), "it was purged too early");
            return;
        }
        assert_eq!(replayed, Replayed::Done);
        self.line.retain(|one| one.of != of || (!run && one.id != id));
        if run {
            (known.stage, known.attempts, known.of_events) = (Stage::Queued, 0, 0);
        } else {
            known.stage = Stage::Delivering;
            self.waits(id, of, delivery().flow);
        }
    }

    /// Compares all that can be seen. What is done with may be gone.
    async fn check(&self, store: &Store) {
        let mut dead = 0;
        store.sweep(1000).await.unwrap();
        for (of, known) in self.jobs.iter().enumerate() {
            let is_needed =
                !known.stage.has_ended() || self.line.iter().any(|waiting| waiting.of == of);
            let found = store.find(&known.job.id).await.unwrap();
            assert!(found.is_some() || !is_needed, "purged too early: {known:?}");
            let Some(record) = found else { continue };
            let seen = (record.stage, record.deliveries.len(), record.events.len());
            assert_eq!(seen, (known.stage, known.attempts, known.of_events), "{known:?}");
            dead += u64::from(is_needed && known.stage == Stage::Dead);
        }
        let count = |held: bool| self.line.iter().filter(|one| one.is_held == held).count() as u64;
        let depths = store.depths().await.unwrap();
        assert_eq!((depths.leased, depths.delayed), (count(true), 0));
        assert!(depths.dead >= dead, "events given up are not kept");
        assert_eq!(store.ready(&Line::Deliver).await, count(false));
        let ready = self.line.iter().filter(|one| !one.is_held);
        let flows: BTreeSet<_> = ready.map(|one| &one.flow).collect();
        let told = depths.flows.iter().find(|(line, _)| *line == Line::Deliver);
        assert_eq!(told.map_or(0, |(_, count)| *count), flows.len() as u64);
    }

    /// Ends and takes everything; then nothing is left.
    async fn drain(&mut self, store: &Store) {
        for of in 0..self.jobs.len() {
            if !self.jobs[of].stage.has_ended() {
                self.end(store, of, true, 3).await;
            }
        }
        while !self.line.is_empty() {
            self.lease(store, 3).await;
            for lease in 0..self.leases.len() {
                self.settle(store, lease, How::Taken).await;
            }
        }
        eventually("everything is purged", || async {
            store.sweep(1000).await.unwrap();
            let ids: Vec<_> = self.jobs.iter().map(|known| known.job.id.clone()).collect();
            store.find_all(&ids).await.unwrap().is_empty()
        })
        .await;
        let depths = store.depths().await.unwrap();
        assert_eq!((depths.leased, depths.open, depths.dead), (0, 0, 0));
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_steps_leaves_events_where_the_model_has_them(#[case] kind: Kind) {
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    let run = async |steps: Vec<Step>| {
        let (store, mut model) = (kind.open().await, Model::new());
        for step in steps {
            model.take(&store, step).await;
            model.check(&store).await;
        }
        model.drain(&store).await;
    };
    tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Handle::current();
        let outcome = TestRunner::new(config).run(&vec(step(), 1..60), |steps| {
            runtime.block_on(run(steps));
            Ok::<(), TestCaseError>(())
        });
        outcome.unwrap();
    });
}
