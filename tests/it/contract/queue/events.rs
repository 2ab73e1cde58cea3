//! Events: what subscriptions are told of a job's end, made due in the same step.

use std::time::Duration;

use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::id::SubscriptionId;
use spillway::domain::job::{Flow, Job, Line, Stage};
use spillway::domain::result::{DeliveryAttempt, PostedEvent, Status};
use spillway::queue::{
    Batch, Delivery, Ended, Ending, Event, EventDelivery, GroupDelivery, Item, Lease, MOST_LOSSES,
    Replay, Replayed, Settled, Verdict,
};

use super::store::{
    AT_LEAST, IDS, Kind, LONG, SHORT, Store, attempt, delivery, ending, ending_with_callback,
    group_of, job, line,
};
use crate::support::eventually;

/// A subscription nobody else has.
fn subscription() -> SubscriptionId {
    IDS.subscription(SystemClock.now())
}

/// An event for this subscription, due at once.
fn event(subscription: &SubscriptionId) -> EventDelivery {
    EventDelivery {
        id: IDS.event(SystemClock.now()),
        subscription: subscription.clone(),
        delivery: Delivery { flow: Flow::of(&[subscription.as_str()]), after: Duration::ZERO },
    }
}

/// A job's end with these events.
fn telling(ending: Ending, events: &[EventDelivery]) -> Ending {
    Ending { events: events.to_vec(), ..ending }
}

/// A job that has ended with one event for each of these subscriptions.
async fn ended(store: &Store, to: &[SubscriptionId]) -> (Job, Vec<EventDelivery>) {
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    let events: Vec<_> = to.iter().map(event).collect();
    let ending = telling(ending(&job, Status::Succeeded), &events);
    assert_eq!(store.finish(&lease.token, ending).await, Settled::Done);
    (job, events)
}

/// The event somebody holds.
fn held(lease: &Lease) -> &Event {
    match &lease.item {
        Item::Event(event, _) => event,
        other => panic!("no event is held: {other:?}"),
    }
}

/// An attempt to post an event.
fn told(ms: u64, event: &EventDelivery) -> DeliveryAttempt {
    let posted = PostedEvent { id: event.id.clone(), subscription: event.subscription.clone() };
    DeliveryAttempt { event: Some(posted), ..attempt(ms) }
}

fn names(events: &[EventDelivery]) -> Vec<String> {
    events.iter().map(|event| event.id.to_string()).collect()
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_due_with_the_jobs_result(#[case] kind: Kind) {
    let store = kind.open().await;
    let to = subscription();
    let (job, events) = ended(&store, std::slice::from_ref(&to)).await;
    assert_eq!(store.stage(&job.id).await, Stage::Done, "it has no callback");
    let lease = store.take(&Line::Deliver).await;
    let id = events[0].id.clone();
    assert_eq!(lease.token.id, id.to_string());
    assert_eq!((lease.losses, lease.tries), (0, 0));
    assert_eq!(held(&lease), &Event { id, job: job.id.clone(), subscription: to });
    let Item::Event(_, result) = &lease.item else { panic!("an event is held") };
    assert_eq!((result.status, &result.id), (Status::Succeeded, &job.id.to_string()));
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.open, depths.dead), (1, 0, 0));
    assert!(store.take_all(&Line::Deliver).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn every_end_has_its_events_and_none_but_the_end_that_counts(#[case] kind: Kind) {
    let store = kind.open().await;
    let to = [subscription()];
    let mut expected = Vec::new();
    // Waiting, delayed, held, lost too often: ended from outside.
    let jobs: Vec<Job> = (0..4).map(|_| job()).collect();
    for job in &jobs {
        store.add(job).await;
    }
    for _ in 0..MOST_LOSSES {
        let mut leases = store.lease(&line(), 1, LONG).await.unwrap();
        store.lose(&leases.remove(0).token).await;
    }
    let delayed = store.take(&line()).await;
    store.settle(&delayed.token, Verdict::back(LONG)).await.unwrap();
    let running = store.take(&line()).await;
    for job in &jobs {
        let events = [event(&to[0])];
        let ending = telling(ending(job, Status::Cancelled), &events);
        assert_eq!(store.end(&job.id, ending.clone()).await.unwrap(), Ended::Now);
        expected.extend(names(&events));
        let again = telling(ending, &[event(&to[0])]);
        assert_eq!(store.end(&job.id, again).await.unwrap(), Ended::Before);
    }
    let late = telling(ending(&jobs[2], Status::Succeeded), &[event(&to[0])]);
    assert_eq!(store.finish(&running.token, late).await, Settled::Stale);
    assert_eq!(store.take_all(&Line::Deliver).await, expected, "one each, in the order of ends");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn events_and_callback_do_not_wait_for_each_other(#[case] kind: Kind) {
    let store = kind.open().await;
    let to: Vec<_> = (0..3).map(|_| subscription()).collect();
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    let events: Vec<_> = to.iter().map(event).collect();
    store.finish(&lease.token, telling(ending_with_callback(&job), &events)).await;
    assert_eq!(store.ready(&Line::Deliver).await, 4);
    let leases = store.lease(&Line::Deliver, 10, LONG).await.unwrap();
    assert_eq!(leases.len(), 4);
    for lease in &leases {
        let verdict = match events.iter().find(|event| event.id.as_str() == lease.token.id) {
            Some(first) if first == &events[0] => {
                Verdict::Redeliver { after: LONG, log: told(1, first) }
            }
            Some(other) => Verdict::Delivered { log: told(2, other) },
            None => Verdict::Delivered { log: attempt(3) },
        };
        assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Done);
    }
    let record = store.record(&job.id).await;
    assert_eq!((record.stage, record.deliveries.len()), (Stage::Done, 1));
    let mut of: Vec<_> = record.events.into_iter().filter_map(|log| log.event).collect();
    of.sort_by(|one, other| one.id.cmp(&other.id));
    let expected = events.iter().filter_map(|event| told(0, event).event);
    assert_eq!(of, expected.collect::<Vec<_>>());
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.delayed), (0, 1));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_delayed_tried_again_and_gone_when_it_was_taken(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let began = tokio::time::Instant::now();
    let mut events = [event(&subscription())];
    events[0].delivery.after = SHORT;
    store.end(&job.id, telling(ending(&job, Status::Expired), &events)).await.unwrap();
    assert_eq!(store.depths().await.unwrap().delayed, 1);
    let lease = store.take_soon(&Line::Deliver).await;
    assert!(began.elapsed() >= AT_LEAST, "too soon");

    let again = Verdict::Redeliver { after: SHORT, log: told(1, &events[0]) };
    assert_eq!(store.settle(&lease.token, again.clone()).await.unwrap(), Settled::Done);
    assert_eq!(store.settle(&lease.token, again).await.unwrap(), Settled::Stale);
    let lease = store.take_soon(&Line::Deliver).await;
    assert_eq!((lease.tries, lease.token.id.as_str()), (1, events[0].id.as_str()));
    assert_eq!(
        store.settle(&lease.token, Verdict::back(Duration::ZERO)).await.unwrap(),
        Settled::Done
    );
    let lease = store.take(&Line::Deliver).await;
    assert_eq!(lease.tries, 1, "going back is no try");
    assert!(store.renew(std::slice::from_ref(&lease.token), LONG).await.unwrap().is_empty());

    let verdict = Verdict::Delivered { log: told(2, &events[0]) };
    assert_eq!(store.settle(&lease.token, verdict.clone()).await.unwrap(), Settled::Done);
    assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), Settled::Stale);
    assert_eq!(store.renew(std::slice::from_ref(&lease.token), LONG).await.unwrap(), [lease.token]);
    let tried: Vec<_> = store.record(&job.id).await.events.iter().map(|log| log.ms).collect();
    assert_eq!(tried, [1, 2]);
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.delayed, depths.dead), (0, 0, 0));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_not_given_up_because_those_who_post_it_vanish(#[case] kind: Kind) {
    let store = kind.open().await;
    let (job, _) = ended(&store, &[subscription()]).await;
    let mut first = None;
    for losses in 0..=MOST_LOSSES {
        let lease = store.take(&Line::Deliver).await;
        assert_eq!((lease.losses, lease.tries), (losses, 0));
        store.lose(&lease.token).await;
        first = first.or(Some(lease.token));
    }
    let lease = store.take(&Line::Deliver).await;
    let verdict = Verdict::Undeliverable { log: attempt(1) };
    let stale = store.settle(&first.unwrap(), verdict.clone()).await.unwrap();
    assert_eq!(stale, Settled::Stale, "another has it");
    let late = store.finish(&lease.token, ending(&job, Status::Failed)).await;
    assert_eq!(late, Settled::Stale, "an event is not run");
    store.lose(&lease.token).await;
    assert_eq!(
        store.settle(&lease.token, verdict).await.unwrap(),
        Settled::Done,
        "late, and nobody else has it"
    );
    assert!(store.take_all(&Line::Deliver).await.is_empty());
    assert_eq!(store.depths().await.unwrap().dead, 0, "an event given up is gone");
    assert_eq!(store.record(&job.id).await.status(), Status::Succeeded);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_kept_until_its_events_are_done(#[case] kind: Kind) {
    let store = kind.open().await;
    let to = [subscription(), subscription()];
    let job = job();
    store.add(&job).await;
    let events: Vec<_> = to.iter().map(event).collect();
    let ending = Ending { keep: SHORT, ..ending_with_callback(&job) };
    store.end(&job.id, telling(ending, &events)).await.unwrap();
    let leases = store.lease(&Line::Deliver, 10, LONG).await.unwrap();
    assert_eq!(leases.len(), 3);
    // The callback first, then one event after the other.
    let is_event = |lease: &&Lease| matches!(lease.item, Item::Event(..));
    let own = leases.iter().find(|lease| !is_event(lease)).unwrap();
    store.settle(&own.token, Verdict::Delivered { log: attempt(1) }).await.unwrap();
    let events: Vec<_> = leases.iter().filter(is_event).collect();
    for (lease, verdict) in events
        .iter()
        .zip([Verdict::Delivered { log: attempt(2) }, Verdict::Undeliverable { log: attempt(3) }])
    {
        tokio::time::sleep(2 * SHORT).await;
        assert_eq!(store.sweep(100).await.unwrap().purged, 0);
        assert!(store.find(&job.id).await.unwrap().is_some());
        store.settle(&lease.token, verdict).await.unwrap();
    }
    eventually("it is purged", || async {
        store.sweep(100).await.unwrap();
        store.find(&job.id).await.unwrap().is_none()
    })
    .await;
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_outlasts_events_and_a_dead_one_is_kept_too(#[case] kind: Kind) {
    let store = kind.open().await;
    for given_up in [false, true] {
        let job = job();
        store.add(&job).await;
        let events = [event(&subscription())];
        let ending = Ending { keep: SHORT, ..ending_with_callback(&job) };
        store.end(&job.id, telling(ending, &events)).await.unwrap();
        let mut leases = store.lease(&Line::Deliver, 10, LONG).await.unwrap();
        leases.sort_by_key(|lease| matches!(lease.item, Item::Event(..)));
        let verdict = if given_up {
            Verdict::Undeliverable { log: attempt(1) }
        } else {
            Verdict::Delivered { log: attempt(1) }
        };
        let (own, event) = (&leases[0].token, &leases[1].token);
        if given_up {
            store.settle(own, verdict).await.unwrap();
            assert_eq!(store.stage(&job.id).await, Stage::Dead);
            store.settle(event, Verdict::Delivered { log: attempt(2) }).await.unwrap();
        } else {
            store.settle(event, Verdict::Delivered { log: attempt(2) }).await.unwrap();
            tokio::time::sleep(2 * SHORT).await;
            assert_eq!(store.sweep(100).await.unwrap().purged, 0, "its callback is under way");
            store.settle(own, verdict).await.unwrap();
        }
        eventually("it is purged", || async {
            store.sweep(100).await.unwrap();
            store.find(&job.id).await.unwrap().is_none()
        })
        .await;
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_run_again_has_new_events_and_drops_those_nobody_took(#[case] kind: Kind) {
    let store = kind.open().await;
    let to: Vec<_> = (0..3).map(|_| subscription()).collect();
    let (job, _) = ended(&store, &to).await;
    // One waits, one is delayed, one is held.
    let delayed = store.take(&Line::Deliver).await;
    let again = Verdict::Redeliver { after: SHORT, log: attempt(1) };
    store.settle(&delayed.token, again).await.unwrap();
    let held = store.take(&Line::Deliver).await;
    assert_eq!(store.record(&job.id).await.events.len(), 1);
    assert_eq!(store.replay(&job.id, Replay::Run).await.unwrap(), Replayed::Done);
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.delayed, depths.open), (0, 0, 1));
    assert_eq!(store.ready(&Line::Deliver).await, 0);
    assert!(store.record(&job.id).await.events.is_empty());
    let late = Verdict::Delivered { log: attempt(2) };
    assert_eq!(store.settle(&held.token, late).await.unwrap(), Settled::Stale);

    let events: Vec<_> = to.iter().map(event).collect();
    let lease = store.take(&line()).await;
    let ending = telling(ending(&job, Status::Failed), &events);
    store.finish(&lease.token, ending).await;
    tokio::time::sleep(2 * SHORT).await;
    store.sweep(100).await.unwrap();
    let mut due = store.take_all(&Line::Deliver).await;
    due.sort();
    assert_eq!(due, names(&events));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_posted_again_leaves_its_events_alone(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = job();
    store.add(&job).await;
    let events = [event(&subscription())];
    store.end(&job.id, telling(ending_with_callback(&job), &events)).await.unwrap();
    let leases = store.lease(&Line::Deliver, 10, LONG).await.unwrap();
    let posted = store.replay(&job.id, Replay::Post(delivery())).await.unwrap();
    assert_eq!(posted, Replayed::Done);
    for lease in leases {
        let verdict = Verdict::Delivered { log: attempt(1) };
        let expected =
            if lease.token.id == events[0].id.as_str() { Settled::Done } else { Settled::Stale };
        assert_eq!(store.settle(&lease.token, verdict).await.unwrap(), expected);
    }
    assert_eq!(store.take_all(&Line::Deliver).await, [job.id.to_string()]);
    let gone = store.replay(&job.id, Replay::Post(delivery())).await.unwrap();
    assert_eq!(gone, Replayed::Done, "an event is not in its way");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_group_have_events_of_their_own(#[case] kind: Kind) {
    let store = kind.open().await;
    let (group, jobs) = group_of(2);
    let batch = Batch { jobs: jobs.clone(), group: Some(group.clone()), dedup: None };
    store.push(batch).await.unwrap();
    let to = subscription();
    let mut expected = Vec::new();
    for job in &jobs {
        let follows = GroupDelivery { id: group.id.clone(), delivery: Some(delivery()) };
        let events = [event(&to)];
        let brief = Ending { group: Some(follows), keep: SHORT, ..ending(job, Status::Succeeded) };
        store.end(&job.id, telling(brief, &events)).await.unwrap();
        expected.extend(names(&events));
    }
    expected.push(group.id.to_string());
    let leases = store.lease(&Line::Deliver, 10, LONG).await.unwrap();
    let mut due: Vec<_> = leases.iter().map(|lease| lease.token.id.clone()).collect();
    due.sort();
    assert_eq!(due, expected);
    // The group goes first; its jobs are kept for their events, and then no longer.
    for (place, id) in expected.iter().enumerate().rev() {
        let lease = leases.iter().find(|lease| lease.token.id == *id).unwrap();
        store.settle(&lease.token, Verdict::Delivered { log: attempt(1) }).await.unwrap();
        let left = place.min(2);
        eventually("what is told is purged", || async {
            store.sweep(100).await.unwrap();
            let ids: Vec<_> = jobs.iter().map(|job| job.id.clone()).collect();
            let there = store.find_all(&ids).await.unwrap().len();
            assert!(there >= left, "purged too early");
            there == left
        })
        .await;
    }
    assert!(store.find_group(&group.id).await.unwrap().is_none());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_take_turns(#[case] kind: Kind) {
    let store = kind.open().await;
    let (busy, quiet) = (subscription(), subscription());
    for _ in 0..10 {
        ended(&store, std::slice::from_ref(&busy)).await;
    }
    ended(&store, std::slice::from_ref(&quiet)).await;
    let first_two = store.lease(&Line::Deliver, 2, LONG).await.unwrap();
    assert!(first_two.iter().any(|lease| held(lease).subscription == quiet));
}
