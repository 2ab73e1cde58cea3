//! The scripted provider in every dialect: what our adapters make of it, and what stands on the wire.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use spillway::clock::SystemClock;
use spillway::domain::completion::Finish;
use spillway::domain::prompt::{Message, Prompt, Tool};
use spillway::domain::units::{Rate, Span};
use spillway::provider::scripted::{CacheSettings, Fault, Scripted, Settings, cache};
use spillway::provider::settings::Vendor;
use spillway::provider::stream::{Event, whole};
use spillway::provider::{Provider, SharedProvider, Timeouts, codes, connect};

use crate::scripted::Served;
use crate::support::http_client;

const VENDORS: [(Vendor, &str); 6] = [
    (Vendor::Anthropic, "/anthropic"),
    (Vendor::OpenAi, "/openai"),
    (Vendor::Groq, "/groq"),
    (Vendor::Cerebras, "/cerebras"),
    (Vendor::Gemini, "/gemini"),
    (Vendor::OpenRouter, "/openrouter"),
];

const LONG: Duration = Duration::from_secs(20);

fn adapter(served: &Served, vendor: Vendor) -> SharedProvider {
    let (_, path) = VENDORS.iter().find(|(of, _)| *of == vendor).unwrap();
    let url = format!("{}{path}", served.url);
    connect(vendor, Some(&url), Some("k".into()), Arc::new(SystemClock)).unwrap()
}

fn asking(text: &str) -> Prompt {
    let messages = vec![Message::user(text)];
    Prompt { messages, max_output_tokens: 300, ..Prompt::default() }
}

async fn post(served: &Served, path: &str, body: &Value) -> String {
    let request = http_client().post(format!("{}{path}", served.url)).json(body);
    request.send().await.unwrap().text().await.unwrap()
}

async fn posted(served: &Served, path: &str, body: &Value) -> Value {
    serde_json::from_str(&post(served, path, body).await).unwrap()
}

#[tokio::test]
async fn every_adapter_reads_the_same_answer() {
    let served = Served::quick();
    let schema = json!({ "type": "object", "required": ["tags"], "additionalProperties": false,
        "properties": { "tags": { "type": "array", "items": { "type": "string" } } } });
    for (vendor, _) in VENDORS {
        let provider = adapter(&served, vendor);
        provider.check(LONG).await.unwrap();
        let answer = provider.complete("m", &asking("The invoice."), LONG).await.unwrap();
        assert!(answer.text.contains("invoice"), "{vendor:?} {answer:?}");
        assert_eq!((answer.finish, answer.model.as_str()), (Finish::Stop, "m"), "{vendor:?}");
        assert!(answer.usage.unwrap().output_tokens > 1, "{vendor:?} {answer:?}");
        assert_eq!(answer.cost_usd.is_some(), vendor == Vendor::OpenRouter);
        let cut = Prompt { max_output_tokens: 2, ..asking("The invoice of March is wrong.") };
        let cut = provider.complete("m", &cut, LONG).await.unwrap();
        assert_eq!(cut.finish, Finish::Length, "{vendor:?}");
        // Whether a model has a knob for a schema or is told in words.
        let models = ["m", "claude-sonnet-5", "gemini-3.5-flash", "openai/gpt-oss-20b"];
        // Gemini's names are a part of the path.
        for model in models.iter().filter(|m| vendor != Vendor::Gemini || !m.contains('/')) {
            let prompt = Prompt { output_schema: Some(schema.clone()), ..asking("The invoice.") };
            let answer = provider.complete(model, &prompt, LONG).await.unwrap();
            let data: Value = serde_json::from_str(&answer.text).unwrap();
            assert!(data["tags"].is_array(), "{vendor:?} {model} {answer:?}");
        }
    }
}

#[tokio::test]
async fn every_adapter_is_asked_for_a_tool() {
    let served = Served::quick();
    let parameters = json!({ "type": "object", "required": ["q"],
        "properties": { "q": { "type": "string" } } });
    let tool = Tool {
        name: "look".to_owned(),
        description: "Looks.".to_owned(),
        parameters,
        strict: None,
    };
    for (vendor, _) in VENDORS {
        let provider = adapter(&served, vendor);
        let told = Prompt {
            tools: vec![tool.clone()],
            ..asking("#scripted:call look {\"q\": \"x\"} #scripted:call look {\"q\": \"y\"}")
        };
        let answer = provider.complete("m", &told, LONG).await.unwrap();
        assert_eq!(answer.finish, Finish::ToolCalls, "{vendor:?}");
        let asked: Vec<&Value> = answer.tool_calls.iter().map(|call| &call.arguments).collect();
        assert_eq!(asked, [&json!({ "q": "x" }), &json!({ "q": "y" })], "{vendor:?}");
        // Arguments that are not told are made to fit.
        let must = Prompt { tools: vec![tool.clone()], ..asking("where? #scripted:call look") };
        let timeouts = Timeouts { first: LONG, total: LONG };
        let pieces = provider.stream("m", &must, timeouts).await.unwrap();
        let answer = whole(pieces).await.unwrap();
        assert_eq!(answer.finish, Finish::ToolCalls, "{vendor:?}");
        assert!(answer.tool_calls[0].arguments["q"].is_string(), "{vendor:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_fault_means_the_same_in_process_and_on_the_wire() {
    let served = Served::quick();
    let wire = adapter(&served, Vendor::OpenAi);
    let within = Scripted::new(served.model.settings().clone(), Arc::new(SystemClock));
    for fault in Fault::ALL {
        let prompt = asking(&format!("Tag this. #scripted:{}", fault.as_str()));
        let patience = if matches!(fault, Fault::Hang | Fault::Stall) {
            Duration::from_millis(300)
        } else {
            LONG
        };
        let both = [
            within.complete("m", &prompt, patience).await,
            wire.complete("m", &prompt, patience).await,
        ];
        match &both {
            [Ok(one), Ok(other)] => assert_eq!(one.text, other.text, "{fault:?}"),
            [Err(one), Err(other)] => {
                assert_eq!(one.class, other.class, "{fault:?} {one:?} {other:?}");
                assert_eq!(one.retry_after, other.retry_after, "{fault:?}");
                // What breaks on the way has no status there.
                if !matches!(fault, Fault::Half | Fault::Cut) {
                    assert_eq!((one.code, one.status), (other.code, other.status), "{fault:?}");
                }
            }
            _ => panic!("{fault:?}: {both:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_goes_wrong_does_so_in_process_as_on_the_wire() {
    let served = Served::quick();
    let within: SharedProvider =
        Arc::new(Scripted::new(served.model.settings().clone(), Arc::new(SystemClock)));
    let mut all: Vec<(Vendor, SharedProvider)> =
        VENDORS.iter().map(|(vendor, _)| (*vendor, adapter(&served, *vendor))).collect();
    all.push((Vendor::Scripted, within));
    let timeouts = Timeouts { first: LONG, total: Duration::from_secs(1) };
    for (vendor, provider) in all {
        for (word, begins) in
            [("error_in_200", false), ("error_midway", true), ("half", true), ("stall", true)]
        {
            let prompt = asking(&format!("Tell me about the invoices. #scripted:{word}"));
            match provider.stream("m", &prompt, timeouts).await {
                Ok(pieces) => {
                    assert!(begins, "{vendor:?} {word} has begun");
                    let error = whole(pieces).await.unwrap_err();
                    if word == "stall" {
                        assert_eq!(error.code, codes::TIMED_OUT, "{vendor:?} {error:?}");
                    }
                }
                Err(error) => assert!(!begins, "{vendor:?} {word}: {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_stream_takes_its_time() {
    let served = Served::quick();
    let text =
        "#scripted:slow 200ms #scripted:pace 20ms\n#scripted:say one two three four five six";
    let within: SharedProvider =
        Arc::new(Scripted::new(served.model.settings().clone(), Arc::new(SystemClock)));
    let timeouts = Timeouts { first: LONG, total: LONG };
    for provider in [adapter(&served, Vendor::Anthropic), adapter(&served, Vendor::Groq), within] {
        let begun = Instant::now();
        let mut pieces = provider.stream("m", &asking(text), timeouts).await.unwrap();
        let first = begun.elapsed();
        assert!(first >= Duration::from_millis(190), "{first:?}");
        let mut words = 0;
        while let Some(piece) = pieces.next().await {
            let said = |event: &&Event| matches!(event, Event::Text(_));
            words += piece.unwrap().events.iter().filter(said).count();
        }
        let rest = begun.elapsed().saturating_sub(first);
        assert!(words >= 4 && rest >= Duration::from_millis(100), "{words} in {rest:?}");
    }
}

#[tokio::test]
async fn streams_stand_on_the_wire_as_each_vendor_writes_them() {
    let served = Served::quick();
    let chat = json!({ "model": "m", "stream": true,
        "messages": [{ "role": "user", "content": "#scripted:say hello" }] });
    let openai = post(&served, "/v1/chat/completions", &chat).await;
    assert!(openai.ends_with("data: [DONE]\n\n") && !openai.contains("\"usage\""), "{openai}");
    let mut asked = chat.clone();
    asked["stream_options"] = json!({ "include_usage": true });
    let openai = post(&served, "/v1/chat/completions", &asked).await;
    assert!(openai.contains("\"choices\":[],\"usage\":{"), "{openai}");
    let groq = post(&served, "/groq/v1/chat/completions", &chat).await;
    assert!(groq.contains("\"x_groq\":{\"id\":\"req_scripted_3\",\"usage\":"), "{groq}");
    let router = post(&served, "/openrouter/v1/chat/completions", &chat).await;
    assert!(router.starts_with(": OPENROUTER PROCESSING\n\n"), "{router}");
    assert!(router.contains("\"cost\":") && router.contains("native_finish_reason"), "{router}");
    let message = json!({ "model": "m", "stream": true, "max_tokens": 50,
        "messages": [{ "role": "user", "content": "#scripted:say hello" }] });
    let anthropic = post(&served, "/v1/messages", &message).await;
    let events: Vec<&str> =
        anthropic.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(events[events.len() - 2..], ["message_delta", "message_stop"]);
    let gemini = json!({ "contents": [{ "role": "user",
        "parts": [{ "text": "#scripted:say hello" }] }] });
    let path = "/v1beta/models/m:streamGenerateContent?alt=sse";
    let gemini = post(&served, path, &gemini).await;
    assert!(gemini.starts_with("data: {\"candidates\"") && gemini.contains("STOP"), "{gemini}");
}

#[tokio::test]
async fn errors_stand_on_the_wire_as_each_vendor_writes_them() {
    let served = Served::quick();
    let chat = |word: &str, stream: bool| {
        json!({ "model": "m", "stream": stream,
            "messages": [{ "role": "user", "content": format!("Hello. #scripted:{word}") }] })
    };
    let flat = posted(&served, "/cerebras/v1/chat/completions", &chat("429", false)).await;
    assert_eq!(flat["code"], "request_quota_exceeded");
    let groq = post(&served, "/groq/v1/chat/completions", &chat("error_midway", true)).await;
    assert!(groq.contains("event: error\ndata: {\"error\"") && !groq.contains("[DONE]"), "{groq}");
    let router = post(&served, "/openrouter/v1/chat/completions", &chat("500", false)).await;
    assert!(router.contains("\"code\":500"), "{router}");
    let path = "/openrouter/v1/chat/completions";
    let half = post(&served, path, &chat("error_midway", false)).await;
    assert!(half.starts_with('\n'), "{half}");
    let half: Value = serde_json::from_str(half.trim()).unwrap();
    assert_eq!(half["choices"][0]["error"]["code"], 502, "{half}");
    let message = json!({ "model": "m", "max_tokens": 50,
        "messages": [{ "role": "user", "content": "#scripted:quota" }] });
    let spent = posted(&served, "/v1/messages", &message).await;
    assert_eq!(
        (&spent["type"], &spent["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
    let gemini = json!({ "contents": [{ "parts": [{ "text": "#scripted:401" }] }] });
    let bad_key = posted(&served, "/v1beta/models/m:generateContent", &gemini).await;
    assert_eq!(bad_key["error"]["details"][0]["reason"], "API_KEY_INVALID");
    let missing = posted(&served, "/v1/messages", &json!({ "model": "m", "messages": [] })).await;
    assert_eq!(missing["error"]["message"], "max_tokens: Field required");
    // Which flavour is spoken without a prefix is a setting.
    let own: Settings = toml::from_str("dialect = \"cerebras\"\nlatency = \"0ms\"").unwrap();
    let served = Served::start(own);
    let flat = posted(&served, "/v1/chat/completions", &chat("401", false)).await;
    assert_eq!(flat["code"], "wrong_api_key");
}

#[tokio::test]
async fn limits_are_told_in_each_vendors_headers() {
    let settings = Settings {
        requests: Rate::parse("600/min"),
        input_tokens: Rate::parse("60000/min"),
        tokens: Rate::parse("90000/min"),
        requests_per_day: Some(5_000),
        latency: Span::millis(0),
        ..Settings::default()
    };
    let served = Served::start(settings);
    for (vendor, count) in [
        (Vendor::Anthropic, 3),
        (Vendor::OpenAi, 4),
        (Vendor::Groq, 2),
        (Vendor::Cerebras, 3),
        (Vendor::Gemini, 0),
        (Vendor::OpenRouter, 0),
    ] {
        let told = adapter(&served, vendor).complete("m", &asking("Hi"), LONG).await.unwrap().told;
        assert_eq!(told.len(), count, "{vendor:?} {told:?}");
        assert!(told.iter().all(|told| told.limit.is_some() && told.remaining.is_some()));
    }
}

fn with_cache(mode: cache::Mode) -> Settings {
    Settings {
        latency: Span::millis(0),
        cache: Some(CacheSettings { mode, ..CacheSettings::default() }),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_marked_prompt_is_written_once_and_read_from_then_on() {
    let input_tokens = Rate::parse("3000/min");
    let limited =
        Settings { input_tokens, burst: Span::secs(60), ..with_cache(cache::Mode::Marked) };
    let served = Served::start(limited);
    let system = json!([{ "type": "text", "text": "rule ".repeat(1_600),
        "cache_control": { "type": "ephemeral", "ttl": "1h" } }]);
    let body = |question: &str| {
        json!({ "model": "m", "max_tokens": 50, "system": system,
            "messages": [{ "role": "user", "content": question }] })
    };
    let first = posted(&served, "/v1/messages", &body("one?")).await;
    assert_eq!(first["usage"]["cache_creation_input_tokens"], 2_004, "{first}");
    assert_eq!(first["usage"]["cache_creation"]["ephemeral_1h_input_tokens"], 2_004);
    // What is read does not count towards the limit: all of these find room.
    for number in 0..5 {
        let again = posted(&served, "/v1/messages", &body(&format!("{number}?"))).await;
        let usage = &again["usage"];
        assert_eq!(usage["cache_read_input_tokens"], 2_004, "{again}");
        assert!(usage["input_tokens"].as_u64().unwrap() < 20, "{again}");
    }
    let mut unmarked = body("one?");
    unmarked["system"] = json!("rule ".repeat(1_600));
    let refused = posted(&served, "/v1/messages", &unmarked).await;
    assert_eq!(refused["error"]["type"], "rate_limit_error", "{refused}");
    unmarked.as_object_mut().unwrap().remove("max_tokens");
    let counted = posted(&served, "/v1/messages/count_tokens", &unmarked).await;
    assert!(counted["input_tokens"].as_u64().unwrap() > 2_000, "{counted}");
    let stats = served.model.stats();
    assert_eq!((stats.cache_write_tokens, stats.cached_input_tokens), (2_004, 5 * 2_004));
}

#[tokio::test]
async fn calls_under_way_together_read_nothing_of_each_other() {
    let slow = Settings { latency: Span::millis(200), ..with_cache(cache::Mode::Automatic) };
    let provider = Scripted::new(slow, Arc::new(SystemClock));
    let prompt = asking(&"a rule for all of it ".repeat(400));
    let both = futures::join!(
        provider.complete("m", &prompt, LONG),
        provider.complete("m", &prompt, LONG)
    );
    for answer in [both.0, both.1] {
        assert_eq!(answer.unwrap().usage.unwrap().cached_input_tokens, 0);
    }
    // One that is given up before its first word leaves nothing.
    let other = asking(&"another rule for all of it ".repeat(400));
    provider.complete("m", &other, Duration::from_millis(10)).await.unwrap_err();
    let later = provider.complete("m", &other, LONG).await.unwrap().usage.unwrap();
    assert_eq!(later.cached_input_tokens, 0);
    let third = provider.complete("m", &prompt, LONG).await.unwrap().usage.unwrap();
    assert!(third.cached_input_tokens >= 1_920, "{third:?}");
    assert!(third.cached_input_tokens.is_multiple_of(128), "{third:?}");
}

#[tokio::test]
async fn images_and_conversations_are_taken_in() {
    let served = Served::quick();
    let data = "data:image/png;base64,QUJD";
    let chat = json!({ "model": "m", "messages": [
        { "role": "user", "content": [{ "type": "text", "text": "What is it?" },
            { "type": "image_url", "image_url": { "url": data } }] },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "c", "type": "function",
            "function": { "name": "look", "arguments": "{}" } }] },
        { "role": "tool", "tool_call_id": "c", "content": "a cat" },
    ] });
    let answer = posted(&served, "/v1/chat/completions", &chat).await;
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 1_500, "{answer}");
    let message = json!({ "model": "m", "max_tokens": 50, "messages": [
        { "role": "user", "content": [
            { "type": "image", "source": { "type": "base64", "media_type": "image/png",
                "data": "QUJD" } },
            { "type": "text", "text": "What is it?" }] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "hm", "signature": "s" },
            { "type": "tool_use", "id": "t", "name": "look", "input": {} }] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "t", "content": "a cat" }] },
    ] });
    assert_eq!(posted(&served, "/v1/messages", &message).await["type"], "message");
    let gemini = json!({ "contents": [{ "role": "user", "parts": [{ "text": "What is it?" },
        { "inlineData": { "mimeType": "image/png", "data": "QUJD" } }] }] });
    let answer = posted(&served, "/v1beta/models/m:generateContent", &gemini).await;
    assert!(answer["usageMetadata"]["promptTokenCount"].as_u64().unwrap() > 1_500, "{answer}");
    assert_eq!(served.model.stats().images, 3);
}
