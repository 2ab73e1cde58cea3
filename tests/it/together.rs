//! Jobs that share a prefix leave together while the cache is warm: over the real binary, with a
//! provider that has a prompt cache and forgets soon.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::redis::RedisServer;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::{Spillway, embedded, settings};

const DOCUMENTS: usize = 16;
const QUESTIONS: usize = 4;

/// A question about a document. In two parts it can be seen where the document ends; in one nobody
/// knows what two questions have in common, and each job goes when it is the oldest.
fn question(document: usize, question: usize, in_parts: bool) -> Value {
    let text = format!("Document {document}. {}", format!("word {document} ").repeat(800));
    let asked = format!("Question {question}?");
    let content = if in_parts {
        json!([{ "type": "text", "text": text }, { "type": "text", "text": asked }])
    } else {
        json!(format!("{text}\n{asked}"))
    };
    json!({
        "task": "chat", "lane": "standard", "workflow": "papers",
        "input": { "messages": [{ "role": "user", "content": content }] },
    })
}

/// The share of tokens read from the cache when every document is asked each question in turn.
async fn share_read(store: &str, in_parts: bool, at_once: usize) -> f64 {
    let cache = json!({ "mode": "automatic", "ttl": "600ms" });
    // Ten answers a second: by age a document comes again after 1.6 s.
    let latency = format!("{}ms", 100 * at_once);
    let server = ScriptedServer::start(&json!({ "latency": latency, "cache": cache }));
    let more = format!(
        "[accounts.main]\nprovider = \"openai-compatible\"\nbase_url = \"{}/v1\"\napi_key = \"none\"\n\
         [engine]\nconcurrency = {at_once}\n\
         [[prices]]\nprovider = \"openai-compatible\"\nmodel = \"*\"\ninput = 3.0\noutput = 15.0\n\
         [routes.cheap]\nsteps = [\"main/tiny-1\"]\n[routes.premium]\nsteps = [\"main/tiny-1\"]\n",
        server.url()
    );
    let spillway = Spillway::start(&settings(store, &more));
    let jobs: Vec<Value> = (0..QUESTIONS)
        .flat_map(|asked| (0..DOCUMENTS).map(move |document| question(document, asked, in_parts)))
        .collect();
    let (status, group) = spillway.post("/v1/groups", &json!({ "jobs": jobs })).await;
    assert_eq!(status, 202, "{group}");
    let path = format!("/v1/groups/{}", group["id"].as_str().unwrap());
    eventually("all are answered", || async {
        let (_, group) = spillway.get(&path).await;
        group["status"] != "running"
    })
    .await;
    let seen = server.stats().await;
    assert_eq!(seen["answered"], jobs.len());
    seen["cached_input_tokens"].as_f64().unwrap() / seen["input_tokens"].as_f64().unwrap()
}

#[rstest]
#[case::embedded(false)]
#[case::redis(true)]
#[tokio::test(flavor = "multi_thread")]
async fn more_is_read_from_the_cache_when_they_leave_together(
    #[case] on_redis: bool,
    #[values(1, 4)] at_once: usize,
) {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let servers = [RedisServer::start(&[]), RedisServer::start(&[])];
    let stores = [0, 1].map(|n| {
        let redis = format!("url = \"{}\"", servers[n].url());
        if on_redis { redis } else { embedded(folders[n].path()) }
    });
    let (together, apart) =
        tokio::join!(share_read(&stores[0], true, at_once), share_read(&stores[1], false, at_once));
    println!("{at_once} at once: {together:.2} read together, {apart:.2} by age");
    assert!(together > apart + 0.3, "{together:.2} together, {apart:.2} by age");
}
