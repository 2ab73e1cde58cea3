//! A burst as automations make it: five workflows fire at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;

/// One job to submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The automation it comes from.
    pub workflow: &'static str,
    /// The declared kind of work.
    pub task: &'static str,
    /// What it works on.
    pub text: String,
    /// Its number within its workflow.
    pub row: usize,
}

/// The workflows: name, tasks in turn, how many jobs.
const WORKFLOWS: [(&str, &[&str], usize); 5] = [
    ("lead-intake", &["classify", "tag"], 80),
    ("support-inbox", &["tag", "summarize", "classify"], 90),
    ("invoice-reader", &["extract"], 60),
    ("nightly-digest", &["summarize"], 50),
    ("incident-planner", &["plan"], 20),
];

/// Each workflow's name and how many jobs it has in the burst.
pub fn totals() -> Vec<(&'static str, usize)> {
    WORKFLOWS.iter().map(|(name, _, count)| (*name, *count)).collect()
}

/// The 300 jobs of the burst, the same in every run, the workflows evenly mixed.
pub fn jobs() -> Vec<Submission> {
    let mut jobs: Vec<(usize, Submission)> = Vec::new();
    for (workflow, tasks, count) in WORKFLOWS {
        for row in 0..count {
            let task = pick(tasks, row);
            let at = (2 * row + 1) * 10_000 / count;
            jobs.push((at, Submission { workflow, task, text: text(workflow, row), row }));
        }
    }
    jobs.sort_by_key(|(at, _)| *at);
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// The expensive task; all others are cheap.
pub const PREMIUM_TASK: &str = "plan";

fn pick<'a>(from: &[&'a str], index: usize) -> &'a str {
    from.get(index % from.len().max(1)).copied().unwrap_or_default()
}

const PEOPLE: &[&str] = &[
    "Amara Okafor",
    "Jonas Weber",
    "Mei Tanaka",
    "Lucía Fernández",
    "Tom Brennan",
    "Ines Duarte",
    "Ravi Menon",
];
const FIRMS: &[&str] = &[
    "Northwind Logistics",
    "Kestrel Dental",
    "Bluebird Bakery",
    "Hallam & Sons",
    "Orbit Fitness",
    "Pinecrest Hotels",
    "Tidewater Books",
    "Solstice Energy",
    "Marlow Textiles",
];
const WISHES: &[&str] = &[
    "We answer about forty enquiries a day by hand and would like a trial this month.",
    "Do you integrate with HubSpot, and what does the team plan cost for twelve seats?",
    "Our current contract ends in six weeks; please send an offer before Friday.",
    "I only wanted the brochure, no calls please.",
    "We saw your talk and have budget approved for this quarter.",
];
const TROUBLES: &[&str] = &[
    "I was charged twice for the September order and nobody has replied since Monday.",
    "The export button spins forever in Firefox, Chrome is fine.",
    "My parcel shows as delivered but the neighbour does not have it either.",
    "Please delete my account and confirm it in writing.",
    "After the last update the app signs me out every few minutes.",
    "The replacement part fits perfectly, thank you for the quick help!",
    "I need the invoice with our VAT number on it before the end of the month.",
];
const MOODS: &[&str] =
    &["This is urgent.", "No hurry.", "I am quite annoyed by now.", "Thanks in advance."];
const ITEMS: &[&str] = &[
    "office chairs, oak",
    "hosting, annual plan",
    "label printer rolls",
    "translation, 14 pages",
    "water filter cartridges",
    "courier service, October",
    "LED panels 60x60",
];
const HEADLINES: &[&str] = &[
    "The port of Rotterdam reopened two terminals after the storm; delays of three days remain",
    "The central bank left its rate unchanged and named housing costs as the main concern",
    "A regional grocer will close nine shops and move their staff to online fulfilment",
    "Researchers report a cheaper catalyst for green ammonia, still at laboratory scale",
    "The city council approved the tram extension by one vote after a six-hour session",
    "A supplier of brake parts recalls 40,000 units made between March and May",
];
const REMARKS: &[&str] = &[
    "Analysts expect little effect on prices before spring.",
    "Unions have asked for a meeting within the week.",
    "Two competitors declined to comment.",
    "The decision can still be appealed.",
    "Shares rose four per cent in early trade.",
];
const INCIDENTS: &[&str] = &[
    "checkout latency p99 rose from 300 ms to 9 s after the 14:05 deploy",
    "the primary database fails over every twenty minutes",
    "a certificate for the partner API expires tonight and its owner is on leave",
    "queue depth grows by two thousand a minute and consumers log timeouts",
    "customers in one region see another customer's name in the header",
];
const CIRCUMSTANCES: &[&str] = &[
    "Two engineers are on call, the release train leaves in three hours.",
    "Rolling back loses the new pricing table unless it is exported first.",
    "The status page still says all systems operational.",
    "Support has 37 open tickets about it.",
];

fn text(workflow: &str, row: usize) -> String {
    let (person, firm) = (pick(PEOPLE, row), pick(FIRMS, row + row / 7));
    match workflow {
        "lead-intake" => format!(
            "New form entry #{}. Name: {person}. Company: {firm}. Message: {}",
            4_100 + row,
            pick(WISHES, row + row / 5),
        ),
        "support-inbox" => format!(
            "Ticket {}: from {person} at {firm}. {} {} Order number {}.",
            70_210 + row,
            pick(TROUBLES, row),
            pick(MOODS, row / 7),
            880_000 + row * 37,
        ),
        "invoice-reader" => format!(
            "INVOICE {firm} No. 2026-{:04} Date 2026-{:02}-{:02}. {} x {} at {}.50 EUR. VAT 19 %. \
             Payable within {} days. Contact: {person}.",
            310 + row,
            row % 12 + 1,
            row % 28 + 1,
            row % 9 + 1,
            pick(ITEMS, row),
            18 + row * 3,
            pick(&["14", "30", "10"], row),
        ),
        "nightly-digest" => format!(
            "{}. {} {} Filed {:02}:{:02}.",
            pick(HEADLINES, row),
            pick(REMARKS, row / 6),
            pick(REMARKS, row / 6 + row + 1),
            row % 24,
            row * 7 % 60,
        ),
        _ => format!(
            "Incident INC-{}: {}. {} Plan the next two hours: who does what, in which order, and \
             how we know that it worked. Lead: {person}.",
            900 + row,
            pick(INCIDENTS, row),
            pick(CIRCUMSTANCES, row / 5),
        ),
    }
}

/// Where jobs are submitted and where their results go.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// Spillway's address, without a path.
    pub base_url: String,
    /// A caller's key.
    pub key: String,
    /// Where results are posted.
    pub callback_url: String,
}

/// What became of submitting the burst.
#[derive(Clone, Debug, Default)]
pub struct Burst {
    /// Jobs submitted.
    pub jobs: usize,
    /// The ids of the accepted jobs, by workflow.
    pub accepted: BTreeMap<&'static str, Vec<String>>,
    /// How long each submit took, the shortest first.
    pub waits: Vec<Duration>,
    /// Submits answered 429.
    pub rate_limited: usize,
    /// Submits that ended otherwise: the status, when there was one, and what was said.
    pub refused: Vec<(Option<u16>, String)>,
    /// From the first submit to the last answer.
    pub elapsed: Duration,
}

impl Burst {
    /// Jobs accepted.
    pub fn count(&self) -> usize {
        self.accepted.values().map(Vec::len).sum()
    }

    /// How long the slowest of this share of the submits took: `0.5` is the median.
    pub fn wait(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index into a short list"
        )]
        let index = (self.waits.len() as f64 * share).ceil().max(1.0) as usize - 1;
        self.waits.get(index).or(self.waits.last()).copied().unwrap_or_default()
    }

    fn add(&mut self, workflow: &'static str, wait: Duration, answer: Answer) {
        self.waits.push(wait);
        match answer {
            Answer::Accepted(id) => self.accepted.entry(workflow).or_default().push(id),
            Answer::Refused(Some(429), _) => self.rate_limited += 1,
            Answer::Refused(status, detail) => self.refused.push((status, detail)),
        }
    }
}

enum Answer {
    Accepted(String),
    Refused(Option<u16>, String),
}

#[derive(Deserialize)]
struct Receipt {
    id: String,
}

/// Submits all jobs as fast as this many connections carry them. Nothing is tried twice.
pub async fn submit(
    client: &reqwest::Client,
    entrance: &Entrance,
    jobs: &[Submission],
    connections: usize,
) -> Burst {
    let start = Instant::now();
    let mut answers = stream::iter(jobs)
        .map(|job| async move {
            let sent = Instant::now();
            let answer = submit_one(client, entrance, job).await;
            (job.workflow, sent.elapsed(), answer)
        })
        .buffer_unordered(connections.max(1));
    let mut burst = Burst { jobs: jobs.len(), ..Burst::default() };
    while let Some((workflow, wait, answer)) = answers.next().await {
        burst.add(workflow, wait, answer);
    }
    burst.elapsed = start.elapsed();
    burst.waits.sort_unstable();
    burst
}

async fn submit_one(client: &reqwest::Client, entrance: &Entrance, job: &Submission) -> Answer {
    let body = json!({
        "task": job.task,
        "input": job.text,
        "callback_url": entrance.callback_url,
        "workflow": job.workflow,
        "metadata": { "row": job.row },
    });
    let request = client
        .post(format!("{}/v1/jobs", entrance.base_url))
        .bearer_auth(&entrance.key)
        .json(&body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(fault) => return Answer::Refused(None, fault.to_string()),
    };
    let status = response.status().as_u16();
    if status != 202 {
        let text = response.text().await.unwrap_or_default();
        return Answer::Refused(Some(status), text.chars().take(300).collect());
    }
    match response.json::<Receipt>().await {
        Ok(receipt) => Answer::Accepted(receipt.id),
        Err(fault) => Answer::Refused(Some(status), fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_burst_has_three_hundred_different_jobs_from_five_workflows() {
        let jobs = jobs();
        assert_eq!(jobs.len(), 300);
        assert_eq!(jobs, super::jobs());
        let texts: BTreeSet<&str> = jobs.iter().map(|job| job.text.as_str()).collect();
        assert_eq!(texts.len(), 300);
        for (workflow, count) in totals() {
            let of_it: Vec<&Submission> = jobs.iter().filter(|j| j.workflow == workflow).collect();
            assert_eq!(of_it.len(), count, "{workflow}");
            assert!(of_it.iter().all(|job| job.text.len() > 60), "{workflow}");
        }
        let premium = jobs.iter().filter(|job| job.task == PREMIUM_TASK).count();
        assert_eq!(premium, 20);
        let early: BTreeSet<&str> = jobs.iter().take(20).map(|job| job.workflow).collect();
        assert_eq!(early.len(), 5, "the workflows are mixed");
    }

    #[test]
    fn waits_are_told_by_share() {
        let waits = (1..=100).map(Duration::from_millis).collect();
        let burst = Burst { waits, ..Burst::default() };
        let told = [0.0, 0.5, 0.99, 1.0].map(|share| burst.wait(share).as_millis());
        assert_eq!(told, [1, 50, 99, 100]);
        assert_eq!(Burst::default().wait(0.5), Duration::ZERO);
    }
}
