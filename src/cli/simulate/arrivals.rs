//! Which jobs arrive when: read from a CSV file and from described bursts, and held against the
//! settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use csv::{ReaderBuilder, StringRecord, Trim};

use super::entry::{Deadline, Entry, FIELDS, burst, entry, tell};
use crate::config::{Faults, fault};
use crate::domain::job::Lane;
use crate::domain::task::Task;

/// The most jobs of one run: each is kept in memory with its result.
pub(super) const MOST_JOBS: u64 = 100_000;

/// The longest time from the first arrival to the last.
const LONGEST: Duration = Duration::from_secs(48 * 3_600);

/// A job that will arrive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arrival {
    pub(super) at: DateTime<Utc>,
    pub(super) task: String,
    pub(super) workflow: Option<String>,
    pub(super) lane: Lane,
    /// Tokens of its prompt.
    pub(super) input_tokens: u64,
    /// Tokens of its answer.
    pub(super) output_tokens: u64,
    pub(super) deliver_by: Option<DateTime<Utc>>,
}

/// What an entry that says nothing of its tokens gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

/// Reads the entries of bursts and a file.
pub(super) fn entries(
    bursts: &[String],
    file: Option<&Path>,
    date: NaiveDate,
    told: &mut Faults,
) -> Vec<Entry> {
    let bursts = bursts.iter().enumerate();
    let mut found: Vec<Entry> =
        bursts.filter_map(|(index, text)| burst(index + 1, text, date, told)).collect();
    if let Some(file) = file {
        found.extend(read_file(file, date, told));
    }
    let jobs = found.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.jobs));
    if jobs > MOST_JOBS {
        let problem = format!("{jobs} are more than the {MOST_JOBS} one run can hold: split them");
        tell(told, "jobs", problem);
    }
    let first = found.iter().map(|entry| entry.at).min();
    let last = found.iter().map(|entry| entry.at + entry.over).max();
    if first.zip(last).is_some_and(|(first, last)| last - first > span(LONGEST)) {
        let problem = "lie more than 48 hours apart: give --date, or split them".to_owned();
        tell(told, "arrivals", problem);
    }
    found
}

fn read_file(file: &Path, date: NaiveDate, told: &mut Faults) -> Vec<Entry> {
    let name = file.display().to_string();
    let mut builder = ReaderBuilder::new();
    let reader = builder.trim(Trim::All).flexible(true).comment(Some(b'#')).from_path(file);
    let mut reader = match reader {
        Ok(reader) => reader,
        Err(fault) => {
            tell(told, &name, format!("cannot be read: {fault}"));
            return Vec::new();
        }
    };
    let columns = match reader.headers() {
        Ok(head) => columns(&name, head, told),
        Err(fault) => {
            tell(told, &name, format!("cannot be read: {fault}"));
            return Vec::new();
        }
    };
    let Some(columns) = columns else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                let place = format!("{name}:{line}");
                if record.len() > columns.len() {
                    let (has, head) = (record.len(), columns.len());
                    tell(told, &place, format!("has {has} fields, the first line names {head}"));
                    continue;
                }
                let fields: Vec<(&str, &str)> =
                    columns.iter().copied().zip(record.iter()).collect();
                found.extend(entry(&place, &fields, date, told));
            }
            Err(fault) => tell(told, &name, format!("cannot be read: {fault}")),
        }
    }
    if found.is_empty() && told.is_empty() {
        tell(told, &name, "holds no arrivals below its first line".to_owned());
    }
    found
}

/// The columns by their long names; `None`, and told, when the first line does not name them.
fn columns(name: &str, head: &StringRecord, told: &mut Faults) -> Option<Vec<&'static str>> {
    let place = format!("{name}:1");
    let before = told.0.len();
    let mut found: Vec<&'static str> = Vec::new();
    for column in head {
        let known = FIELDS.iter().find(|(long, short)| [*long, *short].contains(&column));
        match known {
            Some((long, _)) if found.contains(long) => {
                tell(told, &place, format!("the column `{column}` is there twice"));
            }
            Some((long, _)) => found.push(long),
            None => {
                let hint = fault::instead(column, FIELDS.iter().map(|(long, _)| *long));
                tell(told, &place, format!("the column `{column}` is not known{hint}"));
            }
        }
    }
    for needed in ["at", "task"] {
        if !found.contains(&needed) && told.0.len() == before {
            let example = "expected a first line such as at,task,workflow,lane";
            tell(told, &place, format!("there is no column `{needed}`: {example}"));
        }
    }
    (told.0.len() == before).then_some(found)
}

/// Makes the arrivals of entries, in the order of their times.
pub(super) fn arrivals(
    entries: &[Entry],
    tasks: &BTreeMap<String, Arc<Task>>,
    defaults: Defaults,
    told: &mut Faults,
) -> Vec<Arrival> {
    let mut found = Vec::new();
    for entry in entries {
        let Some(task) = tasks.get(&entry.task) else {
            let hint = fault::instead(&entry.task, tasks.keys().map(String::as_str));
            tell(told, &entry.place, format!("there is no task `{}`{hint}", entry.task));
            continue;
        };
        let cap = u64::from(task.max_output_tokens);
        if let Some(output) = entry.output_tokens.filter(|output| *output > cap) {
            let cap = format!("at most {cap}, as `max_output_tokens` of task `{}`", task.name);
            tell(told, &entry.place, format!("output_tokens {output} cannot be: expected {cap}"));
        }
        if let Some(Deadline::At(by)) = entry.deliver_by
            && by <= entry.at + entry.over
        {
            let problem = "deliver_by is not after the arrival".to_owned();
            tell(told, &entry.place, problem);
        }
        if told.is_empty() {
            found.extend((0..entry.jobs).map(|index| arrival(entry, index, task, defaults)));
        }
    }
    found.sort_by_key(|arrival| arrival.at);
    found
}

fn arrival(entry: &Entry, index: u64, task: &Task, defaults: Defaults) -> Arrival {
    let share = |of: Duration, index: u64| {
        let nanos = of.as_nanos() * u128::from(index) / u128::from(entry.jobs.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    };
    let at = entry.at + span(share(entry.over, index));
    let number = index % entry.workflows + 1;
    let workflow = match (&entry.workflow, entry.workflows) {
        (workflow, 1) => workflow.clone(),
        (workflow, _) => Some(format!("{}-{number}", workflow.as_deref().unwrap_or(&entry.task))),
    };
    let cap = u64::from(task.max_output_tokens);
    Arrival {
        at,
        task: entry.task.clone(),
        workflow,
        lane: entry.lane.unwrap_or(task.lane),
        input_tokens: entry.input_tokens.unwrap_or(defaults.input_tokens),
        output_tokens: entry.output_tokens.unwrap_or(defaults.output_tokens.min(cap)),
        deliver_by: entry.deliver_by.map(|by| match by {
            Deadline::At(by) => by,
            Deadline::After(after) => at + span(after),
        }),
    }
}

/// A length of time as dates take it.
pub(super) fn span(time: Duration) -> chrono::Duration {
    chrono::Duration::from_std(time).unwrap_or_default()
}
