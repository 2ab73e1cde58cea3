//! Another client of the same provider, which Spillway does not see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use crate::stage::client;
use crate::work::{Axis, OUTPUT, input_tokens, text};

/// What it has got so far.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    refused: AtomicU64,
    answered: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    failed: AtomicBool,
}

/// The same at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Calls it has sent.
    pub(crate) sent: u64,
    /// Calls of it that were answered 429.
    pub(crate) refused: u64,
    /// Whether a call of it ended in neither an answer nor a 429.
    pub(crate) failed: bool,
    units: [u64; 3],
}

/// Sends its calls steadily, whatever becomes of them, until it is dropped.
pub(crate) struct Other {
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Answer {
    usage: Usage,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Other {
    /// Calls the provider at `base` so many times a second, with prompts like those of the jobs.
    pub(crate) fn start(base: &str, per_second: f64) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let (client, url) = (client()?, format!("{base}/v1/chat/completions"));
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        let shared = Arc::clone(&counts);
        let work = async move {
            let mut calls = JoinSet::new();
            for number in 0.. {
                ticks.tick().await;
                calls.spawn(call(client.clone(), url.clone(), number, Arc::clone(&shared)));
                while calls.try_join_next().is_some() {}
            }
        };
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no lifecycle")]
        let task = tokio::spawn(work);
        Ok(Self { counts, task })
    }

    /// What it has got so far.
    pub(crate) fn taken(&self) -> Taken {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        Taken {
            sent: of(&counts.sent),
            refused: of(&counts.refused),
            failed: counts.failed.load(Ordering::Relaxed),
            units: [of(&counts.answered), of(&counts.input_tokens), of(&counts.output_tokens)],
        }
    }
}

impl Taken {
    /// What was let through of its calls on an axis.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) const fn units(&self, axis: Axis) -> f64 {
        let [requests, input, output] = self.units;
        match axis {
            Axis::Requests => requests as f64,
            Axis::InputTokens => input as f64,
            Axis::OutputTokens => output as f64,
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn call(client: reqwest::Client, url: String, number: usize, counts: Arc<Counts>) {
    let body = json!({
        "model": "other-1", "max_tokens": OUTPUT[1],
        // Prompts of their own: not in step with the jobs'.
        "messages": [{ "role": "user", "content": text(input_tokens(number + 7_777_777)) }],
    });
    counts.sent.fetch_add(1, Ordering::Relaxed);
    let Ok(answer) = client.post(url).json(&body).send().await else {
        return counts.failed.store(true, Ordering::Relaxed);
    };
    if answer.status() == 429 {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    match answer.json::<Answer>().await {
        Ok(Answer { usage }) => {
            counts.answered.fetch_add(1, Ordering::Relaxed);
            counts.input_tokens.fetch_add(usage.prompt_tokens, Ordering::Relaxed);
            counts.output_tokens.fetch_add(usage.completion_tokens, Ordering::Relaxed);
        }
        Err(_) => counts.failed.store(true, Ordering::Relaxed),
    }
}
