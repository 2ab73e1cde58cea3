//! The same burst without Spillway: each workflow calls the provider itself, all at once, and
//! retries as workflow tools do.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;

use super::burst::{PREMIUM_TASK, Submission};

/// A model at an address that speaks OpenAI's dialect.
#[derive(Clone, Debug)]
pub struct Target {
    /// The provider's address, up to and without the version.
    pub base_url: String,
    /// The model.
    pub model: String,
}

/// Where calls go.
#[derive(Clone, Debug)]
pub struct Targets {
    /// For cheap tasks.
    pub cheap: Target,
    /// For the expensive one.
    pub premium: Target,
}

/// How a failed call is tried again, whatever the provider says about when to come back.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Calls at most, the first one included.
    pub tries: u32,
    /// The pause between two.
    pub pause: Duration,
}

impl Default for Retries {
    /// n8n's *Retry on Fail* as it comes.
    fn default() -> Self {
        Self { tries: 3, pause: Duration::from_secs(1) }
    }
}

/// What became of the burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Straight {
    /// Calls answered in the end.
    pub answered: usize,
    /// Calls given up.
    pub failed: usize,
    /// Requests sent.
    pub requests: usize,
    /// Requests answered 429.
    pub rate_limited: usize,
    /// From the first request to the last end.
    pub elapsed: Duration,
}

/// Sends every job to its model at once.
pub async fn run(
    client: &reqwest::Client,
    targets: &Targets,
    jobs: &[Submission],
    retries: Retries,
) -> Straight {
    let start = Instant::now();
    let calls = jobs.iter().map(|job| {
        let target = if job.task == PREMIUM_TASK { &targets.premium } else { &targets.cheap };
        call(client, target, job, retries)
    });
    let mut all = Straight::default();
    for one in join_all(calls).await {
        all.answered += one.answered;
        all.failed += one.failed;
        all.requests += one.requests;
        all.rate_limited += one.rate_limited;
    }
    all.elapsed = start.elapsed();
    all
}

async fn call(
    client: &reqwest::Client,
    target: &Target,
    job: &Submission,
    retries: Retries,
) -> Straight {
    let url = format!("{}/v1/chat/completions", target.base_url);
    let body = json!({
        "model": target.model,
        "messages": [
            { "role": "system", "content": format!("Your task: {} what you are sent.", job.task) },
            { "role": "user", "content": job.text },
        ],
        "max_completion_tokens": 512,
    });
    let mut one = Straight::default();
    for number in 0..retries.tries {
        if number > 0 {
            tokio::time::sleep(retries.pause).await;
        }
        one.requests += 1;
        let Ok(response) = client.post(&url).bearer_auth("demo").json(&body).send().await else {
            continue;
        };
        one.rate_limited += usize::from(response.status().as_u16() == 429);
        // Half an answer is no answer: the body counts too.
        if response.status().is_success() && response.json::<serde_json::Value>().await.is_ok() {
            one.answered = 1;
            return one;
        }
    }
    one.failed = 1;
    one
}
