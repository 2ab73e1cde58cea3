//! What a vendor's models are known not to take. What is not known is taken to be supported.

use crate::domain::limits::glob;
use crate::domain::prompt::Prompt;

/// Vendors' models that read no images.
const BLIND: [(&str, &str); 14] = [
    ("anthropic", "claude-instant*"),
    ("anthropic", "claude-2*"),
    ("cerebras", "*"),
    ("groq", "llama-3*"),
    ("groq", "openai/gpt-oss-*"),
    ("groq", "moonshotai/*"),
    ("groq", "qwen*"),
    ("groq", "compound*"),
    ("openai", "gpt-3.5*"),
    ("openai", "gpt-4"),
    ("openai", "gpt-4-0*"),
    ("openai", "o1-mini*"),
    ("openai", "o3-mini*"),
    ("openrouter", "openai/gpt-oss-*"),
];

/// Vendors' models that know no tools.
const TOOLLESS: [(&str, &str); 6] = [
    ("anthropic", "claude-instant*"),
    ("anthropic", "claude-2*"),
    ("gemini", "gemma*"),
    ("groq", "compound*"),
    ("groq", "groq/compound*"),
    ("openai", "o1-mini*"),
];

/// What this prompt asks for that a vendor's model is known not to take, of images and tools.
pub(super) fn lacks(vendor: &str, model: &str, prompt: &Prompt) -> Option<&'static str> {
    let listed = |list: &[(&str, &str)]| {
        list.iter().any(|(of, pattern)| *of == vendor && glob(pattern, model))
    };
    let contents = prompt.messages.iter().map(|message| &message.content);
    let mut all = contents.chain(prompt.system.as_ref());
    if listed(&BLIND) && all.any(|content| content.images().next().is_some()) {
        return Some("images");
    }
    (listed(&TOOLLESS) && !prompt.tools.is_empty()).then_some("tools")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::content::{Content, Image, Part, Piece};
    use crate::domain::prompt::{Message, Tool};
    use serde_json::json;

    #[test]
    fn what_is_known_to_be_missing_is_told() {
        let seeing = Prompt {
            messages: vec![Message::user(Content(vec![Part {
                piece: Piece::Image(Image::at("https://x.example/a.png")),
                cache: None,
            }]))],
            ..Prompt::default()
        };
        let tool = Tool {
            name: "t".to_owned(),
            description: String::new(),
            parameters: json!({}),
            strict: None,
        };
        let acting = Prompt { tools: vec![tool], ..Prompt::default() };
        assert_eq!(lacks("cerebras", "gpt-oss-120b", &seeing), Some("images"));
        assert_eq!(lacks("openai", "gpt-4o", &seeing), None);
        assert_eq!(lacks("gemini", "gemma-3-27b-it", &acting), Some("tools"));
        assert_eq!(lacks("cerebras", "gpt-oss-120b", &acting), None);
    }
}
