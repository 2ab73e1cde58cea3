//! OpenAI's Responses: what is asked, what is read, and every way to fail.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use spillway::app;
use spillway::clock::{SharedClock, SystemClock};
use spillway::config::{Environment, load};
use spillway::domain::completion::{Completion, Finish, ToolCall, Usage};
use spillway::domain::content::{Content, Image, Part, Piece};
use spillway::domain::prompt::{Effort, Prompt, Role, Tool, ToolChoice};
use spillway::provider::ErrorClass::{
    AuthOrBilling, CallerError, ContentRefused, CooldownKey, FailoverProvider, RetrySameKey,
};
use spillway::provider::settings::{Api, Vendor};
use spillway::provider::stream::whole;
use spillway::provider::{ErrorClass, ProviderError, codes};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::streamed::{PATIENT, natively, sending, taken};
use super::{KEY, LONG, message, question, speaking};

const OPENAI: (Vendor, Option<Api>) = (Vendor::OpenAi, Some(Api::Responses));
const LIKE_IT: (Vendor, Option<Api>) = (Vendor::OpenAiCompatible, Some(Api::Responses));

pub(super) const RESPONSES: &str = r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","error":null,"model":"gpt-x","output":[],"usage":null}}

event: response.in_progress
data: {"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1","status":"in_progress","error":null,"model":"gpt-x","output":[]}}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[]}}

event: response.reasoning_summary_part.added
data: {"type":"response.reasoning_summary_part.added","sequence_number":3,"item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}

event: response.reasoning_summary_text.delta
data: {"type":"response.reasoning_summary_text.delta","sequence_number":4,"item_id":"rs_1","output_index":0,"summary_index":0,"delta":"Hm … "}

event: response.reasoning_summary_text.done
data: {"type":"response.reasoning_summary_text.done","sequence_number":5,"item_id":"rs_1","output_index":0,"summary_index":0,"text":"Hm … "}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":6,"output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Hm … "}]}}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":7,"output_index":1,"item":{"id":"msg_1","type":"message","status":"in_progress","content":[],"role":"assistant"}}

event: response.content_part.added
data: {"type":"response.content_part.added","sequence_number":8,"item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","annotations":[],"text":""}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":9,"item_id":"msg_1","output_index":1,"content_index":0,"delta":"Grüß ","logprobs":[],"obfuscation":"x7"}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":10,"item_id":"msg_1","output_index":1,"content_index":0,"delta":"Gott 👋\n\n","logprobs":[]}

event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":11,"item_id":"msg_1","output_index":1,"content_index":0,"text":"Grüß Gott 👋\n\n","logprobs":[]}

event: response.content_part.done
data: {"type":"response.content_part.done","sequence_number":12,"item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","annotations":[],"text":"Grüß Gott 👋\n\n"}}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":13,"output_index":1,"item":{"id":"msg_1","type":"message","status":"completed","content":[{"type":"output_text","annotations":[],"text":"Grüß Gott 👋\n\n"}],"role":"assistant"}}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":14,"output_index":2,"item":{"id":"fc_1","type":"function_call","status":"in_progress","arguments":"","call_id":"call_1","name":"look"}}

event: response.function_call_arguments.delta
data: {"type":"response.function_call_arguments.delta","sequence_number":15,"item_id":"fc_1","output_index":2,"delta":"{\"q\": \"x"}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":16,"output_index":3,"item":{"id":"fc_2","type":"function_call","status":"in_progress","arguments":"","call_id":"call_2","name":"list"}}

event: response.function_call_arguments.delta
data: {"type":"response.function_call_arguments.delta","sequence_number":17,"item_id":"fc_1","output_index":2,"delta":"\"}"}

event: response.function_call_arguments.done
data: {"type":"response.function_call_arguments.done","sequence_number":18,"item_id":"fc_1","output_index":2,"arguments":"{\"q\": \"x\"}"}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":19,"output_index":2,"item":{"id":"fc_1","type":"function_call","status":"completed","arguments":"{\"q\": \"x\"}","call_id":"call_1","name":"look"}}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":20,"output_index":3,"item":{"id":"fc_2","type":"function_call","status":"completed","arguments":"{}","call_id":"call_2","name":"list"}}

event: response.completed
data: {"type":"response.completed","sequence_number":21,"response":{"id":"resp_1","status":"completed","error":null,"incomplete_details":null,"model":"gpt-x","output":[{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Hm … "}]},{"id":"msg_1","type":"message","status":"completed","content":[{"type":"output_text","annotations":[],"text":"Grüß Gott 👋\n\n"}],"role":"assistant"},{"id":"fc_1","type":"function_call","status":"completed","arguments":"{\"q\": \"x\"}","call_id":"call_1","name":"look"},{"id":"fc_2","type":"function_call","status":"completed","arguments":"{}","call_id":"call_2","name":"list"}],"usage":{"input_tokens":12,"input_tokens_details":{"cached_tokens":3},"output_tokens":44,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":56}}}

"#;

/// What the good streams of these tests say.
pub(super) fn spoken(model: &str, ids: [&str; 2]) -> Completion {
    let call = |id: &str, name: &str, arguments: Value| ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments,
    };
    Completion {
        model: model.to_owned(),
        text: "Grüß Gott 👋\n\n".to_owned(),
        reasoning: "Hm … ".to_owned(),
        tool_calls: vec![
            call(ids[0], "look", json!({ "q": "x" })),
            call(ids[1], "list", json!({})),
        ],
        finish: Finish::ToolCalls,
        ..Completion::default()
    }
}

/// The request that a prompt becomes.
pub(super) async fn sent(
    who: (Vendor, Option<Api>),
    model: &str,
    prompt: &Prompt,
) -> Result<(Request, Value), ProviderError> {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let error = speaking(who, &server.uri()).complete(model, prompt, LONG).await.unwrap_err();
    let Some(request) = server.received_requests().await.unwrap().pop() else { return Err(error) };
    let body = serde_json::from_slice(&request.body).unwrap();
    Ok((request, body))
}

/// What comes of an answer.
pub(super) async fn answered(
    who: (Vendor, Option<Api>),
    status: u16,
    body: &Value,
) -> Result<Completion, ProviderError> {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(status).set_body_json(body);
    Mock::given(any()).respond_with(answer).mount(&server).await;
    speaking(who, &server.uri()).complete("m", &question(), LONG).await
}

/// A conversation with all that one can hold.
pub(super) fn conversation() -> Prompt {
    let mut asked = message(Role::Assistant, "I look.");
    asked.tool_calls = vec![ToolCall {
        id: "call_1".to_owned(),
        name: "lookup".to_owned(),
        arguments: json!({ "q": "x" }),
    }];
    let mut told = message(Role::Tool, "42");
    told.tool_call_id = Some("call_1".to_owned());
    let part = |piece| Part { piece, cache: None };
    let seen = Content(vec![
        part(Piece::Text("What?".to_owned())),
        part(Piece::Image(Image::at("data:image/png;base64,QUJD"))),
    ]);
    let mut shown = message(Role::User, "");
    shown.content = seen;
    Prompt {
        system: Some("Be brief.".into()),
        messages: vec![shown, asked, told],
        tools: vec![Tool {
            name: "lookup".to_owned(),
            description: "Looks up.".to_owned(),
            parameters: schema(),
            strict: None,
        }],
        max_output_tokens: 200,
        ..Prompt::default()
    }
}

pub(super) fn schema() -> Value {
    json!({ "type": "object", "properties": { "q": { "type": "string" } }, "required": ["q"] })
}

#[tokio::test]
async fn a_conversation_in_the_words_of_responses() {
    let prompt = Prompt {
        temperature: Some(0.5),
        parallel_tool_calls: Some(false),
        tool_choice: Some(ToolChoice::Tool("lookup".to_owned())),
        cache_key: Some("k".to_owned()),
        ..conversation()
    };
    let (request, body) = sent(OPENAI, "gpt-4.1", &prompt).await.unwrap();
    assert_eq!(request.url.path(), "/v1/responses");
    assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
    let expected = json!({
        "model": "gpt-4.1",
        "instructions": "Be brief.",
        "input": [
            { "role": "user", "content": [
                { "type": "input_text", "text": "What?" },
                { "type": "input_image", "detail": "auto",
                  "image_url": "data:image/png;base64,QUJD" },
            ] },
            { "role": "assistant", "content": "I look." },
            { "type": "function_call", "call_id": "call_1", "name": "lookup",
              "arguments": "{\"q\":\"x\"}" },
            { "type": "function_call_output", "call_id": "call_1", "output": "42" },
        ],
        "max_output_tokens": 200,
        "temperature": 0.5,
        "tools": [{ "type": "function", "name": "lookup", "description": "Looks up.",
                    "parameters": schema(), "strict": false }],
        "tool_choice": { "type": "function", "name": "lookup" },
        "parallel_tool_calls": false,
        "prompt_cache_key": "k",
        "store": false,
    });
    assert_eq!(body, expected);
    let (_, like) = sent(LIKE_IT, "gpt-4.1", &prompt).await.unwrap();
    let mut expected = expected;
    expected.as_object_mut().unwrap().remove("prompt_cache_key");
    assert_eq!(like, expected);
}

#[tokio::test]
async fn an_account_says_by_which_api_it_is_asked() {
    for (provider, api, path) in [
        ("openai", "", "/v1/chat/completions"),
        ("openai", "api = \"chat\"", "/v1/chat/completions"),
        ("openai", "api = \"responses\"", "/v1/responses"),
        ("openai-compatible", "api = \"responses\"", "/v1/responses"),
        ("ollama", "", "/v1/chat/completions"),
        ("ollama", "api = \"native\"", "/api/chat"),
    ] {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&server).await;
        let text = format!(
            "[accounts.a]\nprovider = \"{provider}\"\nbase_url = \"{}\"\napi_key = \"k\"\n{api}\n\
             [routes.cheap]\nsteps = [\"a/m\"]\n",
            server.uri()
        );
        let loaded = load::parse(&text, Path::new("."), &Environment::default()).unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        let asked = app::provider(&loaded.plan.accounts[0], &clock).unwrap();
        assert!(asked.complete("m", &question(), LONG).await.is_err());
        let request = server.received_requests().await.unwrap().remove(0);
        assert_eq!(request.url.path(), path, "{provider} {api}");
    }
}

#[tokio::test]
async fn every_knob_has_its_place() {
    let at = async |model: &str, prompt: Prompt, place: &str| {
        let (_, body) = sent(OPENAI, model, &prompt).await.unwrap();
        body.pointer(place).cloned()
    };
    let closed = || {
        let mut closed = schema();
        closed["additionalProperties"] = json!(false);
        closed
    };
    let fits = || Prompt { output_schema: Some(schema()), ..question() };
    assert_eq!(
        at("gpt-4.1", fits(), "/text").await,
        Some(json!({ "format": { "type": "json_schema", "name": "answer", "strict": true,
                                 "schema": closed() } }))
    );
    // JSON of any shape: the word stands in the input, for instructions do not count there.
    let any = Prompt { json: true, system: Some("Speak.".into()), ..question() };
    let (_, any) = sent(OPENAI, "gpt-4.1", &any).await.unwrap();
    assert_eq!(any["text"], json!({ "format": { "type": "json_object" } }));
    assert_eq!((any.get("instructions"), &any["input"][0]["role"]), (None, &json!("system")));
    assert!(any["input"][0]["content"].as_str().unwrap().contains("JSON"), "{any}");

    let thinking = || Prompt { effort: Some(Effort::Low), temperature: Some(0.5), ..question() };
    let told = at("gpt-5-mini", thinking(), "/reasoning").await;
    assert_eq!(told, Some(json!({ "effort": "low" })));
    assert_eq!(at("gpt-5-mini", thinking(), "/temperature").await, None);
    assert_eq!(at("gpt-4.1", thinking(), "/reasoning").await, None);
    let mut strict = conversation();
    strict.tools[0].strict = Some(true);
    assert_eq!(at("gpt-4.1", strict, "/tools/0/strict").await, Some(json!(true)));
    for (choice, word) in
        [(ToolChoice::Auto, "auto"), (ToolChoice::None, "none"), (ToolChoice::Required, "required")]
    {
        let prompt = Prompt { tool_choice: Some(choice), ..conversation() };
        assert_eq!(at("gpt-4.1", prompt, "/tool_choice").await, Some(json!(word)));
    }
    let short = Prompt { max_output_tokens: 5, ..question() };
    assert_eq!(at("gpt-4.1", short, "/max_output_tokens").await, Some(json!(16)));
}

#[tokio::test]
async fn what_it_cannot_be_asked_is_not_sent() {
    let stopping = Prompt { stop: vec!["END".to_owned()], ..question() };
    let refused = sent(OPENAI, "gpt-4.1", &stopping).await.unwrap_err();
    assert_eq!((refused.class, refused.code), (CallerError, codes::UNSUPPORTED_PARAMETER));
    // A model that takes none anywhere is asked without them, as everywhere.
    assert!(sent(OPENAI, "gpt-5-mini", &stopping).await.is_ok());
}

#[tokio::test]
async fn a_callers_own_chat_completion_is_said_in_other_words() {
    let own = natively(Vendor::OpenAi, json!({ "messages": "anything", "n": 2 }));
    let (_, body) = sent(OPENAI, "gpt-4.1", &own).await.unwrap();
    assert_eq!(body["input"], json!([{ "role": "user", "content": "Hi" }]));
    assert_eq!((body.get("messages"), body.get("n")), (None, None));
    assert_eq!(speaking(OPENAI, "http://127.0.0.1:1").speaks(), None);
}

#[tokio::test]
async fn the_same_answer_is_read_whole_and_as_a_stream() {
    let usage = Usage {
        input_tokens: 12,
        cached_input_tokens: 3,
        output_tokens: 44,
        reasoning_tokens: Some(4),
        ..Usage::default()
    };
    let expected = Completion { usage: Some(usage), ..spoken("gpt-x", ["call_1", "call_2"]) };
    let address = sending(RESPONSES).await;
    for who in [OPENAI, LIKE_IT] {
        let pieces = speaking(who, &address).stream("m", &question(), PATIENT).await.unwrap();
        assert_eq!(whole(pieces).await, Ok(expected.clone()));
    }
    let (_, last) = RESPONSES.trim_end().rsplit_once("data: ").unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(answered(OPENAI, 200, &last["response"]).await, Ok(expected.clone()));
    // Some servers say it all at the end alone.
    let address = sending(format!("data: {last}\n\n")).await;
    let pieces = speaking(LIKE_IT, &address).stream("m", &question(), PATIENT).await.unwrap();
    assert_eq!(whole(pieces).await, Ok(expected));
}

fn delta(text: &str) -> Value {
    json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0,
            "item_id": "msg_1", "delta": text })
}

fn ended(kind: &str, response: &Value) -> Value {
    json!({ "type": format!("response.{kind}"), "response": response })
}

fn events(messages: &[Value]) -> String {
    let lines = messages.iter().map(|message| ["data: ", &message.to_string(), "\n\n"].concat());
    lines.collect()
}

async fn streamed(messages: &[Value]) -> Result<Completion, ProviderError> {
    let address = sending(events(messages)).await;
    whole(speaking(OPENAI, &address).stream("m", &question(), PATIENT).await?).await
}

#[tokio::test]
async fn every_end_of_a_stream_is_told_apart() {
    let refusal = json!({ "type": "response.refusal.delta", "output_index": 0, "delta": "No." });
    let call = json!({ "type": "response.output_item.added", "output_index": 0,
                       "item": { "type": "function_call", "call_id": "c", "name": "f" } });
    let half = json!({ "type": "response.function_call_arguments.delta", "output_index": 0,
                       "delta": "{\"a\":" });
    let because = |reason: &str| json!({ "incomplete_details": { "reason": reason } });
    let done = || ended("completed", &json!({}));
    let full = || ended("incomplete", &because("max_output_tokens"));
    let filtered = ended("incomplete", &because("content_filter"));
    for (messages, text, finish, calls) in [
        (vec![delta("Hi"), done()], "Hi", Finish::Stop, 0),
        (vec![refusal, done()], "No.", Finish::Refusal, 0),
        (vec![delta("Hi"), full()], "Hi", Finish::Length, 0),
        (vec![delta("Hi"), filtered], "Hi", Finish::ContentFilter, 0),
        (vec![call.clone(), done()], "", Finish::ToolCalls, 1),
        (vec![call.clone(), half, full()], "", Finish::Length, 0),
        (vec![full()], "", Finish::Length, 0),
        (vec![json!({ "type": "response.new" }), delta("Hi"), done()], "Hi", Finish::Stop, 0),
    ] {
        let read = streamed(&messages).await.unwrap();
        assert_eq!((read.text.as_str(), read.finish), (text, finish), "{messages:?}");
        assert_eq!(read.tool_calls.len(), calls, "{messages:?}");
    }
}

#[tokio::test]
async fn a_stream_without_its_last_word_is_cut() {
    for rest in ["", "data: [DONE]\n\n", "data: {\"type\":\"response.output_text.done\"}\n\n"] {
        let address = sending(format!("{}{rest}", events(&[delta("Hi")]))).await;
        let pieces = speaking(OPENAI, &address).stream("m", &question(), PATIENT).await.unwrap();
        let (pieces, error) = taken(pieces).await;
        assert_eq!((pieces.len(), error.unwrap().code), (1, codes::CUT), "{rest}");
    }
}

#[tokio::test]
async fn errors_within_a_good_stream_are_told_apart() {
    let said = |code: &str, text: &str| json!({ "code": code, "message": text, "param": null });
    let wait = "Rate limit reached. Please try again in 3.89s.";
    let large = "Request too large for gpt-x: Limit 30000, Requested 39060.";
    for (error, class, code) in [
        (said("insufficient_quota", "m"), AuthOrBilling, codes::INSUFFICIENT_QUOTA),
        (said("project_spend_limit_exceeded", "m"), AuthOrBilling, codes::INSUFFICIENT_QUOTA),
        (said("rate_limit_exceeded", wait), CooldownKey, codes::RATE_LIMITED),
        (said("rate_limit_exceeded", large), CallerError, codes::LARGER_THAN_LIMIT),
        (said("server_is_overloaded", "m"), RetrySameKey, codes::OVERLOADED),
        (said("server_error", "m"), RetrySameKey, codes::SERVER_ERROR),
        (said("vector_store_timeout", "m"), FailoverProvider, codes::TIMED_OUT),
        (said("invalid_prompt", "m"), ContentRefused, codes::REFUSED),
        (said("bio_policy", "m"), ContentRefused, codes::REFUSED),
        (said("image_content_policy_violation", "m"), ContentRefused, codes::REFUSED),
        (said("invalid_image_url", "m"), CallerError, codes::INVALID_REQUEST),
        (said("image_too_small", "m"), CallerError, codes::INVALID_REQUEST),
        (said("data_residency_mismatch", "m"), CallerError, codes::INVALID_REQUEST),
        (said("context_length_exceeded", "m"), CallerError, codes::CONTEXT_LENGTH),
        (said("of_the_future", "m"), RetrySameKey, codes::SERVER_ERROR),
    ] {
        let mut flat = error.clone();
        flat["type"] = json!("error");
        let nested = json!({ "type": "error", "sequence_number": 2, "error": error });
        let failed = ended("failed", &json!({ "status": "failed", "error": error }));
        let created = ended("created", &json!({ "status": "in_progress", "error": null }));
        for event in [flat, nested, failed] {
            // Before the first piece it is an error of the call; behind it, the stream's.
            let address = sending(events(&[created.clone(), event.clone()])).await;
            let call = speaking(OPENAI, &address).stream("m", &question(), PATIENT).await;
            let before = call.err().unwrap();
            let told: (ErrorClass, &str) = (before.class, before.code);
            assert_eq!(told, (class, code), "{event}");
            let after = streamed(&[created.clone(), delta("Hi"), event]).await;
            assert_eq!(after, Err(before));
        }
        let document = json!({ "status": "failed", "error": error, "output": [] });
        let whole = answered(OPENAI, 200, &document).await.unwrap_err();
        assert_eq!((whole.class, whole.code), (class, code), "{document}");
    }
}

#[tokio::test]
async fn errors_with_a_status_are_those_of_openai() {
    let wrapped = |code: &str, param: &str| json!({ "error": { "message": "m", "type": "x", "code": code, "param": param } });
    for (status, body, class, code) in [
        (400, wrapped("model_not_found", "model"), CallerError, codes::MODEL_NOT_FOUND),
        (400, wrapped("previous_response_not_found", ""), CallerError, codes::INVALID_REQUEST),
        (400, wrapped("", "max_output_tokens"), CallerError, codes::MAX_TOKENS),
        (401, wrapped("invalid_api_key", ""), AuthOrBilling, codes::BAD_KEY),
        (429, wrapped("insufficient_quota", ""), AuthOrBilling, codes::INSUFFICIENT_QUOTA),
        (503, wrapped("server_is_overloaded", ""), RetrySameKey, codes::OVERLOADED),
    ] {
        let error = answered(OPENAI, status, &body).await.unwrap_err();
        assert_eq!((error.class, error.code), (class, code), "{body}");
    }
    for no_answer in [json!({}), json!({ "status": "queued", "output": [] }), json!([1])] {
        let error = answered(OPENAI, 200, &no_answer).await.unwrap_err();
        assert_eq!((error.class, error.code), (FailoverProvider, codes::GARBLED), "{no_answer}");
    }
}
