//! Groups: one callback when the last of many jobs has ended.

use std::time::Duration;

use rstest::rstest;
use spillway::domain::id::GroupId;
use spillway::domain::job::{Flow, Group, Job, Line, Stage};
use spillway::domain::result::Status;
use spillway::queue::{
    Batch, Delivery, Ended, Ending, GroupDelivery, GroupRecord, Item, Settled, Verdict,
};

use super::store::{Kind, LONG, SHORT, Store, attempt, delivery, ending, group_of, ids, job, line};

/// Stores a group of so many jobs.
async fn add_group(store: &Store, count: usize) -> (Group, Vec<Job>) {
    let (group, jobs) = group_of(count);
    let batch = Batch { jobs: jobs.clone(), group: Some(group.clone()), dedup: None };
    store.push(batch).await.unwrap();
    (group, jobs)
}

async fn find(store: &Store, id: &GroupId) -> GroupRecord {
    store.find_group(id).await.unwrap().expect("the group is there")
}

/// The end of one job of a group.
fn member_ending(job: &Job, delivery: Option<Delivery>) -> Ending {
    let group = job.group.clone().map(|id| GroupDelivery { id, delivery });
    Ending { group, ..ending(job, Status::Succeeded) }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_found_with_what_is_left_of_it(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 3).await;
    let found = find(&store, &group.id).await;
    assert_eq!((found.left, found.stage), (3, Stage::Queued));
    assert!(found.deliveries.is_empty());
    assert_eq!(ids(&jobs), found.group.jobs.iter().map(ToString::to_string).collect::<Vec<_>>());

    let lease = store.take(&line()).await;
    store.finish(&lease.token, member_ending(&jobs[0], Some(delivery()))).await;
    let found = find(&store, &group.id).await;
    assert_eq!((found.left, found.stage), (2, Stage::Queued));
    assert!(store.take_all(&Line::Deliver).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn the_callback_is_due_when_the_last_job_has_ended_by_whatever_means(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 4).await;
    // Waiting, delayed, running: ended from outside. The last by its holder.
    let end = async |job: &Job| {
        let ending = Ending { status: Status::Cancelled, ..member_ending(job, Some(delivery())) };
        store.end(&job.id, ending).await.unwrap()
    };
    assert_eq!(end(&jobs[3]).await, Ended::Now);
    let delayed = store.take(&line()).await;
    store.settle(&delayed.token, Verdict::Back { after: LONG, progress: None }).await.unwrap();
    assert_eq!(end(&jobs[0]).await, Ended::Now);
    let running = store.take(&line()).await;
    assert_eq!(end(&jobs[1]).await, Ended::Now);
    let late = store.finish(&running.token, member_ending(&jobs[1], Some(delivery()))).await;
    assert_eq!(late, Settled::Stale);
    assert_eq!(end(&jobs[1]).await, Ended::Before);
    assert_eq!(find(&store, &group.id).await.left, 1, "nobody is counted twice");
    let last = store.take(&line()).await;
    assert_eq!(last.token.id, jobs[2].id.to_string());
    store.finish(&last.token, member_ending(&jobs[2], Some(delivery()))).await;

    let found = find(&store, &group.id).await;
    assert_eq!((found.left, found.stage), (0, Stage::Delivering));
    let lease = store.take(&Line::Deliver).await;
    let Item::Group(held) = &lease.item else { panic!("a group is due: {lease:?}") };
    assert_eq!(serde_json::to_string(&held).unwrap(), serde_json::to_string(&group).unwrap());
    assert_eq!((lease.token.id.as_str(), lease.tries), (group.id.as_str(), 0));
    assert!(store.take_all(&Line::Deliver).await.is_empty(), "exactly once");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_end_at_the_same_time_make_one_callback(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 40).await;
    let leases = store.lease(&line(), 20, LONG).await.unwrap();
    let settles = leases.iter().zip(&jobs).map(|(lease, job)| {
        let (queue, ending) = (store.shared(), member_ending(job, Some(delivery())));
        async move {
            let settled = queue.settle(&lease.token, Verdict::Finish(ending)).await.unwrap();
            assert_eq!(settled, Settled::Done);
        }
    });
    let ends = jobs[20..].iter().map(|job| {
        let (queue, ending) = (store.shared(), member_ending(job, Some(delivery())));
        async move { assert_eq!(queue.end(&job.id, ending).await.unwrap(), Ended::Now) }
    });
    tokio::join!(futures::future::join_all(settles), futures::future::join_all(ends));
    assert_eq!(store.take_all(&Line::Deliver).await, [group.id.to_string()]);
    assert_eq!(find(&store, &group.id).await.left, 0);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_a_callback_is_done_with_its_last_job(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 2).await;
    for job in &jobs {
        let lease = store.take(&line()).await;
        store.finish(&lease.token, member_ending(job, None)).await;
    }
    let found = find(&store, &group.id).await;
    assert_eq!((found.left, found.stage), (0, Stage::Done));
    assert!(store.take_all(&Line::Deliver).await.is_empty());
    assert!(!store.replay_group(&group.id).await.unwrap(), "it has no callback to repeat");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_groups_callback_waits_for_its_shortest_delay(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 1).await;
    let lease = store.take(&line()).await;
    let delivery = Delivery { flow: Flow::of(&["b:443"]), after: SHORT };
    store.finish(&lease.token, member_ending(&jobs[0], Some(delivery))).await;
    assert_eq!(find(&store, &group.id).await.stage, Stage::Delivering);
    assert_eq!(store.depths().await.unwrap().delayed, 1);
    let lease = store.take_soon(&Line::Deliver).await;
    assert_eq!(lease.token.id, group.id.to_string());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_groups_callback_is_retried_delivered_and_replayed(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 1).await;
    assert!(!store.replay_group(&group.id).await.unwrap(), "it has not ended");
    let lease = store.take(&line()).await;
    store.finish(&lease.token, member_ending(&jobs[0], Some(delivery()))).await;

    let lease = store.take(&Line::Deliver).await;
    store.lose(&lease.token).await;
    let lease = store.take(&Line::Deliver).await;
    assert_eq!((lease.losses, lease.tries), (1, 0));
    let logs = [attempt(1), attempt(2), attempt(3)];
    let again = Verdict::Redeliver { after: Duration::ZERO, log: logs[0].clone() };
    store.settle(&lease.token, again).await.unwrap();
    let lease = store.take(&Line::Deliver).await;
    assert_eq!(lease.tries, 1);
    let verdict = Verdict::Delivered { log: logs[1].clone() };
    assert_eq!(store.settle(&lease.token, verdict.clone()).await.unwrap(), Settled::Done);
    assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Stale);
    let found = find(&store, &group.id).await;
    assert_eq!((found.stage, &found.deliveries[..]), (Stage::Done, &logs[..2]));

    assert!(store.replay_group(&group.id).await.unwrap());
    assert_eq!(find(&store, &group.id).await.stage, Stage::Delivering);
    let lease = store.take(&Line::Deliver).await;
    assert_eq!((lease.losses, lease.tries), (0, 0), "as if for the first time");
    let verdict = Verdict::Delivered { log: logs[2].clone() };
    store.settle(&lease.token, verdict).await.unwrap();
    assert_eq!(find(&store, &group.id).await.deliveries, logs);
    assert!(!store.replay_group(&group_of(1).0.id).await.unwrap(), "it is not known");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_groups_callback_given_up_is_kept_dead_and_replayed(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 1).await;
    store.end(&jobs[0].id, member_ending(&jobs[0], Some(delivery()))).await.unwrap();
    let lease = store.take(&Line::Deliver).await;
    store.settle(&lease.token, Verdict::Undeliverable { log: attempt(1) }).await.unwrap();
    assert_eq!(find(&store, &group.id).await.stage, Stage::Dead);
    assert_eq!(store.depths().await.unwrap().dead, 1);
    assert!(store.replay_group(&group.id).await.unwrap());
    assert_eq!(store.depths().await.unwrap().dead, 0);
    let lease = store.take(&Line::Deliver).await;
    assert_eq!(lease.token.id, group.id.to_string());
    let late = store.finish(&lease.token, ending(&job(), Status::Failed)).await;
    assert_eq!(late, Settled::Stale, "a group is not run");
    let back = Verdict::Back { after: Duration::ZERO, progress: None };
    assert_eq!(store.settle(&lease.token, back).await.unwrap(), Settled::Done);
    assert_eq!(store.take_all(&Line::Deliver).await, [group.id.to_string()]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_have_its_own_callback_beside_the_groups(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = add_group(&store, 1).await;
    let ending = Ending { delivery: Some(delivery()), ..member_ending(&jobs[0], Some(delivery())) };
    store.end(&jobs[0].id, ending).await.unwrap();
    let mut due = store.take_all(&Line::Deliver).await;
    due.sort();
    assert_eq!(due, [group.id.to_string(), jobs[0].id.to_string()]);
}
