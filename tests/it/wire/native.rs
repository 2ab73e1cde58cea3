//! A caller's own request, passed on as it came, and its answer passed back as it came.

use std::sync::Arc;

use serde_json::{Value, json};
use spillway::domain::completion::Finish;
use spillway::domain::prompt::{CacheUse, Dialect, Native, Prompt};
use spillway::provider::codes;
use spillway::provider::settings::Vendor;
use spillway::provider::stream::{Event, Piece};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::streamed::{ANTHROPIC, OPENAI, PATIENT, natively, sending, taken};
use super::{KEY, LONG, provider, question};

/// The request that a prompt becomes, whole or as a stream.
async fn sent(vendor: Vendor, prompt: &Prompt, streamed: bool) -> Request {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let provider = provider(vendor, &server.uri());
    if streamed {
        assert!(provider.stream("our-model", prompt, PATIENT).await.is_err());
    } else {
        assert!(provider.complete("our-model", prompt, LONG).await.is_err());
    }
    server.received_requests().await.unwrap().remove(0)
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// What the bytes of these pieces are together.
fn bytes(pieces: &[Piece]) -> String {
    let native = pieces.iter().filter_map(|piece| piece.native.as_deref());
    String::from_utf8(native.flatten().copied().collect()).unwrap()
}

#[tokio::test]
async fn only_the_model_and_the_stream_are_changed() {
    let strange = json!({
        "model": "spillway/theirs", "messages": "anything", "brand_new": { "x": [1, null] },
        "max_tokens": 5, "n": 2, "stream": true, "logit_bias": {}, "cache_control": { "type": "own" },
    });
    let with = |changes: Value| {
        let mut body = strange.clone();
        body["model"] = json!("our-model");
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let usage = json!({ "stream_options": { "include_usage": true } });
    for (vendor, whole, streamed) in [
        (Vendor::Anthropic, json!({ "stream": false }), json!({})),
        (Vendor::OpenAi, json!({ "stream": false }), usage.clone()),
        (Vendor::OpenRouter, json!({ "stream": false }), usage.clone()),
        (Vendor::OpenAiCompatible, json!({ "stream": false }), usage),
    ] {
        let prompt = natively(vendor, strange.clone());
        assert_eq!(body(&sent(vendor, &prompt, false).await), with(whole), "{vendor:?}");
        assert_eq!(body(&sent(vendor, &prompt, true).await), with(streamed), "{vendor:?}");
    }
    // Options of a stream are refused where there is none; others of them are kept.
    let own = json!({ "stream": true, "stream_options": { "include_obfuscation": false } });
    let prompt = natively(Vendor::OpenAi, own);
    let whole = body(&sent(Vendor::OpenAi, &prompt, false).await);
    // Who names no longest answer gets the one that is reckoned with.
    let capped = json!({ "stream": false, "model": "our-model", "max_completion_tokens": 100 });
    assert_eq!(whole, capped);
    let streamed = body(&sent(Vendor::OpenAi, &prompt, true).await);
    let options = json!({ "include_obfuscation": false, "include_usage": true });
    assert_eq!(streamed.pointer("/stream_options"), Some(&options));
}

#[tokio::test]
async fn whoever_speaks_another_language_is_asked_in_ours() {
    for (vendor, of) in [
        (Vendor::Anthropic, Vendor::OpenAi),
        (Vendor::OpenAi, Vendor::Anthropic),
        (Vendor::Gemini, Vendor::OpenAi),
    ] {
        let prompt = natively(of, json!({ "brand_new": 1 }));
        for streamed in [false, true] {
            let body = body(&sent(vendor, &prompt, streamed).await);
            assert_eq!(body.get("brand_new"), None, "{vendor:?}");
            let hi = body.to_string().contains("\"Hi\"");
            assert!(hi, "{vendor:?} {body}");
        }
    }
}

#[tokio::test]
async fn the_callers_headers_go_along_and_their_key_does_not() {
    let headers = [
        ("anthropic-beta", "context-1m"),
        ("anthropic-version", "2099-01-01"),
        ("x-api-key", "theirs"),
        ("authorization", "Bearer theirs"),
        ("host", "elsewhere"),
    ];
    let native = Native {
        dialect: Dialect::Anthropic,
        body: json!({ "messages": [] }).as_object().unwrap().clone(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    };
    let cache = CacheUse::All;
    let prompt = Prompt { native: Some(Arc::new(native)), cache, ..question() };
    for streamed in [false, true] {
        let request = sent(Vendor::Anthropic, &prompt, streamed).await;
        let header = |name: &str| {
            let all = request.headers.get_all(name).iter();
            all.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(header("anthropic-beta"), ["context-1m"]);
        assert_eq!(header("anthropic-version"), ["2099-01-01"]);
        assert_eq!(header("x-api-key"), [KEY]);
        assert!(header("authorization").is_empty());
        assert_eq!(header("content-type"), ["application/json"]);
        assert_ne!(header("host"), ["elsewhere"]);
        let marked = body(&request);
        assert_eq!(marked.pointer("/cache_control"), Some(&json!({ "type": "ephemeral" })));
    }
}

#[tokio::test]
async fn a_whole_answer_is_passed_back_as_it_came() {
    let openai = "{\"choices\":[{\"message\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}], \
                  \"brand_new\": 1e2}";
    let anthropic = "{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"stop_reason\":\"end_turn\",\
                     \"brand_new\": 1e2}";
    for (vendor, answer) in [(Vendor::OpenRouter, openai), (Vendor::Anthropic, anthropic)] {
        let provider = provider(vendor, &sending(format!("\n  \n{answer}")).await);
        let prompt = natively(vendor, json!({}));
        let completion = provider.complete("m", &prompt, LONG).await.unwrap();
        assert_eq!(completion.native.as_deref(), Some(answer.as_bytes()), "{vendor:?}");
        assert_eq!((completion.text.as_str(), completion.finish), ("Hi", Finish::Stop));
        let ours = provider.complete("m", &question(), LONG).await.unwrap();
        assert_eq!(ours.native, None);
    }
    let both = "{\"choices\":[{\"message\":{\"content\":\"Hi\"}}],\"error\":{\"code\":502}}";
    let provider = provider(Vendor::OpenRouter, &sending(both).await);
    let prompt = natively(Vendor::OpenRouter, json!({}));
    let error = provider.complete("m", &prompt, LONG).await.unwrap_err();
    assert_eq!(error.code, codes::SERVER_ERROR);
}

#[tokio::test]
async fn a_stream_is_passed_on_as_it_came() {
    let provider_of = async |vendor, stream: &str| provider(vendor, &sending(stream).await);
    let asked = json!({ "stream_options": { "include_usage": true } });
    let events = OPENAI.strip_prefix(": PROCESSING\n\n").unwrap();
    let (usage, _) = events.split_once("data: {\"choices\":[],").unwrap();
    let without_usage = format!("{usage}data: [DONE]\n\n");
    for (vendor, stream, body, expected) in [
        (Vendor::Anthropic, ANTHROPIC, json!({}), ANTHROPIC),
        (Vendor::OpenAi, OPENAI, asked, events),
        (Vendor::OpenAi, OPENAI, json!({}), &without_usage),
        (
            Vendor::OpenAi,
            OPENAI,
            json!({ "stream_options": { "include_usage": false } }),
            &without_usage,
        ),
    ] {
        let provider = provider_of(vendor, stream).await;
        let prompt = natively(vendor, body);
        let (pieces, error) = taken(provider.stream("m", &prompt, PATIENT).await.unwrap()).await;
        assert_eq!((bytes(&pieces).as_str(), error), (expected, None), "{vendor:?}");
        // What is not passed on is read all the same.
        let Some(Event::End(ending)) = pieces.last().unwrap().events.last() else {
            panic!("{pieces:?}")
        };
        let usage = ending.usage.unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (12, 44), "{vendor:?}");
        for piece in &pieces {
            let raw = piece.native.as_deref().unwrap();
            assert!(raw.ends_with(b"\n\n") && raw.len() > 2, "{piece:?}");
        }
    }
}

#[tokio::test]
async fn what_is_an_error_is_never_passed_on() {
    let spoken = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    let text = ANTHROPIC.split_once("event: content_block_stop").unwrap().0;
    for (vendor, good, bad) in [
        (Vendor::OpenAi, spoken, "data: {\"error\":{\"message\":\"SECRET\"}}\n\ndata: [DONE]\n\n"),
        (
            Vendor::OpenAi,
            spoken,
            "data: {\"choices\":[{\"index\":1,\"error\":{\"code\":500}}]}\n\n",
        ),
        (Vendor::Groq, spoken, "event: error\ndata: {\"message\":\"m\"}\n\n"),
        (Vendor::OpenAi, spoken, "data: {\"choi"),
        (Vendor::OpenAi, spoken, "data: garbage\n\n"),
        (Vendor::Anthropic, text, "event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n"),
        (Vendor::Anthropic, text, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
    ] {
        let provider = provider(vendor, &sending(format!("{good}{bad}")).await);
        let prompt = natively(vendor, json!({}));
        let (pieces, error) = taken(provider.stream("m", &prompt, PATIENT).await.unwrap()).await;
        assert_eq!(bytes(&pieces), good, "{bad}");
        assert!(error.is_some(), "{bad}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_say_done_is_given_the_word() {
    let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\
                  \"finish_reason\":\"stop\"}]}\n\n";
    let provider = provider(Vendor::OpenAiCompatible, &sending(stream).await);
    let prompt = natively(Vendor::OpenAiCompatible, json!({}));
    let (pieces, error) = taken(provider.stream("m", &prompt, PATIENT).await.unwrap()).await;
    assert_eq!((bytes(&pieces), error), (format!("{stream}data: [DONE]\n\n"), None));
}

#[tokio::test]
async fn of_several_answers_the_first_is_read_and_all_are_passed_on() {
    let text = |index: u32, text: &str| json!({ "choices": [{ "index": index, "delta": { "content": text }, "finish_reason": "stop" }] });
    let stream = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", text(1, "b"), text(0, "a"));
    let provider = provider(Vendor::OpenAi, &sending(stream.clone()).await);
    let prompt = natively(Vendor::OpenAi, json!({ "n": 2 }));
    let (pieces, _) = taken(provider.stream("m", &prompt, PATIENT).await.unwrap()).await;
    assert_eq!(bytes(&pieces), stream);
    let texts = pieces.iter().flat_map(|piece| &piece.events);
    let texts: Vec<&Event> = texts.filter(|event| matches!(event, Event::Text(_))).collect();
    assert_eq!(texts, [&Event::Text("a".to_owned())]);
}
