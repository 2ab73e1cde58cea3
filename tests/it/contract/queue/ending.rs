//! Ending a job: by its holder, or whoever holds it.

use rstest::rstest;
use spillway::domain::job::{Job, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{Ended, Ending, Settled, Verdict};

use super::store::{
    Kind, LONG, Store, attempt, ending, ending_with_callback, held_job, ids, job, line,
};

async fn end(store: &Store, job: &Job) -> Ended {
    store.end(&job.id, ending(job, Status::Cancelled)).await.unwrap()
}

/// The job is cancelled, nothing of it waits, and nothing is counted twice.
async fn is_cancelled(store: &Store, job: &Job) {
    let record = store.record(&job.id).await;
    assert_eq!((record.stage, record.status()), (Stage::Done, Status::Cancelled));
    assert!(store.take_all(&line()).await.is_empty());
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.delayed, depths.open), (0, 0, 0));
    assert_eq!(store.ready(&line()).await, 0);
    assert_eq!(end(store, job).await, Ended::Before);
    assert_eq!(store.record(&job.id).await.status(), Status::Cancelled);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_ends(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    assert_eq!(end(&store, &job).await, Ended::Now);
    is_cancelled(&store, &job).await;
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_job_ends(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    store.settle(&lease.token, Verdict::Back { after: LONG, progress: None }).await.unwrap();
    assert_eq!(end(&store, &job).await, Ended::Now);
    is_cancelled(&store, &job).await;
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_ends_and_its_holder_is_too_late(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    assert_eq!(end(&store, &job).await, Ended::Now);
    let settled = store.finish(&lease.token, ending(&job, Status::Succeeded)).await;
    assert_eq!(settled, Settled::Stale);
    let lost = store.renew(std::slice::from_ref(&lease.token), LONG).await.unwrap();
    assert_eq!(lost, [lease.token]);
    is_cancelled(&store, &job).await;
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_or_is_not_known_does_not_end(#[case] kind: Kind) {
    let store = kind.open().await;
    let (ended, unknown) = (job(), job());
    assert_eq!(end(&store, &unknown).await, Ended::Unknown);
    store.add(&ended).await;
    let lease = store.take(&line()).await;
    store.finish(&lease.token, ending_with_callback(&ended)).await;
    assert_eq!(end(&store, &ended).await, Ended::Before);
    let record = store.record(&ended.id).await;
    assert_eq!((record.stage, record.status()), (Stage::Delivering, Status::Succeeded));
    assert_eq!(store.take_all(&Line::Deliver).await, ids([&ended]));
    assert_eq!(end(&store, &ended).await, Ended::Before);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_job_may_have_a_callback_too(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let held = store.take(&line()).await;
    let ending = Ending { status: Status::Cancelled, ..ending_with_callback(&job) };
    assert_eq!(store.end(&job.id, ending).await.unwrap(), Ended::Now);
    assert_eq!(store.stage(&job.id).await, Stage::Delivering);
    let lease = store.take(&Line::Deliver).await;
    assert!(held_job(&lease).1.is_some(), "the result comes along");
    // The one who ran the job cannot speak for the one who posts its result.
    let late = store.settle(&held.token, Verdict::Delivered { log: attempt(1) }).await.unwrap();
    assert_eq!(late, Settled::Stale);
    let log = attempt(2);
    let settled = store.settle(&lease.token, Verdict::Delivered { log }).await.unwrap();
    assert_eq!(settled, Settled::Done);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_holder_cannot_speak_for_a_callback_that_only_waits(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let held = store.take(&line()).await;
    store.end(&job.id, ending_with_callback(&job)).await.unwrap();
    let late = store.settle(&held.token, Verdict::Delivered { log: attempt(1) }).await.unwrap();
    assert_eq!(late, Settled::Stale);
    let late =
        store.settle(&held.token, Verdict::Back { after: LONG, progress: None }).await.unwrap();
    assert_eq!(late, Settled::Stale);
    assert_eq!(store.take_all(&Line::Deliver).await, ids([&job]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_end_a_job_one_does(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    let ends = (0..8).map(|_| {
        let (queue, job) = (store.shared(), &job);
        async move {
            let answer = queue.end(&job.id, ending(job, Status::Cancelled)).await.unwrap();
            usize::from(answer == Ended::Now)
        }
    });
    let settles = (0..8).map(|_| {
        let (queue, job, token) = (store.shared(), &job, &lease.token);
        async move {
            let verdict = Verdict::Finish(ending(job, Status::Succeeded));
            usize::from(queue.settle(token, verdict).await.unwrap() == Settled::Done)
        }
    });
    let ends = futures::future::join_all(ends);
    let settles = futures::future::join_all(settles);
    let (ended, settled) = tokio::join!(ends, settles);
    assert_eq!(ended.iter().sum::<usize>() + settled.iter().sum::<usize>(), 1);
    assert_eq!(store.depths().await.unwrap().open, 0);
}
