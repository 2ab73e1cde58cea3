//! Subscriptions: every end of a caller's jobs that matches is posted, signed, to each that asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use standardwebhooks::Webhook;

use crate::support::receiver::{Received, Receiver};
use crate::support::spillway::Spillway;

mod endpoints;
mod events;
mod replicas;

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
