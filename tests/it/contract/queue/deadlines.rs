//! Jobs that are wanted soon are pulled forward within their line, and pay for it.

use std::time::Duration;

use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::job::{Job, Share};
use spillway::domain::result::Status;
use spillway::queue::{MOST_AHEAD, NEAR, Replay, Verdict};

use super::store::{Kind, LONG, Store, ending, held_job, ids, job_of, line};

/// A job wanted so many seconds from now.
fn wanted(workflow: &str, seconds: i64) -> Job {
    let by = SystemClock.now() + chrono::Duration::seconds(seconds);
    Job { deliver_by: Some(by), ..job_of(workflow) }
}

async fn add_all(store: &Store, jobs: &[Job]) {
    for job in jobs {
        store.add(job).await;
    }
}

async fn due_within(store: &Store, time: Duration) -> u64 {
    store.due_before(&line(), SystemClock.now() + time).await.unwrap()
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn every_second_lease_is_of_the_job_wanted_soonest(
    #[case] kind: Kind,
    #[values(1, 10)] max: usize,
) {
    let store = kind.open().await;
    let plain: Vec<Job> = (0..5).map(|_| job_of("a")).collect();
    add_all(&store, &plain).await;
    let far = wanted("a", 10_000);
    let (late, soon) = (wanted("a", 100), wanted("a", 60));
    add_all(&store, &[far.clone(), late.clone(), soon.clone()]).await;
    assert_eq!(due_within(&store, NEAR).await, 2);
    assert_eq!(due_within(&store, LONG * 60).await, 3);
    let mut order = Vec::new();
    while order.len() < 8 {
        let leases = store.lease(&line(), max, LONG).await.unwrap();
        order.extend(leases.into_iter().map(|lease| lease.token.id));
    }
    let [a, b, c, d, e] = &plain[..] else { panic!("five jobs") };
    assert_eq!(order, ids([&soon, a, &late, b, c, d, e, &far]));
    assert_eq!(due_within(&store, LONG * 60).await, 0);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_paid_for(#[case] kind: Kind) {
    let store = kind.open().await;
    // All that "a" has is urgent, all the time.
    let mut all_urgent: Vec<Job> = Vec::new();
    for n in 0..150 {
        all_urgent.push(wanted("a", 60 + n / 5));
    }
    add_all(&store, &all_urgent).await;
    for workflow in ["b", "c", "d"] {
        add_all(&store, &(0..150).map(|_| job_of(workflow)).collect::<Vec<_>>()).await;
    }
    let mut own = Vec::new();
    for _ in 0..400 {
        let lease = store.take(&line()).await;
        own.push(held_job(&lease).0.workflow.as_deref() == Some("a"));
    }
    let got = |turns: &[bool]| turns.iter().filter(|own| **own).count();
    assert_eq!(got(&own[..10]), 5, "every second turn at first");
    // Its own turn may come right before such a one.
    assert!(!own.windows(3).any(|three| three == [true; 3]), "{own:?}");
    let ahead = usize::try_from(MOST_AHEAD).unwrap() + 2;
    for turns in [100, 200, 300, 400] {
        let got = got(&own[..turns]);
        assert!((turns / 4..=turns / 4 + ahead).contains(&got), "{got} of {turns}");
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_runs_all_it_may_does_not_hide_others_deadlines(#[case] kind: Kind) {
    let store = kind.open().await;
    let share = Some(Share { max_running: Some(1), ..Share::default() });
    for _ in 0..30 {
        store.add(&Job { share, ..wanted("capped", 30) }).await;
    }
    add_all(&store, &[job_of("b"), job_of("b"), wanted("c", 50)]).await;
    let order: Vec<String> = store
        .lease(&line(), 3, LONG)
        .await
        .unwrap()
        .iter()
        .map(|lease| held_job(lease).0.workflow.clone().unwrap())
        .collect();
    assert_eq!(order, ["capped", "b", "c"]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_known_wherever_a_job_comes_from(#[case] kind: Kind) {
    let store = kind.open().await;
    let urgent = wanted("a", 60);
    add_all(&store, &[job_of("b"), job_of("c"), urgent.clone()]).await;
    let urgent_is_next = async |after_another: bool| {
        if after_another {
            let lease = store.take(&line()).await;
            assert_ne!(lease.token.id, urgent.id.to_string(), "never twice in a row");
            store.settle(&lease.token, Verdict::back(Duration::ZERO)).await.unwrap();
        }
        assert_eq!(due_within(&store, NEAR).await, 1);
        let lease = store.take(&line()).await;
        assert_eq!(lease.token.id, urgent.id.to_string());
        assert_eq!(due_within(&store, LONG).await, 0);
        lease
    };
    let lease = urgent_is_next(false).await;
    store.settle(&lease.token, Verdict::back(Duration::ZERO)).await.unwrap();
    let lease = urgent_is_next(true).await;
    store.lose(&lease.token).await;
    let lease = urgent_is_next(true).await;
    store.settle(&lease.token, Verdict::back(Duration::from_millis(1))).await.unwrap();
    assert_eq!(due_within(&store, LONG).await, 0, "a delayed job is not ready");
    crate::support::eventually("it comes due", || async {
        store.sweep(10).await.unwrap().due == 1
    })
    .await;
    let lease = urgent_is_next(true).await;
    store.finish(&lease.token, ending(&urgent, Status::Failed)).await;
    store.replay(&urgent.id, Replay::Run).await.unwrap();
    assert_eq!(due_within(&store, NEAR).await, 1);
    store.end(&urgent.id, ending(&urgent, Status::Cancelled)).await.unwrap();
    assert_eq!(due_within(&store, LONG).await, 0, "nothing is left of a cancelled job");
    assert_eq!(store.lease(&line(), 10, LONG).await.unwrap().len(), 2);
}
