//! Every kind of body becomes the same input.

use rstest::rstest;
use serde_json::json;

use super::{send, text, with};
use crate::support::receiver::Receiver;

const OPEN: &str = r#"
[hooks.in]
task = "shown"
caller = "default"
auth = { scheme = "open" }
"#;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=----f";

/// What platforms send (captured from n8n, Zapier, Make, and forms), and what the task gets of it.
#[rstest]
#[case::json(
    JSON,
    r#"{"text":"a","count":2,"urgent":true,"tags":["x"],"who":{"name":"n"}}"#,
    "a|2|true|x|n"
)]
#[case::typed_as_texts(
    "application/json; charset=utf-8",
    r#"{"text":5,"count":"200","urgent":"true","tags":"x, y","who":"{\"name\":\"n\"}"}"#,
    "5|200|true|x;y|n"
)]
#[case::empty_texts(JSON, r#"{"text":"a","count":"","urgent":"","tags":"","who":""}"#, "a||||")]
#[case::one_for_a_list(JSON, r#"{"text":"a","tags":"x","count":null}"#, "a|||x|")]
#[case::another_label("text/plain; charset=iso-8859-1", r#"{"text":"ü"}"#, "ü||||")]
#[case::flat_keys(JSON, r#"{"text":"a","who__name":"n","tags[]":["x","y"]}"#, "a|||x;y|n")]
#[case::dotted(JSON, r#"{"text":"a","who.name":"n","tags.0":"x","tags.1":"y"}"#, "a|||x;y|n")]
#[case::form(
    FORM,
    "text=a%26b%3D%C3%BC&count=5&urgent=on&tags%5B0%5D=x&tags%5B1%5D=y&who%5Bname%5D=n",
    "a&b=ü|5|true|x;y|n"
)]
#[case::form_repeated(FORM, "text=a&tags=x&tags=y&who__name=n", "a|||x;y|n")]
#[case::form_brackets(FORM, "text=a&tags[]=x&tags[]=y&urgent=&count=", "a|||x;y|")]
#[case::payload(FORM, "payload=%7B%22text%22%3A%22a%22%2C%22count%22%3A3%7D", "a|3|||")]
#[case::payload_and_more(FORM, "payload=%7B%22text%22%3A%22a%22%7D&count=3&text=b", "a|3|||")]
#[case::json_said_to_be_a_form(FORM, r#"{"text":"a=b&c","count":3}"#, "a=b&c|3|||")]
#[case::multipart(
    MULTIPART,
    "------f\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na\nb\r\n------f\r\n\
     Content-Disposition: form-data; name=\"who.name\"\r\n\r\nn\r\n------f--\r\n",
    "a"
)]
#[case::whole_item(
    JSON,
    r#"{"headers":{"host":"x"},"params":{},"query":{},"body":{"text":"a","count":"7"},
        "webhookUrl":"http://localhost:5678/webhook/x","executionMode":"production"}"#,
    "a|7|||"
)]
#[case::unknown_fields(JSON, r#"{"text":"a","more":{"b":1}}"#, "a||||")]
#[tokio::test]
async fn every_body_is_read(#[case] kind: &str, #[case] body: &str, #[case] expected: &str) {
    let (spillway, _folder) = with(OPEN);
    let taken = send(&spillway, "/v1/hooks/in", &[("content-type", kind)], body).await;
    assert_eq!(text(&spillway, &taken.id()).await, expected);
    assert!(taken.body["status_url"].as_str().unwrap().contains("/v1/jobs/"), "{}", taken.body);
}

#[tokio::test]
async fn text_alone_is_the_bodys_text_and_what_no_task_knows_goes_whole() {
    let (spillway, _folder) = with(
        r##"
[tasks.said]
route = "cheap"
output_schema = false
template = "#scripted:say {{ text }}"
[hooks.said]
task = "said"
caller = "default"
auth = { scheme = "open" }
"##,
    );
    let plain =
        send(&spillway, "/v1/hooks/said", &[("content-type", "text/plain")], "hello you").await;
    assert_eq!(text(&spillway, &plain.id()).await, "hello you");
    let foreign = send(&spillway, "/v1/hooks/said", &[], r#"{"order":{"id":7}}"#).await;
    assert_eq!(text(&spillway, &foreign.id()).await, r#"{"order":{"id":7}}"#);
    let warnings = foreign.body["warnings"].to_string();
    assert!(warnings.contains("[hooks.said]"), "{warnings}");
    for (kind, body, status, word) in [
        ("application/json", "", 422, "text"),
        ("application/json", r#"{"text": "say "hi""}"#, 400, "line 1 column"),
        ("application/json", r#"{"text":""}"#, 422, "shorter"),
        ("multipart/form-data", "x", 400, "boundary"),
        ("application/x-www-form-urlencoded", r#"{"text": "say "hi""}"#, 400, "line 1 column"),
        ("application/octet-stream", "\u{1}", 415, "JSON, a form or text"),
    ] {
        let refused = send(&spillway, "/v1/hooks/said", &[("content-type", kind)], body).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.body);
        assert_eq!(refused.headers["content-type"], "application/problem+json");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{body}: {detail}");
    }
    let latin = send(&spillway, "/v1/hooks/said", &[], b"{\"text\":\"\xfc\"}".to_vec()).await;
    assert_eq!((latin.status, latin.body["code"].as_str()), (400, Some("not_utf8")));
    let huge = send(&spillway, "/v1/hooks/said", &[], vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(huge.status, 413);
}

#[tokio::test]
async fn a_list_is_a_group_with_one_callback() {
    let receiver = Receiver::start();
    let (spillway, _folder) = with(&format!(
        r#"
[hooks.rows]
task = "shown"
caller = "default"
auth = {{ scheme = "open" }}
when = "body.kind != 'test'"
idempotency_key = "{{{{ body.id }}}}"
input = {{ text = "row {{{{ body.id }}}}" }}
metadata = {{ row = "{{{{ body.id }}}}" }}
callback_url = "{}"
"#,
        receiver.url("/rows")
    ));
    let rows = json!([{ "id": 1 }, { "id": 2, "kind": "test" }, { "id": 3 }]).to_string();
    let taken = send(&spillway, "/v1/hooks/rows", &[], rows.clone()).await;
    assert_eq!(
        (taken.status, taken.body["object"].as_str()),
        (202, Some("group")),
        "{}",
        taken.body
    );
    receiver.until_taken(1).await;
    let results = receiver.all()[0].body["data"]["results"].clone();
    let told: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["text"].clone(), one["metadata"]["row"].clone()))
        .collect();
    assert_eq!(told, [(json!("row 1||||"), json!(1)), (json!("row 3||||"), json!(3))]);
    let again = send(&spillway, "/v1/hooks/rows", &[], rows).await;
    assert_eq!(again.body["id"], taken.body["id"]);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let none = send(&spillway, "/v1/hooks/rows", &[], r#"[{"kind":"test"}]"#).await;
    assert_eq!((none.status, none.body["status"].as_str()), (200, Some("ignored")));
    let many: Vec<_> = (0..1_001).map(|id| json!({ "id": id })).collect();
    let refused = send(&spillway, "/v1/hooks/rows", &[], json!(many).to_string()).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body["detail"].as_str().unwrap().contains("1000"), "{}", refused.body);
}

#[tokio::test]
async fn templates_see_body_headers_and_query_and_no_secret() {
    let receiver = Receiver::start();
    let (spillway, _folder) = with(&format!(
        r#"
[hooks.all]
task = "shown"
caller = "default"
auth = {{ scheme = "query", name = "token", secret = "a long secret" }}
workflow = "shop-{{{{ query.shop }}}}"
session = "{{{{ body.thread }}}}"
lane = "interactive"
deliver_within = "1h"
input = {{ text = "{{{{ headers['x-topic'] }}}} {{{{ query }}}} {{{{ headers.authorization }}}}", tags = "{{{{ body.tags }}}}" }}
metadata = {{ fixed = 1, nested = {{ id = "{{{{ body.id }}}}" }}, gone = "{{{{ body.gone }}}}" }}
callback_url = "{}/{{{{ body.id | urlencode }}}}"
callback = {{ body = "bare", headers = {{ "X-Secret" = "callbacks own" }} }}
"#,
        receiver.url("/done")
    ));
    let headers = [("X-Topic", "orders/create"), ("Authorization", "Bearer private")];
    let body = json!({ "id": "a b&c", "thread": 17, "tags": ["x", "y"] }).to_string();
    let path = "/v1/hooks/all?shop=7&token=a+long+secret";
    let id = send(&spillway, path, &headers, body).await.id();
    let job = spillway.finished(&id).await;
    assert_eq!(job["text"], r#"orders/create {"shop": "7"} |||x;y|"#);
    assert_eq!((&job["workflow"], &job["session"]), (&json!("shop-7"), &json!("17")));
    assert_eq!(job["metadata"], json!({ "fixed": 1, "nested": { "id": "a b&c" } }));
    receiver.until_taken(1).await;
    let posted = &receiver.all()[0];
    assert_eq!(posted.target, "/done/a%20b%26c");
    assert_eq!(
        (posted.headers["x-secret"].as_str(), &posted.body["id"]),
        ("callbacks own", &json!(id))
    );
    assert!(!spillway.log().contains("long secret"));
}

#[tokio::test]
async fn an_answer_comes_with_the_status_and_the_result_that_was_asked_for() {
    let (spillway, _folder) = with(
        r#"
[hooks.quiet]
task = "shown"
auth = { scheme = "open" }
answer = 204
[hooks.plain]
task = "shown"
auth = { scheme = "open" }
answer = 200
[hooks.waiting]
task = "shown"
auth = { scheme = "open" }
wait = "20s"
"#,
    );
    let body = r#"{"text":"a"}"#;
    let quiet = send(&spillway, "/v1/hooks/quiet", &[], body).await;
    assert_eq!((quiet.status, quiet.body.as_str()), (204, Some("")));
    assert!(quiet.headers["location"].starts_with("/v1/jobs/"));
    let plain = send(&spillway, "/v1/hooks/plain", &[], body).await;
    assert_eq!((plain.status, plain.body["status"].as_str()), (200, Some("queued")));
    let waiting = send(&spillway, "/v1/hooks/waiting", &[], body).await;
    assert_eq!((waiting.status, waiting.body["text"].as_str()), (200, Some("a||||")));
    // Nobody but the hook's own caller sees the job.
    let (status, _) = spillway.get(&quiet.headers["location"]).await;
    assert_eq!(status, 404);
}
