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
    /// Tokens written to the prompt cache for an hour; default the price of `cache_write`.
    #[serde(default)]
    pub cache_write_1h: Option<f64>,
    /// No price: the most tokens that prompt and answer may have together.
    #[serde(default)]
    pub context: Option<u64>,
}

/// All prices known.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    own: Vec<Price>,
    built_in: Vec<Price>,
}

#[derive(Deserialize)]
struct PriceFile {
    prices: Vec<Price>,
}

impl PriceTable {
    /// The operator's prices and the built-in ones. Where one of the operator's fits, no built-in
    /// one counts, however particular it is.
    pub fn with_built_in(own: Vec<Price>) -> Result<Self, String> {
        let file: PriceFile =
            toml::from_str(include_str!("prices.toml")).map_err(|fault| fault.to_string())?;
        Ok(Self { own, built_in: file.prices })
    }

    /// The models that have a price.
    pub fn models(&self) -> impl Iterator<Item = &String> {
        self.own.iter().chain(&self.built_in).map(|price| &price.model)
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
        let hour = usage.cache_write_1h_tokens.min(written);
        let write = price.cache_write.unwrap_or(price.input);
        Some(
            dollars(plain, price.input)
                + dollars(cached, price.cached_input.unwrap_or(price.input))
                + dollars(written - hour, write)
                + dollars(hour, price.cache_write_1h.unwrap_or(write))
                + dollars(usage.output_tokens, price.output),
        )
    }

    /// The most that so many tokens sent and received can cost on that day, whatever of those sent
    /// is written to the prompt cache; `hour` when it may be for an hour.
    pub fn most(
        &self,
        (provider, model): (&str, &str),
        (input, output): (u64, u64),
        hour: bool,
        at: DateTime<Utc>,
    ) -> Option<f64> {
        let price = self.find(provider, model, input, at)?;
        let for_an_hour = price.cache_write_1h.filter(|_| hour);
        let dearest = [price.cache_write, for_an_hour].into_iter().flatten();
        let dearest = dearest.fold(price.input, f64::max);
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let (input, output) = (input as f64, output as f64);
        Some((input * dearest + output * price.output) / 1e6)
    }

    /// What it costs more to send so many tokens anew, and have them cached, than to read them
    /// from the cache; `None` when the price is not known.
    pub fn miss(&self, names: (&str, &str), tokens: u64, at: DateTime<Utc>) -> Option<f64> {
        let all = Usage { input_tokens: tokens, ..Usage::default() };
        let read = Usage { cached_input_tokens: tokens, ..all };
        let written = Usage { cache_write_tokens: tokens, ..all };
        Some(self.cost(names, &written, at)? - self.cost(names, &read, at)?)
    }

    /// What the prompt cache has saved of this use's price; less than nothing when more was
    /// written than read. `None` when the price is not known.
    pub fn saved(&self, names: (&str, &str), usage: &Usage, at: DateTime<Utc>) -> Option<f64> {
        let plain = Usage { cached_input_tokens: 0, cache_write_tokens: 0, ..*usage };
        Some(self.cost(names, &plain, at)? - self.cost(names, usage, at)?)
    }

    /// The prices by the million tokens sent and received for a prompt of this size on that day;
    /// `None` when they are not known.
    pub fn rates(
        &self,
        (provider, model): (&str, &str),
        input_tokens: u64,
        at: DateTime<Utc>,
    ) -> Option<(f64, f64)> {
        let price = self.find(provider, model, input_tokens, at)?;
        Some((price.input, price.output))
    }

    /// The most tokens that prompt and answer may have together; `None` when it is not known.
    pub fn context(&self, provider: &str, model: &str) -> Option<u64> {
        // Unlike a price a window does not change with time.
        let of = |prices| in_force(prices, (provider, model), 0, NaiveDate::MAX)?.context;
        [&self.own, &self.built_in].into_iter().find_map(|prices| of(prices.as_slice()))
    }

    /// The price in force.
    fn find(&self, provider: &str, model: &str, input: u64, at: DateTime<Utc>) -> Option<&Price> {
        [&self.own, &self.built_in]
            .into_iter()
            .find_map(|prices| in_force(prices, (provider, model), input, at.date_naive()))
    }
}

/// Of the prices that fit, the one that names the provider, then the one with the most particular
/// model pattern, then the highest prompt size reached, then the latest date, then the first.
fn in_force<'a>(
    prices: &'a [Price],
    (provider, model): (&str, &str),
    input: u64,
    day: NaiveDate,
) -> Option<&'a Price> {
    prices
        .iter()
        .filter(|price| {
            (price.provider == provider || price.provider == "*")
                && glob(&price.model, model)
                && price.from.is_none_or(|from| from <= day)
                && (price.above_input_tokens == 0 || input > price.above_input_tokens)
        })
        .rev()
        .max_by_key(|price| {
            let named = price.provider != "*";
            (named, particular(&price.model), price.above_input_tokens, price.from)
        })
}

/// The letters that a pattern fixes; with as many, one without a star is more particular.
fn particular(pattern: &str) -> (usize, bool) {
    let stars = pattern.matches('*').count();
    (pattern.len() - stars, stars == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage {
        input_tokens: 1_000_000,
        cached_input_tokens: 0,
        cache_write_tokens: 0,
        cache_write_1h_tokens: 0,
        output_tokens: 0,
        reasoning_tokens: None,
    };

    fn table() -> PriceTable {
        PriceTable::with_built_in(Vec::new()).unwrap()
    }

    fn own(lines: &[(&str, f64)]) -> PriceTable {
        let price = |(model, input): &(&str, f64)| Price {
            provider: "x".to_owned(),
            model: (*model).to_owned(),
            from: None,
            above_input_tokens: 0,
            input: *input,
            output: 0.0,
            cached_input: None,
            cache_write: None,
            cache_write_1h: None,
            context: None,
        };
        PriceTable { own: lines.iter().map(price).collect(), built_in: Vec::new() }
    }

    fn on(day: &str) -> DateTime<Utc> {
        format!("{day}T12:00:00Z").parse().unwrap()
    }

    fn near(cost: Option<f64>, dollars: f64) -> bool {
        cost.is_some_and(|cost| (cost - dollars).abs() < 1e-9)
    }

    #[test]
    fn a_price_has_dates() {
        let of = |model: &str, day: &str, usage: Usage| {
            let provider = if model.starts_with("claude") { "anthropic" } else { "gemini" };
            table().cost((provider, model), &usage, on(day))
        };
        let read = Usage { cached_input_tokens: 1_000_000, ..USAGE };
        assert!(near(of("claude-sonnet-5-5", "2026-10-06", read), 0.20));
        assert!(near(of("claude-sonnet-5-5", "2026-10-07", read), 0.10));
        assert!(near(of("claude-sonnet-5-5", "2026-10-07", USAGE), 2.0));
        for model in ["gemini-3.8-flash", "gemini-3.7-flash", "gemini-3.6-flash"] {
            assert!(near(of(model, "2026-12-31", USAGE), 0.75), "{model}");
            assert!(near(of(model, "2027-01-01", USAGE), 1.50), "{model}");
        }
    }

    #[test]
    fn a_price_may_step_at_a_prompt_size() {
        let of = |provider, model, input_tokens, output_tokens| {
            let usage = Usage { input_tokens, output_tokens, ..USAGE };
            table().cost((provider, model), &usage, on("2026-11-20")).unwrap_or(f64::NAN)
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(of("anthropic", "claude-haiku-5-5", 100_000, 1_000), 0.010 + 0.000_5);
        close(of("anthropic", "claude-haiku-5-5", 100_001, 1_000), 0.050_000_5 + 0.002_5);
        close(of("openai", "gpt-5.4", 272_000, 1_000_000), 0.68 + 15.0);
        close(of("openai", "gpt-5.4", 1_000_000, 1_000_000), 5.0 + 22.5);
        close(of("gemini", "gemini-3.1-pro-preview", 200_000, 0), 0.4);
        close(of("gemini", "gemini-3.1-pro-preview", 1_000_000, 0), 4.0);
    }

    #[test]
    fn the_most_counts_what_writing_to_the_cache_costs() {
        let mut table = own(&[("m", 1.0)]);
        let most = |table: &PriceTable, hour| {
            table.most(("x", "m"), (1_000_000, 0), hour, on("2026-11-20"))
        };
        assert!(near(most(&table, true), 1.0));
        for price in &mut table.own {
            (price.cache_write, price.cache_write_1h) = (Some(1.25), Some(2.0));
        }
        assert!(near(most(&table, false), 1.25));
        assert!(near(most(&table, true), 2.0));
    }

    #[test]
    fn what_is_not_known_has_no_price() {
        for (provider, model) in [
            ("openai", "gpt-5.4-pro"),
            ("openai", "gpt-9"),
            ("anthropic", "claude-sonnet-5-6"),
            ("gemini", "gemini-2.5-flash-image"),
            ("cerebras", "qwen-3.8-27b"),
            ("groq", "claude-haiku-4-5"),
            ("openai-compatible", "gpt-5-mini"),
        ] {
            let cost = table().cost((provider, model), &USAGE, on("2026-11-20"));
            assert_eq!(cost, None, "{provider} {model}");
        }
        assert!(near(table().cost(("ollama", "qwen3"), &USAGE, on("2026-11-20")), 0.0));
    }

    #[test]
    fn a_dated_name_has_the_price_of_its_model() {
        let of = |provider, model| table().cost((provider, model), &USAGE, on("2026-11-20"));
        assert!(near(of("anthropic", "claude-haiku-4-5-20251001"), 1.0));
        assert!(near(of("anthropic", "claude-opus-4-5-20251101"), 5.0));
        assert!(near(of("openai", "gpt-5-mini-2025-08-07"), 0.25));
        assert!(near(of("openai", "gpt-4.1-2025-04-14"), 2.0));
        assert!(near(of("openai", "gpt-4.1-mini"), 0.40));
    }

    #[test]
    fn the_most_particular_pattern_wins_whatever_the_order() {
        let lines = [("gpt-5*", 1.0), ("gpt-5-mini*", 2.0), ("gpt-5", 3.0), ("*", 4.0)];
        let mut backwards = lines;
        backwards.reverse();
        for table in [own(&lines), own(&backwards)] {
            let of = |model| table.cost(("x", model), &USAGE, on("2026-11-20"));
            assert!(near(of("gpt-5-mini"), 2.0));
            assert!(near(of("gpt-5"), 3.0));
            assert!(near(of("gpt-5.1"), 1.0));
            assert!(near(of("else"), 4.0));
        }
        let claude = own(&[("claude-opus-4-*", 1.0), ("claude-opus-4-5", 2.0)]);
        assert!(near(claude.cost(("x", "claude-opus-4-5"), &USAGE, on("2026-11-20")), 2.0));
        assert!(near(claude.cost(("x", "claude-opus-4-6"), &USAGE, on("2026-11-20")), 1.0));
    }

    #[test]
    fn the_operators_price_wins_over_a_more_particular_one_of_ours() {
        let own = vec![Price {
            provider: "*".to_owned(),
            model: "claude-*".to_owned(),
            from: None,
            above_input_tokens: 0,
            input: 0.5,
            output: 0.5,
            cached_input: None,
            cache_write: None,
            cache_write_1h: None,
            context: None,
        }];
        let table = PriceTable::with_built_in(own).unwrap();
        let of = |model| table.cost(("anthropic", model), &USAGE, on("2026-11-20"));
        assert!(near(of("claude-haiku-4-5"), 0.5));
    }

    #[test]
    fn parts_of_a_prompt_are_priced_apart() {
        let usage = Usage {
            input_tokens: 3_000_000,
            cached_input_tokens: 1_000_000,
            cache_write_tokens: 1_000_000,
            cache_write_1h_tokens: 0,
            output_tokens: 1_000_000,
            reasoning_tokens: Some(500_000),
        };
        let cost =
            |usage| table().cost(("anthropic", "claude-haiku-4-5"), &usage, on("2026-11-20"));
        assert!(near(cost(usage), 1.0 + 0.10 + 1.25 + 5.0));
        let hour = Usage { cache_write_1h_tokens: 400_000, ..usage };
        assert!(near(cost(hour), 1.0 + 0.10 + 0.6 * 1.25 + 0.4 * 2.0 + 5.0));
        let more = Usage { cache_write_1h_tokens: 9_000_000, ..usage };
        assert!(near(cost(more), 1.0 + 0.10 + 2.0 + 5.0));
    }

    #[test]
    fn a_models_window_stands_beside_its_price() {
        let of = |provider, model| table().context(provider, model);
        assert_eq!(of("anthropic", "claude-haiku-4-5-20251001"), Some(200_000));
        assert_eq!(of("anthropic", "claude-haiku-5-5"), Some(1_000_000));
        assert_eq!(of("anthropic", "claude-opus-4-5"), Some(200_000));
        assert_eq!(of("openai", "gpt-6-astra"), Some(1_050_000));
        assert_eq!(of("openai", "gpt-4.1"), None);
    }
}
