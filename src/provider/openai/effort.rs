//! How much a model is asked to think, in the words of each who speaks chat completions and only
//! where the model takes it.

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::domain::limits::glob;
use crate::domain::prompt::Effort;

/// OpenAI's that think on request.
const OPENAI: [&str; 5] = ["gpt-5*", "gpt-6*", "o1*", "o3*", "o4*"];

/// Of these, the ones that do not after all.
const CHAT: [&str; 4] = ["gpt-5*-chat*", "gpt-6*-chat*", "o1-mini*", "o1-preview*"];

/// The first generation, which thinks at least a little.
const ALWAYS: [&str; 3] = ["o1*", "o3*", "o4*"];

/// The first GPT-5, which knows `minimal` and not `none`.
const MINIMAL: [&str; 4] = ["gpt-5", "gpt-5-20*", "gpt-5-mini*", "gpt-5-nano*"];

/// Open models that think, as those who run them name them.
const OPEN: [&str; 6] =
    ["*gpt-oss*", "*qwen3*", "*deepseek-r1*", "*deepseek-v3.1*", "*magistral*", "*glm-4*"];

/// Of these, the ones that do not think after all.
const INSTANT: [&str; 2] = ["*qwen3-coder*", "*-instruct*"];

/// Groq's models that write what they think into their answer unless told otherwise.
const GROQ_RAW: [&str; 2] = ["qwen/qwen3*", "deepseek-r1*"];

/// Says in `body` how much to think.
pub(super) fn put(body: &mut Map<String, Value>, dialect: Dialect, model: &str, effort: Effort) {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    let told = match dialect {
        Dialect::OpenAi if any(&OPENAI) && !any(&CHAT) => Some(openai(model, effort)),
        Dialect::Groq | Dialect::Cerebras if any(&["*gpt-oss*"]) => Some(at_least_low(effort)),
        Dialect::Groq if any(&["qwen/qwen3*"]) => {
            Some(if effort == Effort::None { "none" } else { "default" })
        }
        Dialect::Cerebras if effort == Effort::None && any(&["zai-glm*"]) => {
            body.insert("disable_reasoning".to_owned(), true.into());
            None
        }
        Dialect::OpenRouter => {
            body.insert("reasoning".to_owned(), json!({ "effort": word(effort) }));
            None
        }
        // Unlike unknown fields this one is not passed over by a model that does not think.
        Dialect::Plain if any(&OPEN) => Some(at_least_low(effort)),
        Dialect::OpenAi | Dialect::Groq | Dialect::Cerebras | Dialect::Plain => None,
    };
    if let Some(told) = told {
        body.insert("reasoning_effort".to_owned(), told.into());
    }
}

/// Whether what the model thinks must be asked to stand apart from its answer.
pub(super) fn is_raw(dialect: Dialect, model: &str) -> bool {
    dialect == Dialect::Groq && GROQ_RAW.iter().any(|pattern| glob(pattern, model))
}

/// Whether it is an open model that thinks on request.
pub(in crate::provider) fn thinks_openly(model: &str) -> bool {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    any(&OPEN) && !any(&INSTANT)
}

/// Whether OpenRouter has somebody who takes an effort for this model, as far as its name tells:
/// asked to require every parameter, it would otherwise find nobody.
pub(super) fn thinks_at_openrouter(model: &str) -> bool {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    let claude = glob("anthropic/claude-*", model) && !glob("anthropic/claude-3*", model);
    let gemini = any(&["google/gemini-2.5*", "google/gemini-3*"]);
    let own = model.strip_prefix("openai/").unwrap_or_default();
    let openai = OPENAI.iter().any(|pattern| glob(pattern, own));
    claude || gemini || openai && !CHAT.iter().any(|pattern| glob(pattern, own)) || any(&OPEN)
}

fn openai(model: &str, effort: Effort) -> &'static str {
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| glob(pattern, model));
    match effort {
        Effort::None | Effort::Minimal if any(&ALWAYS) => "low",
        Effort::None | Effort::Minimal if any(&MINIMAL) => "minimal",
        Effort::Minimal => "low",
        other => word(other),
    }
}

/// The effort in a word, for models that always think.
pub(in crate::provider) const fn at_least_low(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal => "low",
        other => word(other),
    }
}

const fn word(effort: Effort) -> &'static str {
    match effort {
        Effort::None => "none",
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_is_told_in_words_it_knows() {
        use Dialect::{Cerebras, Groq, OpenAi, OpenRouter, Plain};
        use Effort::{High, Medium, Minimal, None};
        let effort = |word: &str| json!({ "reasoning_effort": word });
        let reasoning = |word: &str| json!({ "reasoning": { "effort": word } });
        for (dialect, model, wanted, told) in [
            (OpenAi, "gpt-6.1-sol", None, effort("none")),
            (OpenAi, "gpt-6.1-sol", Minimal, effort("low")),
            (OpenAi, "gpt-5-mini", None, effort("minimal")),
            (OpenAi, "gpt-5-2025-08-07", Minimal, effort("minimal")),
            (OpenAi, "gpt-5.4", High, effort("high")),
            (OpenAi, "o4-mini", None, effort("low")),
            (OpenAi, "gpt-4.1", High, json!({})),
            (OpenAi, "gpt-5-chat-latest", High, json!({})),
            (Groq, "openai/gpt-oss-120b", None, effort("low")),
            (Groq, "qwen/qwen3-32b", None, effort("none")),
            (Groq, "qwen/qwen3-32b", High, effort("default")),
            (Groq, "llama-3.3-70b-versatile", High, json!({})),
            (Cerebras, "gpt-oss-120b", Medium, effort("medium")),
            (Cerebras, "zai-glm-4.7", None, json!({ "disable_reasoning": true })),
            (Cerebras, "zai-glm-4.7", High, json!({})),
            (OpenRouter, "x/y", Minimal, reasoning("minimal")),
            (OpenRouter, "x/y", None, reasoning("none")),
            (Plain, "gpt-oss:20b", High, effort("high")),
            (Plain, "llama3", High, json!({})),
        ] {
            let mut body = Map::new();
            put(&mut body, dialect, model, wanted);
            assert_eq!(Value::Object(body), told, "{dialect:?} {model} {wanted:?}");
        }
        for model in
            ["anthropic/claude-sonnet-4.5", "openai/gpt-5", "google/gemini-3.1-pro-preview"]
        {
            assert!(thinks_at_openrouter(model), "{model}");
        }
        for model in ["anthropic/claude-3.5-haiku", "openai/gpt-4.1", "meta-llama/llama-3.3-70b"] {
            assert!(!thinks_at_openrouter(model), "{model}");
        }
    }
}
