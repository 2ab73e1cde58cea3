//! Who may send: every scheme, right, forged, stale, repeated and with a retired secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::json;
use sha2::Sha256;

use super::{Answered, ask, send, with};
use crate::support::spillway::{KEY, Spillway};

const HOOKS: &str = r#"
[hooks.key]
task = "shown"
[hooks.header]
task = "shown"
caller = "default"
auth = { scheme = "header", name = "X-Secret", secret = "correct horse", old_secrets = ["older horse"] }
[hooks.query]
task = "shown"
caller = "default"
auth = { scheme = "query", name = "token", secret = "correct horse" }
[hooks.standard]
task = "shown"
caller = "default"
auth = { scheme = "standard-webhooks", secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", old_secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }
[hooks.github]
task = "shown"
caller = "default"
auth = { scheme = "github", secret = "It's a Secret to Everybody" }
[hooks.stripe]
task = "shown"
caller = "default"
auth = { scheme = "stripe", secret = "whsec_stripe_test", tolerance = "1m" }
[hooks.slack]
task = "shown"
caller = "default"
auth = { scheme = "slack", secret = "8f742231b10e8888abcd99yyyzzz85a5" }
[hooks.shopify]
task = "shown"
caller = "default"
auth = { scheme = "hmac", name = "X-Shopify-Hmac-Sha256", encoding = "base64", secret = "hush, a secret" }
[hooks.open]
task = "shown"
auth = { scheme = "open" }
"#;

const BODY: &str = r#"{"text":"a","id":"evt_1"}"#;

fn mac(secret: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    spillway::domain::id::hex(bytes)
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

async fn sent(spillway: &Spillway, hook: &str, headers: &[(&str, &str)]) -> Answered {
    send(spillway, &format!("/v1/hooks/{hook}"), headers, BODY).await
}

/// Refused as everything is that nobody should send.
fn assert_refused(answered: &Answered, what: &str) {
    assert_eq!(
        (answered.status, answered.body["code"].as_str()),
        (401, Some("unauthorized")),
        "{what}"
    );
    let detail = answered.body["detail"].as_str().unwrap();
    assert!(detail.contains("spillway hooks test"), "{what}: {detail}");
}

#[tokio::test]
async fn api_keys_and_fixed_secrets() {
    let (spillway, _folder) = with(HOOKS);
    let bearer = format!("Bearer {KEY}");
    assert_eq!(sent(&spillway, "key", &[("Authorization", &bearer)]).await.status, 202);
    assert_eq!(sent(&spillway, "key", &[("X-API-Key", KEY)]).await.status, 202);
    for headers in [&[("Authorization", "Bearer sw_wrong")] as &[(&str, &str)], &[]] {
        assert_eq!(sent(&spillway, "key", headers).await.status, 401);
    }
    for secret in ["correct horse", "older horse", "Bearer correct horse"] {
        assert_eq!(
            sent(&spillway, "header", &[("x-secret", secret)]).await.status,
            202,
            "{secret}"
        );
    }
    for secret in ["correct", "correct horse battery", ""] {
        assert_refused(&sent(&spillway, "header", &[("x-secret", secret)]).await, secret);
    }
    assert_eq!(sent(&spillway, "query?token=correct%20horse", &[]).await.status, 202);
    assert_refused(&sent(&spillway, "query?token=wrong", &[]).await, "token");
    assert_refused(
        &sent(&spillway, "query", &[("Authorization", &bearer)]).await,
        "a key for a hook without",
    );
    assert_eq!(sent(&spillway, "open", &[]).await.status, 202);
    assert!(!spillway.log().contains("horse"), "{}", spillway.log());
}

#[tokio::test]
async fn signatures_hold_for_these_bytes_at_this_time() {
    let (spillway, _folder) = with(HOOKS);
    let secrets = ["C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
    let standard = |secret: &str, id: &str, at: i64| {
        let key = STANDARD.decode(secret).unwrap();
        let signature = STANDARD.encode(mac(&key, &[id, ".", &at.to_string(), ".", BODY]));
        (at.to_string(), format!("v1,{signature}"))
    };
    for (secret, id) in secrets.into_iter().zip(["msg_1", "msg_2"]) {
        let (at, signature) = standard(secret, id, now());
        let headers =
            [("webhook-id", id), ("webhook-timestamp", &at), ("webhook-signature", &signature)];
        let first = sent(&spillway, "standard", &headers).await.id();
        let again = sent(&spillway, "standard", &headers).await;
        assert_eq!((again.id(), again.headers["idempotency-replayed"].as_str()), (first, "true"));
        let forged = [("webhook-id", "msg_9"), headers[1], headers[2]];
        assert_refused(&sent(&spillway, "standard", &forged).await, "another id");
    }
    let (at, signature) = standard(secrets[0], "msg_3", now() - 600);
    let stale =
        [("webhook-id", "msg_3"), ("webhook-timestamp", &at), ("webhook-signature", &signature)];
    assert_refused(&sent(&spillway, "standard", &stale).await, "stale");

    let github = format!("sha256={}", hex(&mac(b"It's a Secret to Everybody", &[BODY])));
    let headers = [
        ("X-Hub-Signature-256", github.as_str()),
        ("X-GitHub-Delivery", "d1"),
        ("X-GitHub-Event", "issues"),
    ];
    let first = sent(&spillway, "github", &headers).await.id();
    assert_eq!(sent(&spillway, "github", &headers).await.id(), first);
    let other = [headers[0], ("X-GitHub-Delivery", "d2")];
    assert_ne!(sent(&spillway, "github", &other).await.id(), first);
    assert_refused(
        &sent(&spillway, "github", &[("X-Hub-Signature-256", "sha256=00")]).await,
        "github",
    );
    let changed = send(&spillway, "/v1/hooks/github", &headers, format!("{BODY} ")).await;
    assert_refused(&changed, "one more byte");

    let shopify = STANDARD.encode(mac(b"hush, a secret", &[BODY]));
    assert_eq!(
        sent(&spillway, "shopify", &[("x-shopify-hmac-sha256", &shopify)]).await.status,
        202
    );
    assert_refused(
        &sent(&spillway, "shopify", &[("x-shopify-hmac-sha256", "AAAA")]).await,
        "shopify",
    );

    let at = now().to_string();
    let slack =
        format!("v0={}", hex(&mac(b"8f742231b10e8888abcd99yyyzzz85a5", &["v0:", &at, ":", BODY])));
    let headers = [("X-Slack-Request-Timestamp", at.as_str()), ("X-Slack-Signature", &slack)];
    assert_eq!(sent(&spillway, "slack", &headers).await.status, 202);
    assert_refused(&sent(&spillway, "slack", &[headers[1]]).await, "slack");
    let log = spillway.log();
    for why in ["has no header `X-Slack-Request-Timestamp`", "does not match", "seconds off"] {
        assert!(log.contains(why), "{why}\n{log}");
    }
}

#[tokio::test]
async fn stripe_tries_again_with_another_time_and_the_same_event() {
    let (spillway, _folder) = with(HOOKS);
    let signed = |at: i64, secret: &[u8], body: &str| {
        format!("t={at},v1={},v0=00", hex(&mac(secret, &[&at.to_string(), ".", body])))
    };
    let deliver = async |at: i64, body: &str| {
        let header = signed(at, b"whsec_stripe_test", body);
        send(&spillway, "/v1/hooks/stripe", &[("Stripe-Signature", &header)], body).await
    };
    let first = deliver(now(), BODY).await.id();
    // A retry: another time, and a body that tells how many webhooks are pending.
    let retried = deliver(now() - 1, r#"{"text":"a","id":"evt_1","pending_webhooks":2}"#).await;
    assert_eq!(retried.id(), first);
    assert_ne!(deliver(now(), r#"{"text":"a","id":"evt_2"}"#).await.id(), first);
    assert_refused(&deliver(now() - 61, BODY).await, "older than the tolerance");
    let forged = signed(now(), b"whsec_other", BODY);
    assert_refused(&sent(&spillway, "stripe", &[("Stripe-Signature", &forged)]).await, "forged");
}

#[tokio::test]
async fn who_does_not_know_a_hook_learns_nothing_and_who_has_a_key_is_helped() {
    let (spillway, _folder) = with(HOOKS);
    let wrong = sent(&spillway, "github", &[("X-Hub-Signature-256", "sha256=00")]).await;
    let unknown = sent(&spillway, "githup", &[("X-Hub-Signature-256", "sha256=00")]).await;
    assert_eq!((wrong.status, wrong.body), (unknown.status, unknown.body));
    let key = [("X-API-Key", KEY)];
    let helped = sent(&spillway, "githup", &key).await;
    assert_eq!(helped.status, 404);
    assert!(helped.body["detail"].as_str().unwrap().contains("github"), "{}", helped.body);
    let list = ask(&spillway, Method::GET, "/v1/hooks", &key, Vec::new()).await;
    let github = list.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|hook| hook["name"] == "github")
        .unwrap()
        .clone();
    let url = format!("{}/v1/hooks/github", spillway.base());
    assert_eq!(github, json!({ "name": "github", "task": "shown", "url": url, "auth": "github" }));
    assert!(!list.body.to_string().contains("Everybody"));
    assert_eq!(ask(&spillway, Method::GET, "/v1/hooks", &[], Vec::new()).await.status, 401);
}
