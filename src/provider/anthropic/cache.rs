//! The marks that tell Anthropic up to where a prompt is worth keeping in its cache.

use serde_json::{Map, Value, json};

use crate::provider::json::list;

/// Asks for the prompt to be cached, unless the caller has said what is.
pub(super) fn mark(body: &mut Map<String, Value>) {
    if !is_marked(body) {
        body.insert("cache_control".to_owned(), json!({ "type": "ephemeral" }));
    }
}

/// Whether there is a mark in any of the places for one. Elsewhere, as in a tool's schema or its
/// input, the word means something of the caller's own.
fn is_marked(body: &Map<String, Value>) -> bool {
    let within = |name: &str| body.get(name).and_then(Value::as_array).into_iter().flatten();
    let blocks = within("messages").flat_map(|message| list(message, "/content"));
    let marks = |block: &Value| block.get("cache_control").is_some_and(|mark| !mark.is_null());
    let marked = |block: &Value| marks(block) || list(block, "/content").iter().any(marks);
    body.get("cache_control").is_some_and(|mark| !mark.is_null())
        || within("tools").chain(within("system")).any(marks)
        || blocks.into_iter().any(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_marked_unless_it_is_already() {
        let mark_of = json!({ "type": "ephemeral", "ttl": "1h" });
        let schema = json!({ "properties": { "cache_control": { "type": "string" } } });
        for (body, is_ours) in [
            (json!({ "messages": [{ "role": "user", "content": "Hi" }] }), true),
            (json!({ "cache_control": null, "system": "text", "messages": 7 }), true),
            (json!({ "tools": [{ "name": "t", "input_schema": schema }] }), true),
            (json!({ "cache_control": mark_of }), false),
            (json!({ "system": [{ "type": "text", "cache_control": mark_of }] }), false),
            (json!({ "tools": [{ "name": "t", "cache_control": mark_of }] }), false),
            (json!({ "messages": [{ "content": [{ "cache_control": mark_of }] }] }), false),
            (
                json!({ "messages": [{ "content": [{ "type": "tool_result",
                    "content": [{ "type": "text", "cache_control": mark_of }] }] }] }),
                false,
            ),
        ] {
            let mut marked = body.as_object().unwrap().clone();
            mark(&mut marked);
            let ours = marked.get("cache_control") == Some(&json!({ "type": "ephemeral" }));
            assert_eq!(ours, is_ours, "{body}");
            assert_eq!(Value::Object(marked) == body, !is_ours, "{body}");
        }
    }
}
