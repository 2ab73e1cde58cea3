//! Callbacks as n8n's waiting executions need them: tried again soon, taken once, posted by nobody twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde_json::json;

use crate::jobs::{Store, start};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::RedisServer;
use crate::support::spillway::{SCRIPTED, Spillway, settings, signal};

const STARTED: &str = r#"{"message":"Workflow was started"}"#;
const RUNNING: &str = r#"{"code":0,"message":"The execution \"7\" is running already."}"#;
const FINISHED: &str = r#"{"code":0,"message":"The execution \"7 has finished already."}"#;
const EDITOR: &str = "<!DOCTYPE html><html><head><title>n8n.io</title></head></html>";
const PUT_OFF: &str = "n8n is starting up. Please wait";
const DOUBLE: &str = r#"{"code":0,"message":"There was a problem executing the workflow"}"#;

/// An execution: it can be resumed once, some time after it was called first.
fn execution(waits_after: Duration) -> Receiver {
    let state: Mutex<HashMap<String, (Instant, bool)>> = Mutex::default();
    Receiver::answering(move |_, target| {
        let mut all = state.lock().unwrap();
        let (since, resumed) = all.entry(target.to_owned()).or_insert((Instant::now(), false));
        if *resumed {
            return (409, FINISHED.to_owned());
        }
        if since.elapsed() < waits_after {
            return (409, RUNNING.to_owned());
        }
        *resumed = true;
        (200, STARTED.to_owned())
    })
}

async fn until_done(spillway: &Spillway, id: &str) -> serde_json::Value {
    let path = format!("/v1/jobs/{id}/deliveries");
    eventually("the callback is done", || async { spillway.get(&path).await.1["stage"] == "done" })
        .await;
    spillway.get(&path).await.1
}

#[tokio::test]
async fn an_execution_that_is_not_waiting_yet_is_resumed_a_moment_later_and_once() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = execution(Duration::from_millis(300));
    for number in 0..20 {
        let target = format!("/webhook-waiting/{number}?signature=0123456789abcdef");
        let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url(&target) });
        let id = spillway.submit(&body).await;
        let log = until_done(&spillway, &id).await;
        let attempts = log["attempts"].as_array().unwrap();
        let at = |index: usize| {
            let text = attempts[index]["at"].as_str().unwrap();
            chrono::DateTime::parse_from_rfc3339(text).unwrap()
        };
        let pauses: Vec<i64> = (1..attempts.len())
            .map(|index| (at(index) - at(index - 1)).num_milliseconds())
            .collect();
        for (pause, planned) in pauses.iter().zip([100, 200, 400]) {
            // A tenth less at the least; later by a tenth, a sweep and what the machine is busy.
            assert!((planned * 9 / 10..planned * 11 / 10 + 400).contains(pause), "{pauses:?}");
        }
        assert!((2..=4).contains(&attempts.len()), "{log}");
        assert!(pauses.iter().sum::<i64>() < 2_000, "{pauses:?}");
        let statuses: Vec<_> = receiver
            .all()
            .iter()
            .filter(|one| one.target == target)
            .map(|one| one.answered)
            .collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
        assert_eq!(statuses.last(), Some(&200), "never called again");
    }
}

#[tokio::test]
async fn an_n8n_that_starts_up_is_waited_for_and_one_that_had_it_ends_the_delivery() {
    let (spillway, _folder) = start(Store::Embedded, SCRIPTED);
    let receiver = Receiver::answering(|before, target| match (target, before) {
        ("/starting", 0) => (200, PUT_OFF.to_owned()),
        ("/starting", 1..=2) => (404, EDITOR.to_owned()),
        ("/starting", 3) => (500, String::new()),
        ("/double", 0) => (500, DOUBLE.to_owned()),
        ("/double", _) => (409, FINISHED.to_owned()),
        _ => (200, STARTED.to_owned()),
    });
    for (target, answers) in
        [("/starting", &[200, 404, 404, 500, 200][..]), ("/double", &[500, 409][..])]
    {
        let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url(target) });
        let id = spillway.submit(&body).await;
        let log = until_done(&spillway, &id).await;
        let statuses: Vec<_> =
            log["attempts"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
        assert_eq!(statuses, answers, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_url_is_not_called_again_when_redis_is_away_before_that_is_written_down() {
    let redis = RedisServer::start(&[]);
    let more = format!("{SCRIPTED}\n[engine]\nlease = \"2s\"");
    let settings = settings(&format!("url = \"{}\"", redis.url()), &more);
    let replicas = [Spillway::start(&settings), Spillway::start(&settings)];
    let pid = redis.pid();
    // Redis stops in the very moment that the execution is resumed.
    let receiver = Receiver::answering(move |before, _| {
        if before == 0 {
            signal(pid, "STOP");
            return (200, STARTED.to_owned());
        }
        (409, FINISHED.to_owned())
    });
    let body =
        json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/w?signature=s") });
    let id = replicas[0].submit(&body).await;
    receiver.until_taken(1).await;
    // Longer than the lease, and than nobody is answered for without being noticed.
    tokio::time::sleep(Duration::from_secs(7)).await;
    signal(pid, "CONT");
    let log = until_done(&replicas[1], &id).await;
    assert_eq!(log["attempts"].as_array().unwrap().len(), 1, "{log}");
    assert_eq!(receiver.all().len(), 1);
}

/// Posts under way by their ids, the most at a time of any, and how many were made.
#[derive(Default)]
struct Overlaps {
    under_way: HashMap<String, usize>,
    most: usize,
    posts: HashMap<String, usize>,
}

async fn slow(seen: Data<Mutex<Overlaps>>, request: HttpRequest) -> HttpResponse {
    let id = request.headers().get("webhook-id").unwrap().to_str().unwrap().to_owned();
    {
        let mut seen = seen.lock().unwrap();
        let now = seen.under_way.entry(id.clone()).or_default();
        *now += 1;
        let now = *now;
        seen.most = seen.most.max(now);
        *seen.posts.entry(id.clone()).or_default() += 1;
    }
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    *seen.lock().unwrap().under_way.get_mut(&id).unwrap() -= 1;
    HttpResponse::Ok().body(STARTED)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_never_post_the_same_delivery() {
    let redis = RedisServer::start(&[]);
    // Every post outlasts its first lease.
    let more = format!("{SCRIPTED}\n[engine]\nlease = \"1s\"");
    let settings = settings(&format!("url = \"{}\"", redis.url()), &more);
    let replicas = [Spillway::start(&settings), Spillway::start(&settings)];
    let seen = Data::from(Arc::new(Mutex::new(Overlaps::default())));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let state = seen.clone();
    std::thread::spawn(move || {
        let app = move || App::new().app_data(state.clone()).default_service(web::to(slow));
        let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap();
        actix_web::rt::System::new().block_on(server.run())
    });
    let mut ids = Vec::new();
    for number in 0..100 {
        let body = json!({ "task": "tag", "input": "x", "callback_url": url });
        ids.push(replicas[number % 2].submit(&body).await);
    }
    for id in &ids {
        until_done(&replicas[0], id).await;
    }
    let seen = seen.lock().unwrap();
    assert_eq!((seen.most, seen.posts.len()), (1, 100));
    assert!(seen.posts.values().all(|posts| *posts == 1), "{:?}", seen.posts);
}
