//! Making subscriptions, looking at them and ending them.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::{OTHER, subscribe};
use crate::jobs::{Store, start};
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::spillway::{KEY, SCRIPTED, Spillway, answer, embedded, settings};

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
