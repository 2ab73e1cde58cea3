//! What services ask before they send anything.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::json;
use sha2::Sha256;

use super::{ask, send, with};

const HOOKS: &str = r#"
[hooks.meta]
task = "shown"
auth = { scheme = "github", secret = "the app's secret", verify_token = "a verify token" }
[hooks.slack]
task = "shown"
auth = { scheme = "slack", secret = "slack's secret" }
[hooks.graph]
task = "shown"
auth = { scheme = "query", name = "token", secret = "a long secret" }
"#;

fn signed(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    spillway::domain::id::hex(&mac.finalize().into_bytes())
}

#[tokio::test]
async fn meta_gets_its_challenge_for_the_token_alone() {
    let (spillway, _folder) = with(HOOKS);
    let get = async |hook: &str, token: &str| {
        let query = format!("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
        ask(&spillway, Method::GET, &format!("/v1/hooks/{hook}?{query}"), &[], Vec::new()).await
    };
    let right = get("meta", "a+verify+token").await;
    assert_eq!((right.status, right.body), (200, json!(1_158_201_444)));
    assert!(right.headers["content-type"].starts_with("text/plain"));
    assert_eq!(right.headers["x-content-type-options"], "nosniff");
    for (hook, token) in
        [("meta", "wrong"), ("meta", ""), ("slack", ""), ("none", "a+verify+token")]
    {
        assert_eq!(get(hook, token).await.status, 401, "{hook} {token}");
    }
    let bare = ask(&spillway, Method::GET, "/v1/hooks/meta", &[], Vec::new()).await;
    assert_eq!((bare.status, bare.headers["allow"].as_str()), (405, "POST, OPTIONS"));
}

#[tokio::test]
async fn slack_and_graph_are_answered_once_they_are_known() {
    let (spillway, _folder) = with(HOOKS);
    let body = r#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let at = chrono::Utc::now().timestamp().to_string();
    let signature = format!("v0={}", signed("slack's secret", &format!("v0:{at}:{body}")));
    let headers = [("X-Slack-Request-Timestamp", at.as_str()), ("X-Slack-Signature", &signature)];
    let answered = send(&spillway, "/v1/hooks/slack", &headers, body).await;
    let challenge = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P";
    assert_eq!((answered.status, answered.body), (200, json!({ "challenge": challenge })));
    assert_eq!(send(&spillway, "/v1/hooks/slack", &headers[..1], body).await.status, 401);

    let path = "/v1/hooks/graph?token=a+long+secret&validationToken=Validation%3A+%3Cb%3E";
    let graph = send(&spillway, path, &[], "").await;
    assert_eq!((graph.status, graph.body.as_str()), (200, Some("Validation: <b>")));
    assert_eq!(graph.headers["x-content-type-options"], "nosniff");
    let unknown = send(&spillway, "/v1/hooks/graph?validationToken=x", &[], "").await;
    assert_eq!(unknown.status, 401);
}

#[tokio::test]
async fn githubs_ping_and_cloudevents_question_are_answered() {
    let (spillway, _folder) = with(HOOKS);
    let body = r#"{"zen":"Design for failure.","hook_id":1}"#;
    let signature = format!("sha256={}", signed("the app's secret", body));
    let headers = [("X-GitHub-Event", "ping"), ("X-Hub-Signature-256", signature.as_str())];
    let ping = send(&spillway, "/v1/hooks/meta", &headers, body).await;
    assert_eq!((ping.status, ping.body["status"].as_str()), (200, Some("ignored")));
    assert_eq!(send(&spillway, "/v1/hooks/meta", &headers[..1], body).await.status, 401);
    let origin = [("WebHook-Request-Origin", "eventemitter.example.com")];
    for name in ["meta", "none"] {
        let path = format!("/v1/hooks/{name}");
        let options = ask(&spillway, Method::OPTIONS, &path, &origin, Vec::new()).await;
        assert_eq!(options.status, 200);
        assert_eq!(options.headers["webhook-allowed-origin"], "eventemitter.example.com");
        assert_eq!(options.headers["allow"], "POST");
    }
}
