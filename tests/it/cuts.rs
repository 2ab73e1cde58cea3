//! Ten thousand streams, each cut at some byte: none of them ends as if it were complete.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use spillway::clock::SystemClock;
use spillway::domain::prompt::{Message, Prompt, Tool};
use spillway::domain::units::Span;
use spillway::provider::scripted::{Fault, FaultRule, Scripted, Settings};
use spillway::provider::settings::Vendor;
use spillway::provider::stream::{checked, whole};
use spillway::provider::{SharedProvider, Timeouts, connect};

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
    let parameters = serde_json::json!({ "type": "object", "required": ["q"],
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

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_cut_at_random_bytes_never_end_as_complete_answers() {
    let served = Served::start(settings(Some(Fault::Cut)));
    let providers = &providers(&served);
    let calls = stream::iter(0..10_000_usize).map(|number| async move {
        let (vendor, provider) = &providers[number % providers.len()];
        // The number is its own question for each vendor.
        let question = prompt(number / providers.len());
        match provider.stream("m", &question, TIMEOUTS).await {
            Ok(pieces) => match whole(checked(pieces)).await {
                Ok(answer) => panic!("{vendor:?} {number} ended as {answer:?}"),
                Err(_cut) => true,
            },
            Err(_before_the_first_piece) => false,
        }
    });
    let begun = calls.buffer_unordered(32).collect::<Vec<_>>().await;
    let begun = begun.iter().filter(|begun| **begun).count();
    println!("10000 streams cut: {begun} after their first piece, none ended as complete");
    assert!(begun > 2_000, "{begun}");
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
            let calls = |calls: &[spillway::domain::completion::ToolCall]| {
                calls.iter().map(|c| (c.name.clone(), c.arguments.clone())).collect::<Vec<_>>()
            };
            assert_eq!(calls(&answer.tool_calls), calls(&expected.tool_calls), "{vendor:?}");
            let usage = answer.usage.unwrap();
            assert!(usage.input_tokens > 5 && usage.output_tokens > 1, "{vendor:?} {usage:?}");
        }
    }
}

#[tokio::test]
async fn cut_streams_without_a_network_are_no_answers_either() {
    let within = Scripted::new(settings(Some(Fault::Cut)), Arc::new(SystemClock));
    let within: &dyn spillway::provider::Provider = &within;
    for number in 0..500 {
        if let Ok(pieces) = within.stream("m", &prompt(number), TIMEOUTS).await {
            whole(checked(pieces)).await.unwrap_err();
        }
    }
}
