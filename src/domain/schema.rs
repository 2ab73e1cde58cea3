//! JSON Schemas, compiled once, and violations a person can act on.

use jsonschema::Validator;
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

    /// Every way in which `value` does not fit; empty when it does.
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        self.validator
            .iter_errors(value)
            .take(MOST)
            .map(|fault| Violation {
                pointer: format!("#{}", fault.instance_path()),
                detail: shortened(&fault.to_string()),
            })
            .collect()
    }
}

/// Long values inside a message are cut: a violation is told, the document is not repeated.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
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
    fn a_reference_to_elsewhere_is_refused() {
        for target in ["https://example.com/s.json", "file:///etc/passwd"] {
            assert!(Schema::compile(json!({ "$ref": target })).is_err(), "{target}");
        }
    }
}
