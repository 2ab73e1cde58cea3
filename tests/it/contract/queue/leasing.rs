//! Leases: who holds what, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::{Job, Stage};
use spillway::domain::result::Status;
use spillway::queue::{LeaseToken, Settled, Verdict};

use super::store::{AT_LEAST, Kind, LONG, SHORT, attempt, ending, held_job, ids, job, line};
use crate::support::eventually;

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_leased_job_is_running_and_nobody_elses(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    assert_eq!(lease.token.id, job.id.to_string());
    assert_eq!((lease.losses, lease.tries, lease.replays), (0, 0, 0));
    let (held, result) = held_job(&lease);
    assert_eq!(held.id, job.id);
    assert!(result.is_none());
    assert_eq!(store.stage(&job.id).await, Stage::Running);
    assert!(store.take_all(&line()).await.is_empty());
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.open, store.ready(&line()).await), (1, 1, 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_leased_than_asked_for(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..10).map(|_| job()).collect();
    for job in &jobs {
        store.add(job).await;
    }
    assert!(store.lease(&line(), 0, LONG).await.unwrap().is_empty());
    let first: Vec<String> =
        store.lease(&line(), 4, LONG).await.unwrap().into_iter().map(|l| l.token.id).collect();
    assert_eq!(first, ids(&jobs[..4]), "the oldest first");
    assert_eq!(store.take_all(&line()).await, ids(&jobs[4..]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn parallel_leasers_get_each_item_once(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..200).map(|_| job()).collect();
    for job in &jobs {
        store.add(job).await;
    }
    let leasers = (0..16).map(|n| {
        let queue = store.shared();
        async move {
            let mut mine = Vec::new();
            loop {
                let leases = queue.lease(&line(), 1 + n % 5, LONG).await.unwrap();
                if leases.is_empty() {
                    return mine;
                }
                mine.extend(leases.into_iter().map(|lease| lease.token.id));
            }
        }
    });
    let all: Vec<String> = futures::future::join_all(leasers).await.concat();
    assert_eq!(all.len(), 200);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), ids(&jobs).into_iter().collect());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_sent_back_takes_its_old_place(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..3).map(|_| job()).collect();
    for job in &jobs {
        store.add(job).await;
    }
    let lease = store.take(&line()).await;
    let back = Verdict::Back { after: Duration::ZERO, progress: None };
    assert_eq!(store.settle(&lease.token, back).await.unwrap(), Settled::Done);
    assert_eq!(store.stage(&jobs[0].id).await, Stage::Queued);
    let again = store.take(&line()).await;
    assert_eq!(again.token.id, lease.token.id, "still the oldest");
    assert!(again.token.epoch > lease.token.epoch);
    assert_eq!((again.losses, again.tries), (0, 0));
    assert_eq!(store.take_all(&line()).await, ids(&jobs[1..]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_sent_back_for_a_while_waits_that_long(#[case] kind: Kind) {
    let store = kind.open().await;
    let (first, second) = (job(), job());
    store.add(&first).await;
    store.add(&second).await;
    let lease = store.take(&line()).await;
    store.settle(&lease.token, Verdict::Back { after: LONG, progress: None }).await.unwrap();
    store.sweep(100).await.unwrap();
    assert_eq!(store.stage(&first.id).await, Stage::Queued);
    assert_eq!(store.depths().await.unwrap().delayed, 1);
    assert_eq!(store.take_all(&line()).await, ids([&second]));

    let third = job();
    store.add(&third).await;
    let lease = store.take(&line()).await;
    let sent_back = tokio::time::Instant::now();
    store.settle(&lease.token, Verdict::Back { after: SHORT, progress: None }).await.unwrap();
    assert!(store.take_all(&line()).await.is_empty());
    let again = store.take_soon(&line()).await;
    assert!(sent_back.elapsed() >= AT_LEAST, "too soon");
    assert_eq!((again.token.id, again.losses), (third.id.to_string(), 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_outlives_its_first_term(#[case] kind: Kind) {
    let store = kind.open().await;
    let (kept, lost) = (job(), job());
    store.add(&kept).await;
    store.add(&lost).await;
    let leases = store.lease(&line(), 2, SHORT).await.unwrap();
    let kept_token = leases[0].token.clone();
    let answer = store.renew(std::slice::from_ref(&kept_token), LONG).await.unwrap();
    assert_eq!(answer, []);
    eventually("the other lease runs out", || async {
        store.sweep(100).await.unwrap();
        store.stage(&lost.id).await == Stage::Queued
    })
    .await;
    assert_eq!(store.stage(&kept.id).await, Stage::Running);
    let tokens = [kept_token, leases[1].token.clone()];
    assert_eq!(store.renew(&tokens, LONG).await.unwrap(), tokens[1..]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn lost_leases_are_told_when_renewed(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..4).map(|_| job()).collect();
    for job in &jobs {
        store.add(job).await;
    }
    let leases = store.lease(&line(), 4, LONG).await.unwrap();
    let tokens: Vec<LeaseToken> = leases.into_iter().map(|lease| lease.token).collect();
    store.end(&jobs[0].id, ending(&jobs[0], Status::Cancelled)).await.unwrap();
    store.finish(&tokens[1], ending(&jobs[1], Status::Succeeded)).await;
    store
        .settle(&tokens[2], Verdict::Back { after: Duration::ZERO, progress: None })
        .await
        .unwrap();
    store.take(&line()).await;
    let mut asked = tokens.clone();
    asked.push(LeaseToken { id: job().id.to_string(), epoch: 1 });
    let mut lost = store.renew(&asked, LONG).await.unwrap();
    asked.remove(3);
    lost.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(lost, asked);
    assert!(store.renew(&[], LONG).await.unwrap().is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_returns_the_job_to_its_place(#[case] kind: Kind) {
    let store = kind.open().await;
    let (first, second) = (job(), job());
    store.add(&first).await;
    store.add(&second).await;
    let lease = store.take(&line()).await;
    store.lose(&lease.token).await;
    assert_eq!(store.stage(&first.id).await, Stage::Queued);
    let lost = store.renew(std::slice::from_ref(&lease.token), LONG).await.unwrap();
    assert_eq!(lost, [lease.token]);
    let again = store.take(&line()).await;
    assert_eq!((again.token.id, again.losses), (first.id.to_string(), 1));
    assert_eq!(store.take_all(&line()).await, ids([&second]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_settle_counts_as_long_as_nobody_holds_the_job(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    store.lose(&lease.token).await;
    let settled = store.finish(&lease.token, ending(&job, Status::Succeeded)).await;
    assert_eq!(settled, Settled::Done);
    assert_eq!(store.stage(&job.id).await, Stage::Done);
    assert!(store.take_all(&line()).await.is_empty(), "it is not handed out again");
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.open, store.ready(&line()).await), (0, 0, 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_return_counts_too(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    store.lose(&lease.token).await;
    let settled =
        store.settle(&lease.token, Verdict::Back { after: LONG, progress: None }).await.unwrap();
    assert_eq!(settled, Settled::Done);
    assert!(store.take_all(&line()).await.is_empty());
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.delayed, store.ready(&line()).await), (1, 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_settle_after_another_lease_is_stale(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let late = store.take(&line()).await;
    store.lose(&late.token).await;
    let holder = store.take(&line()).await;
    for verdict in [
        Verdict::Finish(ending(&job, Status::Failed)),
        Verdict::Back { after: Duration::ZERO, progress: None },
        Verdict::Delivered { log: attempt(1) },
    ] {
        assert_eq!(store.settle(&late.token, verdict).await.unwrap(), Settled::Stale);
    }
    assert_eq!(store.stage(&job.id).await, Stage::Running);
    let settled = store.finish(&holder.token, ending(&job, Status::Succeeded)).await;
    assert_eq!(settled, Settled::Done);
    assert_eq!(store.record(&job.id).await.status(), Status::Succeeded);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_settle_counts_once_and_only_for_what_is_known(#[case] kind: Kind) {
    let store = kind.open().await;
    let (first, second) = (job(), job());
    store.add(&first).await;
    let lease = store.take(&line()).await;
    assert_eq!(store.finish(&lease.token, ending(&first, Status::Succeeded)).await, Settled::Done);
    assert_eq!(store.finish(&lease.token, ending(&first, Status::Failed)).await, Settled::Stale);
    assert_eq!(store.record(&first.id).await.status(), Status::Succeeded);
    let unknown = LeaseToken { id: second.id.to_string(), epoch: 1 };
    assert_eq!(store.finish(&unknown, ending(&second, Status::Failed)).await, Settled::Stale);
    let odd = LeaseToken { id: String::new(), epoch: 0 };
    assert_eq!(store.finish(&odd, ending(&second, Status::Failed)).await, Settled::Stale);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_once(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    let back = Verdict::Back { after: LONG, progress: None };
    assert_eq!(store.settle(&lease.token, back.clone()).await.unwrap(), Settled::Done);
    assert_eq!(store.settle(&lease.token, back).await.unwrap(), Settled::Stale);
    let settled = store.finish(&lease.token, ending(&job, Status::Succeeded)).await;
    assert_eq!(settled, Settled::Stale);
    assert_eq!(store.depths().await.unwrap().delayed, 1);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_does_not_fit_what_is_held_is_stale(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    for verdict in [
        Verdict::Delivered { log: attempt(1) },
        Verdict::Redeliver { after: Duration::ZERO, log: attempt(1) },
        Verdict::Undeliverable { log: attempt(1) },
    ] {
        assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Stale);
    }
    assert_eq!(store.stage(&job.id).await, Stage::Running);
    assert!(store.renew(&[lease.token], LONG).await.unwrap().is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_measured_from_when_an_item_came_due(#[case] kind: Kind) {
    let store = kind.open().await;
    assert_eq!(store.depths().await.unwrap().oldest_due, Duration::ZERO);
    store.add(&job()).await;
    eventually("the job has waited for a while", || async {
        store.depths().await.unwrap().oldest_due >= SHORT
    })
    .await;
    let lease = store.take(&line()).await;
    assert_eq!(store.depths().await.unwrap().oldest_due, Duration::ZERO);
    store.settle(&lease.token, Verdict::Back { after: LONG, progress: None }).await.unwrap();
    assert_eq!(store.depths().await.unwrap().oldest_due, Duration::ZERO, "it is not due");
}
