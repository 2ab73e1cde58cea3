//! An answer as JSON: the schema as strict modes want it, or as words where there is no knob.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::json::{list, text};
use crate::domain::content::Content;

/// What a strict mode bears.
#[derive(Clone, Copy)]
pub(super) struct Strict {
    /// Properties that may be left out.
    pub optional: usize,
    /// Places with a choice of types.
    pub unions: usize,
    /// Schemas that refer to themselves.
    pub recursion: bool,
}

/// OpenAI's, and that of those who copied it: nothing is optional.
pub(super) const OPENAI: Strict = Strict { optional: 0, unions: usize::MAX, recursion: true };

/// Anthropic's.
pub(super) const ANTHROPIC: Strict = Strict { optional: 24, unions: 16, recursion: false };

/// Taken over as they are.
const KEPT: [&str; 5] = ["type", "enum", "const", "title", "description"];

/// Bounds that strict modes refuse. The model is told of them in the description; whether it kept
/// them is checked here against the task's own schema.
const TOLD: [&str; 15] = [
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
];

/// Of no consequence for an answer.
const DROPPED: [&str; 7] =
    ["$schema", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly"];

/// The schema as a strict mode wants it: objects closed, every property required (one that may be
/// null counts as optional already), bounds moved into words. All that fits the result fits the
/// task's schema but for the bounds. `None` when strict modes cannot say what the schema says;
/// then it is sent as it is, without strictness.
pub(super) fn strict_schema(schema: &Value, strict: &Strict) -> Option<Value> {
    strict_within(schema, &mut { *strict })
}

/// The same where a request has several schemas: each takes of what the request bears.
pub(super) fn strict_within(schema: &Value, left: &mut Strict) -> Option<Value> {
    let mut walk = Walk::default();
    let whole = walk.node(schema).filter(|_| is_object(schema))?;
    let optional = left.optional.checked_sub(walk.optional)?;
    let unions = left.unions.checked_sub(walk.unions)?;
    if !left.recursion && is_recursive(&whole) {
        return None;
    }
    *left = Strict { optional, unions, ..*left };
    Some(whole)
}

/// Whether an answer that fits is an object: JSON modes give nothing else.
pub(super) fn is_object(schema: &Value) -> bool {
    text(schema, "/type") == "object"
}

/// The instructions with the schema in words, for models that cannot be held to one.
pub(super) fn instructed(system: Option<Content>, schema: &Value) -> Content {
    let rule = format!(
        "Answer with one JSON document that fits the JSON Schema below, and with nothing else: \
         no explanation, no code fence.\n{schema}"
    );
    with_rule(system, rule)
}

/// The instructions with the word that the answer must be JSON, whatever its shape.
pub(super) fn instructed_json(system: Option<Content>) -> Content {
    let rule =
        "Answer with one JSON document and with nothing else: no explanation, no code fence.";
    with_rule(system, rule.to_owned())
}

/// The instructions with one more.
pub(super) fn with_rule(system: Option<Content>, rule: String) -> Content {
    match system {
        Some(system) => system.and(rule.into()),
        None => rule.into(),
    }
}

/// Instructions as one text, where no more than that is taken.
pub(super) fn joined(system: &Content) -> String {
    system.texts().collect::<Vec<_>>().join("\n\n")
}

#[derive(Default)]
struct Walk {
    optional: usize,
    unions: usize,
}

impl Walk {
    fn node(&mut self, schema: &Value) -> Option<Value> {
        let from = schema.as_object()?;
        if let Some(target) = from.get("$ref") {
            // Strict modes take nothing beside a reference.
            let local = target.as_str()?.starts_with('#');
            return local.then(|| json!({ "$ref": target }));
        }
        let (mut to, mut told) = (Map::new(), Vec::new());
        for (key, value) in from {
            match key.as_str() {
                key if KEPT.contains(&key) => _ = to.insert(key.to_owned(), value.clone()),
                key if TOLD.contains(&key) => told.push(format!("{key}: {value}")),
                key if DROPPED.contains(&key) => {}
                "properties" | "$defs" | "definitions" => {
                    _ = to.insert(key.clone(), self.each(value)?);
                }
                "items" => _ = to.insert(key.clone(), self.node(value)?),
                // Wider than `oneOf`, but narrowed again by the check of the answer.
                "anyOf" | "oneOf" => _ = to.insert("anyOf".to_owned(), self.choice(value)?),
                "required" | "additionalProperties" => {}
                _ => return None,
            }
        }
        let typed = ["type", "enum", "const", "anyOf"].iter().any(|key| to.contains_key(*key));
        if to.contains_key("properties") || from.get("type").is_some_and(|t| names(t, "object")) {
            self.close(from, &mut to)?;
        } else if !typed {
            return None;
        }
        self.unions += usize::from(to.get("type").is_some_and(Value::is_array));
        if !told.is_empty() {
            let before = to.get("description").and_then(Value::as_str).unwrap_or_default();
            let description = format!("{before} ({})", told.join(", "));
            to.insert("description".to_owned(), description.trim_start().into());
        }
        Some(Value::Object(to))
    }

    fn each(&mut self, schemas: &Value) -> Option<Value> {
        let mut to = Map::new();
        for (name, schema) in schemas.as_object()? {
            to.insert(name.clone(), self.node(schema)?);
        }
        Some(Value::Object(to))
    }

    fn choice(&mut self, schemas: &Value) -> Option<Value> {
        self.unions += 1;
        schemas.as_array()?.iter().map(|schema| self.node(schema)).collect()
    }

    /// Closes an object. One that is meant to be open cannot be said.
    fn close(&mut self, from: &Map<String, Value>, to: &mut Map<String, Value>) -> Option<()> {
        let closed = from.get("additionalProperties").is_none_or(|more| *more == false);
        let properties = to.get("properties").and_then(Value::as_object)?;
        if !closed {
            return None;
        }
        let asked = from.get("required").and_then(Value::as_array);
        let required: Vec<&String> = properties
            .iter()
            .filter(|(name, schema)| {
                is_nullable(schema) || asked.is_some_and(|a| a.iter().any(|one| one == *name))
            })
            .map(|(name, _)| name)
            .collect();
        self.optional += properties.len() - required.len();
        let required = json!(required);
        to.entry("type").or_insert_with(|| "object".into());
        to.insert("required".to_owned(), required);
        to.insert("additionalProperties".to_owned(), false.into());
        Some(())
    }
}

/// Whether a `type` is or includes this one.
fn names(kind: &Value, name: &str) -> bool {
    kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
}

fn is_nullable(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| names(kind, "null"))
        || list(schema, "/anyOf").iter().any(is_nullable)
}

/// Whether a definition leads back to itself. What refers to anything but a definition is taken
/// to do so.
fn is_recursive(schema: &Value) -> bool {
    let mut left: Vec<(String, BTreeSet<String>)> = ["$defs", "definitions"]
        .into_iter()
        .filter_map(|place| Some((place, schema.get(place)?.as_object()?)))
        .flat_map(|(place, schemas)| {
            schemas.iter().map(move |(name, one)| (format!("#/{place}/{name}"), references(one)))
        })
        .collect();
    let known: BTreeSet<String> = left.iter().map(|(name, _)| name.clone()).collect();
    if !references(schema).is_subset(&known) {
        return true;
    }
    // Definitions that refer to no other are settled, then those that refer only to settled ones.
    let mut settled = BTreeSet::new();
    loop {
        let before = left.len();
        left.retain(|(name, refers)| {
            let done = refers.is_subset(&settled);
            if done {
                settled.insert(name.clone());
            }
            !done
        });
        if left.len() == before {
            return !left.is_empty();
        }
    }
}

fn references(schema: &Value) -> BTreeSet<String> {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value.as_str()) {
                ("$ref", Some(target)) => BTreeSet::from([target.to_owned()]),
                _ => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_and_bounds_become_words() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "tags": {
                    "type": "array", "maxItems": 5, "description": "Labels.",
                    "items": { "type": "string", "minLength": 1 },
                },
                "who": { "type": "object", "properties": { "name": { "type": "string" } },
                         "required": ["name"] },
                "note": { "type": ["string", "null"] },
            },
            "required": ["tags", "who"],
        });
        let strict = strict_schema(&schema, &OPENAI).unwrap();
        assert_eq!(
            strict,
            json!({
                "type": "object",
                "properties": {
                    "tags": {
                        "type": "array", "description": "Labels. (maxItems: 5)",
                        "items": { "type": "string", "description": "(minLength: 1)" },
                    },
                    "who": { "type": "object", "properties": { "name": { "type": "string" } },
                             "required": ["name"], "additionalProperties": false },
                    "note": { "type": ["string", "null"] },
                },
                "required": ["tags", "who", "note"],
                "additionalProperties": false,
            })
        );
        assert_eq!(strict_schema(&strict, &OPENAI), Some(strict));
    }

    #[test]
    fn what_strictness_cannot_say_is_left_as_it_is() {
        let object = |more: Value| {
            let mut schema = json!({ "type": "object", "properties": { "a": { "type": "string" } },
                                     "required": ["a"] });
            schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            schema
        };
        assert!(strict_schema(&object(json!({})), &OPENAI).is_some());
        for more in [
            json!({ "additionalProperties": true }),
            json!({ "additionalProperties": { "type": "string" } }),
            json!({ "allOf": [] }),
            json!({ "if": {} }),
            json!({ "patternProperties": {} }),
            json!({ "properties": { "a": true } }),
            json!({ "properties": { "a": {} } }),
            json!({ "properties": { "a": { "type": "object" } } }),
            json!({ "properties": { "a": { "$ref": "https://example.com" } } }),
            json!({ "type": "array" }),
        ] {
            assert_eq!(strict_schema(&object(more.clone()), &OPENAI), None, "{more}");
        }
        assert_eq!(strict_schema(&json!(true), &OPENAI), None);
    }

    #[test]
    fn a_property_that_may_be_missing_suits_anthropic_and_not_openai() {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        assert_eq!(strict_schema(&schema, &OPENAI), None);
        let strict = strict_schema(&schema, &ANTHROPIC).unwrap();
        assert_eq!(strict.get("required"), Some(&json!([])));
    }

    #[test]
    fn a_schema_that_contains_itself_suits_openai_and_not_anthropic() {
        let tree = |leaf: &str| {
            json!({
                "type": "object",
                "properties": { "root": { "$ref": "#/$defs/node" } },
                "required": ["root"],
                "$defs": {
                    "node": { "type": "object", "required": ["next"],
                              "properties": { "next": { "$ref": leaf } } },
                    "leaf": { "type": "string" },
                },
            })
        };
        assert!(strict_schema(&tree("#/$defs/leaf"), &ANTHROPIC).is_some());
        for leaf in ["#/$defs/node", "#"] {
            assert!(strict_schema(&tree(leaf), &OPENAI).is_some(), "{leaf}");
            assert!(strict_schema(&tree(leaf), &ANTHROPIC).is_none(), "{leaf}");
        }
    }

    #[test]
    fn one_of_becomes_any_of() {
        let schema = json!({
            "type": "object", "required": ["a"],
            "properties": { "a": { "oneOf": [{ "type": "string" }, { "type": "null" }] } },
        });
        let strict = strict_schema(&schema, &OPENAI).unwrap();
        assert_eq!(list(&strict, "/properties/a/anyOf").len(), 2);
        let many: Map<String, Value> =
            (0..17).map(|n| (format!("p{n}"), json!({ "type": ["string", "null"] }))).collect();
        let wide = json!({ "type": "object", "properties": many });
        assert!(strict_schema(&wide, &OPENAI).is_some());
        assert!(strict_schema(&wide, &ANTHROPIC).is_none());
    }
}
