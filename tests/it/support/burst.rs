//! A burst of jobs, and a provider over HTTP to bear it.

use futures::StreamExt;
use serde_json::json;

use super::scripted::ScriptedServer;
use super::spillway::Spillway;

/// Submits so many jobs at once, in turn to each replica; their ids.
pub(crate) async fn burst(replicas: &[&Spillway], count: usize, callback: &str) -> Vec<String> {
    futures::stream::iter(0..count)
        .map(|number| {
            let body = json!({
                "task": "tag", "input": format!("text {number}"),
                "workflow": format!("w{}", number % 5), "callback_url": callback,
            });
            let replica = replicas[number % replicas.len()];
            async move { replica.submit(&body).await }
        })
        .buffer_unordered(64)
        .collect()
        .await
}

/// Accounts that call a provider over HTTP, limited as given.
pub(crate) fn provider(server: &ScriptedServer, limits: &str) -> String {
    format!(
        r#"
[accounts.main]
provider = "openai-compatible"
base_url = "{}"
api_key = "none"
{limits}
[routes.cheap]
steps = ["main/tiny-1"]
patience = "1h"
[routes.premium]
steps = ["main/tiny-1"]
"#,
        server.url()
    )
}
