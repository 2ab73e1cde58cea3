//! Who a provider is and how an account reaches it.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A vendor whose API we speak.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Vendor {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's chat completions.
    #[serde(rename = "openai")]
    OpenAi,
    /// Groq.
    Groq,
    /// Cerebras.
    Cerebras,
    /// Google's Gemini.
    Gemini,
    /// OpenRouter.
    #[serde(rename = "openrouter")]
    OpenRouter,
    /// A local Ollama.
    Ollama,
    /// Any other server that speaks OpenAI's chat completions: vLLM, llama.cpp, …
    #[serde(rename = "openai-compatible")]
    OpenAiCompatible,
    /// The built-in one, for demos and tests.
    Scripted,
}

impl Vendor {
    /// All vendors.
    pub const ALL: [Self; 9] = [
        Self::Anthropic,
        Self::OpenAi,
        Self::Groq,
        Self::Cerebras,
        Self::Gemini,
        Self::OpenRouter,
        Self::Ollama,
        Self::OpenAiCompatible,
        Self::Scripted,
    ];

    /// The vendor's name in the settings, in results and in the price table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Groq => "groq",
            Self::Cerebras => "cerebras",
            Self::Gemini => "gemini",
            Self::OpenRouter => "openrouter",
            Self::Ollama => "ollama",
            Self::OpenAiCompatible => "openai-compatible",
            Self::Scripted => "scripted",
        }
    }

    /// Where the vendor listens, up to and without the API's version; `None` when only the
    /// operator knows.
    pub const fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::OpenAi => Some("https://api.openai.com"),
            Self::Groq => Some("https://api.groq.com/openai"),
            Self::Cerebras => Some("https://api.cerebras.ai"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::OpenRouter => Some("https://openrouter.ai/api"),
            Self::Ollama => Some("http://127.0.0.1:11434"),
            Self::OpenAiCompatible | Self::Scripted => None,
        }
    }

    /// The environment variable in which people keep this vendor's key.
    pub const fn env_key(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::OpenAi => Some("OPENAI_API_KEY"),
            Self::Groq => Some("GROQ_API_KEY"),
            Self::Cerebras => Some("CEREBRAS_API_KEY"),
            Self::Gemini => Some("GEMINI_API_KEY"),
            Self::OpenRouter => Some("OPENROUTER_API_KEY"),
            Self::Ollama | Self::OpenAiCompatible | Self::Scripted => None,
        }
    }

    /// Whether tokens read from the prompt cache count towards the limits of tokens.
    ///
    /// Anthropic and Groq say that they do not (`providers.md` sections 2.5 and 4; Anthropic's
    /// Haiku 3 and 3.5 are the exception, and being retired). For Cerebras the sources differ
    /// (section 5); the others do not say. There they count: nothing is then sent too soon.
    pub const fn counts_cached_input(self) -> bool {
        !matches!(self, Self::Anthropic | Self::Groq)
    }

    /// Whether the vendor has this API.
    pub const fn has(self, api: Api) -> bool {
        match api {
            Api::Chat => matches!(
                self,
                Self::OpenAi
                    | Self::Groq
                    | Self::Cerebras
                    | Self::OpenRouter
                    | Self::Ollama
                    | Self::OpenAiCompatible
            ),
            Api::Responses => matches!(self, Self::OpenAi | Self::OpenAiCompatible),
            Api::Native => matches!(self, Self::Ollama),
        }
    }

    /// Whether nothing can be asked without a key.
    pub const fn needs_key(self) -> bool {
        self.env_key().is_some()
    }
}

/// Which of a vendor's APIs is spoken, where it has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// Ollama's own chat.
    Native,
}

impl Api {
    /// The API's name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Native => "native",
        }
    }

    /// Whose it is, in the words of the settings.
    pub fn vendors(self) -> Vec<&'static str> {
        let vendors = Vendor::ALL.into_iter().filter(|vendor| vendor.has(self));
        vendors.map(Vendor::as_str).collect()
    }
}

/// One account: where to ask and with which key.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Who is asked.
    pub vendor: Vendor,
    /// Where, with or without the API's version; default the vendor's own address.
    pub base_url: Option<String>,
    /// The key.
    pub api_key: Option<SecretString>,
    /// Which of the vendor's APIs; `None` for the usual one.
    pub api: Option<Api>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_name_is_the_same_everywhere() {
        for vendor in Vendor::ALL {
            assert_eq!(serde_json::to_value(vendor).unwrap(), vendor.as_str());
            let read: Vendor = serde_json::from_value(vendor.as_str().into()).unwrap();
            assert_eq!(read, vendor);
            let base = vendor.default_base_url().unwrap_or_default();
            assert!(!base.ends_with('/') && !base.ends_with("/v1"), "{base}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let account = AccountSettings {
            vendor: Vendor::Groq,
            base_url: None,
            api_key: Some("gsk_secret".into()),
            api: None,
        };
        assert!(!format!("{account:?}").contains("gsk_secret"));
    }
}
