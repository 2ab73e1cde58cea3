//! What the passing of time does.

use std::time::Duration;

use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::job::{Job, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{
    AWAY, Batch, Ended, Ending, Filter, GRACE, GroupDelivery, MOST_LOSSES, Replay, Settled, Verdict,
};

use super::store::{
    Kind, LONG, SHORT, Store, attempt, delivery, ending, ending_with_callback, group_of, job, line,
};
use crate::support::eventually;

/// A job whose worker vanished as often as that may happen.
async fn lost(store: &Store) -> (Job, spillway::queue::LeaseToken) {
    let job = job();
    store.add(&job).await;
    for losses in 0..MOST_LOSSES {
        let lease = store.take(&line()).await;
        assert_eq!(lease.losses, losses);
        store.lose(&lease.token).await;
        if losses + 1 == MOST_LOSSES {
            return (job, lease.token);
        }
    }
    panic!("jobs may be lost at least once");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_has_nothing_to_sweep(#[case] kind: Kind) {
    let store = kind.open().await;
    store.add(&job()).await;
    store.take(&line()).await;
    assert_eq!(store.sweep(100).await.unwrap(), spillway::queue::Swept::default());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_lost_too_often_is_told_until_it_ends(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, _) = lost(&store).await;
    for _ in 0..2 {
        let swept = store.sweep(100).await.unwrap();
        assert_eq!((swept.lost, swept.freed), (vec![job.id.clone()], 0));
    }
    assert!(store.take_all(&line()).await.is_empty(), "it is not handed out again");
    assert_eq!(store.stage(&job.id).await, Stage::Queued);
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.open, depths.leased), (1, 0));
    let end = store.end(&job.id, ending(&job, Status::Failed)).await.unwrap();
    assert_eq!(end, Ended::Now);
    assert!(store.sweep(100).await.unwrap().lost.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_saves_a_job_lost_too_often(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, token) = lost(&store).await;
    let settled = store.finish(&token, ending(&job, Status::Succeeded)).await;
    assert_eq!(settled, Settled::Done);
    assert!(store.sweep(100).await.unwrap().lost.is_empty());
    assert_eq!(store.record(&job.id).await.status(), Status::Succeeded);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passed_is_told_until_the_job_ends(#[case] kind: Kind) {
    let store = kind.open().await;
    let at = |after: Duration| Some(SystemClock.now() + after);
    let running = Job { deliver_by: at(SHORT), ..job() };
    let waiting = Job { deliver_by: at(SHORT), ..job() };
    let ended = Job { deliver_by: at(SHORT), ..job() };
    let later = Job { deliver_by: at(LONG), ..job() };
    for job in [&running, &waiting, &ended, &later] {
        store.add(job).await;
    }
    store.take(&line()).await;
    store.end(&ended.id, ending_with_callback(&ended)).await.unwrap();
    eventually("both deadlines pass", || async {
        store.sweep(100).await.unwrap().expired.len() == 2
    })
    .await;
    let swept = store.sweep(100).await.unwrap();
    assert_eq!(swept.expired, [running.id.clone(), waiting.id.clone()]);
    assert_eq!(store.stage(&running.id).await, Stage::Running, "it is only told");
    store.end(&running.id, ending(&running, Status::Expired)).await.unwrap();
    let expired = store.sweep(100).await.unwrap().expired;
    assert_eq!(expired, std::slice::from_ref(&waiting.id));
    let lease = store.take(&line()).await;
    store.finish(&lease.token, ending(&waiting, Status::Succeeded)).await;
    assert!(store.sweep(100).await.unwrap().expired.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_does_no_more_of_each_kind_than_asked_for(#[case] kind: Kind) {
    let store = kind.open().await;
    for _ in 0..5 {
        store.add(&job()).await;
        store.add(&Job { deliver_by: Some(SystemClock.now()), ..job() }).await;
    }
    for (n, lease) in store.lease(&line(), 10, LONG).await.unwrap().iter().enumerate() {
        if n % 2 == 0 {
            let back = Verdict::Back { after: Duration::from_millis(1), progress: None };
            store.settle(&lease.token, back).await.unwrap();
        } else {
            store
                .renew(std::slice::from_ref(&lease.token), Duration::from_millis(1))
                .await
                .unwrap();
        }
    }
    let (mut due, mut freed) = (0, 0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while due < 5 || freed < 5 {
        assert!(tokio::time::Instant::now() < deadline, "{due} due, {freed} freed");
        let swept = store.sweep(2).await.unwrap();
        assert!(swept.due <= 2 && swept.freed <= 2 && swept.expired.len() <= 2, "{swept:?}");
        (due, freed) = (due + swept.due, freed + swept.freed);
    }
    assert_eq!((due, freed), (5, 5));
    assert_eq!(store.ready(&line()).await, 10);
}

/// Sweeps until so many jobs and groups are purged.
async fn purge(store: &Store, count: usize) {
    let purged = std::sync::atomic::AtomicUsize::new(0);
    eventually("all that is over is purged", || async {
        let swept = store.sweep(100).await.unwrap();
        purged.fetch_add(swept.purged, std::sync::atomic::Ordering::SeqCst) + swept.purged >= count
    })
    .await;
    assert_eq!(purged.into_inner(), count);
}

fn brief(ending: Ending) -> Ending {
    Ending { keep: SHORT, ..ending }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_purged_after_its_time(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..4).map(|_| job()).collect();
    for job in &jobs {
        store.add(job).await;
    }
    let [done, delivered, dead, kept] = &jobs[..] else { panic!("four jobs") };
    store.end(&done.id, brief(ending(done, Status::Cancelled))).await.unwrap();
    store.end(&delivered.id, brief(ending_with_callback(delivered))).await.unwrap();
    store.end(&dead.id, brief(ending_with_callback(dead))).await.unwrap();
    store.end(&kept.id, ending(kept, Status::Succeeded)).await.unwrap();
    purge(&store, 1).await;
    assert_eq!(store.stage(&delivered.id).await, Stage::Delivering, "something is left to do");

    for lease in store.lease(&Line::Deliver, 2, LONG).await.unwrap() {
        let verdict = if lease.token.id == dead.id.to_string() {
            Verdict::Undeliverable { log: attempt(1) }
        } else {
            Verdict::Delivered { log: attempt(1) }
        };
        store.settle(&lease.token, verdict).await.unwrap();
    }
    assert_eq!(store.depths().await.unwrap().dead, 1);
    purge(&store, 2).await;
    for job in [done, delivered, dead] {
        assert!(store.find(&job.id).await.unwrap().is_none());
    }
    assert_eq!(store.depths().await.unwrap().dead, 0);
    let filter = Filter { caller: "alice".to_owned(), limit: 10, ..Filter::default() };
    let page = store.page(&filter).await.unwrap();
    let listed: Vec<_> = page.jobs.iter().map(|record| &record.job.id).collect();
    assert_eq!((listed, page.next), (vec![&kept.id], None));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_job_is_not_purged(#[case] kind: Kind) {
    let store = kind.open().await;
    let (first, second) = (job(), job());
    for job in [&first, &second] {
        store.add(job).await;
        store.end(&job.id, brief(ending(job, Status::Failed))).await.unwrap();
    }
    // Replayed at once: should the purge have been faster, there is nothing to see here.
    let replayed = store.replay(&first.id, Replay::Run).await.unwrap();
    assert_eq!(replayed, spillway::queue::Replayed::Done);
    purge(&store, 1).await;
    store.sweep(100).await.unwrap();
    assert!(store.find(&second.id).await.unwrap().is_none());
    assert_eq!(store.stage(&first.id).await, Stage::Queued);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_group_and_its_jobs_are_kept_until_its_callback_is_made(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = group_of(2);
    let batch = Batch { jobs: jobs.clone(), group: Some(group.clone()), dedup: None };
    store.push(batch).await.unwrap();
    let other = job();
    let end = async |job: &Job| {
        let follows = GroupDelivery { id: group.id.clone(), delivery: Some(delivery()) };
        let group = job.group.as_ref().map(|_| follows);
        let ending = brief(Ending { group, ..ending(job, Status::Succeeded) });
        assert_eq!(store.end(&job.id, ending).await.unwrap(), Ended::Now);
    };
    let all_there = async || {
        let ids = [jobs[0].id.clone(), jobs[1].id.clone()];
        assert_eq!(store.find_all(&ids).await.unwrap().len(), 2);
    };
    end(&jobs[0]).await;
    store.add(&other).await;
    end(&other).await;
    purge(&store, 1).await;
    all_there().await;
    end(&jobs[1]).await;
    let other = Job { id: job().id, ..other };
    store.add(&other).await;
    end(&other).await;
    purge(&store, 1).await;
    all_there().await;
    let lease = store.take(&Line::Deliver).await;
    store.settle(&lease.token, Verdict::Delivered { log: attempt(1) }).await.unwrap();
    all_there().await;
    purge(&store, 3).await;
    assert!(store.find_group(&group.id).await.unwrap().is_none());
    for job in &jobs {
        assert!(store.find(&job.id).await.unwrap().is_none());
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_ran_out_while_nobody_was_answered_are_left_to_their_holders_for_a_while(
    #[case] kind: Kind,
) {
    let store = kind.open().await;
    let jobs = [job(), job()];
    for job in &jobs {
        store.add(job).await;
    }
    let leases = store.lease(&line(), 2, Duration::from_secs(1)).await.unwrap();
    let began = tokio::time::Instant::now();
    store.sweep(100).await.unwrap();
    // Nothing else can show that nobody sweeps.
    tokio::time::sleep(AWAY + Duration::from_millis(800)).await;
    assert_eq!(store.sweep(100).await.unwrap().freed, 0, "it is the first that answers");
    assert!(store.take_all(&line()).await.is_empty());
    let settled = store.finish(&leases[0].token, ending(&jobs[0], Status::Succeeded)).await;
    assert_eq!(settled, Settled::Done);
    eventually("the holder that does not come back loses its lease", || async {
        store.sweep(100).await.unwrap().freed == 1
    })
    .await;
    assert!(began.elapsed() >= AWAY + GRACE, "too soon: {:?}", began.elapsed());
    assert_eq!(store.take(&line()).await.losses, 1);
}
