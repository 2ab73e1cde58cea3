//! A run's figures for people.

use chrono::{DateTime, Utc};

use super::report::{Limit, Part, Report, longest_p99};
use crate::domain::job::Lane;

/// Workflows told one by one.
const MOST_WORKFLOWS: usize = 20;

/// The run in a sentence.
pub(super) fn headline(report: &Report) -> String {
    let interactive = report.lanes.iter().find(|part| part.name == Lane::Interactive.as_str());
    let waits = match interactive {
        Some(part) => format!("interactive waits p99 {}", wait(part.wait_p99_s)),
        None => format!("waits p99 {}", wait(longest_p99(&report.lanes))),
    };
    let drained = match report.drained_at {
        Some(at) => format!("drained at {}", clock(at, report.first_arrival)),
        None => format!("NOT drained, {} still open", counted(report.still_open, "job")),
    };
    let binding = match &report.binding {
        Some(binding) => match &binding.org {
            Some(org) => format!(
                "the binding axis is {} at org {org}{}",
                axis(binding.axis),
                models(binding.models.as_deref())
            ),
            None => "what binds is this replica's engine.concurrency".to_owned(),
        },
        None => "no limit binds".to_owned(),
    };
    format!(
        "{} from {} at {}: {drained}, {waits}, {} × 429, {}, {binding}.",
        counted(report.jobs, "job"),
        counted(report.workflows.len(), "workflow"),
        report.first_arrival.format("%H:%M:%S"),
        grouped(report.rate_limited),
        cost(report),
    )
}

/// The whole of it.
pub(super) fn table(report: &Report) -> String {
    let first = report.first_arrival;
    let parts = |parts: &[Part], name| {
        let rows: Vec<[String; 7]> =
            parts.iter().take(MOST_WORKFLOWS).map(|part| row(part, first)).collect();
        columns([name, "jobs", "answered", "wait p50", "p99", "max", "finished"], &rows)
    };
    let mut lines = vec![report.headline.clone(), String::new()];
    lines.extend(parts(&report.lanes, "lane"));
    lines.push(String::new());
    lines.extend(parts(&report.workflows, "workflow"));
    let more = report.workflows.len().saturating_sub(MOST_WORKFLOWS);
    if more > 0 {
        lines.push(format!("  and {more} more; --json tells all"));
    }
    lines.push(String::new());
    let limits: Vec<[String; 7]> = report.limits.iter().map(limit).collect();
    let heads = ["org", "models", "axis", "limit", "backlog", "used of it", "429"];
    lines.extend(columns(heads, &limits));
    lines.push(String::new());
    lines.extend(totals(report));
    lines.push(String::new());
    lines.join("\n")
}

fn totals(report: &Report) -> Vec<String> {
    let line = |label: &str, value: &str| format!("  {label:<14}{value}");
    let first = report.first_arrival;
    let last = clock(report.last_arrival, first);
    let drained = match report.drained_at.zip(report.drained_in_s) {
        Some((at, within)) => format!("{}, after {}", clock(at, first), wait(Some(within))),
        None => "not within --patience".to_owned(),
    };
    let (calls, limited) = (grouped(report.calls), grouped(report.rate_limited));
    let answered = format!("{} of {}", grouped(report.answered), grouped(report.jobs));
    let arrivals = format!("{} to {last} UTC", first.format("%Y-%m-%d %H:%M:%S"));
    let reasons = report.reasons.iter();
    let reasons = reasons.map(|(reason, count)| format!("{} {reason}", grouped(*count)));
    let mut lines =
        vec![line("arrivals", &arrivals), line("drained", &drained), line("answered", &answered)];
    lines.extend(reasons.map(|reason| line("", &reason)));
    lines.push(line("calls", &format!("{calls}, {limited} answered 429")));
    lines.push(line("cost", &cost(report)));
    lines
}

fn row(part: &Part, first: DateTime<Utc>) -> [String; 7] {
    [
        part.name.clone(),
        grouped(part.jobs),
        grouped(part.answered),
        wait(part.wait_p50_s),
        wait(part.wait_p99_s),
        wait(part.wait_max_s),
        part.finished_at.map_or_else(|| "not yet".to_owned(), |at| clock(at, first)),
    ]
}

fn limit(limit: &Limit) -> [String; 7] {
    let used = limit.used.map_or_else(|| "-".to_owned(), |used| format!("{:.1} %", used * 100.0));
    [
        limit.org.clone().unwrap_or_else(|| "(this replica)".to_owned()),
        limit.models.clone().unwrap_or_default(),
        axis(limit.axis),
        limit.allowed.clone(),
        wait(Some(limit.backlog_s)),
        used,
        grouped(limit.rate_limited),
    ]
}

/// Rows under their heads: names to the left, figures to the right.
fn columns(heads: [&str; 7], rows: &[[String; 7]]) -> Vec<String> {
    const NAMES: [&str; 5] = ["lane", "workflow", "org", "models", "axis"];
    let titles = heads.map(str::to_owned);
    let rows = || std::iter::once(&titles).chain(rows);
    let mut widths = [0; 7];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(widths).zip(heads).map(|((cell, width), head)| {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            if NAMES.contains(&head) { format!("{cell}{pad}") } else { format!("{pad}{cell}") }
        });
        let cells: Vec<String> = cells.collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned()
    };
    rows().map(line).collect()
}

/// A time of day, with its date when that is not the first arrival's.
fn clock(at: DateTime<Utc>, first: DateTime<Utc>) -> String {
    let same = at.date_naive() == first.date_naive();
    at.format(if same { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}

/// `0.6 s`, `13 min 20 s`, `2 h 05 min`.
pub(super) fn wait(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "-".to_owned();
    };
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some days at most"
    )]
    let whole = seconds.round() as u64;
    match (whole / 3_600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

fn axis(name: &str) -> String {
    name.replace('_', " ")
}

fn models(models: Option<&str>) -> String {
    models.filter(|models| *models != "*").map_or_else(String::new, |name| format!(" ({name})"))
}

fn cost(report: &Report) -> String {
    let sum = report.cost_usd;
    let dollars = if sum < 1.0 { format!("${sum:.4}") } else { format!("${sum:.2}") };
    match report.without_price {
        0 => dollars,
        unknown => format!("{dollars} and {} without a known price", counted(unknown, "job")),
    }
}

fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {what}{ending}", grouped(count))
}

/// A count as an axis shows it.
pub(super) fn rounded(count: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of jobs")]
    let whole = count.round() as usize;
    grouped(whole)
}

/// `5,000`.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!(grouped(5), "5");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "job"), "1 job");
        let times = [
            (0.64, "0.6 s"),
            (59.96, "1 min 00 s"),
            (800.0, "13 min 20 s"),
            (7_500.0, "2 h 05 min"),
        ];
        for (seconds, told) in times {
            assert_eq!(wait(Some(seconds)), told);
        }
        assert_eq!(wait(None), "-");
    }
}
