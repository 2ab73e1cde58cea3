//! Answers that come piece by piece: what is read of them.

use serde_json::{Value, json};
use spillway::domain::completion::{Completion, Finish, ToolCall, Usage};
use spillway::provider::ProviderError;
use spillway::provider::settings::Vendor;
use spillway::provider::stream::{Event, whole};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::streamed::{GOOD, PATIENT, sending, taken};
use super::{provider, question};

/// The events of a stream with these messages.
pub(super) fn events(messages: &[Value]) -> String {
    let lines = messages.iter().map(|message| match message.as_str() {
        Some(text) => format!("data: {text}\n\n"),
        None => format!("data: {message}\n\n"),
    });
    lines.collect()
}

/// The answer to a stream with these messages; the error may come before or after its first piece.
pub(super) async fn read(vendor: Vendor, messages: &[Value]) -> Result<Completion, ProviderError> {
    let provider = provider(vendor, &sending(events(messages)).await);
    whole(provider.stream("m", &question(), PATIENT).await?).await
}

/// What the call itself fails with.
pub(super) async fn refused(vendor: Vendor, body: &str) -> ProviderError {
    let provider = provider(vendor, &sending(body).await);
    provider.stream("m", &question(), PATIENT).await.err().unwrap()
}

pub(super) fn delta(delta: Value) -> Value {
    let mut chunk = json!({ "choices": [{ "index": 0, "finish_reason": null }] });
    chunk["choices"][0]["delta"] = delta;
    chunk
}

pub(super) fn fragment(index: u32, id: &str, name: &str, arguments: &str) -> Value {
    delta(json!({ "tool_calls": [
        { "index": index, "id": id, "function": { "name": name, "arguments": arguments } },
    ] }))
}

pub(super) fn finish(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

pub(super) fn part(part: Value) -> Value {
    let mut message = json!({ "candidates": [{ "content": { "role": "model" }, "index": 0 }] });
    message["candidates"][0]["content"]["parts"] = [part].into_iter().collect();
    message
}

pub(super) fn done() -> Value {
    json!("[DONE]")
}

pub(super) fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments }
}

#[tokio::test]
async fn the_same_answer_is_read_from_each_format() {
    for (vendor, stream) in GOOD {
        let provider = provider(vendor, &sending(stream).await);
        let pieces = provider.stream("m", &question(), PATIENT).await.unwrap();
        let answer = whole(pieces).await.unwrap();
        let (model, first, second, written) = match vendor {
            Vendor::Anthropic => ("claude-x", "toolu_1", "toolu_2", 2),
            Vendor::Gemini => ("gemini-x", "r_0", "r_1", 0),
            _ => ("gpt-x", "call_1", "call_2", 0),
        };
        let usage = Usage {
            input_tokens: 12,
            cached_input_tokens: 3,
            cache_write_tokens: written,
            cache_write_1h_tokens: 0,
            output_tokens: 44,
            reasoning_tokens: (vendor == Vendor::Gemini).then_some(4),
        };
        let expected = Completion {
            model: model.to_owned(),
            text: "Grüß Gott 👋\n\n".to_owned(),
            reasoning: "Hm … ".to_owned(),
            tool_calls: vec![
                call(first, "look", json!({ "q": "x" })),
                call(second, "list", json!({})),
            ],
            finish: Finish::ToolCalls,
            usage: Some(usage),
            ..Completion::default()
        };
        assert_eq!(answer, expected, "{vendor:?}");
    }
}

#[tokio::test]
async fn text_comes_as_it_was_sent_and_nothing_else_makes_a_piece() {
    for (vendor, stream) in GOOD {
        let provider = provider(vendor, &sending(stream).await);
        let pieces = provider.stream("m", &question(), PATIENT).await.unwrap();
        let (pieces, error) = taken(pieces).await;
        assert_eq!(error, None);
        assert!(pieces.iter().all(|piece| piece.native.is_none() && !piece.events.is_empty()));
        let texts: Vec<&str> = pieces
            .iter()
            .flat_map(|piece| &piece.events)
            .filter_map(|event| match event {
                Event::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(texts, ["Grüß ", "Gott 👋\n\n"], "{vendor:?}");
        assert!(matches!(pieces.last().unwrap().events.last(), Some(Event::End(_))));
    }
}

#[tokio::test]
async fn a_stream_is_asked_for_in_each_vendors_way() {
    for (vendor, path, query) in [
        (Vendor::Anthropic, "/v1/messages", None),
        (Vendor::OpenAi, "/v1/chat/completions", None),
        (Vendor::Groq, "/v1/chat/completions", None),
        (Vendor::Cerebras, "/v1/chat/completions", None),
        (Vendor::OpenRouter, "/v1/chat/completions", None),
        (Vendor::OpenAiCompatible, "/v1/chat/completions", None),
        (Vendor::Gemini, "/v1beta/models/m:streamGenerateContent", Some("alt=sse")),
    ] {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&server).await;
        let asked = provider(vendor, &server.uri());
        let error = asked.stream("m", &question(), PATIENT).await.err().unwrap();
        assert_eq!(error.status, Some(500));
        let request = server.received_requests().await.unwrap().remove(0);
        assert_eq!((request.url.path(), request.url.query()), (path, query), "{vendor:?}");
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let (stream, usage) = (body.pointer("/stream"), body.pointer("/stream_options"));
        let yes = json!(true);
        let options = json!({ "include_usage": true });
        let is_openai = path.ends_with("completions");
        assert_eq!(stream, (vendor != Vendor::Gemini).then_some(&yes), "{vendor:?}");
        assert_eq!(usage, is_openai.then_some(&options), "{vendor:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_gives_its_answer_at_once() {
    let openai = json!({ "choices": [{ "message": { "content": "Hi" }, "finish_reason": "stop" }],
                         "usage": { "prompt_tokens": 3, "completion_tokens": 1 } });
    let anthropic = json!({ "content": [{ "type": "text", "text": "Hi" }], "stop_reason": "end_turn",
                            "usage": { "input_tokens": 3, "output_tokens": 1 } });
    let gemini = json!({ "candidates": [{ "content": { "parts": [{ "text": "Hi" }] },
                                          "finishReason": "STOP" }],
                         "usageMetadata": { "promptTokenCount": 3, "candidatesTokenCount": 1 } });
    for (vendor, body) in [
        (Vendor::OpenAiCompatible, openai),
        (Vendor::Anthropic, anthropic),
        (Vendor::Gemini, gemini),
    ] {
        let provider = provider(vendor, &sending(format!("\n \n{body}")).await);
        let answer = whole(provider.stream("m", &question(), PATIENT).await.unwrap()).await;
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), ("Hi", Finish::Stop), "{vendor:?}");
        let usage = answer.usage.unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (3, 1), "{vendor:?}");
    }
}

#[tokio::test]
async fn an_answer_ends_as_what_is_in_it_says() {
    use Vendor::{Gemini, OpenAi, OpenAiCompatible};
    let text = || delta(json!({ "content": "Hi" }));
    let look = |arguments: &str| fragment(0, "c", "look", arguments);
    let stop = |reason: &str| json!({ "candidates": [{ "finishReason": reason }] });
    let function = json!({ "functionCall": { "name": "look", "args": {} } });
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
    for (vendor, messages, expected, calls) in [
        (OpenAi, vec![text(), finish("stop"), done()], Finish::Stop, 0),
        (OpenAi, vec![text(), finish("eos"), done()], Finish::Unknown, 0),
        (OpenAi, vec![finish("stop"), done()], Finish::Stop, 0),
        (OpenAi, vec![look("{}"), finish("stop"), done()], Finish::ToolCalls, 1),
        (OpenAi, vec![look("{\"a\""), finish("length"), done()], Finish::Length, 0),
        (OpenAi, vec![look(""), finish("length"), done()], Finish::Length, 0),
        (OpenAi, vec![look("{}"), finish("length"), done()], Finish::ToolCalls, 1),
        (OpenAi, vec![look(""), finish("tool_calls"), done()], Finish::ToolCalls, 1),
        (
            OpenAi,
            vec![look("{}"), fragment(1, "d", "look", "{\"a\""), finish("length"), done()],
            Finish::Length,
            1,
        ),
        (
            OpenAi,
            vec![delta(json!({ "refusal": "I cannot." })), finish("stop"), done()],
            Finish::Refusal,
            0,
        ),
        (OpenAiCompatible, vec![text(), finish("stop")], Finish::Stop, 0),
        (Gemini, vec![part(function.clone()), stop("STOP")], Finish::ToolCalls, 1),
        (Gemini, vec![part(json!({ "text": "a" })), stop("MAX_TOKENS")], Finish::Length, 0),
        (Gemini, vec![stop("SAFETY")], Finish::ContentFilter, 0),
        (Gemini, vec![blocked], Finish::ContentFilter, 0),
    ] {
        let answer = read(vendor, &messages).await.unwrap();
        assert_eq!((answer.finish, answer.tool_calls.len()), (expected, calls), "{messages:?}");
    }
    let refused = [delta(json!({ "refusal": "I can" })), delta(json!({ "refusal": "not." }))];
    let refused = [&refused[..], &[finish("stop"), done()]].concat();
    assert_eq!(read(OpenAi, &refused).await.unwrap().text, "I cannot.");
}

#[tokio::test]
async fn anthropics_calls_that_are_cut_are_none() {
    for (arguments, reason, expected, calls) in [
        ("", "tool_use", Finish::ToolCalls, 1),
        ("{}", "end_turn", Finish::ToolCalls, 1),
        ("{\"a\": ", "max_tokens", Finish::Length, 0),
        ("", "max_tokens", Finish::Length, 0),
        ("{\"a\": ", "model_context_window_exceeded", Finish::ContextFull, 0),
    ] {
        let messages = [
            json!({ "type": "message_start", "message": {} }),
            json!({ "type": "content_block_start", "index": 0,
                    "content_block": { "type": "tool_use", "id": "t", "name": "look", "input": {} } }),
            json!({ "type": "content_block_delta", "index": 0,
                    "delta": { "type": "input_json_delta", "partial_json": arguments } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": reason } }),
            json!({ "type": "message_stop" }),
        ];
        let answer = read(Vendor::Anthropic, &messages).await.unwrap();
        assert_eq!((answer.finish, answer.tool_calls.len()), (expected, calls), "{arguments}");
    }
}

/// The same message with fields that nobody knows, of all kinds, in all places.
fn strewn(message: &Value) -> Value {
    match message {
        Value::Object(fields) => {
            let mut more: serde_json::Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), strewn(value))).collect();
            // Arguments are the model's own.
            for name in ["input", "args"] {
                if let Some(own) = fields.get(name) {
                    more.insert(name.to_owned(), own.clone());
                }
            }
            for (name, value) in [
                ("zz_new", json!([null, { "error": "x", "text": 7 }, -1.5e300])),
                ("zz_more", json!("\u{0}\u{2028}\"")),
            ] {
                more.insert(name.to_owned(), value);
            }
            Value::Object(more)
        }
        Value::Array(items) => items.iter().map(strewn).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn what_nobody_knows_does_no_harm() {
    let junk = [
        json!({}),
        json!([]),
        json!(7),
        json!(null),
        json!("\"text\""),
        json!({ "type": "brand_new", "choices": "none", "candidates": 7, "usage": [] }),
        json!({ "type": 5, "choices": [7, { "index": "x", "delta": 7 }], "x_groq": null }),
        json!({ "type": "content_block_delta", "index": -1, "delta": [],
                "candidates": [{ "content": { "parts": [3, { "text": [] }] }, "finishReason": 1 }] }),
        json!({ "error": null, "usage": null, "usageMetadata": "much", "choices": [] }),
    ];
    for (vendor, stream) in GOOD {
        let address = sending(stream).await;
        let pieces = provider(vendor, &address).stream("m", &question(), PATIENT).await.unwrap();
        let expected = whole(pieces).await.unwrap();
        let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        let mut messages = Vec::new();
        for text in data {
            messages.extend(junk.iter().cloned());
            let message = serde_json::from_str(text).map(|message| strewn(&message));
            messages.push(message.unwrap_or_else(|_done| done()));
        }
        assert_eq!(read(vendor, &messages).await.unwrap(), expected, "{vendor:?}");
    }
}

#[tokio::test]
async fn usage_is_found_where_each_server_puts_it() {
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 2, "cost": 0.5 });
    let with = |place: &str, value: Value| {
        let mut message = finish("stop");
        message[place] = value;
        message
    };
    for messages in [
        vec![finish("stop"), json!({ "choices": [], "usage": usage })],
        vec![with("usage", usage.clone())],
        vec![with("x_groq", json!({ "usage": usage }))],
        vec![with("usage", json!({ "prompt_tokens": 3, "completion_tokens": 1 })), {
            json!({ "choices": [], "usage": usage })
        }],
    ] {
        let all = [&[delta(json!({ "content": "a" }))], &messages[..], &[done()]].concat();
        let answer = read(Vendor::Groq, &all).await.unwrap();
        let used = answer.usage.unwrap();
        assert_eq!((used.input_tokens, used.output_tokens), (3, 2), "{messages:?}");
    }
    let all = [finish("stop"), json!({ "choices": [], "usage": usage }), done()];
    assert_eq!(read(Vendor::OpenRouter, &all).await.unwrap().cost_usd, Some(0.5));
    assert_eq!(read(Vendor::OpenRouter, &[finish("stop"), done()]).await.unwrap().usage, None);
}

#[tokio::test]
async fn calls_are_told_apart_however_a_server_counts_them() {
    let bare = |call: Value| delta(json!({ "tool_calls": [call] }));
    let look = json!({ "id": "a", "function": { "name": "look", "arguments": { "q": 1 } } });
    let list = json!({ "id": "b", "function": { "name": "list", "arguments": "{}" } });
    let goes_on = json!({ "function": { "arguments": "1}" } });
    let half = json!({ "id": "b", "function": { "name": "list", "arguments": "{\"n\":" } });
    let old = |arguments: &str| {
        delta(json!({ "function_call": { "name": "look", "arguments": arguments } }))
    };
    let all = [old("{\"q\""), old(":1}"), finish("function_call"), done()];
    let answer = read(Vendor::OpenAi, &all).await.unwrap();
    assert_eq!(answer.tool_calls, [call("call_0", "look", json!({ "q": 1 }))]);
    for messages in [
        vec![bare(look.clone()), bare(list)],
        vec![bare(look), bare(half), bare(goes_on)],
        vec![fragment(0, "a", "look", "{\"q\":1}"), fragment(0, "b", "list", "{}")],
        vec![
            fragment(0, "a", "", "{\"q\""),
            fragment(1, "b", "list", "{"),
            fragment(0, "a", "look", ":1"),
            fragment(1, "", "", "}"),
            fragment(0, "", "", "}"),
        ],
    ] {
        let all = [&messages[..], &[finish("tool_calls"), done()]].concat();
        let answer = read(Vendor::OpenAiCompatible, &all).await.unwrap();
        let names: Vec<(&str, &str)> =
            answer.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str())).collect();
        assert_eq!(names, [("a", "look"), ("b", "list")], "{messages:?}");
        assert_eq!(answer.tool_calls[0].arguments, json!({ "q": 1 }), "{messages:?}");
        assert!(answer.tool_calls[1].arguments.is_object(), "{messages:?}");
    }
}
