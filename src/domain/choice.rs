//! Which steps of a route a job may use: OpenRouter's `provider` object, its names and meanings.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::speed::{Percentile, Spread};

/// Which steps of a route a job may use: OpenRouter's names and meanings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderChoice {
    /// Providers to try first, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// Only these providers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Not these providers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Whether others may serve when those in `order` cannot; without `order`, others than the
    /// first step. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_fallbacks: Option<bool>,
    /// Only steps that support all that is asked for: tools, images, an output schema by the
    /// provider's own means, a temperature. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_parameters: Option<bool>,
    /// What to prefer: `price`, `latency` or `throughput`; or `{by, partition}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// Seconds until the answer that a step may usually take; slower ones are tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_max_latency: Option<Cutoffs>,
    /// Output tokens a second that a step should usually give; slower ones are tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_min_throughput: Option<Cutoffs>,
    /// The highest prices; steps above them are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_price: Option<MaxPrice>,
}

/// The fields of [`ProviderChoice`].
pub const FIELDS: [&str; 9] = [
    "order",
    "only",
    "ignore",
    "allow_fallbacks",
    "require_parameters",
    "sort",
    "preferred_max_latency",
    "preferred_min_throughput",
    "max_price",
];

impl ProviderChoice {
    /// Every provider or account it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.order, &self.only, &self.ignore].into_iter().flatten().map(String::as_str)
    }
}

/// What a route's steps are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SortBy {
    /// The cheapest first.
    Price,
    /// The soonest to answer first.
    Latency,
    /// The most tokens a second first.
    Throughput,
}

/// Among which steps are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// Those of one model; the models keep the route's order.
    #[default]
    Model,
    /// All of the route.
    None,
}

/// What steps are ordered by, and among which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// Among which.
    pub partition: Partition,
}

/// A word sorts the whole route: its steps are what a job may be sent to, whatever their models.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum SortForm {
    Word(SortBy),
    Parts(SortParts),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SortParts {
    by: SortBy,
    #[serde(default)]
    partition: Partition,
}

impl Sort {
    /// All of the route by this.
    pub const fn all(by: SortBy) -> Self {
        Self { by, partition: Partition::None }
    }
}

impl Serialize for Sort {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.partition {
            Partition::None => self.by.serialize(to),
            partition @ Partition::Model => SortParts { by: self.by, partition }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Sort {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let misread = |_| {
            serde::de::Error::custom(
                "`sort` is `price`, `latency` or `throughput`, or {by, partition}",
            )
        };
        Ok(match SortForm::deserialize(from).map_err(misread)? {
            SortForm::Word(by) => Self::all(by),
            SortForm::Parts(SortParts { by, partition }) => Self { by, partition },
        })
    }
}

impl JsonSchema for Sort {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sort".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<SortBy>();
        let parts = generator.subschema_for::<SortParts>();
        json_schema!({ "anyOf": [word, parts] })
    }
}

/// Figures that a step's percentiles are held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Cutoffs {
    /// For the median.
    Median(f64),
    /// For several percentiles; all of them must hold.
    Each(EachCutoff),
}

/// A figure for each percentile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EachCutoff {
    /// Half of all calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// Three in four.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p75: Option<f64>,
    /// Nine in ten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90: Option<f64>,
    /// All but one in a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
}

impl Cutoffs {
    /// Whether all of a step's percentiles are on the right side: `holds(seen, cutoff)`.
    pub fn hold(&self, seen: &Spread, holds: impl Fn(f64, f64) -> bool) -> bool {
        let each = match self {
            Self::Median(most) => EachCutoff { p50: Some(*most), ..EachCutoff::default() },
            Self::Each(each) => *each,
        };
        [
            (Percentile::P50, each.p50),
            (Percentile::P75, each.p75),
            (Percentile::P90, each.p90),
            (Percentile::P99, each.p99),
        ]
        .into_iter()
        .all(|(which, cutoff)| cutoff.is_none_or(|cutoff| holds(seen.at(which), cutoff)))
    }
}

/// The highest prices, in US dollars: by the million tokens, by the request, by the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaxPrice {
    /// A million tokens sent.
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub prompt: Option<f64>,
    /// A million tokens received.
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub completion: Option<f64>,
    /// A request. Nobody here charges by the request, so any figure holds.
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub request: Option<f64>,
    /// An image. Images are charged as the tokens they are, so any figure holds.
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub image: Option<f64>,
}

impl MaxPrice {
    /// Whether a model's prices, by the million tokens sent and received, are within.
    pub fn holds(&self, (input, output): (f64, f64)) -> bool {
        self.prompt.is_none_or(|most| input <= most)
            && self.completion.is_none_or(|most| output <= most)
    }
}

/// A number, or a text that holds one: OpenRouter takes both.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(f64),
        Text(String),
    }
    let read = match Option::<Form>::deserialize(from)? {
        None => return Ok(None),
        Some(Form::Number(number)) => Some(number),
        Some(Form::Text(text)) => text.trim().parse().ok(),
    };
    let sound = read.filter(|number: &f64| number.is_finite() && *number >= 0.0);
    sound.map(Some).ok_or_else(|| serde::de::Error::custom("a price is a number of dollars"))
}

/// When a second step is asked beside the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// Past this part of the first one's usual times.
    Usual(Percentile),
    /// Past this time.
    Fixed(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ProviderChoice {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn sort_is_a_word_or_an_object() {
        assert_eq!(read(r#"{"sort":"price"}"#).sort, Some(Sort::all(SortBy::Price)));
        let by_model = Sort { by: SortBy::Latency, partition: Partition::Model };
        assert_eq!(read(r#"{"sort":{"by":"latency"}}"#).sort, Some(by_model));
        let all = read(r#"{"sort":{"by":"throughput","partition":"none"}}"#);
        assert_eq!(all.sort, Some(Sort::all(SortBy::Throughput)));
        for choice in [all, read(r#"{"sort":{"by":"latency"}}"#)] {
            assert_eq!(read(&serde_json::to_string(&choice).unwrap()), choice);
        }
        assert!(serde_json::from_str::<ProviderChoice>(r#"{"sort":"size"}"#).is_err());
    }

    #[test]
    fn a_highest_price_is_a_number_or_a_text() {
        let most = read(r#"{"max_price":{"prompt":1,"completion":"2.5","image":null}}"#);
        let most = most.max_price.unwrap();
        assert_eq!((most.prompt, most.completion, most.image), (Some(1.0), Some(2.5), None));
        assert!(most.holds((1.0, 2.5)) && !most.holds((1.1, 0.0)) && !most.holds((0.0, 2.6)));
        assert!(serde_json::from_str::<ProviderChoice>(r#"{"max_price":{"prompt":-1}}"#).is_err());
    }

    #[test]
    fn every_field_is_listed() {
        let all = schemars::schema_for!(ProviderChoice);
        let known: Vec<_> = all.get("properties").unwrap().as_object().unwrap().keys().collect();
        assert_eq!(known.len(), FIELDS.len());
        assert!(FIELDS.iter().all(|field| known.iter().any(|name| name == field)));
    }
}
