//! Storing jobs and finding them again.

use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::{Job, Lane, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{Ahead, Batch, Durability, Pushed};

use super::store::{Kind, LONG, group_of, ids, job, line, one};

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_job_is_found_and_waits_in_its_line(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    assert_eq!(store.add(&job).await, 1);

    let record = store.record(&job.id).await;
    assert_eq!(record.stage, Stage::Queued);
    assert_eq!(record.status(), Status::Queued);
    assert!(record.result.is_none() && record.deliveries.is_empty());
    assert_eq!(serde_json::to_string(&record.job).unwrap(), serde_json::to_string(&job).unwrap());

    let depths = store.depths().await.unwrap();
    assert_eq!(depths.ready, [(line(), 1)]);
    assert_eq!((depths.leased, depths.delayed, depths.open, depths.dead), (0, 0, 1, 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_position_counts_what_waits_in_the_same_line(#[case] kind: Kind) {
    let store = kind.open().await;
    assert_eq!(store.add(&job()).await, 1);
    assert_eq!(store.add(&job()).await, 2);
    let elsewhere = Job { lane: Lane::Interactive, ..job() };
    assert_eq!(store.add(&elsewhere).await, 1);
    store.take(&line()).await;
    assert_eq!(store.add(&job()).await, 2, "what is held does not wait");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_in_order_and_told_its_first_position(#[case] kind: Kind) {
    let store = kind.open().await;
    store.add(&job()).await;
    let (group, jobs) = group_of(30);
    let batch = Batch { jobs: jobs.clone(), group: Some(group), dedup: None };
    let pushed = store.push(batch).await.unwrap();
    assert!(matches!(pushed, Pushed::Stored { ahead: Ahead { line: 1, .. }, .. }), "{pushed:?}");
    assert_eq!(store.ready(&line()).await, 31);
    let taken = store.take_all(&line()).await;
    assert_eq!(taken[1..], ids(&jobs)[..]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_appears_all_at_once(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = group_of(100);
    let (first, last) = (jobs[0].id.clone(), jobs[99].id.clone());
    let queue = store.shared();
    let batch = Batch { jobs, group: Some(group.clone()), dedup: None };
    let push = async { queue.push(batch).await.unwrap() };
    let watch = async {
        while store.find(&first).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(store.find(&last).await.unwrap().is_some(), "the first is there without the last");
    };
    let (pushed, ()) = tokio::join!(push, watch);
    assert!(matches!(pushed, Pushed::Stored { ahead: Ahead { line: 0, .. }, .. }), "{pushed:?}");
    assert_eq!(store.find_group(&group.id).await.unwrap().unwrap().left, 100);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_one_batch_may_wait_in_different_lines(#[case] kind: Kind) {
    let store = kind.open().await;
    let slow = Job { lane: Lane::Batch, ..job() };
    let fast = Job { lane: Lane::Interactive, route: "a/b".to_owned(), ..job() };
    let batch = Batch { jobs: vec![slow.clone(), fast.clone()], group: None, dedup: None };
    store.push(batch).await.unwrap();
    assert_eq!(store.take_all(&fast.line()).await, ids([&fast]));
    assert_eq!(store.take_all(&slow.line()).await, ids([&slow]));
    assert!(store.take_all(&Line::Deliver).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_pushed_again_is_stored_once(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    let again = store.push(one(&job)).await.unwrap();
    assert_eq!(again, Pushed::Repeated { id: job.id.to_string() });
    assert_eq!(store.stage(&job.id).await, Stage::Running);
    assert!(store.renew(&[lease.token], LONG).await.unwrap().is_empty());
    assert_eq!(store.depths().await.unwrap().open, 1);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_not_found(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = group_of(1);
    assert!(store.find(&jobs[0].id).await.unwrap().is_none());
    assert!(store.find_group(&group.id).await.unwrap().is_none());
    let known = job();
    store.add(&known).await;
    let asked = [jobs[0].id.clone(), known.id.clone()];
    let found = store.find_all(&asked).await.unwrap();
    assert_eq!(ids(found.iter().map(|record| &record.job)), ids([&known]));
    assert!(store.find_all(&[]).await.unwrap().is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn several_jobs_are_found_in_the_order_asked_for(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..20).map(|_| job()).collect();
    for job in &jobs {
        store.add(job).await;
    }
    let asked: Vec<_> = jobs.iter().rev().map(|job| job.id.clone()).collect();
    let found = store.find_all(&asked).await.unwrap();
    assert_eq!(ids(found.iter().map(|record| &record.job)), ids(jobs.iter().rev()));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_hinted_at(#[case] kind: Kind) {
    let store = kind.open().await;
    let mut hints = store.hints(&job().line());
    hints.mark_unchanged();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    // A hint may be lost, so one push need not be enough.
    loop {
        store.add(&job()).await;
        let patience = Duration::from_millis(500);
        if let Ok(changed) = tokio::time::timeout(patience, hints.changed()).await {
            changed.unwrap();
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "no hint came");
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn the_store_answers_and_tells_what_a_job_survives(#[case] kind: Kind) {
    let store = kind.open().await;
    store.ping().await.unwrap();
    let expected = match kind {
        Kind::Redis | Kind::Cluster => Durability::Appended,
        Kind::Embedded => Durability::Fsynced,
    };
    assert_eq!(store.durability(), expected);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn many_push_at_once_and_nothing_is_lost(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..200).map(|_| job()).collect();
    let pushes = jobs.iter().map(|job| {
        let (queue, batch) = (store.shared(), one(job));
        async move { queue.push(batch).await.unwrap() }
    });
    let mut positions: Vec<u64> = futures::future::join_all(pushes)
        .await
        .into_iter()
        .map(|pushed| match pushed {
            Pushed::Stored { ahead, .. } => ahead.line + 1,
            other => panic!("not stored: {other:?}"),
        })
        .collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=200).collect::<Vec<u64>>());
    assert_eq!(store.take_all(&line()).await, ids(&jobs));
}
