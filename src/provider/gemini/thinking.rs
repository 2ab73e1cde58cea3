//! How much a Gemini is asked to think: by budget or by level, never both.

use serde_json::{Value, json};

use crate::domain::limits::glob;
use crate::domain::prompt::Effort;

/// `thinkingConfig`; `None` where nothing is asked for or the model does not take it.
pub(super) fn config(model: &str, effort: Option<Effort>) -> Option<Value> {
    let effort = effort.filter(|_| !glob("*image*", model))?;
    // What it thinks is billed whether or not it is shown.
    let shown = effort != Effort::None;
    if glob("gemini-2.5-*", model) {
        let budget = budget(model, effort);
        return Some(json!({ "thinkingBudget": budget, "includeThoughts": shown }));
    }
    let level = glob("gemini-3*", model).then(|| level(model, effort))?;
    Some(json!({ "thinkingLevel": level, "includeThoughts": shown }))
}

/// Only Pro cannot be told not to think.
fn budget(model: &str, effort: Effort) -> u32 {
    match effort {
        Effort::None if glob("*-pro*", model) => 128,
        Effort::None => 0,
        Effort::Minimal => 512,
        Effort::Low => 1_024,
        Effort::Medium => 8_192,
        Effort::High => 24_576,
    }
}

/// Pro knows no `MINIMAL`, and the first of them no `MEDIUM`.
fn level(model: &str, effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal if !glob("*-pro*", model) => "MINIMAL",
        Effort::None | Effort::Minimal | Effort::Low => "LOW",
        Effort::Medium if !glob("gemini-3-pro*", model) => "MEDIUM",
        Effort::Medium | Effort::High => "HIGH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_is_told_in_its_own_way() {
        let budget = |tokens: u32, shown: bool| json!({ "thinkingBudget": tokens, "includeThoughts": shown });
        let level =
            |level: &str, shown: bool| json!({ "thinkingLevel": level, "includeThoughts": shown });
        for (model, effort, told) in [
            ("gemini-2.5-flash", Effort::None, budget(0, false)),
            ("gemini-2.5-pro", Effort::None, budget(128, false)),
            ("gemini-2.5-flash-lite", Effort::Low, budget(1_024, true)),
            ("gemini-3.8-flash", Effort::None, level("MINIMAL", false)),
            ("gemini-3.1-pro-preview", Effort::Minimal, level("LOW", true)),
            ("gemini-3.1-pro-preview", Effort::Medium, level("MEDIUM", true)),
            ("gemini-3-pro-preview", Effort::Medium, level("HIGH", true)),
            ("gemini-2.0-flash", Effort::High, Value::Null),
            ("gemini-2.5-flash-image", Effort::High, Value::Null),
            ("gemma-3", Effort::High, Value::Null),
        ] {
            assert_eq!(config(model, Some(effort)).unwrap_or_default(), told, "{model}");
        }
        assert_eq!(config("gemini-3.8-flash", None), None);
    }
}
