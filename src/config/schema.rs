//! The JSON Schema of the settings, and a document held against it.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Config;
use super::document::{Document, SECRETS};
use super::fault::{Faults, instead, joined};
use super::form::{branches, child, form, names, resolved};

/// The settings' JSON Schema (`schemas/config.json`).
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    without_null(&mut schema);
    name_sections(&mut schema);
    add_file_twins(&mut schema);
    schema
}

/// Tells everything in which a document differs from the settings' schema. What is left without
/// that becomes the document's sound part, so that it can be looked at further.
pub(super) fn check(document: &mut Document, schema: &Value, faults: &mut Faults) {
    let options = jsonschema::options().should_validate_formats(true);
    let validator = match options.build(schema) {
        Ok(validator) => validator,
        Err(fault) => return faults.add("schemas/config.json", fault.to_string()),
    };
    let mut judge = Judge { schema, document, refused: Vec::new() };
    for error in validator.iter_errors(&document.root) {
        judge.tell(&error, faults);
    }
    let refused = judge.refused;
    document.set_sound_without(&refused);
}

/// TOML has no null: what may be null may be left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(node) => {
            node.values_mut().for_each(without_null);
            drop_null(node);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn drop_null(node: &mut Map<String, Value>) {
    if let Some(Value::Object(default)) = node.get_mut("default") {
        default.retain(|_, value| !value.is_null());
    }
    if node.get("default").is_some_and(Value::is_null) {
        node.shift_remove("default");
    }
    if let Some(Value::Array(types)) = node.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            node.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(forms)) = node.get_mut("anyOf") {
        forms.retain(|form| *form != json!({ "type": "null" }));
        if let [Value::Object(only)] = forms.as_slice() {
            let only = only.clone();
            node.shift_remove("anyOf");
            for (key, value) in only {
                node.entry(key).or_insert(value);
            }
        }
    }
}

/// Every module calls its settings `Settings`; here each is called after the table it is for.
fn name_sections(schema: &mut Value) {
    let accounts = schema.pointer("/$defs/AccountSettings/properties");
    let tables = [schema.get("properties"), accounts].into_iter().flatten();
    let renamed: Vec<(String, String)> = tables
        .filter_map(Value::as_object)
        .flatten()
        .filter_map(|(name, node)| {
            let old = node.get("$ref")?.as_str()?;
            let is_section =
                old.trim_end_matches(|c: char| c.is_ascii_digit()).ends_with("Settings");
            is_section.then(|| (old.to_owned(), name.clone()))
        })
        .collect();
    for (old, name) in renamed {
        rename(schema, &old, &format!("#/$defs/{name}"));
        let Some(Value::Object(defs)) = schema.get_mut("$defs") else { continue };
        if let Some(definition) = defs.shift_remove(old.trim_start_matches("#/$defs/")) {
            defs.insert(name, definition);
        }
    }
    if let Some(Value::Object(defs)) = schema.get_mut("$defs") {
        defs.sort_keys();
    }
}

fn rename(node: &mut Value, old: &str, new: &str) {
    match node {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "$ref" && value == old {
                    *value = Value::String(new.to_owned());
                }
                rename(value, old, new);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, old, new)),
        _ => {}
    }
}

/// Beside a secret its `_file` may stand; modules below know nothing of that.
fn add_file_twins(schema: &mut Value) {
    for secret in SECRETS {
        let [table] = secret.within else { continue };
        let place = format!("/$defs/{table}/properties");
        if let Some(Value::Object(properties)) = schema.pointer_mut(&place) {
            let what = if secret.is_list { "hold, one a line," } else { "hold" };
            properties.insert(
                format!("{}_file", secret.name),
                json!({
                    "type": "string",
                    "description": format!("A file to {what} `{}`.", secret.name),
                }),
            );
        }
    }
}

/// Puts a validator's errors into the operator's words.
struct Judge<'a> {
    schema: &'a Value,
    document: &'a Document,
    /// The names on the way to each value that cannot be used.
    refused: Vec<Vec<String>>,
}

impl<'a> Judge<'a> {
    fn tell(&mut self, error: &ValidationError<'_>, faults: &mut Faults) {
        let (key, place) = (key_of(error.instance_path()), names_of(error.instance_path()));
        let node = self.node_of(error.schema_path());
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    let known = instead(name, names(self.schema, node));
                    let from = self.document.source_of(&joined(&key, name));
                    faults.add(joined(&key, name), format!("is not a setting{known}{from}"));
                    let is_in_list = key.contains('[');
                    let own = place.iter().chain((!is_in_list).then_some(name));
                    self.refused.push(own.cloned().collect());
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let expected = child(self.schema, node, name)
                    .map_or_else(|| "a value".to_owned(), |node| form(self.schema, node));
                faults.add(joined(&key, name), format!("is missing: expected {expected}"));
            }
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context } => {
                match self.chosen(node, error.instance(), context) {
                    Some(within) => within.iter().for_each(|error| self.tell(error, faults)),
                    None => faults.add(&key, self.refusal(&key, error, node)),
                }
                self.refused.push(place);
            }
            _ => {
                faults.add(&key, self.refusal(&key, error, node));
                self.refused.push(place);
            }
        }
    }

    fn refusal(&self, key: &str, error: &ValidationError<'_>, node: &Value) -> String {
        let (expected, from) = (form(self.schema, node), self.document.source_of(key));
        match error.kind() {
            ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MinLength { .. } => {
                format!("is empty: expected {expected}{from}")
            }
            _ => {
                let shown = self.document.shown(key, error.instance());
                format!("{shown} is not {expected}{from}")
            }
        }
    }

    /// The schema a keyword stands in.
    fn node_of(&self, keyword: &Location) -> &'a Value {
        let (parent, _) = keyword.as_str().rsplit_once('/').unwrap_or_default();
        self.schema.pointer(parent).unwrap_or(&Value::Null)
    }

    /// Of several alternatives, the errors in the one that was evidently meant: the only one
    /// for a table, when a table is given.
    fn chosen<'e>(
        &self,
        node: &Value,
        value: &Value,
        context: &'e [Vec<ValidationError<'static>>],
    ) -> Option<&'e [ValidationError<'static>]> {
        if !value.is_object() {
            return None;
        }
        let is_table = |branch: &Value| resolved(self.schema, branch).get("properties").is_some();
        let at = branches(node).iter().position(is_table)?;
        context.get(at).map(Vec::as_slice)
    }
}

/// `accounts.claude-main.limits[0].requests`.
fn key_of(place: &Location) -> String {
    place.iter().fold(String::new(), |key, segment| match segment {
        LocationSegment::Property(name) => joined(&key, &name),
        LocationSegment::Index(index) => format!("{key}[{index}]"),
    })
}

/// The names up to the first list.
fn names_of(place: &Location) -> Vec<String> {
    let names = place.iter().map_while(|segment| match segment {
        LocationSegment::Property(name) => Some(name.into_owned()),
        LocationSegment::Index(_) => None,
    });
    names.collect()
}
