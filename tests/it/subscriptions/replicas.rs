//! Subscriptions over restarts, kills and several replicas.

use std::collections::{BTreeSet, HashMap};

use reqwest::Method;
use serde_json::json;

use super::{is_signed_with, subscribe, told};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, answer, embedded, settings};

#[tokio::test]
async fn a_restart_keeps_subscriptions_and_events() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&embedded(folder.path()), SCRIPTED);
    let mut spillway = Spillway::start(&settings);
    let receiver = Receiver::of_subscriptions(|before, target| match target {
        "/late" if before < 6 => (503, String::new()),
        _ => (200, String::new()),
    });
    let made = subscribe(&spillway, &json!({ "url": receiver.url("/late"), "name": "kept" })).await;
    let id = spillway.submit(&json!({ "task": "tag", "input": "x" })).await;
    eventually("it was tried", || async { receiver.all().len() >= 2 }).await;
    spillway.kill();
    let spillway = Spillway::start(&settings);
    let (_, list) = spillway.get("/v1/subscriptions").await;
    assert_eq!((&list["data"][0]["id"], &list["data"][0]["name"]), (&made["id"], &json!("kept")));
    receiver.until_taken(1).await;
    assert_eq!(told(&receiver, "/late").into_keys().collect::<Vec<_>>(), [id]);
    let ids: BTreeSet<_> = receiver.all().into_iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), 1, "the same event");
    assert!(is_signed_with(&receiver.all()[0], made["secret"].as_str().unwrap()));
}

/// Three subscriptions, and whom each is told of: jobs by whether their workflow is `odd` and their task
/// `plan`.
type Fits = fn((bool, bool)) -> bool;
const THREE: [(&str, Fits); 3] =
    [("/all", |_| true), ("/odd", |(odd, _)| odd), ("/plan", |(_, plan)| plan)];

async fn subscribe_three(spillway: &Spillway, receiver: &Receiver) {
    let filters = [
        json!({}),
        json!({ "workflows": ["odd"] }),
        json!({ "tasks": ["plan"], "statuses": ["succeeded"] }),
    ];
    for ((target, _), mut body) in THREE.into_iter().zip(filters) {
        body["url"] = json!(receiver.url(target));
        subscribe(spillway, &body).await;
    }
}

/// Submits so many groups of a hundred jobs; every job's id, and what it is.
async fn submit_groups(spillway: &Spillway, count: usize) -> HashMap<String, (bool, bool)> {
    let mut groups = Vec::new();
    for number in 0..count {
        let (odd, plan) = (number % 2 == 1, number % 3 == 0);
        let jobs: Vec<_> = (0..100).map(|n| json!({ "input": format!("{n}") })).collect();
        let (task, workflow) =
            (if plan { "plan" } else { "tag" }, if odd { "odd" } else { "even" });
        let body = json!({ "task": task, "workflow": workflow, "jobs": jobs });
        let (status, group) = spillway.post("/v1/groups", &body).await;
        assert_eq!(status, 202, "{group}");
        groups.push((format!("/v1/groups/{}", group["id"].as_str().unwrap()), (odd, plan)));
    }
    let mut sent = HashMap::new();
    for (path, of) in groups {
        let results = spillway.get(&path).await.1["results"].clone();
        let ids =
            results.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        sent.extend(ids.map(|id| (id, of)));
    }
    sent
}

/// Each subscription is told of each of its jobs by one event, and of no other.
async fn each_is_told_its_own(receiver: &Receiver, sent: &HashMap<String, (bool, bool)>) {
    for (target, fits) in THREE {
        let expected: BTreeSet<_> =
            sent.iter().filter(|(_, of)| fits(**of)).map(|(id, _)| id.clone()).collect();
        eventually("all are told", || async { told(receiver, target).len() >= expected.len() })
            .await;
        let told = told(receiver, target);
        assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), expected, "{target}");
        assert!(told.values().all(|ids| ids.len() == 1), "one event for each job at {target}");
    }
    let all = receiver.all();
    let events: BTreeSet<_> = all.iter().map(|one| (&one.id, &one.target)).collect();
    println!("{} events in {} posts", events.len(), all.len());
    assert_eq!(events.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), events.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_jobs_each_subscription_is_told_exactly_its_own_though_a_replica_is_killed() {
    let redis = RedisServer::start(&[]);
    let more = format!("{SCRIPTED}\n[engine]\nlease = \"2s\"");
    let settings = settings(&format!("url = \"{}\"", redis.url()), &more);
    let survivor = Spillway::start(&settings);
    let receiver = Receiver::of_subscriptions(|_, _| (200, String::new()));
    subscribe_three(&survivor, &receiver).await;
    // It reads what there is before it takes part.
    let mut killed = Spillway::start(&settings);
    let sent = submit_groups(&survivor, 10).await;
    eventually("some are told", || async { receiver.taken().len() > 200 }).await;
    killed.kill();
    assert_eq!(sent.len(), 1_000);
    each_is_told_its_own(&receiver, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_under_load_tells_each_its_own_once_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&embedded(folder.path()), SCRIPTED);
    let mut spillway = Spillway::start(&settings);
    let receiver = Receiver::of_subscriptions(|_, _| (200, String::new()));
    subscribe_three(&spillway, &receiver).await;
    let sent = submit_groups(&spillway, 4).await;
    eventually("some are told", || async { receiver.taken().len() > 50 }).await;
    spillway.kill();
    let _back = Spillway::start(&settings);
    each_is_told_its_own(&receiver, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_is_told_counts_on_the_other_a_moment_later() {
    let redis = RedisServer::start(&[]);
    let settings = settings(&format!("url = \"{}\"", redis.url()), SCRIPTED);
    let (one, other) = (Spillway::start(&settings), Spillway::start(&settings));
    let receiver = Receiver::of_subscriptions(|_, _| (200, String::new()));
    let made = subscribe(&one, &json!({ "url": receiver.url("/") })).await;
    let ended_by_the_other = |id: &String| {
        other.log().lines().any(|line| line.contains("job ended") && line.contains(id.as_str()))
    };
    let submit = async || {
        let id = one.submit(&json!({ "task": "tag", "input": "x" })).await;
        one.finished(&id).await;
        id
    };
    eventually("it is told of what the other ends", || async {
        let id = submit().await;
        ended_by_the_other(&id) && told(&receiver, "/").contains_key(&id)
    })
    .await;
    // Ended at the other, it is told no more of what the first ends either.
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let (status, _) = answer(other.request(Method::DELETE, &path)).await;
    assert_eq!(status, 204);
    eventually("it is told of nothing more", || async {
        let (before, id) = (receiver.all().len(), submit().await);
        !ended_by_the_other(&id) && receiver.all().len() == before
    })
    .await;
    assert_eq!(one.get(&path).await.0, 404);
}
