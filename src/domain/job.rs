//! A job, the line it waits in and the stages it passes through.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use super::choice::{ProviderChoice, SortBy};
use super::id::{GroupId, JobId, digest16};
use super::units::Span;

/// How soon somebody wants the answer.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Somebody waits: goes before everything else.
    Interactive,
    /// The ordinary background job.
    #[default]
    Standard,
    /// By the deadline is fine.
    Batch,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Standard, Self::Batch];

    /// The lane's name in settings and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Standard => "standard",
            Self::Batch => "batch",
        }
    }

    /// The lane's place in [`Lane::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Standard => 1,
            Self::Batch => 2,
        }
    }

    /// Reads a lane's name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == text)
    }
}

/// One unit of work as it was accepted. It is stored once and never changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What its prompt begins with, where that is worth being cached. It stands right behind the id:
    /// the lease script on Redis reads it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<CachedPrefix>,
    /// Who submitted it; only this caller sees it.
    pub caller: String,
    /// The declared kind of work.
    pub task: String,
    /// What the task works on, kept byte for byte as it came.
    pub input: Box<RawValue>,
    /// The route the task and lane led to when the job was accepted.
    pub route: String,
    /// How soon somebody wants the answer.
    pub lane: Lane,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// The caller's automation the job came from; the unit of fairness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Where the result goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// After this moment nobody wants the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_by: Option<DateTime<Utc>>,
    /// The most all attempts together may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<f64>,
    /// Which steps of the route may be used, in OpenRouter's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderChoice>,
    /// The caller's own data, given back unchanged, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    /// The group it was submitted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// W3C trace context of the submitting request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Its workflow's share as the settings said when it was accepted; `None` for the ordinary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// What prompts of several jobs begin with: a provider that has answered one of them has it cached
/// for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedPrefix {
    /// Names it, in hexadecimal: equal for jobs that begin alike.
    digest: String,
    /// How long it stays cached after it was used last, in ms.
    warm_ms: u64,
}

impl CachedPrefix {
    /// The prefix named by these parts.
    pub fn of(parts: &[&str], warm: Duration) -> Self {
        let warm_ms = u64::try_from(warm.as_millis()).unwrap_or(u64::MAX);
        Self { digest: digest16(parts), warm_ms: warm_ms.clamp(1, MOST_WARM_MS) }
    }

    /// Its name.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How long it stays cached after it was used last, in ms.
    pub const fn warm_ms(&self) -> u64 {
        self.warm_ms
    }
}

/// A thousand years.
const MOST_WARM_MS: u64 = 1_000 * 366 * 86_400_000;

/// What a workflow may have of the lines its jobs wait in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Turns it gets for every turn of an ordinary workflow.
    pub weight: f64,
    /// The most of its jobs that may be open at a time, in all lines together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u64>,
    /// The most of its jobs that may run at a time, on all replicas together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u64>,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1.0, max_queued: None, max_running: None }
    }
}

impl Job {
    /// The line the job waits in to be run.
    pub fn line(&self) -> Line {
        Line::Run { lane: self.lane, route: self.route.clone() }
    }

    /// Whose share of the line it uses: its caller's workflow.
    pub fn flow(&self) -> Flow {
        Flow::of(&[&self.caller, self.workflow.as_deref().unwrap_or_default()])
    }
}

/// Many jobs in one request with one callback when the last of them has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// Who submitted it.
    pub caller: String,
    /// Where the results go together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// The caller's own data, given back unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    /// The jobs, in the order they were given.
    pub jobs: Vec<JobId>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
}

/// Where and how a result is posted. The URL's path and query may be a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Callback {
    /// The address, kept byte for byte.
    pub url: String,
    /// Headers to send along, such as a fixed `Authorization`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What is posted.
    #[serde(default, skip_serializing_if = "CallbackBody::is_default")]
    pub body: CallbackBody,
    /// Not before this long after the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_delay: Option<Span>,
    /// Statuses that count as delivered beside 2xx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success_statuses: Vec<u16>,
}

/// What is posted to a callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallbackBody {
    /// The Standard Webhooks envelope with the result in `data`.
    #[default]
    Envelope,
    /// The result alone.
    Bare,
    /// The envelope with what ended and how; the result itself is fetched.
    Thin,
}

impl CallbackBody {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Callback {
    /// A plain one to this address.
    pub const fn to(url: String) -> Self {
        Self {
            url,
            headers: BTreeMap::new(),
            body: CallbackBody::Envelope,
            min_delay: None,
            success_statuses: Vec::new(),
        }
    }

    /// The address's host and port: the unit deliveries are shaped by.
    pub fn host(&self) -> String {
        url::Url::parse(&self.url).map_or_else(
            |_| String::new(),
            |url| {
                let port = url.port_or_known_default().unwrap_or_default();
                format!("{}:{port}", url.host_str().unwrap_or_default())
            },
        )
    }

    /// The address's origin alone, for logs: some platforms keep the secret in the query, others
    /// (Slack, Zapier, Make) in the path.
    pub fn redacted(&self) -> String {
        url::Url::parse(&self.url).map_or_else(
            |_| "(not a URL)".to_owned(),
            |url| format!("{}/[redacted]", url.origin().ascii_serialization()),
        )
    }

    /// Whose share of the delivery line it uses: its host's, among the caller's.
    pub fn flow(&self, caller: &str) -> Flow {
        Flow::of_owner(&Owner::of(caller), &self.host())
    }
}

/// A place where work waits: one for each lane and route, and one for callbacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// Jobs to be run.
    Run {
        /// How soon somebody wants the answer.
        lane: Lane,
        /// The route they will walk.
        route: String,
    },
    /// Results to be posted.
    Deliver,
}

impl Line {
    /// The line's name in the store: `deliver` or `run/<lane>/<route>`.
    pub fn name(&self) -> String {
        match self {
            Self::Run { lane, route } => format!("run/{}/{route}", lane.as_str()),
            Self::Deliver => "deliver".to_owned(),
        }
    }

    /// Reads a line's name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "deliver" {
            return Some(Self::Deliver);
        }
        let (lane, route) = name.strip_prefix("run/")?.split_once('/')?;
        Some(Self::Run { lane: Lane::parse(lane)?, route: route.to_owned() })
    }
}

/// Whose share of a line an item uses. A digest: callers' text never becomes part of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flow(String);

impl Flow {
    /// The flow named by these parts.
    pub fn of(parts: &[&str]) -> Self {
        Self(digest16(parts))
    }

    /// One of an owner's 256 flows: few enough to look past all of them, and enough that two names
    /// hardly ever share one.
    pub fn of_owner(owner: &Owner, name: &str) -> Self {
        let digest = digest16(&[name]);
        Self(format!("{}.{}", owner.0, digest.get(..2).unwrap_or_default()))
    }

    /// The flow as it stands in the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A flow read back from the store.
    pub const fn stored(text: String) -> Self {
        Self(text)
    }
}

/// Whose flows are looked past together: what their names begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(String);

impl Owner {
    /// A caller, as the owner of what is posted for it.
    pub fn of(caller: &str) -> Self {
        Self(digest16(&[caller]))
    }

    /// The owner as it stands in the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a flow is one of its own.
    pub fn has(&self, flow: &str) -> bool {
        flow.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Waits in its line, or for its time to come.
    Queued,
    /// A worker holds it.
    Running,
    /// Its result is recorded and its callback is due or under way.
    Delivering,
    /// Nothing is left to do.
    Done,
    /// Its callback was given up; kept for replay.
    Dead,
}

impl Stage {
    /// The stage's name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Delivering => "delivering",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    /// Reads a stage's name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Delivering, Self::Done, Self::Dead]
            .into_iter()
            .find(|stage| stage.as_str() == text)
    }

    /// Whether the job has a result.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Delivering | Self::Done | Self::Dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_shows_its_host_and_hides_its_secrets() {
        let url = "http://u:p@n8n:5678/webhook-waiting/1?signature=abc";
        let callback = Callback::to(url.to_owned());
        assert_eq!(callback.host(), "n8n:5678");
        assert_eq!(callback.redacted(), "http://n8n:5678/[redacted]");
    }

    #[test]
    fn a_line_is_read_back_by_its_name() {
        for line in [Line::Deliver, Line::Run { lane: Lane::Batch, route: "a/b".to_owned() }] {
            assert_eq!(Line::parse(&line.name()), Some(line));
        }
        assert_eq!(Line::parse("run/none/x"), None);
    }
}
