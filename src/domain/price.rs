//! What a call costs. Prices have dates and, for some models, a step at a prompt size. A price
//! that is not known is `None`, never zero.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::completion::Usage;
use super::limits::glob;

/// One price, in US dollars per million tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The vendor, or `*`.
    pub provider: String,
    /// Models it is for; `*` stands for any text.
    pub model: String,
    /// From this day (UTC) on.
    #[serde(default)]
    pub from: Option<NaiveDate>,
    /// Only for prompts of more tokens than this.
    #[serde(default)]
    pub above_input_tokens: u64,
    /// Tokens sent.
    pub input: f64,
    /// Tokens received.
    pub output: f64,
    /// Tokens read from the prompt cache; default the price of input.
    #[serde(default)]
    pub cached_input: Option<f64>,
    /// Tokens written to the prompt cache; default the price of input.
    #[serde(default)]
    pub cache_write: Option<f64>,
}

/// All prices known. The settings' own come first and win.
#[derive(Clone, Debug, Default)]
pub struct PriceTable(Vec<Price>);

#[derive(Deserialize)]
struct PriceFile {
    prices: Vec<Price>,
}

impl PriceTable {
    /// The operator's prices before the built-in ones.
    pub fn with_built_in(own: Vec<Price>) -> Result<Self, String> {
        let file: PriceFile =
            toml::from_str(include_str!("prices.toml")).map_err(|fault| fault.to_string())?;
        Ok(Self(own.into_iter().chain(file.prices).collect()))
    }

    /// What this use costs on that day; `None` when the price is not known.
    pub fn cost(
        &self,
        (provider, model): (&str, &str),
        usage: &Usage,
        at: DateTime<Utc>,
    ) -> Option<f64> {
        let price = self.find(provider, model, usage.input_tokens, at)?;
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let dollars = |tokens: u64, per_million: f64| tokens as f64 * per_million / 1e6;
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
        let plain = usage.input_tokens - cached - written;
        Some(
            dollars(plain, price.input)
                + dollars(cached, price.cached_input.unwrap_or(price.input))
                + dollars(written, price.cache_write.unwrap_or(price.input))
                + dollars(usage.output_tokens, price.output),
        )
    }

    /// The price in force: of those that fit, the one with the most particular model pattern,
    /// then the highest prompt size reached, then the latest date.
    fn find(&self, provider: &str, model: &str, input: u64, at: DateTime<Utc>) -> Option<&Price> {
        let day = at.date_naive();
        self.0
            .iter()
            .enumerate()
            .filter(|(_, price)| {
                (price.provider == provider || price.provider == "*")
                    && glob(&price.model, model)
                    && price.from.is_none_or(|from| from <= day)
                    && (price.above_input_tokens == 0 || input > price.above_input_tokens)
            })
            .max_by_key(|(index, price)| {
                let particular = price.model.len();
                (particular, price.above_input_tokens, price.from, std::cmp::Reverse(*index))
            })
            .map(|(_, price)| price)
    }
}
