//! Settings nobody wrote: accounts from the provider keys in the environment, and the routes
//! `cheap` and `premium` over the accounts there are.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Environment;
use super::document::Document;
use crate::domain::limits::{Learn, LimitSettings};
use crate::provider::settings::Vendor;

/// The order in which vendors stand in a route made here.
pub const ORDER: [Vendor; 6] = [
    Vendor::Anthropic,
    Vendor::Groq,
    Vendor::Cerebras,
    Vendor::Gemini,
    Vendor::OpenAi,
    Vendor::OpenRouter,
];

/// The routes made here and used by the built-in tasks.
pub const ROUTES: [&str; 2] = ["cheap", "premium"];

/// What is told when there is no account at all.
pub const NOTHING_TO_ASK: &str = "there is no account at a provider. Set one of \
    ANTHROPIC_API_KEY, GROQ_API_KEY, CEREBRAS_API_KEY, GEMINI_API_KEY, OPENAI_API_KEY or \
    OPENROUTER_API_KEY in the environment, or write a `spillway.toml` with this line: \
    accounts.main = { provider = \"anthropic\", api_key = \"sk-ant-...\" }. To try Spillway \
    without any key, run `make demo`";

/// What a key of one vendor is used for when nobody says more.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preset {
    cheap: String,
    premium: String,
    limits: Vec<LimitSettings>,
}

impl Preset {
    fn model(&self, route: &str) -> &str {
        if route == "cheap" { &self.cheap } else { &self.premium }
    }
}

/// By vendor. The text is ours, and a test reads it.
fn presets() -> IndexMap<String, Preset> {
    toml::from_str(include_str!("auto.toml")).unwrap_or_default()
}

/// An account for each provider key in the environment, called after its vendor.
pub(super) fn add_accounts(document: &mut Document, environment: &Environment) {
    let presets = presets();
    for vendor in ORDER {
        let key = vendor.env_key().and_then(|name| environment.get(name));
        let Some(key) = key.map(|key| key.trim()).filter(|key| !key.is_empty()) else { continue };
        let limits = presets.get(vendor.as_str()).map(|preset| json!(guessed(&preset.limits)));
        document.set(
            &["accounts".to_owned(), vendor.as_str().to_owned()],
            json!({ "provider": vendor, "api_key": key, "limits": without_null(limits) }),
        );
    }
}

/// Nobody has vouched for these figures: the provider's own words correct them both ways.
fn guessed(limits: &[LimitSettings]) -> Vec<LimitSettings> {
    let both =
        |limits: &LimitSettings| LimitSettings { learn: Some(Learn::Both), ..limits.clone() };
    limits.iter().map(both).collect()
}

/// Limits as they would be written: what is not limited is left out.
fn without_null(limits: Option<Value>) -> Value {
    let mut limits = limits.unwrap_or_else(|| json!([]));
    for limit in limits.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        limit.retain(|_, value| !value.is_null());
    }
    limits
}

/// `cheap` and `premium` over all accounts whose vendor has a model for them.
pub(super) fn add_routes(document: &mut Document) {
    let presets = presets();
    for route in ROUTES {
        let steps: Vec<String> = ORDER
            .iter()
            .flat_map(|vendor| {
                let named = document.entries("accounts").filter(|(_, account)| {
                    account.get("provider").and_then(Value::as_str) == Some(vendor.as_str())
                });
                let preset = presets.get(vendor.as_str());
                named.filter_map(move |(name, _)| Some(format!("{name}/{}", preset?.model(route))))
            })
            .collect();
        if !steps.is_empty() {
            document.set(&["routes".to_owned(), route.to_owned()], json!({ "steps": steps }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_with_a_key_has_a_preset_whose_models_are_limited() {
        let presets: IndexMap<String, Preset> = toml::from_str(include_str!("auto.toml")).unwrap();
        assert_eq!(presets.len(), ORDER.len());
        for vendor in ORDER {
            let preset = presets.get(vendor.as_str()).unwrap();
            assert!(vendor.env_key().is_some());
            for route in ROUTES {
                let model = preset.model(route);
                let counting = preset.limits.iter().filter(|limits| limits.counts(model)).count();
                assert_eq!(counting, 1, "{} {model}", vendor.as_str());
            }
        }
    }
}
