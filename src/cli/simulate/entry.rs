//! One entry of a plan of arrivals: a line of a CSV file or a described burst, in the same words.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::config::{Fault, Faults, fault};
use crate::domain::job::Lane;
use crate::domain::units::Span;

/// What an entry may say: the name in a CSV file's head, and the shorter one of a burst.
pub(super) const FIELDS: [(&str, &str); 10] = [
    ("at", "at"),
    ("over", "over"),
    ("task", "task"),
    ("workflow", "workflow"),
    ("workflows", "workflows"),
    ("lane", "lane"),
    ("input_tokens", "input"),
    ("output_tokens", "output"),
    ("deliver_by", "deliver_by"),
    ("count", "jobs"),
];

/// More tokens than any model takes.
const MOST_TOKENS: u64 = 1_000_000;

/// The most workflows of one entry.
const MOST_WORKFLOWS: u64 = 10_000;

/// The longest an entry's jobs may be spread over.
const LONGEST: Duration = Duration::from_secs(48 * 3_600);

const MOMENT: &str = "expected a time of day such as 09:00, 09:00:30.250, seconds after midnight, \
    or 2026-11-20T09:00:00Z";

/// When nobody wants an answer any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Deadline {
    At(DateTime<Utc>),
    After(Duration),
}

/// Jobs that are alike, spread evenly over some time and some workflows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Where it is written.
    pub(super) place: String,
    pub(super) at: DateTime<Utc>,
    pub(super) over: Duration,
    pub(super) task: String,
    pub(super) workflow: Option<String>,
    pub(super) workflows: u64,
    pub(super) lane: Option<Lane>,
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) deliver_by: Option<Deadline>,
    pub(super) jobs: u64,
}

/// Reads a burst: `task=tag,jobs=5000,workflows=3,at=09:00,over=10s`.
pub(super) fn burst(
    number: usize,
    text: &str,
    date: NaiveDate,
    told: &mut Faults,
) -> Option<Entry> {
    let place = format!("--burst {number}");
    let mut fields: Vec<(&str, &str)> = Vec::new();
    let before = told.0.len();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            tell(told, &place, format!("`{pair}` is not NAME=VALUE: expected e.g. jobs=5000"));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        let known = FIELDS.iter().find(|(long, short)| [*long, *short].contains(&name));
        let Some((long, _)) = known else {
            let hint = fault::instead(name, FIELDS.iter().map(|(_, short)| *short));
            tell(told, &place, format!("`{name}` is not known{hint}"));
            continue;
        };
        if fields.iter().any(|(taken, _)| taken == long) {
            tell(told, &place, format!("`{name}` is given twice"));
        }
        fields.push((long, value));
    }
    let entry = entry(&place, &fields, date, told);
    entry.filter(|_| told.0.len() == before)
}

/// Reads an entry of fields under their long names. Empty ones count as left out.
pub(super) fn entry(
    place: &str,
    fields: &[(&str, &str)],
    date: NaiveDate,
    told: &mut Faults,
) -> Option<Entry> {
    let before = told.0.len();
    let mut read = Reader { place, fields, told };
    let at = read.needed("at", MOMENT, |text| moment(text, date));
    let task =
        read.needed("task", "expected a task's name, such as tag", |text| Some(text.to_owned()));
    let whole = |least: u64, most: u64| {
        move |text: &str| text.parse::<u64>().ok().filter(|n| (least..=most).contains(n))
    };
    let number = format!("expected a whole number from 0 to {MOST_TOKENS}");
    let count = "expected a whole number of at least 1";
    let some = format!("expected a whole number from 1 to {MOST_WORKFLOWS}");
    let lanes = "expected interactive, standard or batch";
    let over = read.read("over", "expected a duration up to 48h, such as 10s", |text| {
        Span::parse(text).map(|span| span.0).filter(|span| *span <= LONGEST)
    });
    let made = Entry {
        place: place.to_owned(),
        over: over.unwrap_or_default(),
        workflow: read.read("workflow", "expected a name", |text| Some(text.to_owned())),
        workflows: read.read("workflows", &some, whole(1, MOST_WORKFLOWS)).unwrap_or(1),
        lane: read.read("lane", lanes, Lane::parse),
        input_tokens: read.read("input_tokens", &number, whole(0, MOST_TOKENS)),
        output_tokens: read.read("output_tokens", &number, whole(0, MOST_TOKENS)),
        deliver_by: read.read("deliver_by", "expected a time, or +15m after the arrival", |text| {
            match text.strip_prefix('+') {
                Some(span) => Span::parse(span).map(|span| Deadline::After(span.0)),
                None => moment(text, date).map(Deadline::At),
            }
        }),
        jobs: read.read("count", count, whole(1, u64::MAX)).unwrap_or(1),
        at: at.unwrap_or_default(),
        task: task.unwrap_or_default(),
    };
    (told.0.len() == before).then_some(made)
}

/// Notes one more fault.
pub(super) fn tell(told: &mut Faults, place: &str, problem: String) {
    told.0.push(Fault { key: place.to_owned(), problem });
}

struct Reader<'a> {
    place: &'a str,
    fields: &'a [(&'a str, &'a str)],
    told: &'a mut Faults,
}

impl Reader<'_> {
    fn needed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if self.given(name).is_none() {
            tell(self.told, self.place, format!("`{name}` is missing: {expected}"));
        }
        self.read(name, expected, parse)
    }

    fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.given(name)?;
        let value = parse(text);
        if value.is_none() {
            tell(self.told, self.place, format!("{name} `{text}` cannot be: {expected}"));
        }
        value
    }

    fn given(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, text)| *text).filter(|text| !text.is_empty())
    }
}

/// Reads a moment. A time of day or a number of seconds is on this date, in UTC.
fn moment(text: &str, date: NaiveDate) -> Option<DateTime<Utc>> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.to_utc());
    }
    if text.contains(':') {
        let forms = ["%H:%M", "%H:%M:%S%.f"];
        let time = forms.iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok())?;
        return Some(date.and_time(time).and_utc());
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds = text.parse::<f64>().ok().filter(|_| plain)?;
    let passed = Duration::try_from_secs_f64(seconds).ok().filter(|passed| *passed <= LONGEST)?;
    Some(date.and_time(NaiveTime::MIN).and_utc() + passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 20).unwrap()
    }

    #[test]
    fn a_moment_is_written_in_three_ways() {
        let expected: DateTime<Utc> = "2026-11-20T09:00:00.5Z".parse().unwrap();
        for text in ["09:00:00.5", "9:00:00.500", "32400.5", "2026-11-20T10:00:00.5+01:00"] {
            assert_eq!(moment(text, date()), Some(expected), "{text}");
        }
        for text in ["", "9", "9h", "24:00", "09:60", "-1", "1e4", "999999", "2026-11-20"] {
            let read = moment(text, date());
            assert!(text == "9" || read.is_none(), "{text} is {read:?}");
        }
    }

    #[test]
    fn a_burst_is_read_strictly_and_every_fault_is_told() {
        let mut told = Faults::default();
        let text =
            "task=tag, jobs=5000,workflows=3,at=09:00,over=10s,lane=batch,input=400,output=9";
        let read = burst(1, text, date(), &mut told).unwrap();
        assert!(told.is_empty(), "{told}");
        assert_eq!((read.jobs, read.workflows, read.lane), (5_000, 3, Some(Lane::Batch)));
        assert_eq!((read.input_tokens, read.output_tokens), (Some(400), Some(9)));
        assert_eq!(burst(2, "jobs=0,at=25:00,lan=x,jobs=1,what", date(), &mut told), None);
        let told = told.to_string();
        for part in [
            "--burst 2: `lan` is not known; did you mean `lane`?",
            "`jobs` is given twice",
            "`what` is not NAME=VALUE",
            "at `25:00` cannot be: expected a time of day such as 09:00",
            "`task` is missing",
            "count `0` cannot be",
        ] {
            assert!(told.contains(part), "{part} is missing in\n{told}");
        }
    }
}
