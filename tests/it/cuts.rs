//! Ten thousand streams, each cut at some byte: none of them ends as if it were complete.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};
use spillway::clock::SystemClock;
use spillway::domain::completion::Completion;
use spillway::domain::prompt::{Message, Prompt, Tool};
use spillway::domain::units::Span;
use spillway::provider::scripted::{Fault, FaultRule, Scripted, Settings};
use spillway::provider::settings::Vendor;
use spillway::provider::stream::{checked, whole};
use spillway::provider::{Provider, SharedProvider, Timeouts, connect};

use crate::scripted::Served;

/// Each vendor with its address below the server.
const VENDORS: [(Vendor, &str); 6] = [
    (Vendor::Anthropic, "/anthropic"),
    (Vendor::OpenAi, "/openai"),
    (Vendor::Groq, "/groq"),
    (Vendor::Cerebras, "/cerebras"),
    (Vendor::Gemini, "/gemini"),
    (Vendor::OpenRouter, "/openrouter"),
];

const TIMEOUTS: Timeouts =
    Timeouts { first: Duration::from_secs(30), total: Duration::from_secs(60) };

fn settings(answer: Option<Fault>) -> Settings {
    let rule = |answer| FaultRule { model: None, every: None, share: None, answer };
    Settings {
        latency: Span::millis(0),
        faults: answer.map(rule).into_iter().collect(),
        ..Settings::default()
    }
}

fn providers(served: &Served) -> Vec<(Vendor, SharedProvider)> {
    let each = VENDORS.iter().map(|(vendor, path)| {
        let url = format!("{}{path}", served.url);
        let provider = connect(*vendor, Some(&url), Some("k".into()), Arc::new(SystemClock));
        (*vendor, provider.unwrap())
    });
    each.collect()
}

/// A question that is answered in words, or by calling a tool.
fn prompt(number: usize) -> Prompt {
    let parameters = json!({ "type": "object", "required": ["q"],
        "properties": { "q": { "type": "string" } } });
    let look = Tool {
        name: "look".to_owned(),
        description: "Looks it up.".to_owned(),
        parameters,
        strict: None,
    };
    let (text, tools) = if number.is_multiple_of(3) {
        ("#scripted:call look {\"q\": \"the whole of the invoice\"}", vec![look])
    } else {
        ("What about the invoice of March, which came twice and was paid once?", vec![])
    };
    let messages = vec![Message::user(text)];
    Prompt { messages, tools, max_output_tokens: 300, ..Prompt::default() }
}

/// What a cut stream came to.
#[derive(PartialEq)]
enum Came {
    /// Nothing: no piece had come.
    Nothing,
    /// An error after its first piece.
    Error,
    /// All of the answer with its reason to end: only what comes behind was cut.
    End,
}

async fn cut(provider: &SharedProvider, question: &Prompt, all: &Completion) -> Came {
    let Ok(pieces) = provider.stream("m", question, TIMEOUTS).await else {
        return Came::Nothing;
    };
    let Ok(answer) = whole(checked(pieces)).await else { return Came::Error };
    assert_eq!((&answer.text, answer.finish), (&all.text, all.finish), "half an answer ended");
    assert_eq!(arguments(&answer), arguments(all), "half an answer ended");
    Came::End
}

fn arguments(answer: &Completion) -> Vec<(&str, &Value)> {
    answer.tool_calls.iter().map(|call| (call.name.as_str(), &call.arguments)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_cut_at_random_bytes_never_end_as_complete_answers() {
    let served = Served::start(settings(Some(Fault::Cut)));
    let within = Scripted::new(settings(None), Arc::new(SystemClock));
    let mut answers = Vec::new();
    for number in 0..3 {
        let question = prompt(number);
        let answer = within.complete("m", &question, TIMEOUTS.total).await.unwrap();
        answers.push((question, answer));
    }
    let (providers, answers) = (&providers(&served), &answers);
    let calls = stream::iter(0..10_000_usize).map(|number| async move {
        let (_, provider) = &providers[number % providers.len()];
        let (question, answer) = &answers[number / providers.len() % answers.len()];
        cut(provider, question, answer).await
    });
    let came = calls.buffer_unordered(32).collect::<Vec<_>>().await;
    let count = |what: Came| came.iter().filter(|one| **one == what).count();
    let (nothing, error, end) = (count(Came::Nothing), count(Came::Error), count(Came::End));
    println!(
        "10000 streams cut: {nothing} before the first piece, {error} after it, {end} behind the \
         last word and its reason; no part of an answer ended as the whole"
    );
    assert!(error > 2_000 && nothing > 500, "{error} {nothing}");
    assert_eq!(served.model.stats().calls, 10_000);
}

#[tokio::test]
async fn uncut_they_are_complete() {
    let served = Served::start(settings(None));
    let within: SharedProvider = Arc::new(Scripted::new(settings(None), Arc::new(SystemClock)));
    for number in 0..3 {
        let question = prompt(number);
        let expected = within.complete("m", &question, TIMEOUTS.total).await.unwrap();
        let mut all = providers(&served);
        all.push((Vendor::Scripted, Arc::clone(&within)));
        for (vendor, provider) in all {
            let pieces = provider.stream("m", &question, TIMEOUTS).await.unwrap();
            let answer = whole(checked(pieces)).await.unwrap();
            assert_eq!(
                (&answer.text, answer.finish),
                (&expected.text, expected.finish),
                "{vendor:?}"
            );
            assert_eq!(arguments(&answer), arguments(&expected), "{vendor:?}");
            let usage = answer.usage.unwrap();
            assert!(usage.input_tokens > 5 && usage.output_tokens > 1, "{vendor:?} {usage:?}");
        }
    }
}

#[tokio::test]
async fn cut_streams_without_a_network_are_no_answers_either() {
    let within = Scripted::new(settings(Some(Fault::Cut)), Arc::new(SystemClock));
    for number in 0..500 {
        if let Ok(pieces) = within.stream("m", &prompt(number), TIMEOUTS).await {
            whole(checked(pieces)).await.unwrap_err();
        }
    }
}
