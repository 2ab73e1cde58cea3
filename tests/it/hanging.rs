//! Receivers that accept and never answer hold up nobody else's callbacks.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use rstest::rstest;
use serde_json::json;

use crate::jobs::Store;
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::spillway::{SCRIPTED, Spillway, answer, settings};

/// Another caller's key.
const OTHER: &str = "sw_otherkey_0123456789abcdefghijABCDEFGHIJ";

/// Accepts on every loopback address and never answers.
struct Silent {
    port: u16,
    accepted: Arc<AtomicUsize>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for connection in listener.incoming() {
                held.push(connection);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, accepted }
    }

    /// One of many hosts.
    fn url(&self, number: usize) -> String {
        format!("http://127.0.1.{}:{}/", number + 1, self.port)
    }
}

async fn post_as_other(spillway: &Spillway, path: &str, body: &serde_json::Value, expected: u16) {
    let (status, told) = answer(spillway.request_as(OTHER, Method::POST, path).json(body)).await;
    assert_eq!(status, expected, "{told}");
}

/// A service whose posts hang for longer than the test may take.
fn start(store: Store) -> (Spillway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&store.settings(folder.path()), SCRIPTED);
    let environment =
        [("SPILLWAY_CALLBACKS__TIMEOUT", "10m"), ("SPILLWAY_ENGINE__DELIVERY_CONCURRENCY", "64")];
    (Spillway::start_with(&settings, &environment), folder)
}

/// A hundred callbacks are taken although another caller's posts hang, and go on hanging.
async fn mine_are_taken(spillway: &Spillway, silent: &Silent) {
    let hanging = || silent.accepted.load(Ordering::SeqCst);
    eventually("the other caller has all it can get", || async { hanging() == 48 }).await;
    let receiver = Receiver::start();
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        let body = json!({ "task": "tag", "input": "x", "callback_url": receiver.url("/") });
        ids.insert(spillway.submit(&body).await);
    }
    receiver.until_taken(100).await;
    assert_eq!(receiver.taken().into_keys().collect::<BTreeSet<_>>(), ids);
    assert_eq!(hanging(), 48, "three quarters of the slots, and no more");
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_subscriptions_that_hang_hold_up_nobody_else(#[case] store: Store) {
    let (spillway, _folder) = start(store);
    let silent = Silent::start();
    for number in 0..100 {
        let body = json!({ "url": silent.url(number) });
        post_as_other(&spillway, "/v1/subscriptions", &body, 201).await;
    }
    for _ in 0..5 {
        post_as_other(&spillway, "/v1/jobs", &json!({ "task": "tag", "input": "x" }), 202).await;
    }
    mine_are_taken(&spillway, &silent).await;
}

#[rstest]
#[case::embedded(Store::Embedded)]
#[case::redis(Store::Redis)]
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callbacks_that_hang_hold_up_nobody_else(#[case] store: Store) {
    let (spillway, _folder) = start(store);
    let silent = Silent::start();
    for number in 0..100 {
        let body = json!({ "task": "tag", "input": "x", "callback_url": silent.url(number) });
        post_as_other(&spillway, "/v1/jobs", &body, 202).await;
    }
    mine_are_taken(&spillway, &silent).await;
}
