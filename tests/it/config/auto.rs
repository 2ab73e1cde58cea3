//! What is made of the provider keys in the environment when nobody wrote a file.

use secrecy::ExposeSecret;
use spillway::config::load;
use spillway::domain::limits::{CachedInput, Learn};
use spillway::domain::route::Step;
use spillway::provider::settings::Vendor;
use tempfile::TempDir;

use super::{environment, read_with};

/// The environment's name, the account's name and its models for `cheap` and `premium`.
const KEYS: [(&str, &str, [&str; 2]); 6] = [
    ("ANTHROPIC_API_KEY", "anthropic", ["claude-haiku-4-5", "claude-sonnet-4-6"]),
    ("GROQ_API_KEY", "groq", ["llama-3.3-70b-versatile", "llama-3.3-70b-versatile"]),
    ("CEREBRAS_API_KEY", "cerebras", ["gpt-oss-120b", "gpt-oss-120b"]),
    ("GEMINI_API_KEY", "gemini", ["gemini-2.5-flash-lite", "gemini-2.5-flash"]),
    ("OPENAI_API_KEY", "openai", ["gpt-6-luna", "gpt-6.1-terra"]),
    ("OPENROUTER_API_KEY", "openrouter", ["openai/gpt-oss-120b", "anthropic/claude-sonnet-4.6"]),
];

#[test]
fn any_set_of_keys_makes_accounts_and_both_routes_in_the_fixed_order() {
    let folder = TempDir::new().unwrap();
    for chosen in 1u32..1 << KEYS.len() {
        let present: Vec<_> =
            (0..KEYS.len()).filter(|at| chosen & (1 << at) != 0).map(|at| KEYS[at]).collect();
        // In the environment's order, which is not the routes'.
        let entries: Vec<_> = present.iter().rev().map(|(name, ..)| (*name, "key")).collect();
        let plan = load::load_in(folder.path(), None, &environment(&entries)).unwrap().plan;
        let accounts: Vec<_> = plan.accounts.iter().map(|account| account.name.as_str()).collect();
        assert_eq!(accounts, present.iter().map(|(_, name, _)| *name).collect::<Vec<_>>());
        for (at, route) in ["cheap", "premium"].into_iter().enumerate() {
            let steps: Vec<_> = plan.routes[route].steps.iter().map(Step::name).collect();
            let expected: Vec<_> =
                present.iter().map(|(_, name, models)| format!("{name}/{}", models[at])).collect();
            assert_eq!(steps, expected);
        }
        assert_eq!(plan.tasks.len(), 8);
        assert!(plan.left_out.is_empty());
    }
}

#[test]
fn an_account_made_of_a_key_has_the_key_and_limits_for_its_models() {
    for (name, _, models) in KEYS {
        let plan = read_with("", &[(name, " the-key\n")]).unwrap().plan;
        let account = &plan.accounts[0];
        assert_eq!(account.api_key.as_ref().unwrap().expose_secret(), "the-key");
        assert!(account.base_url.as_deref().unwrap().starts_with("https://"));
        assert_eq!(account.vendor.env_key(), Some(name));
        for model in models {
            let limits: Vec<_> = account.limits.iter().filter(|l| l.counts(model)).collect();
            assert!(limits.len() == 1 && limits[0].requests.is_some(), "{name} {model}");
        }
    }
}

#[test]
fn known_entry_tier_figures_are_used() {
    let plan =
        read_with("", &[("ANTHROPIC_API_KEY", "k"), ("CEREBRAS_API_KEY", "k")]).unwrap().plan;
    let haiku = plan.accounts[0].limits.iter().find(|l| l.counts("claude-haiku-4-5")).unwrap();
    let rates = [haiku.requests, haiku.input_tokens, haiku.output_tokens];
    assert_eq!(rates.map(|rate| rate.unwrap().to_string()), ["50/min", "50000/min", "10000/min"]);
    // One total of input and output. Nobody has vouched for these figures.
    let cerebras = &plan.accounts[1].limits[0];
    assert_eq!(cerebras.tokens.unwrap().to_string(), "30000/min");
    assert_eq!((cerebras.learn, haiku.learn), (Some(Learn::Both), Some(Learn::Both)));
    let counted = (Some(CachedInput::Counted), Some(CachedInput::Free));
    assert_eq!((cerebras.cached_input, haiku.cached_input), counted);
}

#[test]
fn without_any_key_it_is_told_what_to_set() {
    let folder = TempDir::new().unwrap();
    let empty = environment(&[("ANTHROPIC_API_KEY", "  "), ("PATH", "/bin")]);
    let faults = load::load_in(folder.path(), None, &empty).unwrap_err();
    let told = faults.to_string();
    for (name, ..) in KEYS {
        assert!(told.contains(name), "{told}");
    }
    for words in ["make demo", "spillway.toml", "accounts.main = { provider = \"anthropic\""] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(faults.0.len(), 1, "{told}");
    assert!(!told.contains('\n'), "{told}");
}

#[test]
fn the_smallest_file_it_suggests_works() {
    let line = "accounts.main = { provider = \"anthropic\", api_key = \"sk-ant-...\" }";
    let plan = read_with(line, &[("GROQ_API_KEY", "k")]).unwrap().plan;
    let names: Vec<_> = plan.accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["main"], "a file that names accounts has these and no others");
    assert_eq!(plan.accounts[0].vendor, Vendor::Anthropic);
    assert_eq!(plan.routes["cheap"].steps[0].name(), "main/claude-haiku-4-5");
    assert_eq!(plan.routes["premium"].steps[0].name(), "main/claude-sonnet-4-6");
}

#[test]
fn a_file_without_accounts_and_the_environment_complete_each_other() {
    let text = "[store]\nurl = \"redis://127.0.0.1:6379\"\n";
    let loaded =
        read_with(text, &[("GROQ_API_KEY", "k"), ("SPILLWAY_ACCOUNTS__GROQ__ORG", "acme")])
            .unwrap();
    assert_eq!(loaded.config.store.url, "redis://127.0.0.1:6379");
    assert_eq!(loaded.plan.accounts[0].org, "acme");
}

#[test]
fn accounts_whose_models_nobody_knows_need_a_route() {
    let text = "accounts.local = { provider = \"ollama\", base_url = \"http://127.0.0.1:11434\" }";
    let told = read_with(text, &[]).unwrap_err().to_string();
    super::assert_told(&told, "routes", &["are missing", "account/model"]);
}
