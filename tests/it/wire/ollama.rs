//! Ollama's own chat: what is asked, what is read, and every way to fail.

use serde_json::{Value, json};
use spillway::domain::completion::{Completion, Finish, Usage};
use spillway::domain::content::{Content, Image, Part, Piece};
use spillway::domain::prompt::{Effort, Prompt, Role, ToolChoice};
use spillway::provider::ErrorClass::{CallerError, FailoverProvider, RetrySameKey};
use spillway::provider::codes;
use spillway::provider::settings::{Api, Vendor};
use spillway::provider::stream::whole;

use super::responses::{answered, conversation, schema, sent, spoken};
use super::streamed::{PATIENT, sending_lines, taken};
use super::{LONG, message, question, speaking};

const OLLAMA_ITSELF: (Vendor, Option<Api>) = (Vendor::Ollama, Some(Api::Native));

pub(super) const OLLAMA: &str = r#"{"model":"qwen3","created_at":"2026-11-20T12:00:00.1Z","message":{"role":"assistant","content":"","thinking":"Hm … "},"done":false}
{"model":"qwen3","created_at":"2026-11-20T12:00:00.2Z","message":{"role":"assistant","content":"Grüß "},"done":false}
{"model":"qwen3","created_at":"2026-11-20T12:00:00.3Z","message":{"role":"assistant","content":"Gott 👋\n\n"},"done":false}
{"model":"qwen3","created_at":"2026-11-20T12:00:00.4Z","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"look","arguments":{"q":"x"}}}]},"done":false}
{"model":"qwen3","created_at":"2026-11-20T12:00:00.5Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_2","function":{"index":1,"name":"list","arguments":{}}}]},"done":false}
{"model":"qwen3","created_at":"2026-11-20T12:00:00.6Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":5,"prompt_eval_count":12,"eval_count":44}
"#;

async fn body(model: &str, prompt: &Prompt) -> Value {
    sent(OLLAMA_ITSELF, model, prompt).await.unwrap().1
}

#[tokio::test]
async fn a_conversation_in_ollamas_words() {
    let prompt = Prompt {
        temperature: Some(0.5),
        top_p: Some(0.9),
        stop: vec!["END".to_owned()],
        ..conversation()
    };
    let (request, body) = sent(OLLAMA_ITSELF, "qwen3", &prompt).await.unwrap();
    assert_eq!(request.url.path(), "/api/chat");
    assert_eq!(
        body,
        json!({
            "model": "qwen3",
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": "What?", "images": ["QUJD"] },
                { "role": "assistant", "content": "I look.", "tool_calls": [
                    { "id": "call_1",
                      "function": { "name": "lookup", "arguments": { "q": "x" } } },
                ] },
                { "role": "tool", "tool_name": "lookup", "tool_call_id": "call_1",
                  "content": "42" },
            ],
            "stream": false,
            "options": { "num_predict": 200, "temperature": 0.5, "top_p": 0.9, "stop": ["END"] },
            "truncate": false,
            "tools": [{ "type": "function", "function": {
                "name": "lookup", "description": "Looks up.", "parameters": schema(),
            } }],
        })
    );
}

#[tokio::test]
async fn people_may_copy_the_address_of_either_api() {
    for (end, path) in [("", "/api/tags"), ("/v1", "/api/tags"), ("/api/", "/api/tags")] {
        let server = wiremock::MockServer::start().await;
        let good = wiremock::ResponseTemplate::new(200).set_body_json(json!({ "models": [] }));
        let right = wiremock::Mock::given(wiremock::matchers::path(path));
        right.respond_with(good).mount(&server).await;
        let provider = speaking(OLLAMA_ITSELF, &format!("{}{end}", server.uri()));
        assert_eq!(provider.check(LONG).await, Ok(()), "{end}");
        assert_eq!(provider.speaks(), None);
    }
}

#[tokio::test]
async fn the_answers_form_goes_by_its_knob_where_tools_leave_it_room() {
    let fits = Prompt { output_schema: Some(schema()), ..question() };
    let asked = body("llama3", &fits).await;
    assert_eq!((&asked["format"], asked["messages"].as_array().unwrap().len()), (&schema(), 1));
    let beside = Prompt { output_schema: Some(schema()), ..conversation() };
    let asked = body("llama3", &beside).await;
    assert_eq!(asked.get("format"), None);
    let told = asked["messages"][0]["content"].as_str().unwrap();
    assert!(told.ends_with(&schema().to_string()), "{told}");
    let provider = speaking(OLLAMA_ITSELF, "http://127.0.0.1:1");
    assert_eq!(provider.lacks("llama3", &beside), Some("an output schema"));
    assert_eq!(provider.lacks("llama3", &fits), None);
    let any = body("llama3", &Prompt { json: true, ..question() }).await;
    assert_eq!(any["format"], json!("json"));
    assert!(any["messages"][0]["content"].as_str().unwrap().contains("JSON"), "{any}");
}

#[tokio::test]
async fn what_has_no_knob_is_said_in_words() {
    let chosen = |choice| Prompt { tool_choice: Some(choice), ..conversation() };
    let none = body("m", &chosen(ToolChoice::None)).await;
    assert_eq!((none.get("tools"), &none["messages"][0]["content"]), (None, &json!("Be brief.")));
    let mut two = conversation().tools;
    two.push(two[0].clone());
    two[1].name = "other".to_owned();
    for (choice, count, rule) in [
        (ToolChoice::Auto, 2, "Be brief."),
        (ToolChoice::Required, 2, "Call at least one of the tools."),
        (ToolChoice::Tool("other".to_owned()), 1, "Call the tool."),
    ] {
        let asked = body("m", &Prompt { tools: two.clone(), ..chosen(choice) }).await;
        assert_eq!(asked["tools"].as_array().unwrap().len(), count);
        let told = asked["messages"][0]["content"].as_str().unwrap();
        assert!(told.starts_with("Be brief.") && told.ends_with(rule), "{told}");
    }
    let single = Prompt { parallel_tool_calls: Some(false), ..conversation() };
    let told = body("m", &single).await["messages"][0]["content"].to_string();
    assert!(told.contains("at most one tool"), "{told}");
}

#[tokio::test]
async fn a_model_is_asked_to_think_where_it_can() {
    for (model, effort, think) in [
        ("gpt-oss:20b", Effort::None, Some(json!("low"))),
        ("gpt-oss:20b", Effort::High, Some(json!("high"))),
        ("qwen3:8b", Effort::Low, Some(json!(true))),
        ("qwen3:8b", Effort::None, Some(json!(false))),
        ("qwen3-coder:30b", Effort::High, None),
        ("llama3.2", Effort::High, None),
        ("llama3.2", Effort::None, Some(json!(false))),
    ] {
        let asked = body(model, &Prompt { effort: Some(effort), ..question() }).await;
        assert_eq!(asked.get("think"), think.as_ref(), "{model} {effort:?}");
    }
}

#[tokio::test]
async fn an_image_is_taken_as_data_from_the_user_alone() {
    let with = |role, image: &str| {
        let mut shown = message(role, "");
        let piece = Piece::Image(Image::at(image));
        shown.content = Content(vec![Part { piece, cache: None }]);
        Prompt { messages: vec![shown], ..question() }
    };
    let data = "data:image/png;base64,QUJD";
    for prompt in [with(Role::User, "https://x.example/a.png"), with(Role::Assistant, data)] {
        let error = sent(OLLAMA_ITSELF, "m", &prompt).await.unwrap_err();
        assert_eq!(error.code, codes::UNSUPPORTED_PARAMETER);
    }
    let tools = body("m", &with(Role::Tool, data)).await;
    assert_eq!(tools["messages"][0]["role"], json!("tool"));
    assert_eq!(tools["messages"][1]["images"], json!(["QUJD"]));
}

#[tokio::test]
async fn the_same_answer_is_read_whole_and_as_a_stream() {
    let usage = Usage { input_tokens: 12, output_tokens: 44, ..Usage::default() };
    let read = spoken("qwen3", ["call_202611201200004_0", "call_2"]);
    let expected = Completion { usage: Some(usage), ..read };
    let address = sending_lines(OLLAMA).await;
    let provider = speaking(OLLAMA_ITSELF, &address);
    let pieces = provider.stream("m", &question(), PATIENT).await.unwrap();
    assert_eq!(whole(pieces).await, Ok(expected.clone()));
    let document = json!({
        "model": "qwen3", "created_at": "2026-11-20T12:00:00.4Z", "done": true,
        "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 44,
        "message": { "content": "Grüß Gott 👋\n\n", "thinking": "Hm … ", "tool_calls": [
            { "function": { "name": "look", "arguments": { "q": "x" } } },
            { "id": "call_2", "function": { "name": "list" } },
        ] },
    });
    assert_eq!(answered(OLLAMA_ITSELF, 200, &document).await, Ok(expected));
}

#[tokio::test]
async fn a_stream_without_its_last_line_is_cut_and_one_with_an_error_fails() {
    let line = |text: &str| json!({ "message": { "content": text }, "done": false });
    let broke = json!({ "error": "an error was encountered while running the model" });
    for (last, code) in [(None, codes::CUT), (Some(&broke), codes::SERVER_ERROR)] {
        let last = last.map(ToString::to_string).unwrap_or_default();
        let address = sending_lines(format!("{}\n{last}\n", line("Hi"))).await;
        let provider = speaking(OLLAMA_ITSELF, &address);
        let (pieces, error) =
            taken(provider.stream("m", &question(), PATIENT).await.unwrap()).await;
        let error = error.unwrap();
        assert_eq!((pieces.len(), error.class, error.code), (1, FailoverProvider, code));
    }
    let address = sending_lines(format!("{broke}\n")).await;
    let call = speaking(OLLAMA_ITSELF, &address).stream("m", &question(), PATIENT).await;
    assert_eq!(call.err().unwrap().code, codes::SERVER_ERROR);
    let cut = Completion { finish: Finish::Length, ..Completion::default() };
    let address =
        sending_lines("{\"message\":{\"content\":\"H\"},\"done\":true,\"done_reason\":\"length\"}")
            .await;
    let pieces = speaking(OLLAMA_ITSELF, &address).stream("m", &question(), PATIENT).await;
    let read = whole(pieces.unwrap()).await.unwrap();
    assert_eq!((read.finish, read.usage), (cut.finish, None));
}

#[tokio::test]
async fn ollamas_table_of_errors() {
    let said = |text: &str| json!({ "error": text });
    let long = r#"{"error":{"code":400,"message":"request (8889 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error"}}"#;
    for (status, body, class, code) in [
        (400, said(long), CallerError, codes::CONTEXT_LENGTH),
        (
            400,
            said("the prompt is longer than the context length currently available to the model"),
            CallerError,
            codes::CONTEXT_LENGTH,
        ),
        (400, said("\"m\" does not support tools"), CallerError, codes::UNSUPPORTED_PARAMETER),
        (400, said("\"m\" does not support thinking"), CallerError, codes::UNSUPPORTED_PARAMETER),
        (400, said("invalid options"), CallerError, codes::INVALID_REQUEST),
        (404, said("model 'm' not found"), CallerError, codes::MODEL_NOT_FOUND),
        (
            500,
            said("model requires more system memory (8 GiB) than is available"),
            FailoverProvider,
            codes::SERVER_ERROR,
        ),
        (
            503,
            said("server busy, please try again. maximum pending requests exceeded"),
            RetrySameKey,
            codes::OVERLOADED,
        ),
        (200, said("broke"), FailoverProvider, codes::SERVER_ERROR),
        (200, json!({ "done": true }), FailoverProvider, codes::GARBLED),
        (200, json!({ "message": {}, "done": false }), FailoverProvider, codes::GARBLED),
    ] {
        let error = answered(OLLAMA_ITSELF, status, &body).await.unwrap_err();
        assert_eq!((error.class, error.code), (class, code), "{status} {body}");
    }
}
