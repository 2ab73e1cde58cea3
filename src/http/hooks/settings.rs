//! The operator's settings for one hook.

use std::borrow::Cow;
use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use crate::domain::job::{CallbackBody, Lane};
use crate::domain::secret::Secret;
use crate::domain::units::Span;

/// `[hooks.NAME]`: an address for the webhooks of any service, `POST /v1/hooks/NAME`. Texts called a
/// template see `body`, `headers` (names in small letters) and `query`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    /// The task of its jobs.
    #[schemars(length(min = 1))]
    pub task: String,
    /// How its senders are known. Default: by an API key.
    #[serde(default)]
    pub auth: HookAuth,
    /// Whose jobs these are: the caller whose budget counts and who sees them. Default `hook-NAME`;
    /// with `scheme = "bearer"` the key's caller.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$"))]
    pub caller: Option<String>,
    /// An expression (Jinja). Where it does not hold, the event is answered well and ignored.
    pub when: Option<String>,
    /// What the task works on: a template, or a table of them. Default: the body, as the task's input
    /// schema wants it.
    pub input: Option<InputTemplate>,
    /// What tells a repetition (template). Default: what the scheme has (`webhook-id`,
    /// `X-GitHub-Delivery`, `body.id` of Stripe, `body.event_id` of Slack), else `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Where results are posted (template). Default: nowhere.
    pub callback_url: Option<String>,
    /// What goes beyond the URL, as in a job.
    #[serde(default)]
    pub callback: HookCallback,
    /// The workflow of its jobs (template). Default: the hook's name.
    pub workflow: Option<String>,
    /// The conversation its jobs belong to (template).
    pub session: Option<String>,
    /// How soon somebody wants the answer. Default: the task's.
    pub lane: Option<Lane>,
    /// Given back unchanged in the result; each text is a template.
    #[serde(default)]
    pub metadata: IndexMap<String, Value>,
    /// After this long nobody wants the answer.
    pub deliver_within: Option<Span>,
    /// The most all attempts at one job together may cost.
    #[schemars(range(min = 0.000_001))]
    pub max_cost_usd: Option<f64>,
    /// The status a taken event is answered with.
    #[serde(default)]
    pub answer: Answer,
    /// Holds the request this long for the result, at most `server.max_wait`.
    pub wait: Option<Span>,
}

/// `auth` of a hook.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HookAuth {
    /// How senders are known.
    pub scheme: Scheme,
    /// The secret the sender has too.
    pub secret: Option<Secret>,
    /// A file that holds the secret.
    pub secret_file: Option<String>,
    /// Secrets that are being retired: these are accepted too.
    pub old_secrets: Vec<Secret>,
    /// A file that holds old secrets, one a line.
    pub old_secrets_file: Option<String>,
    /// The header of `header` and `hmac`, or the query's parameter of `query`.
    #[schemars(length(min = 1, max = 64))]
    pub name: Option<String>,
    /// How `hmac` writes its signature. Default `hex`.
    pub encoding: Option<Encoding>,
    /// What stands before the signature of `hmac`, such as `sha256=`.
    pub prefix: Option<String>,
    /// How old or early a signed timestamp may be. Default 5 minutes.
    pub tolerance: Option<Span>,
    /// Answers Meta's `hub.challenge` to whoever shows this.
    pub verify_token: Option<Secret>,
    /// A file that holds the verify token.
    pub verify_token_file: Option<String>,
}

/// How a hook's senders are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// By one of our API keys.
    #[default]
    Bearer,
    /// By a fixed text in a header.
    Header,
    /// By a fixed text in the query, where a service lets nothing but the address be set.
    Query,
    /// By Standard Webhooks' signature (Svix, Clerk, Resend, OpenAI, …).
    StandardWebhooks,
    /// By GitHub's signature, `X-Hub-Signature-256`, which is Meta's too.
    Github,
    /// By Stripe's signature.
    Stripe,
    /// By Slack's signature.
    Slack,
    /// By an HMAC-SHA256 of the body in a header (Shopify, Typeform, Linear, …).
    Hmac,
    /// Not at all: anybody may send.
    Open,
}

impl Scheme {
    /// Its name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Header => "header",
            Self::Query => "query",
            Self::StandardWebhooks => "standard-webhooks",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::Slack => "slack",
            Self::Hmac => "hmac",
            Self::Open => "open",
        }
    }
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// In hexadecimal digits.
    #[default]
    Hex,
    /// In base64.
    Base64,
}

/// `callback` of a hook: what goes beyond the URL.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HookCallback {
    /// Headers to send along.
    pub headers: BTreeMap<String, Secret>,
    /// `bare` posts the result without the Standard Webhooks envelope, `thin` only what ended and how.
    pub body: CallbackBody,
    /// Not before this long after the job's end.
    pub min_delay: Option<Span>,
    /// Statuses that count as delivered beside 2xx.
    #[schemars(inner(range(min = 100, max = 599)))]
    pub success_statuses: Vec<u16>,
}

/// A status of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(pub u16);

const ANSWERS: [u16; 3] = [200, 202, 204];

impl Default for Answer {
    fn default() -> Self {
        Self(202)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let status = u16::deserialize(from)?;
        let known = ANSWERS.contains(&status).then_some(Self(status));
        known.ok_or_else(|| D::Error::custom("neither 200, 202 nor 204"))
    }
}

impl JsonSchema for Answer {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Answer".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ANSWERS })
    }
}

/// A template, or a table whose texts are templates.
#[derive(Clone, Debug)]
pub struct InputTemplate(pub Value);

impl<'de> Deserialize<'de> for InputTemplate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            template @ (Value::String(_) | Value::Object(_)) => Ok(Self(template)),
            _ => Err(D::Error::custom("neither a template nor a table of templates")),
        }
    }
}

impl JsonSchema for InputTemplate {
    fn schema_name() -> Cow<'static, str> {
        "InputTemplate".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "description": "a template such as \"{{ body.text }}\"" },
            { "type": "object", "description": "a table of templates" },
        ] })
    }
}
