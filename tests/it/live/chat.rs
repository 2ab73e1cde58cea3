//! `POST /chat`: messages in, the one shape out.

use serde_json::{Value, json};

use super::Stage;
use crate::support::schema::check_result;

#[tokio::test]
async fn a_chat_is_answered_in_our_one_shape() {
    let stage = Stage::start();
    for (body, route) in [
        (json!({ "message": "Hi", "metadata": { "row": 17 }, "session": "s" }), None),
        (
            json!({ "model": "anthropic", "messages": [{ "role": "user", "content": "Hi" }] }),
            Some("anthropic"),
        ),
        (json!({ "route": "openai", "text": "Hi", "max_output_tokens": 9 }), Some("openai")),
    ] {
        let result = stage.ask("/chat", &body).await;
        check_result(&result);
        assert_eq!((&result["ok"], &result["text"]), (&json!(true), &json!("You said: Hi")));
        assert_eq!(result["attempts"].as_array().unwrap().len(), 1);
        if let Some(route) = route {
            assert_eq!(result["route"], route);
        } else {
            assert_eq!((&result["task"], &result["session"]), (&json!("chat"), &json!("s")));
            assert_eq!(result["metadata"], json!({ "row": 17 }));
        }
    }
    let tools = json!([{ "name": "weather", "parameters": { "type": "object" } }]);
    let asked = json!({ "model": "anthropic", "message": "Rain?", "tools": tools });
    let result = stage.ask("/chat", &asked).await;
    assert_eq!(result["tool_calls"][0]["arguments"], json!({ "city": "Paris" }));
}

#[tokio::test]
async fn what_is_wrong_is_a_problem() {
    let stage = Stage::start();
    for (body, status, code) in [
        (json!({}), 422, "invalid_request"),
        (json!({ "message": "x", "model": "nothing" }), 404, "model_not_found"),
        (json!({ "message": "x", "model": "openai-strict" }), 400, "rejected"),
        (json!({ "message": "x", "model": "openai", "max_cost_usd": 1e-12 }), 422, "over_budget"),
        (json!({ "message": "x", "model": "openai", "max_cost_usd": 0 }), 422, "invalid_request"),
    ] {
        let response = stage.send("/chat", &body).await;
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], code);
    }
}
