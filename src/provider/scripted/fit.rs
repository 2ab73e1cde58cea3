//! Documents that fit a JSON Schema, made of a prompt's own words.
//!
//! It knows what task schemas are made of (types, `enum`, `const`, `properties`, `items`, lengths,
//! bounds, `anyOf`, local `$ref`s) and leaves out `pattern`, `not`, `if` and dependent keywords.

use serde_json::{Map, Number, Value, json};

use super::chance;

/// Deeper than this, what is optional is left out, so that recursive schemas come to an end.
const DEEP: usize = 4;
/// Deeper than this there is nothing: the schema asks for a document without end.
const DEEPEST: usize = 48;
/// How often another value is tried where values must differ.
const TRIES: usize = 64;

/// A document that fits the schema, derived from the text.
pub(super) fn document(schema: &Value, text: &str) -> Value {
    Fitter { root: schema, words: Words::of(text) }.value(schema, 0)
}

/// A text's words, one after the other; the second time around they carry a number.
pub(super) struct Words {
    all: Vec<String>,
    taken: usize,
    numbers: u64,
}

impl Words {
    /// The distinct words of a text that say something.
    pub(super) fn of(text: &str) -> Self {
        let mut words: Vec<String> = Vec::new();
        let all = text.split(|c: char| !c.is_alphanumeric());
        for word in all.filter(|word| word.chars().count() > 3).map(str::to_lowercase) {
            if words.len() < 200 && !words.contains(&word) {
                words.push(word);
            }
        }
        if words.is_empty() {
            words.push("scripted".to_owned());
        }
        Self { all: words, taken: 0, numbers: 0 }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    /// The next word.
    fn next(&mut self) -> String {
        let (round, index) = (self.taken / self.all.len(), self.taken % self.all.len());
        self.taken += 1;
        let word = self.all.get(index).cloned().unwrap_or_default();
        if round == 0 { word } else { format!("{word}{}", round + 1) }
    }

    /// The next so many words.
    pub(super) fn phrase(&mut self, count: usize) -> String {
        (0..count.max(1)).map(|_| self.next()).collect::<Vec<_>>().join(" ")
    }

    /// A number, another one each time.
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        chance::scatter(self.numbers ^ chance::of_text(self.all.first().map_or("", String::as_str)))
    }

    /// One of so many.
    fn pick(&mut self, count: usize) -> usize {
        let count = u64::try_from(count.max(1)).unwrap_or(1);
        usize::try_from(self.number() % count).unwrap_or_default()
    }
}

struct Fitter<'a> {
    root: &'a Value,
    words: Words,
}

impl Fitter<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        let Value::Object(schema) = schema else {
            return Value::String(self.words.phrase(3));
        };
        if depth > DEEPEST {
            return Value::Null;
        }
        let schema = self.flat(schema, depth);
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(Value::Array(choices)) = schema.get("enum") {
            let index = self.words.pick(choices.len());
            return choices.get(index).cloned().unwrap_or_default();
        }
        match type_of(&schema) {
            "object" => self.object(&schema, depth),
            "array" => self.array(&schema, depth),
            "integer" => self.integer(&schema),
            "number" => self.number(&schema),
            "boolean" => Value::Bool(self.words.number().is_multiple_of(2)),
            "null" => Value::Null,
            _ => Value::String(self.string(&schema, depth)),
        }
    }

    /// The schema with what it refers to, and one of its alternatives, written into it.
    fn flat(&mut self, schema: &Map<String, Value>, depth: usize) -> Map<String, Value> {
        let mut flat = schema.clone();
        // Each round takes one keyword away; a schema that refers to itself alone ends here too.
        for _ in 0..DEEPEST {
            let further = if let Some(Value::String(target)) = flat.shift_remove("$ref") {
                self.root.pointer(target.trim_start_matches('#')).cloned()
            } else if let Some(Value::Array(all)) = flat.shift_remove("allOf") {
                for part in &all {
                    merge(&mut flat, part);
                }
                continue;
            } else {
                let any = flat.shift_remove("anyOf").or_else(|| flat.shift_remove("oneOf"));
                let Some(Value::Array(any)) = any else { break };
                branch(&any, depth).cloned()
            };
            if let Some(further) = further {
                merge(&mut flat, &further);
            }
        }
        flat
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Value {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<&str> = strings(schema.get("required")).collect();
        let mut made = Map::new();
        for (name, property) in properties {
            let wanted = required.contains(&name.as_str());
            if wanted || (depth < DEEP && *property != Value::Bool(false)) {
                made.insert(name.clone(), self.value(property, depth + 1));
            }
        }
        let others = schema.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
        for name in required {
            if !made.contains_key(name) {
                made.insert(name.to_owned(), self.value(&others, depth + 1));
            }
        }
        let least = length(schema, "minProperties").unwrap_or(0);
        while made.len() < least {
            made.insert(self.words.next(), self.value(&others, depth + 1));
        }
        Value::Object(made)
    }

    fn array(&mut self, schema: &Map<String, Value>, depth: usize) -> Value {
        let least = length(schema, "minItems").unwrap_or(0);
        let most = length(schema, "maxItems").unwrap_or(usize::MAX);
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let first = first.map_or(&[][..], Vec::as_slice);
        let some = if depth < DEEP { 1 + self.words.pick(3) } else { 0 };
        let anything = Value::Bool(true);
        let items = schema.get("items").unwrap_or(&anything);
        let more = if *items == Value::Bool(false) { 0 } else { some };
        let count = least.max(first.len().max(more)).min(most);
        let differ = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let mut made: Vec<Value> = Vec::new();
        for index in 0..count {
            let item = first.get(index).unwrap_or(items);
            let mut value = self.value(item, depth.max(1) + 1);
            for _ in 0..TRIES {
                if !(differ && made.contains(&value)) {
                    break;
                }
                value = self.value(item, depth.max(1) + 1);
            }
            // Where there are not enough different values, fewer are better than a repeat.
            if !(differ && made.contains(&value)) {
                made.push(value);
            }
        }
        Value::Array(made)
    }

    /// A word inside a list, a phrase elsewhere, as long as the schema says.
    fn string(&mut self, schema: &Map<String, Value>, depth: usize) -> String {
        let format = schema.get("format").and_then(Value::as_str);
        if let Some(text) = format.and_then(|format| self.formatted(format)) {
            return text;
        }
        let least = length(schema, "minLength").unwrap_or(0);
        let most = length(schema, "maxLength").unwrap_or(usize::MAX);
        let mut text = self.words.phrase(if depth > 1 { 1 } else { 6 });
        while text.chars().count() < least {
            text.push(' ');
            text.push_str(&self.words.next());
        }
        text.chars().take(most).collect()
    }

    fn formatted(&mut self, format: &str) -> Option<String> {
        let number = self.words.number();
        let text = match format {
            "date-time" => format!("2026-{:02}-{:02}T09:30:00Z", number % 12 + 1, number % 28 + 1),
            "date" => format!("2026-{:02}-{:02}", number % 12 + 1, number % 28 + 1),
            "time" => format!("{:02}:{:02}:00Z", number % 24, number % 60),
            "duration" => format!("PT{}M", number % 60 + 1),
            "email" | "idn-email" => format!("mail{}@example.com", number % 1_000),
            "uri" | "uri-reference" | "iri" => format!("https://example.com/{}", number % 1_000),
            "hostname" | "idn-hostname" => format!("host{}.example.com", number % 1_000),
            "ipv4" => format!("192.0.2.{}", number % 255),
            "ipv6" => format!("2001:db8::{:x}", number % 0xffff),
            "uuid" => format!("00000000-0000-4000-8000-{:012x}", number % (1 << 40)),
            _ => return None,
        };
        Some(text)
    }

    #[expect(clippy::cast_possible_truncation, reason = "`as` keeps to the range of i64")]
    fn integer(&mut self, schema: &Map<String, Value>) -> Value {
        let (low, high) = bounds(schema, true);
        let (low, high) = (low.ceil() as i64, high.floor() as i64);
        let wide = u64::try_from(high.saturating_sub(low)).unwrap_or_default();
        let step = i64::try_from(self.words.number() % wide.saturating_add(1)).unwrap_or_default();
        let value = low.saturating_add(step);
        match schema.get("multipleOf").and_then(Value::as_f64).map(|of| of as i64) {
            Some(of) if of > 0 => {
                let below = value - value.rem_euclid(of);
                json!(if below < low { below + of } else { below })
            }
            _ => json!(value),
        }
    }

    fn number(&mut self, schema: &Map<String, Value>) -> Value {
        let (low, high) = bounds(schema, false);
        if let Some(of) = schema.get("multipleOf").and_then(Value::as_f64).filter(|of| *of > 0.0) {
            return float((low / of).ceil() * of);
        }
        let share = 0.1 + 0.8 * chance::share(self.words.number());
        let value = (high - low).mul_add(share, low);
        let short = (value * 100.0).round() / 100.0;
        float(if short > low && short < high { short } else { value })
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// The smallest and the largest number allowed. For whole numbers exclusive bounds are one further
/// in; others never lie on a bound anyway.
fn bounds(schema: &Map<String, Value>, whole: bool) -> (f64, f64) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let tighter = |a: Option<f64>, b: Option<f64>, pick: fn(f64, f64) -> f64| match (a, b) {
        (Some(a), Some(b)) => Some(pick(a, b)),
        (a, b) => a.or(b),
    };
    let above = bound("exclusiveMinimum").map(|low| if whole { low.floor() + 1.0 } else { low });
    let below = bound("exclusiveMaximum").map(|high| if whole { high.ceil() - 1.0 } else { high });
    let low = tighter(bound("minimum"), above, f64::max);
    let high = tighter(bound("maximum"), below, f64::min);
    match (low, high) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 10.0),
        (None, Some(high)) => (high - 10.0, high),
        (None, None) => (0.0, 10.0),
    }
}

/// The alternative to follow: the first that is not `null`; deep down the simplest.
fn branch(any: &[Value], depth: usize) -> Option<&Value> {
    let is_null = |branch: &&Value| branch.get("type").is_some_and(|t| t == "null");
    let is_plain = |branch: &&Value| {
        let kind = branch.get("type").and_then(Value::as_str).unwrap_or("object");
        !matches!(kind, "object" | "array") || branch.get("const").is_some()
    };
    if depth >= DEEP {
        let simplest = any.iter().find(is_null).or_else(|| any.iter().find(is_plain));
        return simplest.or_else(|| any.first());
    }
    any.iter().find(|branch| !is_null(branch)).or_else(|| any.first())
}

/// Writes one schema into another: properties and required names add up, the rest replaces.
fn merge(into: &mut Map<String, Value>, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        match (name.as_str(), into.get_mut(name), value) {
            ("properties", Some(Value::Object(mine)), Value::Object(theirs)) => {
                for (property, schema) in theirs {
                    mine.entry(property.clone()).or_insert_with(|| schema.clone());
                }
            }
            ("required" | "allOf", Some(Value::Array(mine)), Value::Array(theirs)) => {
                mine.extend(theirs.iter().cloned());
            }
            _ => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The type to make: the first that is not `null`, or what the other keywords are about.
fn type_of(schema: &Map<String, Value>) -> &str {
    let mut types = strings(schema.get("type"));
    if let Some(first) = types.next() {
        return if first == "null" { types.next().unwrap_or(first) } else { first };
    }
    let about = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
    if about(&["properties", "required", "additionalProperties", "minProperties"]) {
        "object"
    } else if about(&["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]) {
        "array"
    } else if about(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        "number"
    } else {
        "string"
    }
}

/// The strings of a value that is one, or a list of them.
fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, list) = match value {
        Some(Value::String(one)) => (Some(one.as_str()), &[][..]),
        Some(Value::Array(list)) => (None, list.as_slice()),
        _ => (None, &[][..]),
    };
    one.into_iter().chain(list.iter().filter_map(Value::as_str))
}

fn length(schema: &Map<String, Value>, name: &str) -> Option<usize> {
    schema.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::schema::Schema;
    use proptest::prelude::*;

    fn schemas() -> Vec<Value> {
        let person = json!({
            "$defs": { "person": {
                "type": "object", "required": ["name", "boss"], "additionalProperties": false,
                "properties": {
                    "name": { "type": "string", "minLength": 1, "maxLength": 12 },
                    "boss": { "anyOf": [{ "$ref": "#/$defs/person" }, { "type": "null" }] },
                },
            } },
            "$ref": "#/$defs/person",
        });
        vec![
            json!({}),
            json!({ "type": "object", "required": ["tags"], "additionalProperties": false,
                "properties": { "tags": { "type": "array", "items": { "type": "string",
                    "maxLength": 40 }, "minItems": 1, "maxItems": 5, "uniqueItems": true } } }),
            json!({ "type": "object", "required": ["label", "confidence", "other"],
                "properties": { "label": { "enum": ["billing", "sales", "spam"] },
                    "confidence": { "type": "number", "minimum": 0, "maximum": 1 } } }),
            json!({ "type": "array", "minItems": 7, "uniqueItems": true,
                "items": { "type": "integer", "minimum": 3, "maximum": 40 } }),
            json!({ "type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 5,
                "multipleOf": 2 }),
            json!({ "type": ["null", "number"], "exclusiveMinimum": 0.5, "maximum": 0.6 }),
            json!({ "type": "string", "minLength": 300, "maxLength": 301 }),
            json!({ "allOf": [{ "type": "object", "required": ["a"] },
                { "properties": { "a": { "const": 7 }, "b": { "type": "boolean" } } }] }),
            json!({ "oneOf": [{ "type": "null" }, { "type": "object", "required": ["at", "mail"],
                "properties": { "at": { "type": "string", "format": "date-time" },
                    "mail": { "type": "string", "format": "email" } } }] }),
            json!({ "type": "array", "prefixItems": [{ "const": "a" }, { "type": "integer" }],
                "items": false }),
            json!({ "type": "object", "minProperties": 3,
                "additionalProperties": { "type": "integer", "maximum": -5 } }),
            json!({ "type": "object", "required": ["steps"], "properties": {
                "steps": { "type": "array", "minItems": 2, "items": { "type": "object",
                    "required": ["do", "after"], "properties": {
                        "do": { "type": "string", "minLength": 3 },
                        "after": { "type": "array", "items": { "type": "integer", "minimum": 0 } },
                        "then": { "$ref": "#/properties/steps" } } } } } }),
            person,
        ]
    }

    #[test]
    fn what_is_made_fits_its_schema() {
        let schemas: Vec<Schema> =
            schemas().into_iter().map(|source| Schema::compile(source).unwrap()).collect();
        proptest!(|(text in ".{0,200}")| {
            for schema in &schemas {
                let made = document(schema.source(), &text);
                let told = schema.violations(&made);
                prop_assert!(told.is_empty(), "{made} for {}: {told:?}", schema.source());
                prop_assert_eq!(&document(schema.source(), &text), &made);
            }
        });
    }

    #[test]
    fn a_schema_that_only_refers_to_itself_comes_to_an_end() {
        document(&json!({ "$ref": "#" }), "x");
        let endless =
            json!({ "type": "object", "required": ["a"], "properties": { "a": { "$ref": "#" } } });
        document(&endless, "x");
    }

    #[test]
    fn words_come_from_the_text() {
        let schema = json!({ "type": "array", "minItems": 2, "items": { "type": "string" } });
        let made = document(&schema, "Invoice unpaid since March");
        assert_eq!(made.get(0), Some(&json!("invoice")), "{made}");
    }
}
