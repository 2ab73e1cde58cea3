//! What is stored, and one transaction's hold on it.

use std::collections::BTreeSet;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::domain::id::{EventId, GroupId, JobId, SubscriptionId};
use crate::domain::job::{CachedPrefix, Flow, Line, Share, Stage};
use crate::domain::result::{DeliveryAttempt, Status};
use crate::queue::KEPT_ATTEMPTS;

/// A key and its bytes.
type Blobs = TableDefinition<'static, &'static str, &'static [u8]>;
/// Names in order of a time.
type Timed = TableDefinition<'static, (u64, &'static str), ()>;
/// A line's flows in order of a tag.
type Tagged = TableDefinition<'static, (&'static str, u64, &'static str), ()>;

pub(super) const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");
pub(super) const JOBS: Blobs = TableDefinition::new("jobs");
pub(super) const GROUPS: Blobs = TableDefinition::new("groups");
pub(super) const ENTRIES: Blobs = TableDefinition::new("entries");
pub(super) const RESULTS: Blobs = TableDefinition::new("results");
pub(super) const ATTEMPTS: Blobs = TableDefinition::new("attempts");
pub(super) const INDEX: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("index");
pub(super) const LINES: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("lines");
const READY: TableDefinition<'_, (&str, &str, &str), u64> = TableDefinition::new("ready");
const COUNTS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("counts");
const ACTIVE: Tagged = TableDefinition::new("active");
const IDLE: Tagged = TableDefinition::new("idle");
const TAGS: TableDefinition<'_, (&str, &str), (u64, bool)> = TableDefinition::new("tags");
pub(super) const WAITING: Timed = TableDefinition::new("waiting");
pub(super) const DELAYED: Timed = TableDefinition::new("delayed");
pub(super) const HELD: Timed = TableDefinition::new("held");
const LOST: TableDefinition<'_, &str, ()> = TableDefinition::new("lost");
const DEADLINES: Timed = TableDefinition::new("deadlines");
const OVER: Timed = TableDefinition::new("over");
pub(super) const FLOWS: TableDefinition<'_, &str, (u64, u64, f64, u64)> =
    TableDefinition::new("flows");
const ASIDE: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("aside");
pub(super) const HURRIED: Tagged = TableDefinition::new("hurried");
const HURRIED_OF: TableDefinition<'_, (&str, &str, u64, &str), ()> =
    TableDefinition::new("hurried_of");
const PRESSING: Tagged = TableDefinition::new("pressing");
const PRESSED: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("pressed");
const ALIKE: TableDefinition<'_, (&str, &str, &str, &str), ()> = TableDefinition::new("alike");
const WARM: TableDefinition<'_, (&str, &str), (&str, u64, u32)> = TableDefinition::new("warm");
const KEYS: TableDefinition<'_, &str, (&str, &str, u64)> = TableDefinition::new("keys");
const KEY_ENDS: Timed = TableDefinition::new("key_ends");

/// How many jobs have not ended, in the table of facts.
pub(super) const OPEN: &str = "open";
/// How many callbacks were given up, in the table of facts.
pub(super) const DEAD: &str = "dead";

/// Where the attempts to post a job's events are, in the table of attempts.
pub(super) fn events_of(job: &str) -> String {
    format!("{job}/events")
}

/// How many flows have something ready in a line, in the table of facts.
pub(super) fn flows_in(line: &str) -> String {
    format!("flows/{line}")
}

/// Whether the item of a line leased last was pulled forward, in the table of facts.
pub(super) fn pulled_in(line: &str) -> String {
    format!("pulled/{line}")
}

/// A table of names in order of a time.
pub(super) type TimedTable<'t> = Table<'t, (u64, &'static str), ()>;

/// What a job or a group stands at. The job itself never changes and is stored apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) stage: Stage,
    pub(super) place: Place,
    pub(super) epoch: u64,
    pub(super) losses: u32,
    pub(super) tries: u32,
    pub(super) replays: u32,
    /// Microseconds to be kept once nothing is left to do.
    pub(super) keep: u64,
    /// The flow of its callback, once there was one.
    pub(super) host: Option<Flow>,
    /// What the last holder noted when it put the item back.
    pub(super) progress: Option<String>,
    pub(super) kind: Kind,
}

/// Where an item is; with each place the moment (in microseconds) that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// In its line since.
    Ready(u64),
    /// To be put in its line at.
    Delayed(u64),
    /// In somebody's hands until.
    Held(u64),
    /// Lost too often: waits to be ended.
    Lost,
    /// Nothing is left to do: kept until.
    Over(u64),
    /// A group whose jobs have not ended, or a job kept for its group.
    Nowhere,
}

/// What an entry stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A job.
    Job(Box<JobPart>),
    /// A group.
    Group {
        /// How many of its jobs have not ended.
        left: u64,
    },
    /// An event of a job.
    Event {
        /// The job.
        job: JobId,
        /// Who is to be told.
        subscription: SubscriptionId,
    },
}

/// What steps need to know of a job without reading all of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct JobPart {
    pub(super) caller: String,
    pub(super) task: String,
    pub(super) workflow: Option<String>,
    pub(super) line: String,
    pub(super) flow: Flow,
    pub(super) deadline: Option<u64>,
    pub(super) status: Option<Status>,
    pub(super) group: Option<GroupId>,
    /// Whether its group still waits for it.
    pub(super) awaited: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) share: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<CachedPrefix>,
    /// Its events that are neither taken nor given up: it is kept for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<EventId>,
}

impl Entry {
    /// An item that nothing has happened to.
    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            stage: Stage::Queued,
            place: Place::Nowhere,
            epoch: 0,
            losses: 0,
            tries: 0,
            replays: 0,
            keep: 0,
            host: None,
            progress: None,
            kind,
        }
    }

    /// The line it waits in at this stage, and whose share of it it uses.
    pub(super) fn line_and_flow(&self) -> Option<(String, Flow)> {
        match (&self.kind, self.stage, &self.host) {
            (_, Stage::Delivering, Some(host)) => Some((Line::Deliver.name(), host.clone())),
            (Kind::Job(job), Stage::Queued | Stage::Running, _) => {
                Some((job.line.clone(), job.flow.clone()))
            }
            _ => None,
        }
    }

    /// Where a job stands, for its caller.
    pub(super) fn status(&self) -> Status {
        let ended = match &self.kind {
            Kind::Job(job) => job.status,
            Kind::Group { .. } | Kind::Event { .. } => None,
        };
        let open = if self.stage == Stage::Running { Status::Running } else { Status::Queued };
        ended.unwrap_or(open)
    }
}

/// What a transaction has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// What costs no more than a repetition when it is forgotten.
    Light,
    /// What must be on disk before anybody is told.
    Lasting,
}

/// One transaction's hold on all tables.
pub(super) struct Tables<'t> {
    /// Now, in microseconds.
    pub(super) now: u64,
    pub(super) change: Change,
    /// Lines that something came into.
    pub(super) came: BTreeSet<String>,
    pub(super) facts: Table<'t, &'static str, u64>,
    pub(super) jobs: Table<'t, &'static str, &'static [u8]>,
    pub(super) groups: Table<'t, &'static str, &'static [u8]>,
    entries: Table<'t, &'static str, &'static [u8]>,
    pub(super) results: Table<'t, &'static str, &'static [u8]>,
    pub(super) attempts: Table<'t, &'static str, &'static [u8]>,
    pub(super) index: Table<'t, (&'static str, &'static str), ()>,
    pub(super) lines: Table<'t, &'static str, (u64, u64)>,
    pub(super) ready: Table<'t, (&'static str, &'static str, &'static str), u64>,
    pub(super) counts: Table<'t, (&'static str, &'static str), u64>,
    pub(super) active: Table<'t, (&'static str, u64, &'static str), ()>,
    pub(super) idle: Table<'t, (&'static str, u64, &'static str), ()>,
    pub(super) tags: Table<'t, (&'static str, &'static str), (u64, bool)>,
    pub(super) waiting: TimedTable<'t>,
    pub(super) delayed: TimedTable<'t>,
    pub(super) held: TimedTable<'t>,
    pub(super) lost: Table<'t, &'static str, ()>,
    pub(super) deadlines: TimedTable<'t>,
    pub(super) over: TimedTable<'t>,
    pub(super) flows: Table<'t, &'static str, (u64, u64, f64, u64)>,
    pub(super) aside: Table<'t, (&'static str, &'static str), ()>,
    pub(super) hurried: Table<'t, (&'static str, u64, &'static str), ()>,
    pub(super) hurried_of: Table<'t, (&'static str, &'static str, u64, &'static str), ()>,
    pub(super) pressing: Table<'t, (&'static str, u64, &'static str), ()>,
    pub(super) pressed: Table<'t, (&'static str, &'static str), u64>,
    pub(super) alike: Table<'t, (&'static str, &'static str, &'static str, &'static str), ()>,
    pub(super) warm: Table<'t, (&'static str, &'static str), (&'static str, u64, u32)>,
    pub(super) keys: Table<'t, &'static str, (&'static str, &'static str, u64)>,
    pub(super) key_ends: TimedTable<'t>,
}

impl<'t> Tables<'t> {
    /// Opens all tables; those that are not there are made.
    pub(super) fn open(transaction: &'t WriteTransaction, now: u64) -> Result<Self, Fault> {
        Ok(Self {
            now,
            change: Change::None,
            came: BTreeSet::new(),
            facts: transaction.open_table(FACTS)?,
            jobs: transaction.open_table(JOBS)?,
            groups: transaction.open_table(GROUPS)?,
            entries: transaction.open_table(ENTRIES)?,
            results: transaction.open_table(RESULTS)?,
            attempts: transaction.open_table(ATTEMPTS)?,
            index: transaction.open_table(INDEX)?,
            lines: transaction.open_table(LINES)?,
            ready: transaction.open_table(READY)?,
            counts: transaction.open_table(COUNTS)?,
            active: transaction.open_table(ACTIVE)?,
            idle: transaction.open_table(IDLE)?,
            tags: transaction.open_table(TAGS)?,
            waiting: transaction.open_table(WAITING)?,
            delayed: transaction.open_table(DELAYED)?,
            held: transaction.open_table(HELD)?,
            lost: transaction.open_table(LOST)?,
            deadlines: transaction.open_table(DEADLINES)?,
            over: transaction.open_table(OVER)?,
            flows: transaction.open_table(FLOWS)?,
            aside: transaction.open_table(ASIDE)?,
            hurried: transaction.open_table(HURRIED)?,
            hurried_of: transaction.open_table(HURRIED_OF)?,
            pressing: transaction.open_table(PRESSING)?,
            pressed: transaction.open_table(PRESSED)?,
            alike: transaction.open_table(ALIKE)?,
            warm: transaction.open_table(WARM)?,
            keys: transaction.open_table(KEYS)?,
            key_ends: transaction.open_table(KEY_ENDS)?,
        })
    }

    /// Says that something was changed.
    pub(super) fn changed(&mut self, change: Change) {
        self.change = self.change.max(change);
    }

    /// What an item stands at.
    pub(super) fn entry(&self, id: &str) -> Result<Option<Entry>, Fault> {
        let found = self.entries.get(id)?;
        found.map(|bytes| Ok(serde_json::from_slice(bytes.value())?)).transpose()
    }

    /// What an item that is named elsewhere stands at.
    pub(super) fn named(&self, id: &str) -> Result<Entry, Fault> {
        self.entry(id)?.ok_or_else(|| Fault::Odd(format!("{id} is named and not there")))
    }

    /// Stores what an item stands at.
    pub(super) fn save(&mut self, id: &str, entry: &Entry) -> Result<(), Fault> {
        self.entries.insert(id, serde_json::to_vec(entry)?.as_slice())?;
        Ok(())
    }

    /// Forgets what an item stood at.
    pub(super) fn forget(&mut self, id: &str) -> Result<(), Fault> {
        self.entries.remove(id)?;
        self.attempts.remove(id)?;
        self.attempts.remove(events_of(id).as_str())?;
        self.results.remove(id)?;
        Ok(())
    }

    /// Keeps a delivery attempt, among the last.
    pub(super) fn log(&mut self, id: &str, log: &DeliveryAttempt) -> Result<(), Fault> {
        let mut logs: Vec<DeliveryAttempt> = match self.attempts.get(id)? {
            Some(bytes) => serde_json::from_slice(bytes.value())?,
            None => Vec::new(),
        };
        logs.push(log.clone());
        logs.drain(..logs.len().saturating_sub(KEPT_ATTEMPTS));
        self.attempts.insert(id, serde_json::to_vec(&logs)?.as_slice())?;
        Ok(())
    }

    /// Counts up or down.
    pub(super) fn count(&mut self, what: &str, by: i64) -> Result<(), Fault> {
        let now = self.facts.get(what)?.map_or(0, |value| value.value());
        self.facts.insert(what, now.saturating_add_signed(by))?;
        Ok(())
    }
}

/// The first names whose time has come.
pub(super) fn due(table: &TimedTable<'_>, now: u64, max: usize) -> Result<Vec<String>, Fault> {
    let until = (now.saturating_add(1), "");
    table.range(..until)?.take(max).map(|row| Ok(row?.0.value().1.to_owned())).collect()
}
