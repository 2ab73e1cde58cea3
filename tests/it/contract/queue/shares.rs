//! What a workflow may have: open jobs, and jobs that run at the same time.

use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::{Job, Lane, Line, Share};
use spillway::domain::result::Status;
use spillway::queue::{Batch, Lease, Pushed, Replay, Settled, Verdict};

use super::store::{
    Kind, LONG, Store, ending, ending_with_callback, group_of, held_job, job, job_of, line, one,
};

/// A job of a workflow of which so many may be open.
fn limited(workflow: &str, most: u64) -> Job {
    let share = Some(Share { max_queued: Some(most), ..Share::default() });
    Job { share, ..job_of(workflow) }
}

/// A job of a workflow of which so many may run.
fn capped(workflow: &str, most: u64) -> Job {
    let share = Some(Share { max_running: Some(most), ..Share::default() });
    Job { share, ..job_of(workflow) }
}

fn is_stored(pushed: &Pushed) -> bool {
    matches!(pushed, Pushed::Stored { .. })
}

fn full(workflow: &str, open: u64, most: u64) -> Pushed {
    Pushed::WorkflowFull { workflow: Some(workflow.to_owned()), open, most }
}

/// The workflows of all that can be leased now.
async fn workflows(store: &Store) -> Vec<String> {
    let leases = store.lease(&line(), 1_000, LONG).await.unwrap();
    let name = |lease: &Lease| held_job(lease).0.workflow.clone().unwrap_or_default();
    leases.iter().map(name).collect()
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_workflow_takes_no_more_until_a_job_of_it_ends(#[case] kind: Kind) {
    let store = kind.open().await;
    // They count wherever they are: in any lane, in somebody's hands, delayed.
    let first = limited("a", 3);
    store.add(&first).await;
    store.add(&Job { lane: Lane::Batch, ..limited("a", 3) }).await;
    let lease = store.take(&line()).await;
    store.settle(&lease.token, Verdict::back(LONG)).await.unwrap();
    store.add(&limited("a", 3)).await;
    let more = limited("a", 3);
    assert_eq!(store.push(one(&more)).await.unwrap(), full("a", 3, 3));
    assert!(store.find(&more.id).await.unwrap().is_none());
    assert_eq!(store.depths().await.unwrap().open, 3);
    assert!(is_stored(&store.push(one(&limited("b", 3))).await.unwrap()), "another workflow");
    let other = Job { caller: "bob".to_owned(), ..limited("a", 3) };
    assert!(is_stored(&store.push(one(&other)).await.unwrap()), "another caller's");
    store.end(&first.id, ending_with_callback(&first)).await.unwrap();
    assert!(is_stored(&store.push(one(&more)).await.unwrap()));
    assert_eq!(store.push(one(&limited("a", 3))).await.unwrap(), full("a", 3, 3));
    // The same again is not refused: it is there.
    let again = Pushed::Repeated { id: more.id.to_string() };
    assert_eq!(store.push(one(&more)).await.unwrap(), again);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_from_before_a_cap_count(#[case] kind: Kind) {
    let store = kind.open().await;
    store.add(&job_of("a")).await;
    store.add(&job_of("a")).await;
    assert_eq!(store.push(one(&limited("a", 2))).await.unwrap(), full("a", 2, 2));
    // A job that is run again counts, and is not refused.
    let ended = job_of("a");
    store.add(&ended).await;
    store.end(&ended.id, ending(&ended, Status::Failed)).await.unwrap();
    store.replay(&ended.id, Replay::Run).await.unwrap();
    assert_eq!(store.push(one(&limited("a", 3))).await.unwrap(), full("a", 3, 3));
    assert!(is_stored(&store.push(one(&limited("a", 4))).await.unwrap()));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_all_or_none_is_stored(#[case] kind: Kind) {
    let store = kind.open().await;
    let batch = |count: usize| {
        let (group, jobs) = group_of(count);
        let most = |n: usize| if n == 0 { job() } else { limited("a", 4) };
        let jobs = jobs.into_iter().enumerate();
        let jobs = jobs
            .map(|(n, job)| Job { share: most(n).share, workflow: most(n).workflow, ..job })
            .collect();
        Batch { jobs, group: Some(group), dedup: None }
    };
    let too_many = batch(6);
    let group = too_many.group.clone().unwrap();
    assert_eq!(store.push(too_many).await.unwrap(), full("a", 0, 4));
    assert!(store.find_group(&group.id).await.unwrap().is_none());
    assert!(store.find_all(&group.jobs).await.unwrap().is_empty());
    assert_eq!(store.depths().await.unwrap().open, 0);
    assert!(is_stored(&store.push(batch(5)).await.unwrap()));
    assert_eq!(store.push(batch(2)).await.unwrap(), full("a", 4, 4));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn pushes_at_once_do_not_fill_a_workflow_beyond_its_cap(#[case] kind: Kind) {
    let store = kind.open().await;
    let pushes = (0..60).map(|_| {
        let queue = store.shared();
        async move { is_stored(&queue.push(one(&limited("a", 25))).await.unwrap()) }
    });
    let stored = futures::future::join_all(pushes).await;
    assert_eq!(stored.into_iter().filter(|stored| *stored).count(), 25);
    assert_eq!(store.depths().await.unwrap().open, 25);
}

/// Ways a lease on a job ends.
#[derive(Clone, Copy, Debug)]
enum Way {
    Finished,
    BackAtOnce,
    BackLater,
    Cancelled,
    Lost,
    LostTooOften,
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn no_more_run_than_may_however_their_leases_end(
    #[case] kind: Kind,
    #[values(
        Way::Finished,
        Way::BackAtOnce,
        Way::BackLater,
        Way::Cancelled,
        Way::Lost,
        Way::LostTooOften
    )]
    way: Way,
) {
    let store = kind.open().await;
    for _ in 0..4 {
        store.add(&capped("a", 2)).await;
        store.add(&Job { lane: Lane::Batch, ..capped("a", 2) }).await;
    }
    store.add(&job_of("b")).await;
    let batch = Line::Run { lane: Lane::Batch, route: "cheap".to_owned() };
    let mut held = store.take(&line()).await;
    if held_job(&held).0.workflow.as_deref() == Some("b") {
        held = store.take(&line()).await;
    }
    assert_eq!(store.lease(&batch, 10, LONG).await.unwrap().len(), 1, "caps are for all lines");
    let rest = workflows(&store).await;
    assert!(rest.iter().all(|workflow| workflow == "b"), "{rest:?}");
    let (job, _) = held_job(&held);
    match way {
        Way::Finished => {
            store.finish(&held.token, ending_with_callback(job)).await;
        }
        Way::BackAtOnce => {
            let back = store.settle(&held.token, Verdict::back(Duration::ZERO)).await.unwrap();
            assert_eq!(back, Settled::Done);
        }
        Way::BackLater => {
            store.settle(&held.token, Verdict::back(LONG)).await.unwrap();
        }
        Way::Cancelled => {
            store.end(&job.id, ending(job, Status::Cancelled)).await.unwrap();
        }
        Way::Lost => store.lose(&held.token).await,
        Way::LostTooOften => {
            for _ in 0..2 {
                store.lose(&held.token).await;
                held = store.take(&line()).await;
            }
            store.lose(&held.token).await;
        }
    }
    // One more in either line, and no further one in the other.
    let leases = store.lease(&batch, 1, LONG).await.unwrap();
    assert_eq!(leases.len(), 1, "the batch line was forgotten");
    assert!(workflows(&store).await.is_empty());
    let (job, _) = held_job(&leases[0]);
    store.finish(&leases[0].token, ending(job, Status::Succeeded)).await;
    assert_eq!(workflows(&store).await, ["a"]);
    assert!(store.lease(&batch, 10, LONG).await.unwrap().is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_settle_does_not_count_twice(#[case] kind: Kind) {
    let store = kind.open().await;
    for _ in 0..3 {
        store.add(&capped("a", 1)).await;
    }
    let late = store.take(&line()).await;
    store.lose(&late.token).await;
    let (job, _) = held_job(&late);
    assert_eq!(store.finish(&late.token, ending(job, Status::Succeeded)).await, Settled::Done);
    assert_eq!(workflows(&store).await, ["a"]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_cap_changes_with_the_next_push(#[case] kind: Kind) {
    let store = kind.open().await;
    for _ in 0..8 {
        store.add(&capped("a", 2)).await;
    }
    assert_eq!(workflows(&store).await.len(), 2);
    store.add(&capped("a", 3)).await;
    assert_eq!(workflows(&store).await.len(), 1);
    store.add(&capped("a", 1)).await;
    assert_eq!(workflows(&store).await.len(), 0);
    store.add(&job_of("a")).await;
    assert_eq!(workflows(&store).await.len(), 8);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn many_workflows_at_their_cap_do_not_hide_another(#[case] kind: Kind) {
    let store = kind.open().await;
    let batch = Line::Run { lane: Lane::Batch, route: "cheap".to_owned() };
    for n in 0..100 {
        // They reach their cap in another line than the one they take part in, too.
        let job = capped(&n.to_string(), 1);
        store.add(&Job { lane: Lane::Batch, ..job.clone() }).await;
        store.add(&Job { id: self::job().id, ..job }).await;
    }
    assert_eq!(store.lease(&batch, 1_000, LONG).await.unwrap().len(), 100);
    store.add(&job_of("last")).await;
    assert_eq!(held_job(&store.take(&line()).await).0.workflow.as_deref(), Some("last"));
    assert!(workflows(&store).await.is_empty());
    assert_eq!(store.ready(&line()).await, 100);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn who_waited_aside_neither_gains_nor_loses_turns(#[case] kind: Kind) {
    let store = kind.open().await;
    for _ in 0..70 {
        store.add(&capped("a", 1)).await;
    }
    // Alone in the line, it waits aside after each of its turns.
    for _ in 0..30 {
        let lease = store.take(&line()).await;
        assert!(workflows(&store).await.is_empty());
        let (job, _) = held_job(&lease);
        store.finish(&lease.token, ending(job, Status::Succeeded)).await;
    }
    // Nobody takes part when the other comes.
    let held = store.take(&line()).await;
    for _ in 0..60 {
        store.add(&job_of("b")).await;
    }
    let (job, _) = held_job(&held);
    store.finish(&held.token, ending(job, Status::Succeeded)).await;
    let mut order = Vec::new();
    for _ in 0..40 {
        let lease = store.take(&line()).await;
        let (job, _) = held_job(&lease);
        order.push(job.workflow.clone().unwrap_or_default());
        store.finish(&lease.token, ending(job, Status::Succeeded)).await;
    }
    for (n, part) in order.chunks(10).enumerate() {
        let own = part.iter().filter(|workflow| *workflow == "a").count();
        assert!((4..=6).contains(&own), "turns {n}0 on: {order:?}");
    }
    // What it could not use meanwhile, it does not get afterwards.
    let mut held = store.take(&line()).await;
    while held_job(&held).0.workflow.as_deref() != Some("a") {
        held = store.take(&line()).await;
    }
    assert_eq!(store.lease(&line(), 20, LONG).await.unwrap().len(), 20);
    let (job, _) = held_job(&held);
    store.finish(&held.token, ending(job, Status::Succeeded)).await;
    let mut own = 0;
    for _ in 0..10 {
        let lease = store.take(&line()).await;
        let (job, _) = held_job(&lease);
        own += usize::from(job.workflow.as_deref() == Some("a"));
        store.finish(&lease.token, ending(job, Status::Succeeded)).await;
    }
    assert!((4..=6).contains(&own), "{own} of 10");
}
