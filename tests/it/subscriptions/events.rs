//! Whom a job's end is told to, and what becomes of what cannot be told.

use std::collections::BTreeSet;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::{is_signed_with, subscribe, taken, told};
use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::spillway::{SCRIPTED, answer};

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_jobs_end_is_told_to_each_subscription_beside_its_callback(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let receiver = Receiver::of_subscriptions(|_, _| (200, String::new()));
    let body = json!({ "url": receiver.url("/one?sig=secret"), "name": "n8n" });
    let one = subscribe(&spillway, &body).await;
    let two = subscribe(&spillway, &json!({ "url": receiver.url("/two") })).await;
    assert_eq!(one["object"], "subscription");
    assert_eq!(one["url"], receiver.url("/one?[redacted]"));
    assert_eq!((&one["name"], &one["statuses"]), (&json!("n8n"), &json!([])));
    let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/own") });
    let id = spillway.submit(&body).await;
    receiver.until_taken(3).await;

    let mut events = BTreeSet::new();
    for (target, made) in [("/one?sig=secret", &one), ("/two", &two)] {
        let [event] = &taken(&receiver, target)[..] else { panic!("one event at {target}") };
        assert!(event.id.starts_with("evt_"), "{}", event.id);
        assert_eq!(event.body["type"], "job.succeeded");
        assert_eq!(event.body["data"], spillway.finished(&id).await);
        let secrets = [&one, &two].map(|made| made["secret"].as_str().unwrap());
        let right: Vec<_> = secrets.iter().map(|secret| is_signed_with(event, secret)).collect();
        assert_eq!(right, [made == &one, made == &two], "its own secret and no other");
        events.insert(event.id.clone());
    }
    assert_eq!(events.len(), 2);
    let own = taken(&receiver, "/own").remove(0);
    assert_eq!(own.id, id, "the callback is what it was");

    eventually("all three attempts are shown", || async {
        let (_, log) = spillway.get(&format!("/v1/jobs/{id}/deliveries")).await;
        let of = log["events"].as_array().unwrap().iter();
        let shown: BTreeSet<String> =
            of.map(|attempt| attempt["event"]["id"].as_str().unwrap().to_owned()).collect();
        log["attempts"].as_array().unwrap().len() == 1 && shown == events
    })
    .await;
    let secret = one["secret"].as_str().unwrap();
    for path in [
        "/v1/subscriptions".to_owned(),
        format!("/v1/subscriptions/{}", one["id"].as_str().unwrap()),
    ] {
        let (_, shown) = spillway.get(&path).await;
        let shown = shown.to_string();
        assert!(!shown.contains(secret) && !shown.contains("sig=secret"), "{shown}");
    }
    let log = spillway.log();
    assert!(!log.contains(secret) && !log.contains("sig=secret"), "{log}");
}

#[tokio::test]
async fn only_jobs_that_match_are_told() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::of_subscriptions(|_, _| (200, String::new()));
    for (target, filter) in [
        ("/all", json!({})),
        ("/cancelled", json!({ "statuses": ["cancelled"] })),
        ("/plan", json!({ "tasks": ["plan"] })),
        ("/leads", json!({ "workflows": ["leads"], "tasks": ["tag", "plan"] })),
        ("/none", json!({ "workflows": ["leads"], "tasks": ["chat"] })),
    ] {
        let mut body = filter;
        body["url"] = json!(receiver.url(target));
        subscribe(&spillway, &body).await;
    }
    let tag = spillway.submit(&json!({ "task": "tag", "input": "x" })).await;
    let plan = spillway.submit(&json!({ "task": "plan", "input": "x", "workflow": "leads" })).await;
    for id in [&tag, &plan] {
        assert_eq!(spillway.finished(id).await["status"], "succeeded");
    }
    let body = json!({ "task": "tag", "input": "#scripted:slow 60s" });
    let cancelled = spillway.submit(&body).await;
    let (status, _) =
        answer(spillway.request(Method::DELETE, &format!("/v1/jobs/{cancelled}"))).await;
    assert_eq!(status, 200);
    let body = json!({ "task": "tag", "jobs": [{ "input": "a" }, { "input": "b" }] });
    let (_, group) = spillway.post("/v1/groups", &body).await;
    let path = format!("/v1/groups/{}", group["id"].as_str().unwrap());
    eventually("the group ends", || async { spillway.get(&path).await.1["status"] == "finished" })
        .await;
    let of_group: Vec<String> = spillway.get(&path).await.1["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["id"].as_str().unwrap().to_owned())
        .collect();
    receiver.until_taken(8).await;
    let jobs = |target| told(&receiver, target).into_keys().collect::<BTreeSet<_>>();
    let all: BTreeSet<_> = [&tag, &plan, &cancelled].into_iter().cloned().chain(of_group).collect();
    assert_eq!(jobs("/all"), all);
    assert_eq!(jobs("/cancelled"), BTreeSet::from([cancelled]));
    assert_eq!(jobs("/plan"), BTreeSet::from([plan.clone()]));
    assert_eq!(jobs("/leads"), BTreeSet::from([plan]));
    assert!(jobs("/none").is_empty());
    let kinds: BTreeSet<_> = taken(&receiver, "/cancelled")
        .iter()
        .map(|one| one.body["type"].clone().to_string())
        .collect();
    assert_eq!(kinds, BTreeSet::from(["\"job.cancelled\"".to_owned()]));
}

#[tokio::test]
async fn a_receiver_that_is_down_holds_nobody_back_and_gets_its_event_later() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::of_subscriptions(|before, target| match target {
        "/down" if before < 4 => (503, "later".to_owned()),
        _ => (200, String::new()),
    });
    for target in ["/down", "/up"] {
        subscribe(&spillway, &json!({ "url": receiver.url(target) })).await;
    }
    let id = spillway.submit(&json!({ "task": "tag", "input": "x" })).await;
    receiver.until_taken(2).await;
    assert_eq!(taken(&receiver, "/up").len(), 1);
    let all: Vec<_> = receiver.all().into_iter().filter(|one| one.target == "/down").collect();
    assert_eq!(all.iter().map(|one| one.answered).collect::<Vec<_>>(), [503, 503, 503, 503, 200]);
    let ids: BTreeSet<_> = all.iter().map(|one| &one.id).collect();
    assert_eq!(ids.len(), 1, "the same id on every try");
    eventually("every try is shown", || async {
        let (_, log) = spillway.get(&format!("/v1/jobs/{id}/deliveries")).await;
        log["stage"] == "done" && log["events"].as_array().unwrap().len() == 6
    })
    .await;
    let up = receiver.all().iter().position(|one| one.target == "/up").unwrap();
    let late = receiver.all().iter().rposition(|one| one.target == "/down").unwrap();
    assert!(up < late);
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_receiver_that_is_gone_ends_its_subscription(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let receiver = Receiver::of_subscriptions(|_, target| match target {
        "/gone" => (410, String::new()),
        _ => (200, String::new()),
    });
    let gone = subscribe(&spillway, &json!({ "url": receiver.url("/gone") })).await;
    let here = subscribe(&spillway, &json!({ "url": receiver.url("/here") })).await;
    let id = spillway.submit(&json!({ "task": "tag", "input": "x" })).await;
    eventually("the subscription is ended", || async {
        let (_, list) = spillway.get("/v1/subscriptions").await;
        let ids: Vec<_> =
            list["data"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        ids == [here["id"].clone()]
    })
    .await;
    let log = spillway.log();
    assert!(log.contains(gone["id"].as_str().unwrap()) && log.contains("410"), "{log}");
    let second = spillway.submit(&json!({ "task": "tag", "input": "y" })).await;
    eventually("the other goes on", || async {
        told(&receiver, "/here").into_keys().collect::<BTreeSet<_>>()
            == BTreeSet::from([id.clone(), second.clone()])
    })
    .await;
    assert_eq!(receiver.all().iter().filter(|one| one.target == "/gone").count(), 1);
}

#[tokio::test]
async fn what_was_not_told_before_unsubscribing_is_told_no_more() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::of_subscriptions(|_, _| (500, String::new()));
    let made = subscribe(&spillway, &json!({ "url": receiver.url("/") })).await;
    let id = spillway.submit(&json!({ "task": "tag", "input": "x" })).await;
    eventually("it was tried", || async { receiver.all().len() >= 2 }).await;
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let (status, _) = answer(spillway.request(Method::DELETE, &path)).await;
    assert_eq!(status, 204);
    eventually("the event is dropped", || async {
        let (_, log) = spillway.get(&format!("/v1/jobs/{id}/deliveries")).await;
        let last = log["events"].as_array().unwrap().last().cloned().unwrap_or_default();
        last["error"].as_str().is_some_and(|why| why.contains("subscription was ended"))
    })
    .await;
    let tries = receiver.all().len();
    let other = spillway.submit(&json!({ "task": "tag", "input": "y" })).await;
    spillway.finished(&other).await;
    assert_eq!(receiver.all().len(), tries);
}

#[tokio::test]
async fn a_job_run_again_is_told_again_and_one_posted_again_is_not() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::of_subscriptions(|_, _| (200, String::new()));
    let made = subscribe(&spillway, &json!({ "url": receiver.url("/events"), "callback": { "body": "bare", "headers": { "X-Own": "1" } } })).await;
    let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/own") });
    let id = spillway.submit(&body).await;
    receiver.until_taken(2).await;
    let replay = |what: &str| format!("/v1/jobs/{id}/replay?what={what}");
    assert_eq!(spillway.post(&replay("run"), &Value::Null).await.0, 202);
    receiver.until_taken(4).await;
    assert_eq!(spillway.post(&replay("post"), &Value::Null).await.0, 202);
    eventually("its callback is posted again", || async { taken(&receiver, "/own").len() == 3 })
        .await;
    let events = taken(&receiver, "/events");
    assert_eq!(events.iter().map(|one| &one.id).collect::<BTreeSet<_>>().len(), 2, "two fresh ids");
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!((&event.body["id"], event.headers["x-own"].as_str()), (&json!(id), "1"), "bare");
        assert!(is_signed_with(event, made["secret"].as_str().unwrap()));
    }
}
