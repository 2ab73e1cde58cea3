//! The parts of the settings that no other module owns: accounts, tasks, keys, the log.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use crate::domain::job::Lane;
use crate::domain::limits::LimitSettings;
pub use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::provider::scripted;
use crate::provider::settings::{Api, Vendor};
use crate::telemetry::LogFormat;

/// `[auth]` in the settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// API keys callers may use, beside those made by `spillway keys create`. Default: the
    /// environment's `SPILLWAY_API_KEY`, when there is one.
    pub keys: Vec<AuthKey>,
    /// The plan of callers without a key, who are told apart by their addresses. Default: nobody
    /// is let in without a key.
    pub anonymous: Option<String>,
}

/// A caller's API key, alone or with the caller's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AuthKey {
    /// The key; its holder is called `default`.
    Plain(Secret),
    /// The key and who holds it.
    Named(NamedKey),
}

/// A caller's API key and the caller's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// Who holds it. Keys of one caller see the same jobs.
    #[serde(default = "default_caller")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$"))]
    pub caller: String,
    /// The key.
    #[serde(default)]
    pub key: Secret,
    /// A file that holds the key.
    pub key_file: Option<String>,
}

fn default_caller() -> String {
    "default".to_owned()
}

impl AuthKey {
    /// Who holds the key.
    pub fn caller(&self) -> &str {
        match self {
            Self::Plain(_) => "default",
            Self::Named(named) => &named.caller,
        }
    }

    /// The key itself.
    pub const fn key(&self) -> &SecretString {
        match self {
            Self::Plain(key) | Self::Named(NamedKey { key, .. }) => &key.0,
        }
    }
}

/// `[log]` in the settings.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How log lines look.
    pub format: LogFormat,
    /// What is logged: `info`, or `warn,spillway=debug`. The environment's `SPILLWAY_LOG` wins.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned() }
    }
}

/// `[accounts.NAME]`: one API key at a provider.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountSettings {
    /// Whose API it is for.
    pub provider: Vendor,
    /// The API key.
    pub api_key: Option<Secret>,
    /// A file that holds the API key.
    pub api_key_file: Option<String>,
    /// Where the API is, up to and without the version. Default: the provider's own.
    pub base_url: Option<String>,
    /// Which of the provider's APIs is spoken: `chat` (OpenAI's chat completions, the default of all
    /// who have them), `responses` (OpenAI's Responses; `openai` and `openai-compatible`) or `native`
    /// (Ollama's own; `ollama`).
    pub api: Option<Api>,
    /// Accounts of one org share its limits. Default: the account's name.
    #[schemars(length(min = 1, max = 64))]
    pub org: Option<String>,
    /// The org's limits, each for a family of models.
    #[serde(default)]
    pub limits: Vec<LimitSettings>,
    /// What a `scripted` provider does.
    pub scripted: Option<scripted::Settings>,
}

/// `[tasks.NAME]`: a kind of work. Of a built-in task's name, only what is given changes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// What it is for, in a sentence.
    pub description: Option<String>,
    /// The route its jobs take.
    pub route: Option<TaskRoute>,
    /// The route a job goes on to when no answer fits `output_schema`, a repaired one included;
    /// `false` for none.
    pub escalate_to: Option<EscalateTo>,
    /// The lane of a job that names none.
    pub lane: Option<Lane>,
    /// Instructions to the model.
    pub system: Option<String>,
    /// Makes the user's message out of the input (Jinja): `Tags for: {{ text }}`.
    pub template: Option<String>,
    /// Makes the result's `text` out of its `data` (Jinja): `{{ tags | join(', ') }}`.
    pub text: Option<String>,
    /// What the input must look like.
    pub input_schema: Option<InputSchema>,
    /// What the answer must look like; `false` for free text.
    pub output_schema: Option<OutputSchema>,
    /// The most tokens an answer may have.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_output_tokens: Option<u32>,
    /// How freely the model chooses.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// The longest one attempt may take.
    pub timeout: Option<Span>,
}

/// One route for all lanes, or one for each.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TaskRoute {
    /// For all lanes.
    All(String),
    /// By lane.
    ByLane(LaneRoutes),
}

/// Routes by lane.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LaneRoutes {
    /// When somebody waits.
    pub interactive: String,
    /// For the ordinary background job.
    pub standard: String,
    /// When by the deadline is fine.
    pub batch: String,
}

impl TaskRoute {
    /// In the order of [`Lane::ALL`].
    pub fn by_lane(&self) -> [&str; 3] {
        match self {
            Self::All(route) => [route; 3],
            Self::ByLane(lanes) => [&lanes.interactive, &lanes.standard, &lanes.batch],
        }
    }
}

/// Where a job goes on whose answers do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EscalateTo {
    /// Nowhere.
    Nowhere,
    /// To this route.
    Route(String),
}

impl<'de> Deserialize<'de> for EscalateTo {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Bool(false) => Ok(Self::Nowhere),
            Value::String(route) => Ok(Self::Route(route)),
            _ => Err(D::Error::custom("neither a route's name nor `false`")),
        }
    }
}

impl JsonSchema for EscalateTo {
    fn schema_name() -> Cow<'static, str> {
        "EscalateTo".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "description": "a route's name" },
            { "const": false, "description": "`false`" },
        ] })
    }
}

/// A JSON Schema for a task's input.
#[derive(Clone, Debug)]
pub enum InputSchema {
    /// A file, relative to the settings' folder. Read while loading.
    File(String),
    /// Written in place.
    Inline(Value),
}

/// A JSON Schema for a task's answer.
#[derive(Clone, Debug)]
pub enum OutputSchema {
    /// Free text.
    Free,
    /// A file, relative to the settings' folder. Read while loading.
    File(String),
    /// Written in place.
    Inline(Value),
}

impl<'de> Deserialize<'de> for InputSchema {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(path) => Ok(Self::File(path)),
            schema @ Value::Object(_) => Ok(Self::Inline(schema)),
            _ => Err(D::Error::custom("not a JSON Schema")),
        }
    }
}

impl<'de> Deserialize<'de> for OutputSchema {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Bool(false) => Ok(Self::Free),
            Value::String(path) => Ok(Self::File(path)),
            schema @ Value::Object(_) => Ok(Self::Inline(schema)),
            _ => Err(D::Error::custom("neither a JSON Schema nor `false`")),
        }
    }
}

fn schema_source() -> [Schema; 2] {
    [
        json_schema!({
            "type": "string",
            "pattern": r"\.json$",
            "description": "a path to a JSON file",
        }),
        json_schema!({ "type": "object", "description": "a JSON Schema" }),
    ]
}

impl JsonSchema for InputSchema {
    fn schema_name() -> Cow<'static, str> {
        "InputSchema".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let [file, inline] = schema_source();
        json_schema!({ "anyOf": [file, inline] })
    }
}

impl JsonSchema for OutputSchema {
    fn schema_name() -> Cow<'static, str> {
        "OutputSchema".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let [file, inline] = schema_source();
        let free = json_schema!({ "const": false, "description": "`false`" });
        json_schema!({ "anyOf": [file, inline, free] })
    }
}
