//! How much a Claude is asked to think, in the way its generation knows.

use serde_json::{Value, json};

use crate::domain::limits::glob;
use crate::domain::prompt::{Effort, Prompt, Role, ToolChoice};

/// Models that do not think, or not on request.
const NEVER: [&str; 5] =
    ["claude-instant*", "claude-2*", "claude-3-5*", "claude-3-haiku*", "claude-3-opus*"];

/// Older models, which think within a budget. Newer ones, and those not known, decide themselves how
/// much to think and take an effort.
const BUDGET: [&str; 11] = [
    "claude-3-7*",
    "claude-sonnet-4",
    "claude-sonnet-4-0*",
    "claude-sonnet-4-2025*",
    "claude-sonnet-4-5*",
    "claude-opus-4",
    "claude-opus-4-0*",
    "claude-opus-4-1*",
    "claude-opus-4-2025*",
    "claude-opus-4-5*",
    "claude-haiku-4-5*",
];

/// Of these, the ones that take an effort too.
const EFFORT: [&str; 1] = ["claude-opus-4-5*"];

/// Models that cannot be told not to think.
const ALWAYS: [&str; 1] = ["claude-fable-5*"];

/// The least budget that is taken.
const LEAST_BUDGET: u32 = 1_024;

/// What a request says of thinking.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Thinking {
    /// `output_config.effort`.
    pub effort: Option<&'static str>,
    /// `thinking`.
    pub thinking: Option<Value>,
}

impl Thinking {
    /// What to say; nothing where the model does not take it.
    pub(super) fn of(model: &str, prompt: &Prompt) -> Self {
        let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
        let Some(effort) = prompt.effort else { return Self::default() };
        if !model.starts_with("claude") || any(&NEVER) {
            return Self::default();
        }
        let level = level(effort);
        if any(&BUDGET) {
            let effort_too = level.filter(|_| any(&EFFORT));
            return Self { effort: effort_too, thinking: budget(effort, prompt) };
        }
        let always = any(&ALWAYS);
        let thinking = match effort {
            Effort::None if always => None,
            Effort::None => Some(json!({ "type": "disabled" })),
            _ if is_forced(prompt) => None,
            _ => Some(json!({ "type": "adaptive", "display": "summarized" })),
        };
        Self { effort: level.or_else(|| always.then_some("low")), thinking }
    }

    /// Whether sampling must be left alone beside it.
    pub(super) fn is_on(&self) -> bool {
        self.thinking
            .as_ref()
            .is_some_and(|thinking| thinking.get("type").is_some_and(|kind| kind != "disabled"))
    }
}

const fn level(effort: Effort) -> Option<&'static str> {
    match effort {
        Effort::None => None,
        Effort::Minimal | Effort::Low => Some("low"),
        Effort::Medium => Some("medium"),
        Effort::High => Some("high"),
    }
}

/// A share of what the answer may have. A model made to use a tool may not think, and one in the
/// middle of a tool's use would want its earlier thoughts back, which are not kept.
fn budget(effort: Effort, prompt: &Prompt) -> Option<Value> {
    let amid = prompt.messages.last().is_some_and(|last| last.role == Role::Tool);
    if amid || is_forced(prompt) {
        return None;
    }
    let most = prompt.max_output_tokens;
    let tokens = match effort {
        Effort::None => return None,
        Effort::Minimal => LEAST_BUDGET,
        Effort::Low => most / 5,
        Effort::Medium => most / 2,
        Effort::High => most / 5 * 4,
    };
    let tokens = tokens.max(LEAST_BUDGET);
    (tokens < most).then(|| json!({ "type": "enabled", "budget_tokens": tokens }))
}

const fn is_forced(prompt: &Prompt) -> bool {
    matches!(prompt.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::prompt::Message;

    fn told(model: &str, effort: Effort, most: u32) -> (Option<&'static str>, Value) {
        let prompt = Prompt {
            messages: vec![Message::user("Hi")],
            effort: Some(effort),
            max_output_tokens: most,
            ..Prompt::default()
        };
        let told = Thinking::of(model, &prompt);
        (told.effort, told.thinking.unwrap_or_default())
    }

    #[test]
    fn each_generation_is_told_in_its_own_way() {
        let adaptive = json!({ "type": "adaptive", "display": "summarized" });
        let within = |tokens: u32| json!({ "type": "enabled", "budget_tokens": tokens });
        let off = json!({ "type": "disabled" });
        for (model, effort, most, expected) in [
            ("claude-sonnet-5-5", Effort::Minimal, 100, (Some("low"), adaptive.clone())),
            ("claude-opus-4-6", Effort::High, 100, (Some("high"), adaptive.clone())),
            ("claude-haiku-5-5", Effort::Medium, 100, (Some("medium"), adaptive)),
            ("claude-opus-5", Effort::None, 100, (None, off)),
            ("claude-fable-5-1", Effort::None, 100, (Some("low"), Value::Null)),
            ("claude-opus-4-5", Effort::Low, 10_000, (Some("low"), within(2_000))),
            ("claude-sonnet-4-5", Effort::High, 10_000, (None, within(8_000))),
            ("claude-haiku-4-5-20251001", Effort::Medium, 1_500, (None, within(1_024))),
            ("claude-haiku-4-5", Effort::High, 1_000, (None, Value::Null)),
            ("claude-sonnet-4-0", Effort::None, 10_000, (None, Value::Null)),
            ("claude-3-5-haiku-latest", Effort::High, 10_000, (None, Value::Null)),
        ] {
            assert_eq!(told(model, effort, most), expected, "{model} {effort:?}");
        }
    }

    #[test]
    fn a_model_made_to_use_a_tool_is_not_made_to_think() {
        let prompt = Prompt {
            messages: vec![Message::user("Hi")],
            effort: Some(Effort::High),
            max_output_tokens: 10_000,
            tool_choice: Some(ToolChoice::Required),
            ..Prompt::default()
        };
        for model in ["claude-haiku-4-5", "claude-sonnet-5-5"] {
            assert!(!Thinking::of(model, &prompt).is_on(), "{model}");
        }
        let amid =
            Prompt { messages: vec![Message::new(Role::Tool, "1")], tool_choice: None, ..prompt };
        assert!(!Thinking::of("claude-haiku-4-5", &amid).is_on());
    }
}
