//! Bringing an ended job back.

use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::{Job, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{
    Batch, Delivery, Ending, GroupDelivery, MOST_LOSSES, Replay, Replayed, Settled, Verdict,
};

use super::store::{
    Kind, LONG, SHORT, Store, attempt, delivery, ending, ending_with_callback, group_of, held_job,
    ids, job, line,
};

async fn replay(store: &Store, job: &Job, what: Replay) -> Replayed {
    store.replay(&job.id, what).await.unwrap()
}

/// A job whose callback was given up.
async fn dead(store: &Store) -> Job {
    let job = job();
    store.add(&job).await;
    store.end(&job.id, ending_with_callback(&job)).await.unwrap();
    let lease = store.take(&Line::Deliver).await;
    store
        .settle(&lease.token, Verdict::Redeliver { after: Duration::ZERO, log: attempt(1) })
        .await
        .unwrap();
    let lease = store.take(&Line::Deliver).await;
    store.settle(&lease.token, Verdict::Undeliverable { log: attempt(2) }).await.unwrap();
    assert_eq!(store.stage(&job.id).await, Stage::Dead);
    job
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_run_again_and_its_old_result_is_dropped(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = dead(&store).await;
    assert_eq!(replay(&store, &job, Replay::Run).await, Replayed::Done);
    let record = store.record(&job.id).await;
    assert_eq!((record.stage, record.status()), (Stage::Queued, Status::Queued));
    assert!(record.result.is_none() && record.deliveries.is_empty());
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.open, depths.dead, store.ready(&line()).await), (1, 0, 1));

    let lease = store.take(&line()).await;
    assert_eq!((lease.replays, lease.losses, lease.tries), (1, 0, 0));
    assert!(held_job(&lease).1.is_none());
    let settled = store.finish(&lease.token, ending_with_callback(&job)).await;
    assert_eq!(settled, Settled::Done);
    let lease = store.take(&Line::Deliver).await;
    assert_eq!((lease.replays, lease.tries), (1, 0));
    store.settle(&lease.token, Verdict::Delivered { log: attempt(3) }).await.unwrap();
    assert_eq!(replay(&store, &job, Replay::Run).await, Replayed::Done);
    assert_eq!(store.take(&line()).await.replays, 2);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_posted_again(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = dead(&store).await;
    assert_eq!(replay(&store, &job, Replay::Post(delivery())).await, Replayed::Done);
    assert_eq!(store.stage(&job.id).await, Stage::Delivering);
    assert_eq!(store.depths().await.unwrap().dead, 0);
    let lease = store.take(&Line::Deliver).await;
    assert_eq!((lease.tries, lease.losses, lease.replays), (0, 0, 0));
    assert!(held_job(&lease).1.is_some());
    store.settle(&lease.token, Verdict::Delivered { log: attempt(3) }).await.unwrap();
    let record = store.record(&job.id).await;
    assert_eq!(record.stage, Stage::Done);
    let told: Vec<u64> = record.deliveries.iter().map(|log| log.ms).collect();
    assert_eq!(told, [1, 2, 3], "the old attempts are still known");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_posted_again_after_a_pause(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    store.end(&job.id, ending(&job, Status::Failed)).await.unwrap();
    let later = Delivery { after: SHORT, ..delivery() };
    assert_eq!(replay(&store, &job, Replay::Post(later)).await, Replayed::Done);
    assert_eq!(store.stage(&job.id).await, Stage::Delivering);
    assert_eq!(store.take_soon(&Line::Deliver).await.token.id, job.id.to_string());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_ended_comes_back(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    for what in [Replay::Run, Replay::Post(delivery())] {
        assert_eq!(replay(&store, &job, what).await, Replayed::Unknown);
    }
    store.add(&job).await;
    for what in [Replay::Run, Replay::Post(delivery())] {
        assert_eq!(replay(&store, &job, what).await, Replayed::NotEnded, "it waits");
    }
    let lease = store.take(&line()).await;
    for what in [Replay::Run, Replay::Post(delivery())] {
        assert_eq!(replay(&store, &job, what).await, Replayed::NotEnded, "it runs");
    }
    assert!(store.renew(&[lease.token], LONG).await.unwrap().is_empty());
    assert!(store.take_all(&line()).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_a_callback_under_way_from_its_holder(
    #[case] kind: Kind,
    #[values(Replay::Run, Replay::Post(delivery()))] what: Replay,
) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    store.end(&job.id, ending_with_callback(&job)).await.unwrap();
    let lease = store.take(&Line::Deliver).await;
    assert_eq!(replay(&store, &job, what.clone()).await, Replayed::Done);
    let log = attempt(1);
    let late = store.settle(&lease.token, Verdict::Delivered { log }).await.unwrap();
    assert_eq!(late, Settled::Stale);
    let (expected, other) = match what {
        Replay::Run => (line(), Line::Deliver),
        Replay::Post(_) => (Line::Deliver, line()),
    };
    assert_eq!(store.take_all(&expected).await, ids([&job]));
    assert!(store.take_all(&other).await.is_empty());
    assert_eq!(store.depths().await.unwrap().leased, 1);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_given_up_for_its_losses_starts_anew(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    for _ in 0..MOST_LOSSES {
        store.lose(&store.take(&line()).await.token).await;
    }
    store.end(&job.id, ending(&job, Status::Failed)).await.unwrap();
    assert_eq!(replay(&store, &job, Replay::Run).await, Replayed::Done);
    let lease = store.take(&line()).await;
    assert_eq!(lease.losses, 0);
    store.lose(&lease.token).await;
    assert_eq!(store.take(&line()).await.losses, 1);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn an_open_group_waits_for_a_replayed_job_and_an_ended_one_does_not(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = group_of(2);
    let batch = Batch { jobs: jobs.clone(), group: Some(group.clone()), dedup: None };
    store.push(batch).await.unwrap();
    let end = async |job: &Job| {
        let group = Some(GroupDelivery { id: group.id.clone(), delivery: Some(delivery()) });
        let ending = Ending { group, ..ending(job, Status::Succeeded) };
        store.end(&job.id, ending).await.unwrap();
    };
    let left = async || store.find_group(&group.id).await.unwrap().unwrap().left;
    end(&jobs[0]).await;
    replay(&store, &jobs[0], Replay::Run).await;
    assert_eq!(left().await, 2);
    end(&jobs[1]).await;
    assert!(store.take_all(&Line::Deliver).await.is_empty());
    end(&jobs[0]).await;
    assert_eq!(left().await, 0);
    assert_eq!(store.take_all(&Line::Deliver).await, [group.id.to_string()]);

    replay(&store, &jobs[0], Replay::Run).await;
    assert_eq!(left().await, 0);
    end(&jobs[0]).await;
    assert!(store.take_all(&Line::Deliver).await.is_empty(), "the group ends once");
    assert_eq!((left().await, store.depths().await.unwrap().open), (0, 0));
}
