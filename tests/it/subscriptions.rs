//! Subscriptions: every end of a caller's jobs that matches is posted, signed, to each that asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::receiver::{Received, Receiver};
use crate::support::redis::RedisServer;
use crate::support::spillway::{KEY, SCRIPTED, Spillway, answer, embedded, settings};

/// Another caller's key.
const OTHER: &str = "sw_otherkey_0123456789abcdefghijABCDEFGHIJ";

/// A subscription that must be made, as it was told.
async fn subscribe(spillway: &Spillway, body: &Value) -> Value {
    let (status, made) = spillway.post("/v1/subscriptions", body).await;
    assert_eq!(status, 201, "{made}");
    made
}

/// What came to this target and was taken: by job, the events' ids.
fn told(receiver: &Receiver, target: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in taken(receiver, target) {
        let job = event.body["data"]["id"].as_str().unwrap().to_owned();
        told.entry(job).or_default().insert(event.id);
    }
    told
}

fn taken(receiver: &Receiver, target: &str) -> Vec<Received> {
    let is_taken = |one: &Received| one.target == target && (200..300).contains(&one.answered);
    receiver.all().into_iter().filter(is_taken).collect()
}

/// Whether an independent library finds the signature right.
fn is_signed_with(received: &Received, secret: &str) -> bool {
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, received.headers[name].parse().unwrap());
    }
    Webhook::new(secret).unwrap().verify(&received.bytes, &headers).is_ok()
}

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

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn what_cannot_be_subscribed_is_refused_with_what_to_do(#[case] store: Store) {
    let more = format!("{SCRIPTED}\n[plans.visitor]\ncalls_per_day = 9\n");
    let folder = tempfile::tempdir().unwrap();
    let url = match store {
        Store::Embedded => embedded(folder.path()),
        Store::Redis => {
            let prefix = crate::support::redis::unique_prefix();
            format!("url = \"{}\"\nprefix = \"{prefix}\"", RedisServer::shared().url())
        }
    };
    let settings = settings(&url, &more).replace("[auth]", "[auth]\nanonymous = \"visitor\"");
    let spillway = Spillway::start(&settings);
    let target = json!({ "url": "https://hooks.example.com/x" });
    for (body, code, hint) in [
        (json!({}), "invalid_request", "#/url"),
        (json!({ "url": "ftp://a.example" }), "invalid_callback", "https://"),
        (json!({ "url": "http://10.1.2.3/x" }), "invalid_callback", "allow_networks"),
        (
            json!({ "url": "https://a.example", "statuses": ["running"] }),
            "invalid_request",
            "succeeded",
        ),
        (
            json!({ "url": "https://a.example", "callback": { "headers": { "Host": "x" } } }),
            "invalid_callback",
            "host",
        ),
    ] {
        let (status, problem) = spillway.post("/v1/subscriptions", &body).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!(code)), "{body} {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(hint), "{problem}");
    }
    let client = crate::support::http_client();
    let path = format!("{}/v1/subscriptions", spillway.base());
    for request in [
        client.get(&path),
        client.post(&path).json(&target),
        client.delete(format!("{path}/sub_0_x")),
    ] {
        let (status, problem) = answer(request).await;
        assert_eq!((status.as_u16(), &problem["code"]), (401, &json!("unauthorized")));
        assert!(problem["detail"].as_str().unwrap().contains("spillway keys create"), "{problem}");
    }

    let made = subscribe(
        &spillway,
        &json!({ "url": "https://hooks.example.com/x", "tasks": ["tga"], "events": 1 }),
    )
    .await;
    let warnings = made["warnings"].to_string();
    assert!(warnings.contains("tga") && warnings.contains("events"), "{warnings}");
    let own = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    for method in [Method::GET, Method::DELETE] {
        let (status, problem) = answer(spillway.request_as(OTHER, method, &own)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")), "another's");
    }
    let (_, list) = answer(spillway.request_as(OTHER, Method::GET, "/v1/subscriptions")).await;
    assert_eq!(list, json!({ "object": "list", "data": [] }));

    let more = (0..100).map(|_| spillway.post("/v1/subscriptions", &target));
    let answers = futures::future::join_all(more).await;
    let full: Vec<_> = answers.iter().filter(|(status, _)| *status == 409).collect();
    assert_eq!(full.len(), 1, "99 had room");
    assert_eq!(full[0].1["code"], "subscriptions_full");
    assert!(full[0].1["detail"].as_str().unwrap().contains("DELETE /v1/subscriptions"));
    let (status, _) = answer(spillway.request(Method::DELETE, &own)).await;
    assert_eq!(status, 204);
    let (status, problem) = answer(spillway.request(Method::DELETE, &own)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")));
    subscribe(&spillway, &target).await;
    let (status, _) =
        answer(spillway.request_as(OTHER, Method::POST, "/v1/subscriptions").json(&target)).await;
    assert_eq!(status, 201, "another caller has its own room");
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

/// The README's lines as they stand, with our address for theirs, a key and a subscription to end.
#[tokio::test]
async fn the_readmes_curl_works_as_it_stands() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let target = json!({ "url": "https://hooks.example.com/other" });
    let ended = subscribe(&spillway, &target).await["id"].as_str().unwrap().to_owned();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let section = readme.split("\n### Subscriptions\n").nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let mut command = std::process::Command::new("sh");
    command.arg("-ec").arg(block.replace("http://127.0.0.1:8080", spillway.base()));
    command.env("SPILLWAY_KEY", KEY).env("SUBSCRIPTION", &ended);
    let run = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let told = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(run.status.success(), "{told:?}");
    let (_, list) = spillway.get("/v1/subscriptions").await;
    let [made] = &list["data"].as_array().unwrap()[..] else { panic!("one is left: {list}") };
    assert_eq!(
        (&made["name"], &made["statuses"]),
        (&json!("to the CRM"), &json!(["failed", "expired"]))
    );
    assert_eq!((&made["tasks"], &made["workflows"]), (&json!(["tag"]), &json!([])));
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

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test]
async fn a_request_that_is_repeated_under_its_key_makes_one_subscription(#[case] store: Store) {
    let (spillway, _folder) = start(store, SCRIPTED);
    let receiver = Receiver::of_subscriptions(|_, _| (200, String::new()));
    let ask = async |caller: &str, path: &str, idempotency_key: &str| {
        let request = spillway.request_as(caller, Method::POST, "/v1/subscriptions");
        let request = request.header("idempotency-key", idempotency_key);
        let answer = request.json(&json!({ "url": receiver.url(path) })).send().await.unwrap();
        let repeated = answer.headers().contains_key("idempotency-replayed");
        (answer.status().as_u16(), repeated, answer.json::<Value>().await.unwrap())
    };
    let (status, repeated, made) = ask(KEY, "/a", "one").await;
    assert_eq!((status, repeated), (201, false), "{made}");
    assert_eq!(ask(KEY, "/a", "\"one\"").await, (201, true, made.clone()), "secret and all");
    let (status, _, problem) = ask(KEY, "/b", "one").await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")));
    let (status, repeated, others) = ask(OTHER, "/a", "one").await;
    assert!(status == 201 && !repeated && others["id"] != made["id"], "{others}");
    let (_, list) = spillway.get("/v1/subscriptions").await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    // It is one, and tells of a job once.
    spillway.run(&json!({ "task": "tag", "input": "x" })).await;
    receiver.until_taken(1).await;
    // Once it has ended, the same request makes a new one.
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let ended = spillway.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(ended.status(), 204);
    let (status, repeated, anew) = ask(KEY, "/a", "one").await;
    assert!(status == 201 && !repeated, "{anew}");
    assert!(anew["id"] != made["id"] && anew["secret"] != made["secret"], "{anew}");
    assert_eq!(receiver.all().len(), 1);
}
