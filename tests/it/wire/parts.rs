//! Requests with more than text: images, parts, tools' failures, knobs and marks.

use serde_json::{Value, json};
use spillway::domain::completion::ToolCall;
use spillway::domain::content::{Content, Image, Part, Piece};
use spillway::domain::prompt::{
    CacheUse, Dialect, Effort, Message, Native, Prompt, Role, Tool, ToolChoice,
};
use spillway::provider::settings::Vendor;
use spillway::provider::{ErrorClass, codes};
use wiremock::matchers::{any, body_partial_json};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::requests::body;
use super::{LONG, message, provider, question};

fn text(text: &str) -> Part {
    Part { piece: Piece::Text(text.to_owned()), cache: None }
}

fn image(url: &str) -> Part {
    Part { piece: Piece::Image(Image::at(url)), cache: None }
}

const DATA: &str = "data:image/png;base64,QUJD";
const FAR: &str = "https://example.com/cat.webp?w=1";

/// A question with two images.
fn pictured(urls: &[&str]) -> Prompt {
    let parts = std::iter::once(text("See")).chain(urls.iter().map(|url| image(url)));
    Prompt { messages: vec![Message::user(Content(parts.collect()))], ..question() }
}

#[tokio::test]
async fn images_go_in_as_data_or_by_their_address() {
    let prompt = pictured(&[DATA, FAR]);
    let anthropic = body(Vendor::Anthropic, "claude-haiku-4-5", &prompt).await;
    let blocks = json!([
        { "type": "text", "text": "See" },
        { "type": "image",
          "source": { "type": "base64", "media_type": "image/png", "data": "QUJD" } },
        { "type": "image", "source": { "type": "url", "url": FAR } },
    ]);
    assert_eq!(anthropic.pointer("/messages/0/content"), Some(&blocks));
    let parts = json!([
        { "type": "text", "text": "See" },
        { "type": "image_url", "image_url": { "url": DATA } },
        { "type": "image_url", "image_url": { "url": FAR } },
    ]);
    for vendor in [Vendor::OpenAi, Vendor::Groq, Vendor::OpenRouter, Vendor::OpenAiCompatible] {
        let sent = body(vendor, "a-model", &prompt).await;
        assert_eq!(sent.pointer("/messages/0/content"), Some(&parts), "{vendor:?}");
    }
    let parts = json!([
        { "text": "See" },
        { "inlineData": { "mimeType": "image/png", "data": "QUJD" } },
        { "fileData": { "mimeType": "image/webp", "fileUri": FAR } },
    ]);
    let gemini = body(Vendor::Gemini, "gemini-3.8-flash", &prompt).await;
    assert_eq!(gemini.pointer("/contents/0/parts"), Some(&parts));
    let cerebras = body(Vendor::Cerebras, "gemma-4-31b", &pictured(&[DATA])).await;
    assert_eq!(cerebras.pointer("/messages/0/content/1/image_url/url"), Some(&json!(DATA)));
}

#[tokio::test]
async fn what_a_provider_does_not_take_is_not_sent_and_another_may_serve_it() {
    let said = |content: Content| Prompt {
        messages: vec![Message::user("Hi"), Message::new(Role::Assistant, content)],
        ..question()
    };
    let stops = |count: usize| Prompt { stop: vec!["x".to_owned(); count], ..question() };
    let bmp = "data:image/bmp;base64,QUJD";
    let blank = Prompt { stop: vec![" \n".to_owned()], ..question() };
    for (vendor, prompt) in [
        (Vendor::Cerebras, pictured(&[FAR])),
        (Vendor::Anthropic, pictured(&[bmp])),
        (Vendor::Anthropic, said(Content(vec![image(DATA)]))),
        (Vendor::OpenAi, said(Content(vec![image(DATA)]))),
        (Vendor::OpenAi, stops(5)),
        (Vendor::Gemini, stops(6)),
        (Vendor::Anthropic, blank),
    ] {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(500)).expect(0).mount(&server).await;
        let asked = provider(vendor, &server.uri()).complete("gpt-4.1", &prompt, LONG).await;
        let error = asked.unwrap_err();
        assert_eq!(error.class, ErrorClass::CallerError, "{vendor:?}");
        assert_eq!(error.code, codes::UNSUPPORTED_PARAMETER, "{vendor:?}");
    }
}

/// Two tools were asked for: one showed an image, the other failed.
fn shown() -> Prompt {
    let call =
        |id: &str| ToolCall { id: id.to_owned(), name: format!("tool_{id}"), arguments: json!({}) };
    let mut asked = message(Role::Assistant, "");
    asked.tool_calls = vec![call("a"), call("b")];
    let answer = |id: &str, content: Content, is_error: bool| Message {
        tool_call_id: Some(id.to_owned()),
        is_error,
        ..Message::new(Role::Tool, content)
    };
    let picture = answer("a", Content(vec![text("Here"), image(DATA)]), false);
    let failure = answer("b", "no such file".into(), true);
    let messages = vec![message(Role::User, "Look"), asked, picture, failure];
    Prompt { messages, ..question() }
}

#[tokio::test]
async fn a_tools_image_and_a_tools_failure_reach_every_provider() {
    let anthropic = body(Vendor::Anthropic, "claude-haiku-4-5", &shown()).await;
    let blocks = json!([
        { "type": "tool_result", "tool_use_id": "a", "content": [
            { "type": "text", "text": "Here" },
            { "type": "image",
              "source": { "type": "base64", "media_type": "image/png", "data": "QUJD" } },
        ] },
        { "type": "tool_result", "tool_use_id": "b", "content": "no such file", "is_error": true },
    ]);
    assert_eq!(anthropic.pointer("/messages/2/content"), Some(&blocks));
    let openai = body(Vendor::OpenAi, "gpt-4.1", &shown()).await;
    let rest = openai["messages"].as_array().unwrap().get(2..).unwrap();
    assert_eq!(
        rest,
        [
            json!({ "role": "tool", "tool_call_id": "a", "content": "Here" }),
            json!({ "role": "tool", "tool_call_id": "b", "content": "Error: no such file" }),
            json!({ "role": "user", "content": [
                { "type": "text", "text": "Images from the tools:" },
                { "type": "image_url", "image_url": { "url": DATA } },
            ] }),
        ]
    );
    let gemini = body(Vendor::Gemini, "gemini-3.8-flash", &shown()).await;
    let parts = json!([
        { "functionResponse": { "name": "tool_a", "response": { "result": "Here" } } },
        { "functionResponse": { "name": "tool_b", "response": { "error": "no such file" } } },
        { "inlineData": { "mimeType": "image/png", "data": "QUJD" } },
    ]);
    assert_eq!(gemini.pointer("/contents/2/parts"), Some(&parts));
}

/// Every knob turned.
fn knobs(choice: ToolChoice) -> Prompt {
    Prompt {
        messages: vec![message(Role::User, "Answer in JSON")],
        tools: vec![Tool {
            name: "look".to_owned(),
            description: "Looks.".to_owned(),
            parameters: json!({ "type": "object", "properties": { "q": { "type": "string" } },
                                "required": ["q"] }),
            strict: Some(true),
        }],
        tool_choice: Some(choice),
        parallel_tool_calls: Some(false),
        max_output_tokens: 4_000,
        top_p: Some(0.5),
        stop: vec!["END".to_owned()],
        effort: Some(Effort::Low),
        json: true,
        cache_key: Some("k".to_owned()),
        ..Prompt::default()
    }
}

/// What a body has at these places.
fn picked(body: &Value, places: &[&str]) -> Value {
    places.iter().map(|place| body.pointer(place).cloned().unwrap_or_default()).collect()
}

#[tokio::test]
async fn each_knob_has_its_name_at_anthropic() {
    let places = [
        "/tool_choice",
        "/tools/0/strict",
        "/stop_sequences",
        "/top_p",
        "/thinking",
        "/output_config",
        "/system",
    ];
    let rule =
        "Answer with one JSON document and with nothing else: no explanation, no code fence.";
    let one = |kind: &str| json!({ "type": kind, "disable_parallel_tool_use": true });
    let sent = body(Vendor::Anthropic, "claude-haiku-4-5", &knobs(ToolChoice::Auto)).await;
    let thinking = json!({ "type": "enabled", "budget_tokens": 1_024 });
    assert_eq!(
        picked(&sent, &places),
        json!([one("auto"), true, ["END"], null, thinking, null, rule])
    );
    let sent = body(Vendor::Anthropic, "claude-haiku-4-5", &knobs(ToolChoice::Required)).await;
    assert_eq!(picked(&sent, &places), json!([one("any"), true, ["END"], 0.5, null, null, rule]));
    let sent = body(Vendor::Anthropic, "claude-sonnet-5-5", &knobs(ToolChoice::Auto)).await;
    let thinking = json!({ "type": "adaptive", "display": "summarized" });
    let effort = json!({ "effort": "low" });
    assert_eq!(
        picked(&sent, &places),
        json!([one("auto"), true, ["END"], null, thinking, effort, rule])
    );
    let sent = body(Vendor::Anthropic, "claude-haiku-4-5", &knobs(ToolChoice::None)).await;
    assert_eq!(sent["tool_choice"], json!({ "type": "none" }));
    let named = knobs(ToolChoice::Tool("look".to_owned()));
    let sent = body(Vendor::Anthropic, "claude-haiku-4-5", &named).await;
    assert_eq!(sent.pointer("/tool_choice/name"), Some(&json!("look")));
}

#[tokio::test]
async fn each_knob_has_its_name_at_openai_and_its_kin() {
    let places = [
        "/tool_choice",
        "/parallel_tool_calls",
        "/tools/0/function/strict",
        "/stop",
        "/top_p",
        "/reasoning_effort",
        "/response_format/type",
        "/prompt_cache_key",
    ];
    let prompt = knobs(ToolChoice::Required);
    let json_mode = "json_object";
    for (vendor, model, expected) in [
        (
            Vendor::OpenAi,
            "gpt-4.1",
            json!(["required", false, true, ["END"], 0.5, null, json_mode, "k"]),
        ),
        (
            Vendor::OpenAi,
            "gpt-6-luna",
            json!(["required", false, true, null, null, "low", json_mode, "k"]),
        ),
        (Vendor::OpenAi, "o3", json!(["required", null, true, null, null, "low", json_mode, "k"])),
        (
            Vendor::Groq,
            "openai/gpt-oss-20b",
            json!(["required", false, null, ["END"], 0.5, "low", null, null]),
        ),
        (
            Vendor::Cerebras,
            "gpt-oss-120b",
            json!(["required", false, true, ["END"], 0.5, "low", null, "k"]),
        ),
        (
            Vendor::OpenAiCompatible,
            "llama3",
            json!(["required", false, null, ["END"], 0.5, null, json_mode, null]),
        ),
    ] {
        let sent = body(vendor, model, &prompt).await;
        assert_eq!(picked(&sent, &places), expected, "{vendor:?} {model}");
    }
    let sent = body(Vendor::OpenRouter, "openai/gpt-5-mini", &prompt).await;
    assert_eq!(sent["reasoning"], json!({ "effort": "low" }));
    let named = body(Vendor::OpenAi, "gpt-4.1", &knobs(ToolChoice::Tool("look".to_owned()))).await;
    let expected = json!({ "type": "function", "function": { "name": "look" } });
    assert_eq!(named["tool_choice"], expected);
    let silent = Prompt { json: true, ..question() };
    let sent = body(Vendor::OpenAi, "gpt-4.1", &silent).await;
    assert!(sent.pointer("/messages/0/content").unwrap().as_str().unwrap().contains("JSON"));
    let raw = body(Vendor::Groq, "qwen/qwen3-32b", &question()).await;
    assert_eq!(raw["reasoning_format"], "parsed");
}

#[tokio::test]
async fn each_knob_has_its_name_at_gemini() {
    let places = [
        "/toolConfig/functionCallingConfig",
        "/generationConfig/stopSequences",
        "/generationConfig/topP",
        "/generationConfig/thinkingConfig",
        "/generationConfig/responseMimeType",
        "/systemInstruction/parts/0/text",
    ];
    let rule = "Call at most one function at a time.";
    let sent = body(Vendor::Gemini, "gemini-3.8-flash", &knobs(ToolChoice::Required)).await;
    let level = json!({ "thinkingLevel": "LOW", "includeThoughts": true });
    let any = json!({ "mode": "ANY" });
    assert_eq!(picked(&sent, &places), json!([any, ["END"], 0.5, level, "application/json", rule]));
    let named = knobs(ToolChoice::Tool("look".to_owned()));
    let sent = body(Vendor::Gemini, "gemini-2.5-flash", &named).await;
    let budget = json!({ "thinkingBudget": 1_024, "includeThoughts": true });
    let one = json!({ "mode": "ANY", "allowedFunctionNames": ["look"] });
    let told = picked(&sent, &places);
    assert_eq!((&told[0], &told[3], &told[4]), (&one, &budget, &Value::Null));
    assert!(told[5].as_str().unwrap().contains("JSON"), "{told}");
}

#[tokio::test]
async fn cache_marks_are_put_at_anthropic_unless_the_caller_has() {
    let mark = json!({ "type": "ephemeral" });
    let long = "x".repeat(20_000);
    let prompt = |messages: Vec<Message>| Prompt {
        system: Some(long.as_str().into()),
        messages,
        cache: CacheUse::All,
        ..question()
    };
    let turns =
        || vec![message(Role::User, "a"), message(Role::Assistant, "b"), message(Role::User, "c")];
    let places = ["/system/0/cache_control", "/messages/2/content/0/cache_control"];
    let sent = body(Vendor::Anthropic, "claude-sonnet-5-5", &prompt(turns())).await;
    assert_eq!(picked(&sent, &places), json!([mark, mark]));
    assert_eq!(sent.to_string().matches("cache_control").count(), 2);
    let hour = json!({ "type": "ephemeral", "ttl": "1h" });
    let mut own = turns();
    own[0].content.0[0].cache = Some(hour.clone());
    let sent = body(Vendor::Anthropic, "claude-sonnet-5-5", &prompt(own.clone())).await;
    assert_eq!(sent.pointer("/messages/0/content/0/cache_control"), Some(&hour));
    assert_eq!(sent.to_string().matches("cache_control").count(), 1);
    let short = Prompt { messages: turns(), ..question() };
    let sent = body(Vendor::Anthropic, "claude-sonnet-5-5", &short).await;
    assert_eq!(sent.to_string().matches("cache_control").count(), 0);
    let elsewhere = body(Vendor::OpenAi, "gpt-4.1", &prompt(own.clone())).await;
    assert_eq!(elsewhere.to_string().matches("cache_control").count(), 0);
    let passed = body(Vendor::OpenRouter, "anthropic/claude-sonnet-4.5", &prompt(own)).await;
    assert_eq!(passed.pointer("/messages/1/content/0/cache_control"), Some(&hour));
}

#[tokio::test]
async fn an_answer_that_credits_do_not_suffice_for_is_asked_for_shorter_once() {
    let refused = json!({ "error": { "code": 402, "message": "This request requires more credits, \
        or fewer max_tokens. You requested up to 32000 tokens, but can only afford 27342." } });
    let good = json!({ "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }] });
    let server = MockServer::start().await;
    Mock::given(body_partial_json(json!({ "max_tokens": 32_000 })))
        .respond_with(ResponseTemplate::new(402).set_body_json(&refused))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(body_partial_json(json!({ "max_tokens": 25_975 })))
        .respond_with(ResponseTemplate::new(200).set_body_json(&good))
        .expect(1)
        .mount(&server)
        .await;
    let prompt = Prompt { max_output_tokens: 32_000, ..question() };
    let answer = provider(Vendor::OpenRouter, &server.uri()).complete("m", &prompt, LONG).await;
    assert_eq!(answer.unwrap().text, "Hi");

    let own = MockServer::start().await;
    Mock::given(body_partial_json(json!({ "max_tokens": 25_975, "x": 1 })))
        .respond_with(ResponseTemplate::new(200).set_body_json(&good))
        .expect(1)
        .mount(&own)
        .await;
    Mock::given(body_partial_json(json!({ "x": 1 })))
        .respond_with(ResponseTemplate::new(402).set_body_json(&refused))
        .expect(1)
        .mount(&own)
        .await;
    let Value::Object(body) = json!({ "messages": [], "x": 1 }) else { panic!() };
    let native = Native { dialect: Dialect::OpenAi, body, headers: Vec::new() };
    let native = Prompt { native: Some(native.into()), max_output_tokens: 32_000, ..question() };
    let answer = provider(Vendor::OpenRouter, &own.uri()).complete("m", &native, LONG).await;
    assert_eq!(answer.unwrap().text, "Hi");

    let poor = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(402).set_body_json(&refused))
        .expect(2)
        .mount(&poor)
        .await;
    let error = provider(Vendor::OpenRouter, &poor.uri()).complete("m", &prompt, LONG).await;
    let error = error.unwrap_err();
    assert_eq!((error.class, error.code), (ErrorClass::AuthOrBilling, codes::INSUFFICIENT_CREDITS));
}
