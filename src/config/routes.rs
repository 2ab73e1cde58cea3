//! `[routes.NAME]` in the settings: steps, and how they are walked.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::domain::choice::{After, SortBy};
use crate::domain::route::Hedge;
use crate::domain::speed::Percentile;
use crate::domain::units::Span;

/// `[routes.NAME]`: where jobs go, and how long they wait for the better place.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// Accounts and models, the preferred first.
    #[schemars(length(min = 1))]
    pub steps: Vec<StepForm>,
    /// How long after its accept a job holds out for a better step.
    #[serde(default)]
    pub patience: Patience,
    /// Orders the steps by this instead of as they are written: by prices, or by the medians of
    /// the last five minutes on all replicas.
    pub sort: Option<SortBy>,
    /// How long the first piece of an answer may take at each step; answers are streamed then.
    pub first_token: Option<Span>,
    /// How long an answer may take at each step, within its task's `timeout`.
    pub timeout: Option<Span>,
    /// Asks a second step when the first is slow to answer, in the interactive lane.
    #[serde(default)]
    pub hedge: HedgeForm,
}

/// A step: its name alone, or with what holds for it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StepForm {
    /// Its name.
    Name(StepName),
    /// Its name, and what holds for it.
    Table(StepSettings),
}

/// A step and what holds for it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// The account and model.
    pub step: StepName,
    /// Its part of the jobs, among neighbours in the list that have a weight too: which of them
    /// is the first is drawn for each job, and the others follow it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub weight: Option<u32>,
    /// How long the first piece of its answer may take; the answer is streamed then.
    pub first_token: Option<Span>,
    /// How long its whole answer may take, within the task's `timeout`.
    pub timeout: Option<Span>,
}

impl StepForm {
    /// The account and model.
    pub const fn name(&self) -> &StepName {
        match self {
            Self::Name(name) => name,
            Self::Table(table) => &table.step,
        }
    }
}

/// Whether and when a second step is asked.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HedgeForm {
    /// As usual, or not at all.
    Switch(bool),
    /// In particular.
    Table(HedgeSettings),
}

impl Default for HedgeForm {
    fn default() -> Self {
        Self::Switch(false)
    }
}

/// When a second step is asked.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeSettings {
    /// Past which part of the first step's usual times (`p50`, `p75`, `p90`, `p95` or `p99`), or
    /// past which time. Default: `p95`.
    pub after: HedgeAfter,
    /// The part of all calls that may be hedged, at the most. Default: 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub most: f64,
}

/// Past which part of the usual times, or past which time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgeAfter(pub After);

impl Default for HedgeSettings {
    fn default() -> Self {
        Self { after: HedgeAfter(After::Usual(Percentile::P95)), most: 0.1 }
    }
}

const AFTER: &str = "`p50`, `p75`, `p90`, `p95` or `p99`, or a time such as 800ms";

impl<'de> Deserialize<'de> for HedgeAfter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let usual = Percentile::parse(&text).map(After::Usual);
        let after = usual.or_else(|| Some(After::Fixed(Span::parse(&text)?.0)));
        after.map(Self).ok_or_else(|| D::Error::custom(format!("`{text}` is not {AFTER}")))
    }
}

impl JsonSchema for HedgeAfter {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "HedgeAfter".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(p(50|75|90|95|99)|[0-9].*)$", "description": AFTER })
    }
}

impl HedgeForm {
    /// As a route has it.
    pub fn rule(self) -> Option<Hedge> {
        let table = match self {
            Self::Switch(false) => return None,
            Self::Switch(true) => HedgeSettings::default(),
            Self::Table(table) => table,
        };
        Some(Hedge { after: table.after.0, most: table.most })
    }
}

/// A step as it is written: `account/model`. The model may contain slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepName {
    /// The account's name.
    pub account: String,
    /// The model, as the provider names it.
    pub model: String,
}

const STEP: &str = "an account and a model such as groq-main/llama-3.3-70b-versatile";

impl<'de> Deserialize<'de> for StepName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.split_once('/') {
            Some((account, model)) if !account.is_empty() && !model.is_empty() => {
                Ok(Self { account: account.to_owned(), model: model.to_owned() })
            }
            _ => Err(D::Error::custom(format!("`{text}` is not {STEP}"))),
        }
    }
}

impl JsonSchema for StepName {
    fn schema_name() -> Cow<'static, str> {
        "StepName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^/]+/.+$", "description": STEP })
    }
}

/// One patience for all lanes, or one for each.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Patience {
    /// For all lanes.
    All(Span),
    /// By lane.
    ByLane(LanePatience),
}

impl Default for Patience {
    fn default() -> Self {
        Self::ByLane(LanePatience::default())
    }
}

/// Patience by lane.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LanePatience {
    /// When somebody waits.
    pub interactive: Span,
    /// For the ordinary background job.
    pub standard: Span,
    /// When by the deadline is fine.
    pub batch: Span,
}

impl Default for LanePatience {
    fn default() -> Self {
        Self { interactive: Span::millis(500), standard: Span::secs(30), batch: Span::secs(600) }
    }
}

impl Patience {
    /// In the order of [`crate::domain::job::Lane::ALL`].
    pub const fn by_lane(self) -> [Span; 3] {
        match self {
            Self::All(span) => [span; 3],
            Self::ByLane(lanes) => [lanes.interactive, lanes.standard, lanes.batch],
        }
    }
}
