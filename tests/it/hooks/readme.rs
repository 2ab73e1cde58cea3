//! The README's hooks, as they stand there, with what their services send.

use std::path::Path;
use std::process::Command;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::send;
use crate::support::receiver::Receiver;
use crate::support::spillway::{KEY, SCRIPTED, Spillway, embedded, settings};

const VARIABLES: [(&str, &str); 3] = [
    ("STRIPE_WEBHOOK_SECRET", "whsec_from_stripe"),
    ("GITHUB_WEBHOOK_SECRET", "It's a Secret to Everybody"),
    ("FORM_SECRET", "correct horse"),
];

/// The README's block of hooks.
fn block() -> String {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut blocks = readme.split("```toml\n").map(|rest| rest.split("```").next().unwrap());
    blocks.find(|block| block.contains("[hooks.")).unwrap().to_owned()
}

fn mac(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    spillway::domain::id::hex(&mac.finalize().into_bytes())
}

fn issue() -> String {
    json!({
        "action": "opened", "repository": { "full_name": "octo/shop" },
        "issue": { "number": 7, "title": "Charged twice", "body": "My card was charged twice." },
    })
    .to_string()
}

fn dispute() -> String {
    json!({
        "id": "evt_1", "object": "event", "type": "charge.dispute.created", "created": 1_700_000_000,
        "data": { "object": { "object": "dispute", "amount": 1_950, "currency": "eur", "reason": "duplicate", "charge": "ch_1" } },
    })
    .to_string()
}

#[tokio::test]
async fn each_of_the_readmes_hooks_does_what_is_said() {
    let receiver = Receiver::start();
    let hooks = block().replace("https://hooks.example.com", &receiver.url(""));
    let folder = tempfile::tempdir().unwrap();
    let text = settings(&embedded(folder.path()), &format!("{SCRIPTED}{hooks}"));
    let spillway = Spillway::start_with(&text, &VARIABLES);

    let body = dispute();
    let at = chrono::Utc::now().timestamp();
    let signature = format!("t={at},v1={}", mac("whsec_from_stripe", &format!("{at}.{body}")));
    let stripe =
        send(&spillway, "/v1/hooks/disputes", &[("Stripe-Signature", &signature)], body).await;
    assert_eq!(stripe.status, 202, "{}", stripe.body);
    receiver.until_taken(1).await;
    let posted = receiver.all()[0].clone();
    assert_eq!(
        (posted.target.as_str(), &posted.body["data"]["metadata"]),
        ("/disputes", &json!({ "charge": "ch_1" }))
    );
    let other = json!({ "id": "evt_2", "type": "charge.succeeded" }).to_string();
    let signature = format!("t={at},v1={}", mac("whsec_from_stripe", &format!("{at}.{other}")));
    let ignored =
        send(&spillway, "/v1/hooks/disputes", &[("Stripe-Signature", &signature)], other).await;
    assert_eq!((ignored.status, ignored.body["status"].as_str()), (200, Some("ignored")));

    let body = issue();
    let signature = format!("sha256={}", mac("It's a Secret to Everybody", &body));
    let headers = [
        ("X-Hub-Signature-256", signature.as_str()),
        ("X-GitHub-Event", "issues"),
        ("X-GitHub-Delivery", "d1"),
    ];
    let github = send(&spillway, "/v1/hooks/issues", &headers, body).await;
    assert_eq!(github.status, 202, "{}", github.body);
    receiver.until_taken(2).await;
    let posted = receiver.all()[1].clone();
    assert_eq!(
        (posted.target.as_str(), &posted.body["session"]),
        ("/issues", &json!("octo/shop#7"))
    );
    assert_eq!(posted.headers["x-secret"], "It's a Secret to Everybody");

    let form = "text=Where+is+my+order%3F&labels=shipping%2C+billing&email=a%40example.com";
    let headers =
        [("Content-Type", "application/x-www-form-urlencoded"), ("X-Form-Secret", "correct horse")];
    let contact = send(&spillway, "/v1/hooks/contact", &headers, form).await;
    assert_eq!(
        (contact.status, contact.body["status"].as_str()),
        (200, Some("succeeded")),
        "{}",
        contact.body
    );
    let nobody = send(&spillway, "/v1/hooks/contact", &headers[..1], form).await;
    assert_eq!(nobody.status, 401);
    let key =
        crate::support::http_client().get(format!("{}/v1/hooks", spillway.base())).bearer_auth(KEY);
    let list: Value = key.send().await.unwrap().json().await.unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
}

#[test]
fn the_readmes_lines_for_trying_a_hook_work() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let lines: Vec<&str> =
        readme.lines().filter(|line| line.starts_with("spillway hooks ")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("spillway.toml"), format!("{SCRIPTED}{}", block())).unwrap();
    std::fs::write(folder.path().join("issue.json"), issue()).unwrap();
    let run = |line: &str| {
        let line = line.replacen("spillway", env!("CARGO_BIN_EXE_spillway"), 1);
        Command::new("sh")
            .args(["-c", &line])
            .envs(VARIABLES)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let tried = run(lines[0]);
    let shown = String::from_utf8_lossy(&tried.stdout).into_owned();
    assert!(tried.status.success(), "{shown}{}", String::from_utf8_lossy(&tried.stderr));
    let input = r#"{"text":"Charged twice: My card was charged twice.","labels":["bug","question","billing"],"max_tags":2}"#;
    assert!(shown.contains(input) && shown.contains("session    octo/shop#7"), "{shown}");
    assert!(run(lines[1]).status.success());
}
