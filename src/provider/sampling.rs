//! Which models may be sent `temperature` and what else reasoning models refuse.

use crate::domain::limits::glob;

/// Claudes that still take it. From Opus 4.7, Sonnet 5, Fable 5 and Haiku 5.5 on it is refused; a
/// Claude that is not known is taken to be newer.
const CLAUDES: [&str; 12] = [
    "claude-instant*",
    "claude-2*",
    "claude-3*",
    "claude-sonnet-4*",
    "claude-haiku-4*",
    "claude-opus-4",
    "claude-opus-4-0*",
    "claude-opus-4-1",
    "claude-opus-4-1-*",
    "claude-opus-4-2025*",
    "claude-opus-4-5*",
    "claude-opus-4-6*",
];

/// OpenAI's reasoning models, which refuse it.
const REASONING: [&str; 5] = ["gpt-5*", "gpt-6*", "o1*", "o3*", "o4*"];

/// Whether the model takes `temperature`. The name alone tells, also as OpenRouter writes it
/// (`anthropic/claude-opus-4.7`): asked to require every parameter, it finds nobody to answer
/// when a model does not take one.
pub(super) fn takes_temperature(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    if name.starts_with("claude") { is_named(name, &CLAUDES) } else { !is_named(name, &REASONING) }
}

/// Whether the model takes texts that end its answer.
pub(super) fn takes_stop(model: &str) -> bool {
    !is_named(model, &REASONING)
}

/// Whether the model may be told to ask for one tool at a time.
pub(super) fn takes_parallel(model: &str) -> bool {
    !is_named(model, &["o1*", "o3*", "o4*"])
}

fn is_named(model: &str, patterns: &[&str]) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model).replace('.', "-");
    patterns.iter().any(|pattern| glob(pattern, &name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reasons_or_is_too_new_is_sent_no_temperature() {
        for model in [
            "claude-haiku-4-5",
            "claude-sonnet-4-6",
            "claude-opus-4-6",
            "claude-opus-4-5-20251101",
            "claude-opus-4-1-20250805",
            "claude-3-5-haiku-latest",
            "anthropic/claude-haiku-4.5",
            "gpt-4.1-mini",
            "gpt-4o",
            "openai/gpt-oss-120b",
            "llama-3.3-70b-versatile",
            "olmo-2",
            "kimi-k2",
        ] {
            assert!(takes_temperature(model), "{model}");
        }
        for model in [
            "claude-opus-4-7",
            "claude-opus-4-8",
            "claude-opus-4-10",
            "claude-opus-5",
            "claude-sonnet-5-5",
            "claude-haiku-5-5",
            "claude-fable-5-1",
            "claude-whatever-9",
            "anthropic/claude-opus-4.7",
            "gpt-5-mini",
            "gpt-5.4",
            "gpt-6.1-sol",
            "openai/gpt-5.6-luna",
            "o3",
            "o4-mini",
        ] {
            assert!(!takes_temperature(model), "{model}");
        }
    }
}
