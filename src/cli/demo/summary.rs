//! What the demo has shown, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::burst::Burst;
use super::direct::Straight;
use super::receiver::Tally;
use super::seconds;

/// The widest line.
pub const WIDTH: usize = 100;
const LABEL: usize = 34;
const COLUMN: usize = 30;

/// The demo in numbers.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Jobs submitted.
    pub jobs: usize,
    /// Jobs accepted.
    pub accepted: usize,
    /// From the first submit to the last 202.
    pub accepted_in: Duration,
    /// Half of the submits took no longer.
    pub median_wait: Duration,
    /// Submits answered 429.
    pub caller_429s: usize,
    /// Calls the provider answered 429.
    pub provider_429s: u64,
    /// Calls the provider saw.
    pub provider_calls: u64,
    /// From the first submit to the last result.
    pub drained_in: Duration,
    /// Jobs that succeeded.
    pub succeeded: usize,
    /// Jobs that ended without an answer.
    pub failed: usize,
    /// Jobs answered by another than their route's first step.
    pub fell_back: usize,
    /// Jobs answered by their escalation route.
    pub escalated: usize,
    /// Answers by `provider/model`.
    pub by_model: BTreeMap<String, usize>,
    /// What the results say they cost together.
    pub cost_usd: f64,
    /// Results that do not know their cost.
    pub without_cost: usize,
    /// Callbacks with a right signature.
    pub verified: usize,
    /// Callbacks with a wrong one.
    pub forged: usize,
    /// Deliveries that came again.
    pub repeats: usize,
    /// The same burst without Spillway.
    pub straight: Option<Straight>,
}

/// What the provider has counted while Spillway was in between.
#[derive(Clone, Copy, Debug, Default)]
pub struct AtProvider {
    /// Calls.
    pub calls: u64,
    /// Those among them that were answered 429.
    pub rate_limited: u64,
}

impl Summary {
    /// Adds up what the parts of the demo have seen.
    pub fn of(
        burst: &Burst,
        drained_in: Duration,
        tally: &Tally,
        provider: AtProvider,
        straight: Option<Straight>,
    ) -> Self {
        let results = &tally.results;
        let mut by_model: BTreeMap<String, usize> = BTreeMap::new();
        for result in results.iter().filter(|result| result.ok) {
            let named = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
            let name = format!("{}/{}", named(&result.provider), named(&result.model));
            *by_model.entry(name).or_default() += 1;
        }
        let succeeded = results.iter().filter(|result| result.ok).count();
        Self {
            jobs: burst.jobs,
            accepted: burst.count(),
            accepted_in: burst.elapsed,
            median_wait: burst.wait(0.5),
            caller_429s: burst.rate_limited,
            provider_429s: provider.rate_limited,
            provider_calls: provider.calls,
            drained_in,
            succeeded,
            failed: results.len() - succeeded,
            fell_back: results.iter().filter(|result| result.fell_back).count(),
            escalated: results.iter().filter(|result| result.escalated).count(),
            by_model,
            cost_usd: results.iter().filter_map(|result| result.cost_usd).sum(),
            without_cost: results.iter().filter(|result| result.cost_usd.is_none()).count(),
            verified: tally.verified,
            forged: tally.forged,
            repeats: tally.repeats,
            straight,
        }
    }

    /// The table: aligned text, no line wider than [`WIDTH`].
    pub fn table(&self) -> String {
        let mut table = Table::default();
        let straight = self.straight.as_ref();
        let beside = |told: &dyn Fn(&Straight) -> String| straight.map(told);
        let heading = straight.map(|_| "straight at the provider".to_owned());
        table.row("", "through Spillway", heading);
        table.rule();
        let accepted = format!("{} of {}", self.accepted, self.jobs);
        table.row("jobs accepted", &accepted, None);
        let took =
            format!("{} (half within {})", seconds(self.accepted_in), seconds(self.median_wait));
        table.row("  in", &took, None);
        let answered = beside(&|s| format!("{} of {}", s.answered, s.answered + s.failed));
        table.row("jobs answered", &format!("{} of {}", self.succeeded, self.jobs), answered);
        table.row("  in", &seconds(self.drained_in), beside(&|s| seconds(s.elapsed)));
        let lost = beside(&|s| s.failed.to_string());
        table.row("jobs given up", &self.failed.to_string(), lost);
        let seen = beside(&|s| s.rate_limited.to_string());
        table.row("429s seen by callers", &self.caller_429s.to_string(), seen.clone());
        table.row("429s at the provider", &self.provider_429s.to_string(), seen);
        let calls = beside(&|s| s.requests.to_string());
        table.row("calls at the provider", &self.provider_calls.to_string(), calls);
        table.rule();
        table.row("fell through to another step", &self.fell_back.to_string(), None);
        table.row("escalated to the premium route", &self.escalated.to_string(), None);
        for (model, count) in &self.by_model {
            table.row(&format!("  {model}"), &count.to_string(), None);
        }
        table.row("cost", &self.cost(), None);
        table.row("signatures checked", &self.signatures(), None);
        table.lines.join("\n") + "\n"
    }

    fn cost(&self) -> String {
        match self.without_cost {
            0 => format!("${:.4}", self.cost_usd),
            unknown => format!("${:.4}, {unknown} without a price", self.cost_usd),
        }
    }

    fn signatures(&self) -> String {
        let told = format!("{} right, {} wrong", self.verified, self.forged);
        match self.repeats {
            0 => told,
            repeats => format!("{told}, {repeats} came twice"),
        }
    }
}

#[derive(Default)]
struct Table {
    lines: Vec<String>,
}

impl Table {
    fn row(&mut self, label: &str, value: &str, beside: Option<String>) {
        let label = fitted(label, LABEL);
        let beside = fitted(&beside.unwrap_or_default(), COLUMN);
        let value = if beside.is_empty() { value.to_owned() } else { fitted(value, COLUMN) };
        let line = format!("  {label:LABEL$}  {value:COLUMN$}  {beside}");
        self.lines.push(fitted(line.trim_end(), WIDTH));
    }

    fn rule(&mut self) {
        self.lines.push(format!("  {}", "─".repeat(WIDTH - 2)));
    }
}

/// The text, cut with an ellipsis where it is wider than this.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::receiver::Received;

    fn result(ok: bool, model: &str, cost_usd: Option<f64>) -> Received {
        Received {
            id: "job".to_owned(),
            workflow: "lead-intake".to_owned(),
            ok,
            provider: Some("scripted".to_owned()),
            model: Some(model.to_owned()),
            fell_back: model == "backup",
            escalated: false,
            cost_usd,
            total_ms: Some(10),
            attempts: 1,
            rate_limited: 0,
        }
    }

    fn summary(straight: Option<Straight>) -> Summary {
        let ids = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let burst = Burst {
            jobs: 3,
            accepted: BTreeMap::from([("lead-intake", ids)]),
            elapsed: Duration::from_millis(420),
            waits: vec![Duration::from_millis(9)],
            ..Burst::default()
        };
        let long = "a-model-with-a-name-that-no-table-has-room-for-and-then-some";
        let results = vec![
            result(true, long, Some(0.25)),
            result(true, "backup", None),
            result(false, "", None),
        ];
        let tally = Tally { verified: 3, results, ..Tally::default() };
        let provider = AtProvider { calls: 4, rate_limited: 0 };
        Summary::of(&burst, Duration::from_millis(61_230), &tally, provider, straight)
    }

    #[test]
    fn the_table_tells_both_ways_side_by_side_and_fits_the_screen() {
        let straight = Straight {
            answered: 1,
            failed: 2,
            requests: 7,
            rate_limited: 6,
            elapsed: Duration::from_millis(2_100),
        };
        let table = summary(Some(straight)).table();
        assert!(table.lines().all(|line| line.chars().count() <= WIDTH), "{table}");
        for told in [
            "through Spillway",
            "straight at the provider",
            "3 of 3",
            "420 ms (half within 9 ms)",
            "2 of 3",
            "1 of 3",
            "61.2 s",
            "2.1 s",
            "scripted/backup",
            "$0.2500, 2 without a price",
            "3 right, 0 wrong",
        ] {
            assert!(table.contains(told), "{told} is missing in\n{table}");
        }
    }

    #[test]
    fn without_a_comparison_there_is_one_column() {
        let table = summary(None).table();
        assert!(!table.contains("straight"), "{table}");
    }
}
