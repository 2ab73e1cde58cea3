//! Each dialect, answered by providers of both.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::{COMPLETIONS, MESSAGES, Stage, completion, events, message};

/// A picture of one pixel.
const PIXEL: &str = "data:image/png;base64,iVBORw0KGgo=";

fn tool_of_openai() -> Value {
    json!([{ "type": "function", "function": { "name": "weather", "description": "Looks.",
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } }])
}

fn tool_of_anthropic() -> Value {
    json!([{ "name": "weather", "description": "Looks.",
        "input_schema": { "type": "object", "properties": { "city": { "type": "string" } } } }])
}

#[rstest]
#[case::same("openai")]
#[case::across("anthropic")]
#[tokio::test]
async fn a_completion_is_answered(#[case] route: &str) {
    let stage = Stage::start();
    let response = stage.send(COMPLETIONS, &completion(route, &json!({}))).await;
    let headers = response.headers().clone();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: Hi there");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    // The vendor counts 11 tokens in all, of which 4 were cached, in either language.
    assert_eq!(answer["usage"]["prompt_tokens"], 11, "{answer}");
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    assert_eq!(answer["usage"]["completion_tokens"], 7);
    assert_eq!(headers["spillway-provider"], route);
    assert_eq!(headers["spillway-attempts"], "1");
    assert!(headers["spillway-request-id"].to_str().unwrap().starts_with("job_"));
    assert!(headers.contains_key("spillway-cost-usd") && headers.contains_key("spillway-model"));
}

#[rstest]
#[case::same("anthropic")]
#[case::across("openai")]
#[tokio::test]
async fn a_message_is_answered(#[case] route: &str) {
    let stage = Stage::start();
    for path in [MESSAGES, "/anthropic/v1/messages"] {
        let answer = stage.ask(path, &message(route, &json!({}))).await;
        assert_eq!(answer["content"][0]["text"], "You said: Hi there");
        assert_eq!(
            (&answer["type"], &answer["stop_reason"]),
            (&json!("message"), &json!("end_turn"))
        );
        let used = &answer["usage"];
        let used = ["input_tokens", "cache_read_input_tokens", "output_tokens"].map(|n| &used[n]);
        assert_eq!(used, [&json!(7), &json!(4), &json!(7)]);
    }
}

#[rstest]
#[case::same("openai")]
#[case::across("anthropic")]
#[tokio::test]
async fn a_completion_comes_as_a_stream(#[case] route: &str) {
    let stage = Stage::start();
    let told = events(&stage.stream(COMPLETIONS, &completion(route, &json!({}))).await);
    assert_eq!(told[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String =
        told.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "You said: Hi there");
    assert!(told.len() > 5, "word by word: {told:?}");
    assert_eq!(told[told.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(told.last(), Some(&json!("[DONE]")));
    assert!(told.iter().all(|chunk| chunk.get("usage").is_none_or(Value::is_null)));
    let usage = json!({ "stream_options": { "include_usage": true } });
    let told = events(&stage.stream(COMPLETIONS, &completion(route, &usage)).await);
    let [.., last, done] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(18)));
    assert_eq!(done, "[DONE]");
}

#[rstest]
#[case::same("anthropic")]
#[case::across("openai")]
#[tokio::test]
async fn a_message_comes_as_a_stream(#[case] route: &str) {
    let stage = Stage::start();
    let told = events(&stage.stream(MESSAGES, &message(route, &json!({}))).await);
    let kinds: Vec<_> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let kinds: Vec<_> = kinds.into_iter().filter(|kind| *kind != "ping").collect();
    assert_eq!(kinds[..2], ["message_start", "content_block_start"]);
    let last = ["content_block_stop", "message_delta", "message_stop"];
    assert_eq!(kinds[kinds.len() - 3..], last);
    let text: String =
        told.iter().filter_map(|event| event.pointer("/delta/text")?.as_str()).collect();
    assert_eq!(text, "You said: Hi there");
    let delta = &told[told.len() - 2];
    assert_eq!(delta["delta"]["stop_reason"], "end_turn");
    assert_eq!(
        (&delta["usage"]["input_tokens"], &delta["usage"]["output_tokens"]),
        (&json!(7), &json!(7))
    );
}

#[rstest]
#[case::same("openai")]
#[case::across("anthropic")]
#[tokio::test]
async fn openais_tools_go_there_and_back(#[case] route: &str) {
    let stage = Stage::start();
    let asked = completion(
        route,
        &json!({ "tools": tool_of_openai(), "tool_choice": "auto",
        "messages": [{ "role": "user", "content": "The weather in both cities" }] }),
    );
    let answer = stage.ask(COMPLETIONS, &asked).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    let arguments = |call: &Value| call["function"]["arguments"].as_str().unwrap().to_owned();
    assert_eq!(
        calls.iter().map(arguments).collect::<Vec<_>>(),
        ["{\"city\":\"Paris\"}", "{\"city\":\"Rome\"}"]
    );
    let mut goes_on = asked.clone();
    let said = goes_on["messages"].as_array_mut().unwrap();
    said.push(choice["message"].clone());
    for call in calls {
        said.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "sun" }));
    }
    let last = stage.ask(COMPLETIONS, &goes_on).await;
    assert_eq!(last["choices"][0]["message"]["content"], "The tool said: sun");

    let told = events(&stage.stream(COMPLETIONS, &asked).await);
    let mut streamed = [("", String::new()), ("", String::new())];
    for call in told.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)) {
        let (name, arguments) =
            &mut streamed[usize::try_from(call["index"].as_u64().unwrap()).unwrap()];
        *name = call["function"]["name"].as_str().unwrap_or(*name);
        arguments.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
    }
    assert_eq!(
        streamed.map(|(name, text)| format!("{name} {text}")),
        ["weather {\"city\":\"Paris\"}", "weather {\"city\":\"Rome\"}"]
    );
    assert_eq!(told[told.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
}

#[rstest]
#[case::same("anthropic")]
#[case::across("openai")]
#[tokio::test]
async fn anthropics_tools_go_there_and_back(#[case] route: &str) {
    let stage = Stage::start();
    let asked = message(
        route,
        &json!({ "tools": tool_of_anthropic(),
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
        "messages": [{ "role": "user", "content": "The weather in both cities" }] }),
    );
    let answer = stage.ask(MESSAGES, &asked).await;
    assert_eq!(answer["stop_reason"], "tool_use");
    let calls = answer["content"].as_array().unwrap();
    assert_eq!(calls[1]["input"], json!({ "city": "Rome" }));
    let mut goes_on = asked.clone();
    let results: Vec<Value> = calls
        .iter()
        .map(|call| {
            json!({ "type": "tool_result",
        "tool_use_id": call["id"], "content": [{ "type": "text", "text": "sun" }] })
        })
        .collect();
    let said = goes_on["messages"].as_array_mut().unwrap();
    said.push(json!({ "role": "assistant", "content": calls }));
    said.push(json!({ "role": "user", "content": results }));
    let last = stage.ask(MESSAGES, &goes_on).await;
    assert_eq!(last["content"][0]["text"], "The tool said: sun");

    let told = events(&stage.stream(MESSAGES, &asked).await);
    let mut streamed = vec![];
    for event in &told {
        if event["type"] == "content_block_start" {
            streamed.push(event["content_block"]["name"].as_str().unwrap().to_owned() + " ");
        }
        if let Some(text) = event["delta"]["partial_json"].as_str() {
            streamed.last_mut().unwrap().push_str(text);
        }
    }
    assert_eq!(streamed, ["weather {\"city\":\"Paris\"}", "weather {\"city\":\"Rome\"}"]);
    assert_eq!(told[told.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[rstest]
#[case::openai("openai")]
#[case::anthropic("anthropic")]
#[tokio::test]
async fn images_go_to_either(#[case] route: &str) {
    let stage = Stage::start();
    let parts = json!([{ "type": "text", "text": "See" },
                       { "type": "image_url", "image_url": { "url": PIXEL } }]);
    let asked = completion(route, &json!({ "messages": [{ "role": "user", "content": parts }] }));
    let answer = stage.ask(COMPLETIONS, &asked).await;
    assert_eq!(answer["choices"][0]["message"]["content"], format!("I see {PIXEL}"));
    let source = json!({ "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" });
    let parts = json!([{ "type": "image", "source": source }, { "type": "text", "text": "See" }]);
    let asked = message(route, &json!({ "messages": [{ "role": "user", "content": parts }] }));
    let answer = stage.ask(MESSAGES, &asked).await;
    assert_eq!(answer["content"][0]["text"], format!("I see {PIXEL}"));
}

#[tokio::test]
async fn what_we_do_not_know_goes_to_the_same_language_unchanged() {
    let stage = Stage::start();
    let own = json!({
        "temperature": 0.25, "top_k": 5, "brand_new": { "deep": [1, 2.5, "ü"] },
        "system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }],
        "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "Hi there", "novel": true },
        ] }],
    });
    let asked = message("anthropic", &own);
    let sent = stage
        .spillway
        .request(Method::POST, "/v1/messages?beta=true")
        .header("anthropic-beta", "context-1m,files-2026")
        .header("anthropic-version", "2023-06-01")
        .json(&asked);
    let answer: Value = sent.send().await.unwrap().json().await.unwrap();
    // The answer is the vendor's own, with what only it says.
    assert_eq!((&answer["id"], &answer["container"]), (&json!("msg_vendor"), &json!(null)));
    assert!(answer.as_object().unwrap().contains_key("container"));
    let [heard] = stage.vendor.heard("claude-haiku-4-5").try_into().unwrap();
    let mut expected = asked.clone();
    expected["model"] = json!("claude-haiku-4-5");
    assert_eq!(heard.body, expected);
    assert_eq!(heard.headers["anthropic-beta"], "context-1m,files-2026");
    assert_eq!(heard.headers["x-api-key"], "vendor-key");
    assert!(!heard.headers.contains_key("authorization"));

    let own = json!({ "seed": 17, "logit_bias": { "50256": -100 }, "metadata": { "a": "b" },
                      "provider": { "allow_fallbacks": false }, "user": "u-1" });
    let told = stage.stream(COMPLETIONS, &completion("openai", &own)).await;
    assert!(told.contains("\"obfuscation\":\"xyz\"") && told.contains("chatcmpl-vendor"), "{told}");
    let [heard] = stage.vendor.heard("gpt-4.1-mini").try_into().unwrap();
    for name in ["seed", "logit_bias", "metadata", "user"] {
        assert_eq!(heard.body[name], own[name], "{name}");
    }
    // OpenRouter's object is for us; who names no longest answer gets the one that is paid for.
    assert!(heard.body["max_completion_tokens"].is_u64(), "{}", heard.body);
    for name in ["provider", "max_tokens"] {
        assert!(heard.body.get(name).is_none(), "{name}: {}", heard.body);
    }
}

#[tokio::test]
async fn what_only_one_language_has_words_for_goes_to_who_speaks_it() {
    let stage =
        Stage::with("both = { steps = [\"oai/gpt-4.1-mini\", \"ant/claude-haiku-4-5\"] }\n", "");
    let file = json!([{ "type": "document", "source": { "type": "text", "data": "x" } },
                      { "type": "text", "text": "Read" }]);
    let asked =
        |route| message(route, &json!({ "messages": [{ "role": "user", "content": file }] }));
    let answer = stage.ask(MESSAGES, &asked("both")).await;
    assert_eq!(answer["content"][0]["text"], "You said: Read");
    assert_eq!(stage.vendor.heard("gpt-4.1-mini").len(), 0);
    for name in ["openai", "task:chat"] {
        let response = stage.send(MESSAGES, &asked(name)).await;
        assert_eq!(response.status(), 400, "{name}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(error["error"]["message"].as_str().unwrap().contains("document"), "{error}");
    }
}

#[rstest]
#[case::openai("cheap")]
#[case::anthropic("premium")]
#[tokio::test]
async fn a_task_is_asked_for_in_either_dialect(#[case] route: &str) {
    let more = format!(
        r#"
[tasks.where]
route = "{route}"
system = "Tell the city."
output_schema = {{ type = "object", required = ["city", "degrees"], additionalProperties = false, properties = {{ city = {{ type = "string" }}, degrees = {{ type = "integer" }} }} }}
"#
    );
    let stage = Stage::with(&more, "");
    let data = json!({ "city": "Paris", "degrees": 21 });
    let read = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    let answer = stage.ask(COMPLETIONS, &completion("task:where", &json!({ "seed": 1 }))).await;
    assert_eq!(read(&answer["choices"][0]["message"]["content"]), data);
    let answer = stage.ask(MESSAGES, &message("task:where", &json!({}))).await;
    assert_eq!(read(&answer["content"][0]["text"]), data);
    // A stream of it is sent once it was checked.
    let told = events(&stage.stream(COMPLETIONS, &completion("task:where", &json!({}))).await);
    assert_eq!(read(&told[1]["choices"][0]["delta"]["content"]), data);
    assert_eq!(told.last(), Some(&json!("[DONE]")));
    let model = if route == "cheap" { "gpt-4.1-mini" } else { "claude-haiku-4-5" };
    let heard = stage.vendor.heard(model).remove(0);
    assert!(heard.body.to_string().contains("Tell the city.") && heard.body.get("seed").is_none());
}
