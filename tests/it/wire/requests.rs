//! What each dialect sends.

use serde_json::{Value, json};
use spillway::domain::completion::ToolCall;
use spillway::domain::prompt::{Prompt, Role, Tool};
use spillway::provider::settings::Vendor;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{KEY, LONG, message, provider};

/// The request that a prompt becomes; the answer does not matter here.
async fn sent(vendor: Vendor, model: &str, prompt: &Prompt) -> Request {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let _error = provider(vendor, &server.uri()).complete(model, prompt, LONG).await.unwrap_err();
    server.received_requests().await.unwrap().remove(0)
}

pub(super) async fn body(vendor: Vendor, model: &str, prompt: &Prompt) -> Value {
    serde_json::from_slice(&sent(vendor, model, prompt).await.body).unwrap()
}

/// A conversation in which a tool was asked for and answered.
fn conversation(call_id: &str) -> Prompt {
    let mut asked = message(Role::Assistant, "");
    asked.tool_calls = vec![ToolCall {
        id: call_id.to_owned(),
        name: "lookup".to_owned(),
        arguments: json!({ "q": "x" }),
    }];
    let mut told = message(Role::Tool, "42");
    told.tool_call_id = Some(call_id.to_owned());
    Prompt {
        system: Some("Be brief.".into()),
        messages: vec![message(Role::User, "What?"), asked, told],
        tools: vec![Tool {
            name: "lookup".to_owned(),
            description: "Looks up.".to_owned(),
            parameters: parameters(),
            strict: None,
        }],
        max_output_tokens: 200,
        temperature: Some(0.5),
        ..Prompt::default()
    }
}

fn parameters() -> Value {
    json!({ "type": "object", "properties": { "q": { "type": "string" } }, "required": ["q"] })
}

/// A question whose answer has a schema.
fn asked_for_tags() -> Prompt {
    Prompt {
        system: Some("Tag it.".into()),
        messages: vec![message(Role::User, "An invoice.")],
        max_output_tokens: 50,
        temperature: Some(0.0),
        output_schema: Some(tags()),
        ..Prompt::default()
    }
}

fn tags() -> Value {
    json!({
        "type": "object",
        "properties": {
            "tags": { "type": "array", "items": { "type": "string" }, "maxItems": 3 },
        },
        "required": ["tags"],
    })
}

fn strict_tags() -> Value {
    json!({
        "type": "object",
        "properties": {
            "tags": { "type": "array", "items": { "type": "string" },
                      "description": "(maxItems: 3)" },
        },
        "required": ["tags"],
        "additionalProperties": false,
    })
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn each_vendor_is_asked_at_its_address_and_with_its_header() {
    let bearer = format!("Bearer {KEY}");
    for (vendor, path, name, value) in [
        (Vendor::Anthropic, "/v1/messages", "x-api-key", KEY),
        (Vendor::OpenAi, "/v1/chat/completions", "authorization", &bearer),
        (Vendor::Groq, "/v1/chat/completions", "authorization", &bearer),
        (Vendor::Cerebras, "/v1/chat/completions", "authorization", &bearer),
        (Vendor::OpenRouter, "/v1/chat/completions", "authorization", &bearer),
        (Vendor::Ollama, "/v1/chat/completions", "authorization", &bearer),
        (Vendor::OpenAiCompatible, "/v1/chat/completions", "authorization", &bearer),
        (Vendor::Gemini, "/v1beta/models/a-model:generateContent", "x-goog-api-key", KEY),
    ] {
        let request = sent(vendor, "a-model", &asked_for_tags()).await;
        assert_eq!((request.method.as_str(), request.url.path()), ("POST", path), "{vendor:?}");
        assert_eq!(request.url.query(), None, "{vendor:?}");
        assert_eq!(header(&request, name), value, "{vendor:?}");
        assert_eq!(header(&request, "content-type"), "application/json", "{vendor:?}");
        assert!(header(&request, "user-agent").starts_with("spillway/"), "{vendor:?}");
        let version = header(&request, "anthropic-version");
        assert_eq!(version == "2023-06-01", vendor == Vendor::Anthropic, "{vendor:?}");
    }
}

#[tokio::test]
async fn a_conversation_in_anthropics_words() {
    let prompt = conversation("toolu_1");
    assert_eq!(
        body(Vendor::Anthropic, "claude-haiku-4-5", &prompt).await,
        json!({
            "model": "claude-haiku-4-5",
            "max_tokens": 200,
            "system": "Be brief.",
            "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "What?" }] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "toolu_1", "name": "lookup",
                      "input": { "q": "x" } },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "toolu_1", "content": "42" },
                ] },
            ],
            "temperature": 0.5,
            "tools": [{ "name": "lookup", "description": "Looks up.",
                        "input_schema": parameters() }],
        })
    );
    let newer = body(Vendor::Anthropic, "claude-sonnet-5-5", &prompt).await;
    assert_eq!(newer.get("temperature"), None);
}

#[tokio::test]
async fn a_conversation_in_openais_words() {
    let prompt = conversation("call_1");
    let expected = json!({
        "model": "gpt-4.1-mini",
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "What?" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "call_1", "type": "function",
                  "function": { "name": "lookup", "arguments": "{\"q\":\"x\"}" } },
            ] },
            { "role": "tool", "tool_call_id": "call_1", "content": "42" },
        ],
        "max_completion_tokens": 200,
        "temperature": 0.5,
        "tools": [{ "type": "function", "function": {
            "name": "lookup", "description": "Looks up.", "parameters": parameters(),
        } }],
    });
    for vendor in [Vendor::OpenAi, Vendor::Groq, Vendor::Cerebras] {
        assert_eq!(body(vendor, "gpt-4.1-mini", &prompt).await, expected, "{vendor:?}");
    }
    let mut plain = expected.clone();
    let fields = plain.as_object_mut().unwrap();
    let cap = fields.remove("max_completion_tokens").unwrap();
    fields.insert("max_tokens".to_owned(), cap);
    for vendor in [Vendor::Ollama, Vendor::OpenAiCompatible] {
        assert_eq!(body(vendor, "gpt-4.1-mini", &prompt).await, plain, "{vendor:?}");
    }
    plain["provider"] = json!({ "require_parameters": true });
    assert_eq!(body(Vendor::OpenRouter, "gpt-4.1-mini", &prompt).await, plain);
    let reasoning = body(Vendor::OpenAi, "gpt-5-mini", &prompt).await;
    assert_eq!(reasoning.get("temperature"), None);
}

#[tokio::test]
async fn a_conversation_in_geminis_words() {
    let prompt = conversation("resp_0~SIGNED=");
    let expected = json!({
        "systemInstruction": { "parts": [{ "text": "Be brief." }] },
        "contents": [
            { "role": "user", "parts": [{ "text": "What?" }] },
            { "role": "model", "parts": [
                { "functionCall": { "name": "lookup", "args": { "q": "x" } },
                  "thoughtSignature": "SIGNED=" },
            ] },
            { "role": "user", "parts": [
                { "functionResponse": { "name": "lookup", "response": { "result": "42" } } },
            ] },
        ],
        "tools": [{ "functionDeclarations": [
            { "name": "lookup", "description": "Looks up.", "parametersJsonSchema": parameters() },
        ] }],
        "generationConfig": { "maxOutputTokens": 200, "temperature": 0.5 },
    });
    assert_eq!(body(Vendor::Gemini, "gemini-3.8-flash", &prompt).await, expected);
}

#[tokio::test]
async fn a_conversation_begun_at_gemini_goes_on_elsewhere() {
    let prompt = conversation("resp_0~SIGNED=");
    let openai = body(Vendor::OpenAi, "gpt-4.1", &prompt).await;
    assert_eq!(openai.pointer("/messages/2/tool_calls/0/id"), Some(&json!("resp_0")));
    assert_eq!(openai.pointer("/messages/3/tool_call_id"), Some(&json!("resp_0")));
    let anthropic = body(Vendor::Anthropic, "claude-haiku-4-5", &prompt).await;
    assert_eq!(anthropic.pointer("/messages/1/content/0/id"), Some(&json!("resp_0")));
    let id = anthropic.pointer("/messages/2/content/0/tool_use_id");
    assert_eq!(id, Some(&json!("resp_0")));
}

#[tokio::test]
async fn a_schema_goes_by_each_providers_own_knob() {
    let format = |strict: bool, schema: Value| {
        json!({ "type": "json_schema",
                "json_schema": { "name": "answer", "strict": strict, "schema": schema } })
    };
    for (vendor, model, place, expected) in [
        (
            Vendor::Anthropic,
            "claude-haiku-4-5",
            "/output_config",
            json!({ "format": { "type": "json_schema", "schema": strict_tags() } }),
        ),
        (Vendor::OpenAi, "gpt-4.1", "/response_format", format(true, strict_tags())),
        (Vendor::Groq, "openai/gpt-oss-120b", "/response_format", format(true, strict_tags())),
        (Vendor::Cerebras, "gpt-oss-120b", "/response_format", format(true, strict_tags())),
        (Vendor::OpenRouter, "x/y", "/response_format", format(true, strict_tags())),
        (Vendor::OpenRouter, "x/y", "/provider", json!({ "require_parameters": true })),
        (Vendor::Ollama, "qwen3", "/response_format", format(true, tags())),
        (
            Vendor::Gemini,
            "gemini-2.5-flash",
            "/generationConfig",
            json!({ "maxOutputTokens": 50, "temperature": 0.0,
                 "responseMimeType": "application/json", "responseJsonSchema": tags() }),
        ),
    ] {
        let body = body(vendor, model, &asked_for_tags()).await;
        assert_eq!(body.pointer(place), Some(&expected), "{vendor:?} {model}");
        assert!(!body.to_string().contains("Answer with one JSON"), "{vendor:?} {model}");
    }
}

#[tokio::test]
async fn where_there_is_no_knob_the_schema_stands_in_the_instructions() {
    let with_tools = Prompt { output_schema: Some(tags()), ..conversation("call_1") };
    for (vendor, model, prompt, system, knob) in [
        (
            Vendor::Anthropic,
            "claude-3-5-haiku-latest",
            asked_for_tags(),
            "/system",
            "/output_config",
        ),
        (
            Vendor::Groq,
            "openai/gpt-oss-120b",
            with_tools.clone(),
            "/messages/0/content",
            "/response_format",
        ),
        (
            Vendor::Gemini,
            "gemini-2.5-flash",
            with_tools,
            "/systemInstruction/parts/0/text",
            "/generationConfig/responseJsonSchema",
        ),
    ] {
        let body = body(vendor, model, &prompt).await;
        let told = body.pointer(system).and_then(Value::as_str).unwrap();
        assert!(told.starts_with(&*prompt.system.as_ref().unwrap().text()), "{vendor:?}: {told}");
        assert!(told.ends_with(&tags().to_string()), "{vendor:?}: {told}");
        assert_eq!(body.pointer(knob), None, "{vendor:?}");
    }
    let groq = body(Vendor::Groq, "llama-3.3-70b-versatile", &asked_for_tags()).await;
    assert_eq!(groq.pointer("/response_format"), Some(&json!({ "type": "json_object" })));
    let told = groq.pointer("/messages/0/content").and_then(Value::as_str).unwrap();
    assert!(told.contains("JSON") && told.ends_with(&tags().to_string()), "{told}");
}
