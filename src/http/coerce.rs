//! Values as platforms write them, made into what a JSON Schema wants: numbers and booleans given as
//! texts, JSON within a text, one thing where a list is wanted, an empty text where nothing is.
//!
//! Nothing is made up: what cannot be read as the schema wants it stays as it came, and is refused
//! for what it is.

use std::cell::Cell;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Number, Value};

use crate::domain::task::Task;

/// How deep a schema is followed, and how many of its places are looked at: a schema may lead back
/// into itself.
const DEEPEST: usize = 64;
const MOST_LOOKS: usize = 100_000;

/// What a caller is told when its input was read differently.
pub(super) const READ_AS_WANTED: &str =
    "`input` was read as the task's schema wants it: texts as numbers, booleans, lists or objects";

/// A value as the schema wants it.
pub(super) fn coerced(value: Value, schema: &Value) -> Value {
    let work = Work { root: schema, looks: Cell::new(0) };
    work.to(value, schema, 0).unwrap_or(Value::Null)
}

/// An input that fits its task once it is read as the schema wants it; `None` when it fits as it is,
/// or cannot be made to. In a form everything is text: there JSON within a text is meant as such.
pub(super) fn fitted(input: &RawValue, task: &Task, is_form: bool) -> Option<Box<RawValue>> {
    let value: Value = serde_json::from_str(input.get()).ok()?;
    let within = value.as_str().filter(|_| is_form).and_then(json_within);
    if let Some(within) = within.and_then(|within| fit(within, task)) {
        return to_raw_value(&within).ok();
    }
    if fits(&value, task) {
        return None;
    }
    to_raw_value(&made_to_fit(value, task)?).ok()
}

/// The value as the task wants it, if it then fits.
pub(super) fn fit(value: Value, task: &Task) -> Option<Value> {
    if fits(&value, task) {
        return Some(value);
    }
    made_to_fit(value, task)
}

/// A value that does not fit as it is, as the task wants it.
fn made_to_fit(value: Value, task: &Task) -> Option<Value> {
    let value = coerced(value, task.input.as_ref()?.source());
    fits(&value, task).then_some(value)
}

fn fits(value: &Value, task: &Task) -> bool {
    // A conversation has rules that its schema cannot tell.
    task.fits(value) && (task.template.is_some() || task.prompt(value).is_ok())
}

/// Whether a task's input is a list.
pub(super) fn wants_lists(task: &Task) -> bool {
    task.input.as_ref().is_some_and(|schema| kinds(schema.source()).contains(&"array"))
}

/// The object or list a text holds.
pub(super) fn json_within(text: &str) -> Option<Value> {
    let text = text.trim();
    text.starts_with(['{', '[']).then(|| serde_json::from_str(text).ok()).flatten()
}

struct Work<'a> {
    root: &'a Value,
    looks: Cell<usize>,
}

impl<'a> Work<'a> {
    /// The value as this part of the schema wants it; `None` when that is no value at all.
    fn to(&self, value: Value, node: &'a Value, depth: usize) -> Option<Value> {
        self.looks.set(self.looks.get() + 1);
        if depth > DEEPEST || self.looks.get() > MOST_LOOKS {
            return Some(value);
        }
        let node = self.resolved(node);
        for name in ["anyOf", "oneOf"] {
            if let Some(branches) = node.get(name).and_then(Value::as_array) {
                return self.to_one_of(value, branches, depth);
            }
        }
        let mut parts = node.get("allOf").and_then(Value::as_array).into_iter().flatten();
        let value = parts.try_fold(value, |value, part| self.to(value, part, depth + 1))?;
        let kinds = kinds(node);
        if kinds.is_empty() || kinds.contains(&kind(&value)) || (is_whole(&value, &kinds)) {
            return Some(self.within(value, node, depth));
        }
        let value = match value {
            Value::Null => return None,
            Value::String(text) => self.text(text, &kinds, node, depth)?,
            Value::Number(number) if kinds.contains(&"string") => Value::String(number.to_string()),
            Value::Bool(fact) if kinds.contains(&"string") => Value::String(fact.to_string()),
            // One thing where a list of such is wanted.
            value if kinds.contains(&"array") => Value::Array(vec![value]),
            value => value,
        };
        Some(self.within(value, node, depth))
    }

    /// The first alternative that takes the value as it is, or else as it can be read.
    fn to_one_of(&self, value: Value, branches: &'a [Value], depth: usize) -> Option<Value> {
        let plain = |branch: &&Value| self.takes(&value, branch);
        if let Some(branch) = branches.iter().find(plain) {
            return self.to(value, branch, depth + 1);
        }
        for branch in branches {
            match self.to(value.clone(), branch, depth + 1) {
                Some(read) if self.takes(&read, branch) => return Some(read),
                _ => {}
            }
        }
        if value.is_null() || value == "" { None } else { Some(value) }
    }

    /// Whether an alternative is meant by a value: of its kind, one of its words, with its fields.
    fn takes(&self, value: &Value, branch: &'a Value) -> bool {
        let node = self.resolved(branch);
        let kinds = kinds(node);
        let required = node.get("required").and_then(Value::as_array).into_iter().flatten();
        let has_all = value.as_object().is_none_or(|table| {
            required.filter_map(Value::as_str).all(|name| table.contains_key(name))
        });
        let words = node.get("enum").and_then(Value::as_array);
        (kinds.is_empty() || kinds.contains(&kind(value)) || is_whole(value, &kinds))
            && words.is_none_or(|words| words.contains(value))
            && node.get("const").is_none_or(|only| only == value)
            && has_all
    }

    /// A text where no text is wanted.
    fn text(&self, text: String, kinds: &[&str], node: &'a Value, depth: usize) -> Option<Value> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return None;
        }
        if kinds.contains(&"boolean")
            && let Some(fact) = boolean(trimmed)
        {
            return Some(Value::Bool(fact));
        }
        if let Some(number) = number(trimmed, kinds) {
            return Some(Value::Number(number));
        }
        let meant = |within: &Value| kinds.contains(&kind(within)) || kinds.contains(&"array");
        if let Some(within) = json_within(trimmed).filter(meant) {
            return self.to(within, node, depth + 1);
        }
        if kinds.contains(&"array") {
            let parts = trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
            return Some(parts.map(Value::from).collect());
        }
        Some(Value::String(text))
    }

    /// What stands inside an object, a list, or a text of a few words to choose from.
    fn within(&self, value: Value, node: &'a Value, depth: usize) -> Value {
        match value {
            Value::Object(table) => Value::Object(self.object(table, node, depth)),
            Value::Array(items) => {
                let Some(each) = node.get("items").filter(|each| each.is_object()) else {
                    return Value::Array(items);
                };
                items.into_iter().filter_map(|item| self.to(item, each, depth + 1)).collect()
            }
            Value::String(text) => Value::String(word(text, node)),
            value => value,
        }
    }

    fn object(
        &self,
        table: Map<String, Value>,
        node: &'a Value,
        depth: usize,
    ) -> Map<String, Value> {
        let others = node.get("additionalProperties").filter(|any| any.is_object());
        let own = |name: &str| node.get("properties").and_then(|all| all.get(name)).or(others);
        let read = |(name, value): (String, Value)| match own(&name) {
            Some(node) => Some((name, self.to(value, node, depth + 1)?)),
            None => Some((name, value)),
        };
        table.into_iter().filter_map(read).collect()
    }

    fn resolved(&self, node: &'a Value) -> &'a Value {
        let mut node = node;
        for _ in 0..DEEPEST {
            let target = node.get("$ref").and_then(Value::as_str);
            let Some(pointer) = target.and_then(|target| target.strip_prefix('#')) else { break };
            let Some(next) = self.root.pointer(pointer) else { break };
            node = next;
        }
        node
    }
}

/// The kinds of value a schema says it takes; none when it does not say.
fn kinds(node: &Value) -> Vec<&str> {
    match node.get("type") {
        Some(Value::String(only)) => return vec![only],
        Some(Value::Array(several)) => return several.iter().filter_map(Value::as_str).collect(),
        _ => {}
    }
    if let Some(words) = node.get("enum").and_then(Value::as_array) {
        return words.iter().map(kind).collect();
    }
    if let Some(only) = node.get("const") {
        return vec![kind(only)];
    }
    let has = |name: &str| node.get(name).is_some();
    match () {
        () if has("properties") || has("required") => vec!["object"],
        () if has("items") => vec!["array"],
        () => Vec::new(),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A whole number where only those are wanted.
fn is_whole(value: &Value, kinds: &[&str]) -> bool {
    kinds.contains(&"integer") && (value.is_i64() || value.is_u64())
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn number(text: &str, kinds: &[&str]) -> Option<Number> {
    let whole = || text.parse::<i64>().ok().map(Number::from);
    if kinds.contains(&"number") {
        return whole().or_else(|| Number::from_f64(text.parse().ok()?));
    }
    // A spreadsheet's 5.0 is 5.
    let even =
        || text.strip_suffix(".0").and_then(|text| text.parse::<i64>().ok()).map(Number::from);
    kinds.contains(&"integer").then(|| whole().or_else(even)).flatten()
}

/// One of the words to choose from, however it is capitalised and spaced.
fn word(text: String, node: &Value) -> String {
    let words = node.get("enum").and_then(Value::as_array).into_iter().flatten();
    let mut words =
        words.filter_map(Value::as_str).chain(node.get("const").and_then(Value::as_str));
    words.find(|word| word.eq_ignore_ascii_case(text.trim())).map_or(text, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_become_what_the_schema_wants() {
        let schema = json!({
            "type": "object",
            "properties": {
                "count": { "type": "integer" }, "rate": { "type": "number" },
                "yes": { "type": "boolean" }, "no": { "type": ["boolean", "null"] },
                "tags": { "type": "array", "items": { "type": "string" } },
                "ids": { "type": "array", "items": { "type": "integer" } },
                "one": { "type": "array", "items": { "type": "object" } },
                "table": { "$ref": "#/$defs/table" }, "text": { "type": "string" },
                "level": { "enum": ["low", "high"] }, "gone": { "type": "number" },
                "null": { "type": "string" }, "json": { "type": "array", "items": { "type": "integer" } },
                "either": { "anyOf": [{ "type": "number" }, { "type": "null" }] },
            },
            "additionalProperties": { "type": "boolean" },
            "$defs": { "table": { "properties": { "a": { "type": "integer" } } } },
        });
        let given = json!({
            "count": " 200 ", "rate": "1.5", "yes": "on", "no": "FALSE", "tags": "a, b,,c",
            "ids": "1,2", "one": {"x": 1}, "table": "{\"a\":\"5.0\"}", "text": 17, "level": "High ",
            "gone": "", "null": null, "json": "[\"1\", 2]", "either": "7", "more": "yes",
        });
        let read = json!({
            "count": 200, "rate": 1.5, "yes": true, "no": false, "tags": ["a", "b", "c"],
            "ids": [1, 2], "one": [{"x": 1}], "table": {"a": 5}, "text": "17", "level": "high",
            "json": [1, 2], "either": 7, "more": true,
        });
        assert_eq!(coerced(given, &schema), read);
    }

    #[test]
    fn what_fits_or_cannot_be_read_stays() {
        let schema = json!({ "properties": {
            "a": { "type": ["string", "integer"] }, "b": { "type": "integer" }, "c": {},
            "d": { "type": "object" },
        } });
        let given = json!({ "a": "5", "b": "five", "c": "{}", "d": "[1]", "e": "1" });
        assert_eq!(coerced(given.clone(), &schema), given);
        assert_eq!(coerced(json!("007"), &json!({ "type": "string" })), json!("007"));
    }

    #[test]
    fn a_schema_that_leads_into_itself_ends() {
        let schema = json!({
            "$ref": "#/$defs/tree",
            "$defs": { "tree": { "anyOf": [
                { "type": "object", "required": ["x"], "properties": { "next": { "$ref": "#/$defs/tree" } } },
                { "type": "object", "required": ["y"], "properties": { "next": { "$ref": "#/$defs/tree" } } },
            ] }, "loop": { "$ref": "#/$defs/loop" } },
        });
        let deep = (0..60).fold(json!({ "z": 1 }), |inner, _| json!({ "next": inner }));
        assert_eq!(coerced(deep.clone(), &schema), deep);
        assert_eq!(coerced(json!("1"), &json!({ "$ref": "#" })), json!("1"));
    }
}
