//! What every budget promises, by a clock that stands still until a test turns it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use rstest::rstest;
use spillway::budget::local::LocalBudget;
use spillway::budget::redis::RedisBudget;
use spillway::budget::{Ask, Hold, Reserved, SharedBudget, Standing};
use spillway::clock::ManualClock;
use spillway::domain::allowance::{Money, Period};
use spillway::keyspace::Keyspace;
use tempfile::TempDir;

use crate::support::cluster::ClusterServers;
use crate::support::redis::RedisServer;

#[derive(Clone, Copy)]
enum Kind {
    Memory,
    File,
    Redis,
    Cluster,
}

/// A budget and the clock it goes by.
struct Bench {
    budget: SharedBudget,
    clock: Arc<ManualClock>,
    keyspace: Option<Keyspace>,
    folder: TempDir,
}

/// Ten minutes before a month ends.
fn late_in_november() -> DateTime<Utc> {
    "2026-11-30T23:50:00Z".parse().unwrap()
}

impl Bench {
    async fn new(kind: Kind) -> Self {
        let clock = Arc::new(ManualClock::at(late_in_november()));
        let folder = tempfile::tempdir().unwrap();
        let keyspace = match kind {
            Kind::Memory | Kind::File => None,
            Kind::Redis => Some(RedisServer::shared().keyspace().await),
            Kind::Cluster => Some(ClusterServers::shared().keyspace().await),
        };
        let budget: SharedBudget = match (kind, &keyspace) {
            (_, Some(keyspace)) => Arc::new(RedisBudget::new(keyspace.clone(), clock.clone())),
            (Kind::File, _) => Arc::new(LocalBudget::open(folder.path(), clock.clone()).unwrap()),
            _ => Arc::new(LocalBudget::in_memory(clock.clone())),
        };
        Self { budget, clock, keyspace, folder }
    }

    /// The same budget as another replica sees it.
    fn replica(&self) -> SharedBudget {
        match &self.keyspace {
            None => self.budget.clone(),
            Some(keyspace) => Arc::new(RedisBudget::new(keyspace.clone(), self.clock.clone())),
        }
    }

    async fn reserve(&self, ask: &Ask) -> Option<Hold> {
        match self.budget.reserve(ask).await.unwrap() {
            Reserved::Granted(hold, _) => Some(hold),
            Reserved::Refused(..) => None,
        }
    }

    async fn settle(&self, hold: &Hold, spent: f64) {
        self.budget.settle(hold, Some(usd(spent))).await.unwrap();
    }

    async fn standing(&self) -> Standing {
        self.budget.standing("ann").await.unwrap()
    }

    /// Spent and held of the day, spent of the month.
    async fn stands(&self) -> (f64, f64, f64) {
        let standing = self.standing().await;
        (standing.day.spent.usd(), standing.day.held.usd(), standing.month.spent.usd())
    }
}

fn usd(dollars: f64) -> Money {
    Money::from_usd(dollars)
}

/// Asks for so much of a dollar a day.
fn ask(id: &str, cost: f64) -> Ask {
    Ask {
        id: id.to_owned(),
        caller: "ann".to_owned(),
        cost: usd(cost),
        day: Some(usd(1.0)),
        month: None,
        term: Duration::from_secs(60),
    }
}

#[rstest]
#[case::memory(Kind::Memory)]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn what_is_reserved_and_spent_counts_once(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    let first = bench.reserve(&ask("1", 0.6)).await.unwrap();
    assert_eq!(bench.stands().await, (0.0, 0.6, 0.0));
    assert_eq!(bench.reserve(&ask("2", 0.5)).await, None, "more than is left");
    let second = bench.reserve(&ask("3", 0.4)).await.unwrap();
    bench.settle(&first, 0.1).await;
    assert_eq!(bench.stands().await, (0.1, 0.4, 0.1));
    bench.settle(&first, 0.1).await;
    assert_eq!(bench.stands().await, (0.1, 0.4, 0.1), "only the first settling counts");
    bench.budget.settle(&second, None).await.unwrap();
    assert_eq!(bench.stands().await, (0.5, 0.0, 0.5), "as reserved when nobody knows");
    let dear = bench.reserve(&ask("4", 0.2)).await.unwrap();
    bench.settle(&dear, 0.7).await;
    assert_eq!(bench.stands().await, (1.2, 0.0, 1.2), "more than reserved is told as it is");
    assert_eq!(bench.reserve(&ask("5", 0.0)).await, None, "nothing is left");
    let other = Ask { caller: "bob".to_owned(), ..ask("6", 1.0) };
    assert!(bench.reserve(&other).await.is_some(), "others have their own");
    let free = Ask { day: None, ..ask("7", 0.0) };
    let free = bench.reserve(&free).await.unwrap();
    bench.settle(&free, 0.0).await;
    assert_eq!(bench.stands().await, (1.2, 0.0, 1.2), "what costs nothing changes nothing");
}

#[rstest]
#[case::memory(Kind::Memory)]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_on_all_replicas_never_overspend(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    let most = usd(1.0);
    let caller = |number: u64| {
        let (mine, clock) = (bench.replica(), bench.budget.clone());
        async move {
            let mut paid = 0u64;
            for round in 0..8 {
                let reserved =
                    mine.reserve(&ask(&format!("{number}/{round}"), 0.03)).await.unwrap();
                let (Reserved::Granted(_, standing) | Reserved::Refused(_, standing)) = &reserved;
                assert!(standing.day.used() <= most, "{standing:?}");
                if let Reserved::Granted(hold, _) = reserved {
                    tokio::task::yield_now().await;
                    clock.settle(&hold, Some(usd(0.007))).await.unwrap();
                    paid += 1;
                }
            }
            paid
        }
    };
    let calls: u64 = join_all((0..64).map(caller)).await.into_iter().sum();
    let standing = bench.standing().await;
    assert_eq!(standing.day.held, Money(0));
    assert_eq!(standing.day.spent, Money(usd(0.007).0 * calls));
    assert!(standing.day.spent <= most && calls >= 64, "{calls} calls, {standing:?}");
    println!("64 callers at once: {calls} calls paid {} of 1 USD", standing.day.spent.usd());
}

#[rstest]
#[case::memory(Kind::Memory)]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn what_a_vanished_holder_reserved_comes_free_and_still_counts_if_it_was_spent(
    #[case] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let lost = bench.reserve(&ask("1", 0.9)).await.unwrap();
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(bench.reserve(&ask("2", 0.5)).await, None);
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(bench.stands().await, (0.0, 0.0, 0.0));
    let next = bench.reserve(&ask("3", 0.5)).await.unwrap();
    bench.settle(&lost, 0.2).await;
    assert_eq!(bench.stands().await, (0.2, 0.5, 0.2), "it came back after all");
    bench.settle(&lost, 0.2).await;
    bench.settle(&next, 0.3).await;
    assert_eq!(bench.stands().await, (0.5, 0.0, 0.5));
}

#[rstest]
#[case::memory(Kind::Memory)]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn a_day_and_a_month_end_at_midnight_and_calls_count_where_they_began(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    let monthly = |id: &str| Ask { day: None, month: Some(usd(1.0)), ..ask(id, 0.8) };
    let before = bench.reserve(&monthly("1")).await.unwrap();
    assert_eq!(
        bench.standing().await.day.resets_at,
        "2026-12-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap()
    );
    let refused = bench.budget.reserve(&monthly("2")).await.unwrap();
    assert!(matches!(refused, Reserved::Refused(Period::Month, _)), "{refused:?}");
    bench.clock.advance(Duration::from_secs(600));
    assert_eq!(bench.stands().await, (0.0, 0.0, 0.0));
    let after = bench.reserve(&monthly("3")).await.unwrap();
    bench.settle(&before, 0.7).await;
    assert_eq!(bench.stands().await, (0.0, 0.8, 0.0), "it belongs to the day before");
    bench.settle(&after, 0.3).await;
    assert_eq!(bench.stands().await, (0.3, 0.0, 0.3));
    bench.clock.advance(Duration::from_secs(86_400));
    assert_eq!(bench.stands().await, (0.0, 0.0, 0.3), "the month goes on");
}

#[rstest]
#[case::memory(Kind::Memory)]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn calls_are_counted_all_or_none(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    let budget = &bench.budget;
    let count = |calls| async move {
        let counted = budget.count("ann", calls, Some(10)).await.unwrap();
        (counted.granted, counted.standing.calls)
    };
    assert_eq!(count(7).await, (true, 7));
    assert_eq!(count(4).await, (false, 7));
    assert_eq!(count(3).await, (true, 10));
}

#[rstest]
#[case::memory(Kind::Memory)]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test(flavor = "multi_thread")]
async fn counted_calls_come_back_and_parallel_ones_are_never_too_many(#[case] kind: Kind) {
    let bench = Bench::new(kind).await;
    let one = |_| async { bench.replica().count("ann", 1, Some(50)).await.unwrap().granted };
    let granted = join_all((0..80).map(one)).await.into_iter().filter(|granted| *granted).count();
    assert_eq!(granted, 50);
    bench.budget.uncount("ann", 20).await.unwrap();
    assert_eq!(bench.standing().await.calls, 30);
    bench.budget.uncount("ann", 90).await.unwrap();
    assert_eq!(bench.standing().await.calls, 0);
    assert!(bench.budget.count("ann", 60, None).await.unwrap().granted);
    bench.clock.advance(Duration::from_secs(600));
    assert_eq!(bench.standing().await.calls, 0, "a new day");
}

#[tokio::test]
async fn a_restart_forgets_nothing_of_what_was_used_up() {
    let bench = Bench::new(Kind::File).await;
    let paid = bench.reserve(&ask("1", 0.6)).await.unwrap();
    bench.settle(&paid, 0.25).await;
    bench.reserve(&ask("2", 0.5)).await.unwrap();
    bench.budget.count("ann", 3, None).await.unwrap();
    let Bench { budget, clock, folder, .. } = bench;
    drop(budget);
    let again = reopened(&folder, &clock).await;
    let standing = again.standing("ann").await.unwrap();
    assert_eq!((standing.day.spent, standing.month.spent), (usd(0.25), usd(0.25)));
    assert_eq!((standing.day.held, standing.calls), (Money(0), 3));
    drop(again);
    // Long after, the periods are cleared away.
    clock.advance(Duration::from_secs(40 * 86_400));
    let standing = reopened(&folder, &clock).await.standing("ann").await.unwrap();
    assert_eq!((standing.month.spent, standing.calls), (Money(0), 0));
}

/// The file's writer ends in a thread of its own.
async fn reopened(folder: &TempDir, clock: &Arc<ManualClock>) -> SharedBudget {
    let opened = std::sync::Mutex::new(None);
    crate::support::eventually("the file is free", || async {
        let budget = LocalBudget::open(folder.path(), clock.clone());
        *opened.lock().unwrap() = budget.ok();
        opened.lock().unwrap().is_some()
    })
    .await;
    Arc::new(opened.into_inner().unwrap().unwrap())
}
