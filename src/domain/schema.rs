//! JSON Schemas, compiled once, and violations a person can act on.

use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A compiled JSON Schema together with its source.
#[derive(Debug)]
pub struct Schema {
    source: Value,
    validator: Validator,
}

/// One way in which a document does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Violation {
    /// JSON Pointer to the offending place, as a URI fragment: `#/tags/0`.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// The most violations told at once.
const MOST: usize = 50;

/// The longest message, and the longest value that is repeated in one.
const LONGEST: usize = 300;

impl Schema {
    /// Compiles a schema. `$ref`s reach only inside the schema itself.
    pub fn compile(source: Value) -> Result<Self, String> {
        let validator = jsonschema::validator_for(&source).map_err(|fault| fault.to_string())?;
        Ok(Self { source, validator })
    }

    /// The schema as it was written.
    pub const fn source(&self) -> &Value {
        &self.source
    }

    /// Whether `value` fits.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Every way in which `value` does not fit; empty when it does.
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        if self.is_valid(value) {
            return Vec::new();
        }
        self.validator
            .iter_errors(value)
            .take(MOST)
            .map(|fault| Violation {
                pointer: format!("#{}", fault.instance_path()),
                detail: told(&fault),
            })
            .collect()
    }
}

/// What is wrong, with the value where that is not long: a message would repeat all of it.
fn told(fault: &ValidationError<'_>) -> String {
    let (value, mut left) = (fault.instance(), LONGEST);
    if is_long(value, &mut left) {
        let kind = if value.is_array() { "this list" } else { "this value" };
        return shortened(&fault.masked_with(kind).to_string());
    }
    shortened(&fault.to_string())
}

/// Whether a value takes more than what is left to write.
fn is_long(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => text.len(),
        _ => 1,
    };
    *left = left.saturating_sub(own);
    *left == 0
        || match value {
            Value::Array(items) => items.iter().any(|item| is_long(item, left)),
            Value::Object(table) => table.iter().any(|(name, item)| {
                *left = left.saturating_sub(name.len());
                is_long(item, left)
            }),
            _ => false,
        }
}

/// Long values inside a message are cut: a violation is told, the document is not repeated.
fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let tail: String = text.chars().rev().take(LONGEST / 2).collect();
    let tail: String = tail.chars().rev().collect();
    let head: String = text.chars().take(LONGEST / 2).collect();
    format!("{head} […] {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_violation_is_told_with_its_place() {
        let schema = Schema::compile(json!({
            "type": "object",
            "required": ["a"],
            "properties": { "b": { "type": "array", "items": { "type": "string" } } },
        }))
        .unwrap();
        let told = schema.violations(&json!({ "b": [1, "x", 2] }));
        let places: Vec<_> = told.iter().map(|v| v.pointer.as_str()).collect();
        assert_eq!(places.len(), 3, "{told:?}");
        assert!(places.contains(&"#/b/0") && places.contains(&"#/b/2") && places.contains(&"#"));
        assert!(schema.violations(&json!({ "a": 1 })).is_empty());
    }

    #[test]
    fn a_long_value_is_not_repeated() {
        let schema = Schema::compile(json!({ "properties": {
            "a": { "type": "integer" }, "b": { "maxItems": 1 }, "c": { "type": "integer" },
        } }))
        .unwrap();
        let long = "x".repeat(1_000_000);
        let told = schema.violations(&json!({ "a": long, "b": [long, 1], "c": "short" }));
        let details: Vec<&str> = told.iter().map(|violation| violation.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "this value is not of type \"integer\"",
                "this list has more than 1 item",
                "\"short\" is not of type \"integer\""
            ]
        );
    }

    #[test]
    fn a_reference_to_elsewhere_is_refused() {
        for target in ["https://example.com/s.json", "file:///etc/passwd"] {
            assert!(Schema::compile(json!({ "$ref": target })).is_err(), "{target}");
        }
    }
}
