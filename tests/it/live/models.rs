//! What a call may name, and how many tokens it has.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Stage, message};
use crate::support::spillway::answer;

#[tokio::test]
async fn models_are_listed_in_the_form_that_is_asked_for() {
    let stage = Stage::start();
    let ids = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    for path in ["/v1/models", "/openai/v1/models"] {
        let (status, list) = stage.spillway.get(path).await;
        assert_eq!((status.as_u16(), &list["object"]), (200, &json!("list")));
        for name in ["cheap", "task:tag", "gpt-4.1-mini", "ant/claude-haiku-4-5"] {
            assert!(ids(&list).contains(&name.to_owned()), "{name}");
        }
    }
    let own = stage.spillway.request(Method::GET, "/v1/models").header("anthropic-version", "x");
    let (_, versioned) = answer(own).await;
    let (_, apart) = stage.spillway.get("/anthropic/v1/models").await;
    assert_eq!((&versioned, &apart["has_more"]), (&apart, &json!(false)));
    assert_eq!(apart["data"][0]["type"], "model");
    let (status, model) = stage.spillway.get("/v1/models/task:tag").await;
    assert_eq!((status.as_u16(), &model["id"]), (200, &json!("task:tag")));
    let (status, model) = stage.spillway.get("/openai/v1/models/ant%2Fclaude-haiku-4-5").await;
    assert_eq!((status.as_u16(), &model["id"]), (200, &json!("ant/claude-haiku-4-5")));
    let (status, model) = stage.spillway.get("/v1/models/ant/claude-haiku-4-5").await;
    assert_eq!((status.as_u16(), &model["id"]), (200, &json!("ant/claude-haiku-4-5")));
    let (status, error) = stage.spillway.get("/anthropic/v1/models/nothing").await;
    assert_eq!((status.as_u16(), &error["error"]["type"]), (404, &json!("not_found_error")));
}

#[tokio::test]
async fn tokens_are_counted_by_anthropic_or_estimated() {
    let stage = Stage::start();
    let path = "/v1/messages/count_tokens";
    let asked = |model| {
        let mut body = message(model, &json!({ "system": "Be brief." }));
        body.as_object_mut().unwrap().remove("max_tokens");
        body
    };
    let counted = stage.ask(path, &asked("anthropic")).await;
    assert_eq!(counted, json!({ "input_tokens": 1_234 }));
    let [heard] = stage.vendor.heard("claude-haiku-4-5").try_into().unwrap();
    assert_eq!(heard.path, path);
    assert_eq!(heard.body["system"], "Be brief.");
    for model in ["openai", "task:chat"] {
        let estimated = stage.ask("/anthropic/v1/messages/count_tokens", &asked(model)).await;
        let tokens = estimated["input_tokens"].as_u64().unwrap();
        assert!((1..200).contains(&tokens), "{tokens}");
    }
}
