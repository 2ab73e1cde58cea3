//! Callbacks: the delivery that follows a job's end in the same step.

use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::{Job, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{Delivery, Ending, KEPT_ATTEMPTS, Lease, Settled, Verdict};

use super::store::{
    AT_LEAST, Kind, LONG, SHORT, Store, attempt, delivery, ending, ending_with_callback, held_job,
    job, line,
};

/// A job that has ended and whose callback somebody holds.
async fn delivering(store: &Store) -> (Job, Lease) {
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    let settled = store.finish(&lease.token, ending_with_callback(&job)).await;
    assert_eq!(settled, Settled::Done);
    (job, store.take(&Line::Deliver).await)
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_jobs_callback_is_due_with_its_result(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, lease) = delivering(&store).await;
    assert_eq!(lease.token.id, job.id.to_string());
    assert_eq!((lease.losses, lease.tries, lease.replays), (0, 0, 0));
    let (held, result) = held_job(&lease);
    assert_eq!(held.id, job.id);
    let result = result.expect("the result comes along");
    assert_eq!((result.status, &result.id), (Status::Succeeded, &job.id.to_string()));
    let record = store.record(&job.id).await;
    assert_eq!((record.stage, record.status()), (Stage::Delivering, Status::Succeeded));
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.open), (1, 0), "the job itself has ended");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn without_a_callback_nothing_is_left_to_do(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    store.finish(&lease.token, ending(&job, Status::Failed)).await;
    let record = store.record(&job.id).await;
    assert_eq!((record.stage, record.status()), (Stage::Done, Status::Failed));
    assert!(store.take_all(&Line::Deliver).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_waits_for_its_shortest_delay(#[case] kind: Kind) {
    let store = kind.open().await;
    let (soon, later) = (job(), job());
    let began = tokio::time::Instant::now();
    for (job, after) in [(&soon, SHORT), (&later, LONG)] {
        store.add(job).await;
        let lease = store.take(&line()).await;
        let delivery = Some(Delivery { after, ..delivery() });
        let ending = Ending { delivery, ..ending(job, Status::Succeeded) };
        store.finish(&lease.token, ending).await;
        assert_eq!(store.stage(&job.id).await, Stage::Delivering);
    }
    let lease = store.take_soon(&Line::Deliver).await;
    assert!(began.elapsed() >= AT_LEAST, "too soon");
    assert_eq!(lease.token.id, soon.id.to_string());
    assert!(store.take_all(&Line::Deliver).await.is_empty());
    assert_eq!(store.depths().await.unwrap().delayed, 1);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_callback_leaves_nothing_to_do(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, lease) = delivering(&store).await;
    let log = attempt(7);
    let verdict = Verdict::Delivered { log: log.clone() };
    assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Done);
    let record = store.record(&job.id).await;
    assert_eq!((record.stage, record.deliveries), (Stage::Done, vec![log]));
    let verdict = Verdict::Undeliverable { log: attempt(8) };
    assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Stale);
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.dead), (0, 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_not_taken_is_tried_again_after_a_pause(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, lease) = delivering(&store).await;
    let logs = [attempt(1), attempt(2), attempt(3)];
    let verdict = Verdict::Redeliver { after: SHORT, log: logs[0].clone() };
    let settled_at = tokio::time::Instant::now();
    assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Done);
    assert_eq!(store.stage(&job.id).await, Stage::Delivering);
    assert!(store.take_all(&Line::Deliver).await.is_empty());
    let lease = store.take_soon(&Line::Deliver).await;
    assert!(settled_at.elapsed() >= AT_LEAST, "too soon");
    assert_eq!(lease.tries, 1);

    let verdict = Verdict::Redeliver { after: Duration::ZERO, log: logs[1].clone() };
    store.settle(&lease.token, verdict).await.unwrap();
    let lease = store.take(&Line::Deliver).await;
    assert_eq!(lease.tries, 2);
    store.settle(&lease.token, Verdict::Delivered { log: logs[2].clone() }).await.unwrap();
    assert_eq!(store.record(&job.id).await.deliveries, logs);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn going_back_or_being_lost_is_not_a_try(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, lease) = delivering(&store).await;
    let back = Verdict::Back { after: Duration::ZERO, progress: None };
    assert_eq!(store.settle(&lease.token, back).await.unwrap(), Settled::Done);
    let lease = store.take(&Line::Deliver).await;
    assert_eq!((lease.tries, lease.losses), (0, 0));
    // A callback is not given up because those who post it vanish.
    let mut token = lease.token;
    for losses in 1..=4 {
        store.lose(&token).await;
        assert_eq!(store.stage(&job.id).await, Stage::Delivering);
        let lease = store.take(&Line::Deliver).await;
        assert_eq!((lease.tries, lease.losses), (0, losses));
        token = lease.token;
    }
    assert!(store.record(&job.id).await.deliveries.is_empty());
    assert!(store.sweep(100).await.unwrap().lost.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn losses_of_the_run_are_not_held_against_the_callback(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    store.lose(&store.take(&line()).await.token).await;
    let lease = store.take(&line()).await;
    assert_eq!(lease.losses, 1);
    store.finish(&lease.token, ending_with_callback(&job)).await;
    assert_eq!(store.take(&Line::Deliver).await.losses, 0);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_report_of_a_delivery_counts(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, lease) = delivering(&store).await;
    store.lose(&lease.token).await;
    let verdict = Verdict::Delivered { log: attempt(1) };
    assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Done);
    assert!(store.take_all(&Line::Deliver).await.is_empty());
    assert_eq!(store.stage(&job.id).await, Stage::Done);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_given_up_is_kept_dead(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, lease) = delivering(&store).await;
    let log = attempt(9);
    let verdict = Verdict::Undeliverable { log: log.clone() };
    assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Done);
    let record = store.record(&job.id).await;
    assert_eq!((record.stage, record.status()), (Stage::Dead, Status::Succeeded));
    assert_eq!(record.deliveries, [log]);
    assert!(store.take_all(&Line::Deliver).await.is_empty());
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.dead, depths.open), (0, 1, 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn the_last_attempts_are_kept(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, mut lease) = delivering(&store).await;
    let logs: Vec<_> = (0..).map(attempt).take(KEPT_ATTEMPTS + 5).collect();
    for log in &logs {
        let verdict = Verdict::Redeliver { after: Duration::ZERO, log: log.clone() };
        store.settle(&lease.token, verdict).await.unwrap();
        lease = store.take(&Line::Deliver).await;
    }
    assert_eq!(lease.tries as usize, KEPT_ATTEMPTS + 5);
    assert_eq!(store.record(&job.id).await.deliveries, logs[5..]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_cannot_be_finished_while_its_result_is_posted(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, lease) = delivering(&store).await;
    let settled = store.finish(&lease.token, ending(&job, Status::Failed)).await;
    assert_eq!(settled, Settled::Stale);
    assert_eq!(store.record(&job.id).await.status(), Status::Succeeded);
    assert!(store.renew(&[lease.token], LONG).await.unwrap().is_empty());
    assert!(store.take_all(&Line::Deliver).await.is_empty());
}
