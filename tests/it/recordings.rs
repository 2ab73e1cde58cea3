//! Answers that real providers gave, served again and read by the real adapters.
//!
//! `tests/recordings` holds them as they were recorded; `EXPECTED.json` says what each means.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spillway::clock::ManualClock;
use spillway::domain::completion::{Completion, Finish};
use spillway::domain::limits::{
    Axis::{self, InputTokens, OutputTokens, Requests, Tokens},
    Period::{self, Day, Minute},
};
use spillway::domain::prompt::{Message, Prompt};
use spillway::provider::settings::{AccountSettings, Api, Vendor};
use spillway::provider::stream::whole;
use spillway::provider::{ProviderError, Timeouts, connect_account};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Recordings that nothing reads, each with its reason.
const LEFT_OUT: [(&str, &str); 1] = [(
    "anthropic/08-batch-poll-ended.json",
    "how a batch is getting on, and no answer: a job of the lane `batch` waits for its turn here and \
     is asked like any other; providers' batch endpoints are not used",
)];

/// Results of batches. Their items are ordinary answers and are read as such; the envelopes around
/// them (ids, counts, states) are left out for the same reason.
const BATCHES: [&str; 3] = [
    "anthropic/09-batch-results-jsonl.json",
    "gemini/07-batch-succeeded-inline.json",
    "openai/09-batch-output-jsonl.json",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Recordings of one answer.
fn recorded() -> BTreeSet<String> {
    let mut names = stored();
    let is_apart = |name: &String| {
        BATCHES.contains(&name.as_str()) || LEFT_OUT.iter().any(|(left, _)| left == name)
    };
    names.retain(|name| !is_apart(name));
    names
}

fn stored() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for provider in fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()) {
        if !provider.is_dir() {
            continue;
        }
        for file in fs::read_dir(&provider).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.strip_prefix(folder()).unwrap();
            names.insert(name.to_str().unwrap().to_owned());
        }
    }
    names
}

/// Who answered, and by which API.
fn spoken(name: &str, recording: &Value) -> (Vendor, Option<Api>) {
    let folder = name.split('/').next().unwrap();
    let url = recording["request"]["url"].as_str().unwrap_or_default();
    let body = recording["body"].as_str().unwrap_or_default();
    // Of one the request was not kept.
    let has_responses = body.contains("\"response.created\"");
    let vendor = Vendor::ALL.into_iter().find(|vendor| vendor.as_str() == folder);
    match vendor {
        Some(vendor) if url.ends_with("/responses") || has_responses => {
            (vendor, Some(Api::Responses))
        }
        Some(vendor) => (vendor, None),
        None if url.ends_with("/api/chat") => (Vendor::Ollama, Some(Api::Native)),
        None => (Vendor::OpenAiCompatible, None),
    }
}

/// The status, headers and body as recorded; the body was stored unpacked and whole.
fn answer(recording: &Value) -> ResponseTemplate {
    let status = u16::try_from(recording["status"].as_u64().unwrap()).unwrap();
    let mut answer = ResponseTemplate::new(status);
    let unpacked = ["content-encoding", "content-length", "transfer-encoding", "connection"];
    for (name, value) in recording["headers"].as_object().into_iter().flatten() {
        if unpacked.contains(&name.as_str()) {
            continue;
        }
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values {
            answer = answer.append_header(name.as_str(), value.as_str().unwrap());
        }
    }
    let body = recording["body"].as_str().unwrap_or_default().as_bytes().to_vec();
    answer.set_body_bytes(body)
}

async fn asked(name: &str) -> Result<Completion, ProviderError> {
    let recording = read(name);
    let is_stream = recording["kind"].as_str().unwrap().contains("stream");
    answered(spoken(name, &recording), answer(&recording), is_stream).await
}

/// What is read of an answer.
async fn answered(
    (vendor, api): (Vendor, Option<Api>),
    answer: ResponseTemplate,
    is_stream: bool,
) -> Result<Completion, ProviderError> {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::at(now));
    let (base_url, api_key) = (Some(server.uri()), Some("sk-test".into()));
    let account = AccountSettings { vendor, base_url, api_key, api };
    let provider = connect_account(account, clock).unwrap();
    let message = Message::user("Hi");
    let prompt = Prompt { messages: vec![message], max_output_tokens: 100, ..Prompt::default() };
    let total = Duration::from_secs(20);
    if !is_stream {
        return provider.complete("a-model", &prompt, total).await;
    }
    let pieces = provider.stream("a-model", &prompt, Timeouts { first: total, total }).await?;
    whole(pieces).await
}

/// In which ways the outcome is not the expected one.
fn differences(expected: &Value, outcome: &Result<Completion, ProviderError>) -> Vec<String> {
    let got = match outcome {
        Ok(completion) => json!({
            "outcome": "ok",
            "finish": completion.finish,
            "usage": completion.usage,
        }),
        Err(error) => json!({
            "outcome": "error",
            "cls": error.class.as_str(),
            "sub": error.code,
            "wait_s": error.retry_after.map(|wait| wait.as_secs_f64()),
        }),
    };
    // Of usage the sheet knows some figures, and there may be more.
    let same = |wanted: &Value, got: &Value| match (wanted, wanted.as_f64(), got.as_f64()) {
        (_, Some(a), Some(b)) => (a - b).abs() < 1e-6,
        (Value::Object(all), _, _) => all.iter().all(|(key, value)| got.get(key) == Some(value)),
        _ => wanted == got,
    };
    // Of the keys the sheet knows, `trap`, `note` and `then` are for people.
    ["outcome", "finish", "usage", "cls", "sub", "wait_s"]
        .into_iter()
        .filter_map(|key| expected.get(key).map(|wanted| (key, wanted, &got[key])))
        .filter(|(_, wanted, got)| !same(wanted, got))
        .map(|(key, wanted, got)| format!("{key}: expected {wanted}, got {got}"))
        .collect()
}

#[tokio::test]
async fn every_recorded_answer_means_what_the_sheet_says() {
    let expected = read("EXPECTED.json");
    let mut wrong = Vec::new();
    for name in recorded() {
        let outcome = asked(&name).await;
        for difference in differences(&expected[&name], &outcome) {
            wrong.push(format!("{name}: {difference}\n  {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recording_is_served_or_left_out_for_a_reason() {
    let known: BTreeSet<String> =
        read("EXPECTED.json").as_object().unwrap().keys().cloned().collect();
    assert_eq!(stored(), known);
    assert_eq!(recorded().len() + BATCHES.len() + LEFT_OUT.len(), known.len());
}

/// The items of a batch's results: the status of each, and its answer.
fn items(name: &str) -> Vec<(u64, Value)> {
    let body = read(name)["body"].as_str().unwrap().to_owned();
    let lines = || body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    match name.split('/').next().unwrap() {
        "anthropic" => lines().map(|line| (200, line["result"]["message"].clone())).collect(),
        "openai" => lines()
            .map(|line| line["response"].clone())
            .map(|answer| (answer["status_code"].as_u64().unwrap(), answer["body"].clone()))
            .collect(),
        _ => {
            let whole: Value = serde_json::from_str(&body).unwrap();
            let items = whole["response"]["inlinedResponses"]["inlinedResponses"].as_array();
            items.unwrap().iter().map(|item| (200, item["response"].clone())).collect()
        }
    }
}

#[tokio::test]
async fn the_items_of_batches_are_read_like_any_answer() {
    let expected = read("EXPECTED.json");
    for (name, used) in BATCHES.into_iter().zip([
        [(20, 5, None), (19, 4, None)],
        [(13, 44, Some(43)), (13, 54, Some(53))],
        [(18, 109, Some(64)), (18, 115, Some(64))],
    ]) {
        let vendor = spoken(name, &Value::Null).0;
        let api = (vendor == Vendor::OpenAi).then_some(Api::Responses);
        let items = items(name);
        if let Some(lines) = expected[name]["batch_lines"].as_u64() {
            assert_eq!(u64::try_from(items.len()).unwrap(), lines, "{name}");
        }
        for ((status, body), (said, used)) in items.iter().zip(["4", "Jupiter"].iter().zip(used)) {
            let answer = ResponseTemplate::new(u16::try_from(*status).unwrap()).set_body_json(body);
            let outcome = answered((vendor, api), answer, false).await;
            assert_eq!(differences(&expected[name], &outcome), Vec::<String>::new(), "{name}");
            let read = outcome.unwrap();
            assert_eq!((read.text.as_str(), read.finish), (*said, Finish::Stop), "{name}");
            let usage = read.usage.unwrap();
            let counted = (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens);
            assert_eq!(counted, used, "{name}");
        }
    }
}

#[tokio::test]
async fn what_was_used_is_counted_as_each_provider_means_it() {
    for (name, input, cached, written, output, reasoning) in [
        ("anthropic/02-success-tool-call-parallel.json", 701, 0, 0, 98, None),
        ("anthropic/03-stream-retry-after-on-200.json", 76, 0, 0, 104, None),
        ("anthropic/04-stream-tool-call.json", 543, 0, 0, 40, None),
        ("groq/01-success-chat.json", 18, 0, 0, 70, None),
        ("groq/02-stream-x-groq-usage.json", 12, 0, 0, 24, None),
        ("gemini/03-stream-function-call.json", 103, 0, 0, 73, Some(43)),
        ("openai/03-stream-chat-usage.json", 24, 0, 0, 8, Some(0)),
        ("cerebras/02-success-reasoning.json", 79, 0, 0, 37, Some(25)),
        ("gemini/01-success-cached-content.json", 9_622, 9_609, 0, 171, Some(136)),
        ("gemini/02-success-function-call.json", 61, 0, 0, 45, Some(35)),
        ("gemini/06-finish-safety.json", 14, 0, 0, 0, None),
        ("openrouter/01-success-cost.json", 16, 0, 0, 13, Some(0)),
        ("local/02-llamacpp-success-timings.json", 40, 39, 0, 46, None),
        ("local/01-ollama-native-ndjson-stream.json", 17, 0, 0, 63, None),
        ("openai/04-stream-responses-completed.json", 72, 0, 0, 14, Some(0)),
        ("openai/05-stream-responses-incomplete.json", 20, 0, 0, 32, Some(32)),
    ] {
        let usage = asked(name).await.unwrap().usage.unwrap();
        assert_eq!(
            (usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens),
            (input, cached, written),
            "{name}"
        );
        assert_eq!((usage.output_tokens, usage.reasoning_tokens), (output, reasoning), "{name}");
    }
}

#[tokio::test]
async fn what_was_said_and_asked_for_is_read() {
    let said = asked("openrouter/01-success-cost.json").await.unwrap();
    assert_eq!((said.text.as_str(), said.cost_usd), ("2 + 2 = 4", Some(0.000_081)));
    assert_eq!(said.model, "anthropic/claude-4.5-haiku-20251001");

    let called = asked("openai/02-success-chat-parallel-tools.json").await.unwrap();
    let names: Vec<&str> = called.tool_calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["get_weather", "get_news"]);
    assert_eq!(called.tool_calls[0].arguments, json!({ "location": "San Francisco" }));

    let without = asked("anthropic/02-success-tool-call-parallel.json").await.unwrap();
    assert_eq!(without.tool_calls[1].arguments, json!({}));

    let streamed = asked("anthropic/04-stream-tool-call.json").await.unwrap();
    let call = &streamed.tool_calls[0];
    assert_eq!((call.name.as_str(), &call.arguments), ("pelican_name_generator", &json!({})));
    assert_eq!(streamed.model, "claude-haiku-4-5-20251001");

    let signed = asked("gemini/03-stream-function-call.json").await.unwrap();
    let call = &signed.tool_calls[0];
    assert_eq!(call.arguments, json!({ "latitude": "52.5200", "longitude": "13.4050" }));
    assert!(call.id.starts_with("U7-Fao_EK_-VvdIP1-aJ8Qo_0~CiQBEU0y"), "{}", call.id);

    let spoken = asked("openai/03-stream-chat-usage.json").await.unwrap();
    assert_eq!((spoken.text.as_str(), spoken.finish), ("10 + 5 equals 15.", Finish::Stop));
    let spoken = asked("groq/02-stream-x-groq-usage.json").await.unwrap();
    assert!(spoken.text.starts_with("Hello! It") && spoken.text.ends_with('?'), "{spoken:?}");
    let spoken = asked("anthropic/03-stream-retry-after-on-200.json").await.unwrap();
    assert!(spoken.text.starts_with("I need to describe what"), "{spoken:?}");

    let handed = asked("openai/04-stream-responses-completed.json").await.unwrap();
    assert_eq!((handed.finish, handed.model.as_str()), (Finish::ToolCalls, "gpt-4o-2024-08-06"));
    let call = &handed.tool_calls[0];
    assert_eq!((call.name.as_str(), &call.arguments), ("transfer_to_analytics_agent", &json!({})));
    assert_eq!(call.id, "call_pv9qy77xbJvTwZWXXSU5cgzV");
    let joke = asked("local/01-ollama-native-ndjson-stream.json").await.unwrap();
    assert!(joke.text.starts_with("Here's one:\n\nWhy did") && joke.text.ends_with("one?)"));
    assert_eq!((joke.finish, joke.model.as_str()), (Finish::Stop, "llama3"));

    let blocked = asked("gemini/06-finish-safety.json").await.unwrap();
    assert_eq!(blocked.text, "");

    let upstream = asked("openrouter/02-error-429-upstream.json").await.unwrap_err();
    assert!(upstream.message.contains("temporarily rate-limited upstream"), "{upstream}");
}

/// Axis, period, limit, remaining.
type Line = (Axis, Period, f64, Option<f64>);

/// What each recording tells of limits, however it ended; the others tell nothing.
fn told_of_limits() -> Vec<(&'static str, Vec<Line>)> {
    let anthropic = |(requests, calls), (input, left), output| {
        vec![
            (Requests, Minute, requests, Some(calls)),
            (InputTokens, Minute, input, Some(left)),
            (OutputTokens, Minute, output, Some(output)),
        ]
    };
    let openai = |requests, tokens, left| {
        vec![
            (Requests, Minute, requests, Some(requests - 1.0)),
            (Tokens, Minute, tokens, Some(left)),
        ]
    };
    let groq =
        vec![(Requests, Day, 14_400.0, Some(14_397.0)), (Tokens, Minute, 30_000.0, Some(29_987.0))];
    vec![
        (
            "anthropic/01-success-cache-write.json",
            anthropic((1e4, 9_999.0), (1e7, 9_998_000.0), 2e6),
        ),
        (
            "anthropic/02-success-tool-call-parallel.json",
            anthropic((1e4, 9_999.0), (1e7, 1e7), 2e6),
        ),
        (
            "anthropic/03-stream-retry-after-on-200.json",
            vec![
                (InputTokens, Minute, 2e6, Some(1_999_000.0)),
                (OutputTokens, Minute, 4e5, Some(4e5)),
            ],
        ),
        ("anthropic/04-stream-tool-call.json", anthropic((2e4, 19_999.0), (4e6, 4e6), 8e5)),
        ("anthropic/06-error-429-itpm-headers.json", anthropic((4e3, 4e3), (2e5, 0.0), 8e4)),
        ("gemini/05-error-429-quota-retryinfo.json", vec![(InputTokens, Minute, 1e6, None)]),
        ("groq/01-success-chat.json", groq),
        (
            "groq/02-stream-x-groq-usage.json",
            vec![
                (Requests, Day, 14_400.0, Some(14_399.0)),
                (Tokens, Minute, 12_000.0, Some(11_994.0)),
            ],
        ),
        ("groq/05-error-429-tpm.json", vec![(Tokens, Minute, 5e3, Some(0.0))]),
        ("openai/01-success-chat-cached-tokens.json", openai(3e4, 1.5e8, 149_998_385.0)),
        ("openai/02-success-chat-parallel-tools.json", openai(3e4, 1.5e8, 149_999_981.0)),
        ("openai/03-stream-chat-usage.json", openai(3e4, 1.5e8, 149_999_985.0)),
        ("openai/06-error-400-unsupported-max-tokens.json", openai(500.0, 2e5, 199_998.0)),
        ("openai/07-error-429-tpm-long-wait.json", vec![(Tokens, Day, 1e5, Some(3_251.0))]),
    ]
}

#[tokio::test]
async fn what_is_told_of_limits_is_read_from_every_answer() {
    let (expected, mut read) = (told_of_limits(), 0);
    for name in recorded() {
        let told = match asked(&name).await {
            Ok(completion) => completion.told,
            Err(error) => error.told,
        };
        let told: Vec<Line> = told
            .iter()
            .map(|told| (told.axis, told.per, told.limit.unwrap(), told.remaining))
            .collect();
        let wanted = expected.iter().find(|(known, _)| *known == name);
        assert_eq!(told, wanted.map(|(_, told)| told.clone()).unwrap_or_default(), "{name}");
        read += told.len();
    }
    assert_eq!(read, 29);
}
