//! The settings as they were written, before they have types: TOML, `${VAR}` and files put in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml::de::DeTable;

use super::Environment;
use super::fault::{Faults, joined};

/// A secret's place. Beside its name, `<name>_file` may stand.
pub(super) struct SecretPlace {
    /// The tables on the way; `*` stands for every entry.
    pub(super) within: &'static [&'static str],
    /// Its name.
    pub(super) name: &'static str,
    /// Whether the file holds several, one a line.
    pub(super) is_list: bool,
}

const fn one(within: &'static [&'static str], name: &'static str) -> SecretPlace {
    SecretPlace { within, name, is_list: false }
}

const fn list(within: &'static [&'static str], name: &'static str) -> SecretPlace {
    SecretPlace { within, name, is_list: true }
}

/// Where secrets stand. A database's address holds its password.
pub(super) const SECRETS: &[SecretPlace] = &[
    one(&["store"], "url"),
    one(&["callbacks"], "secret"),
    list(&["callbacks"], "old_secrets"),
    one(&["accounts", "*"], "api_key"),
    list(&["auth"], "keys"),
    one(&["auth", "keys", "*"], "key"),
    one(&["hooks", "*", "auth"], "secret"),
    list(&["hooks", "*", "auth"], "old_secrets"),
    one(&["hooks", "*", "auth"], "verify_token"),
];

/// Tables whose names the operator chooses.
pub(super) const MAPS: [&str; 7] =
    ["accounts", "routes", "tasks", "hooks", "workflows", "plans", "callers"];

/// Settings without types yet.
pub(super) struct Document {
    /// The outermost table.
    pub(super) root: Value,
    /// The part of it that the schema accepts, once it has been asked.
    pub(super) sound: Value,
    /// Where its relative paths begin.
    folder: PathBuf,
    /// Keys whose values came from the environment through `${VAR}`; not repeated in faults.
    hidden: BTreeSet<String>,
    /// Keys whose values are environment overrides, with the variable's name.
    sources: BTreeMap<String, String>,
}

impl Document {
    /// Nothing written at all.
    pub(super) fn empty(folder: &Path) -> Self {
        Self {
            root: Value::Object(Map::new()),
            sound: Value::Null,
            folder: folder.to_owned(),
            hidden: BTreeSet::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Reads TOML. Every syntax error is told with its line; the line itself may hold a secret.
    pub(super) fn parse(text: &str, name: &str, folder: &Path) -> Result<Self, Faults> {
        let (_, errors) = DeTable::parse_recoverable(text);
        let mut faults = Faults::default();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.get(..at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let told = error.message();
            faults.add(format!("{name}:{line}:{column}"), format!("is not TOML: {told}"));
        }
        let parsed = toml::from_str::<toml::Table>(text);
        match parsed {
            Ok(table) if faults.is_empty() => {
                Ok(Self { root: json(toml::Value::Table(table)), ..Self::empty(folder) })
            }
            Err(error) if faults.is_empty() => {
                faults.add(name, format!("is not TOML: {}", error.message()));
                Err(faults)
            }
            Ok(_) | Err(_) => Err(faults),
        }
    }

    /// The entries of a table of tables, such as `accounts`.
    pub(super) fn entries(&self, table: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.root.get(table).and_then(Value::as_object).into_iter().flatten()
    }

    /// Writes a value where the path leads; what is no table on the way becomes one.
    pub(super) fn set(&mut self, path: &[String], value: Value) {
        let mut place = &mut self.root;
        for name in path {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[name.as_str()];
        }
        *place = value;
    }

    /// Makes the sound part: everything but what stands at these places. An account, a route or
    /// a task is never taken out as a whole, for its name is known.
    pub(super) fn set_sound_without(&mut self, places: &[Vec<String>]) {
        self.sound = self.root.clone();
        for place in places {
            let Some((name, parents)) = place.split_last() else { continue };
            let is_entry = parents.len() == 1 && MAPS.contains(&parents.concat().as_str());
            let table = parents.iter().try_fold(&mut self.sound, |at, name| at.get_mut(name));
            if let Some(Value::Object(table)) = table.filter(|_| !is_entry) {
                table.shift_remove(name);
            }
        }
    }

    /// An entry's sound part, read as what it is meant to be.
    pub(super) fn sound_entry<T: DeserializeOwned>(&self, table: &str, name: &str) -> Option<T> {
        T::deserialize(self.sound.get(table)?.get(name)?).ok()
    }

    /// Remembers which variable a key's value came from.
    pub(super) fn set_source(&mut self, key: String, variable: &str) {
        self.sources.insert(key, variable.to_owned());
    }

    /// Whether the environment overrides this key or a table it stands in.
    pub(super) fn is_overridden(&self, key: &str) -> bool {
        !self.source_of(key).is_empty()
    }

    /// ` (set by SPILLWAY_…)`, when an environment variable set this key.
    pub(super) fn source_of(&self, key: &str) -> String {
        let set = self.sources.iter().find(|(set, _)| {
            key.strip_prefix(set.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')
            })
        });
        set.map_or_else(String::new, |(_, variable)| format!(" (set by {variable})"))
    }

    /// A value as a fault may show it.
    pub(super) fn shown(&self, key: &str, value: &Value) -> String {
        const LONGEST: usize = 60;
        if self.is_hidden(key) {
            return "the given value".to_owned();
        }
        match value {
            Value::Object(_) => "a table".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::String(text) if text.chars().count() > LONGEST => {
                format!("`{}…`", text.chars().take(LONGEST).collect::<String>())
            }
            Value::String(text) => format!("`{text}`"),
            Value::Null | Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        }
    }

    /// Whether a key's value must not be repeated.
    fn is_hidden(&self, key: &str) -> bool {
        let name = key.rsplit('.').next().unwrap_or_default();
        let name = name.split('[').next().unwrap_or_default();
        name == "password"
            || SECRETS.iter().any(|secret| secret.name == name)
            || self.hidden.contains(key)
    }

    /// Takes every secret out, and where it would be read from. Accounts get a key that is none; of
    /// hooks nothing is left.
    pub(super) fn without_secrets(&mut self) {
        if let Value::Object(root) = &mut self.root {
            root.shift_remove("hooks");
        }
        for secret in SECRETS {
            visit(&mut self.root, "", secret.within, &mut |_, table| {
                table.shift_remove(secret.name);
                table.shift_remove(&format!("{}_file", secret.name));
            });
        }
        visit(&mut self.root, "", &["accounts", "*"], &mut |_, table| {
            table.insert("api_key".to_owned(), Value::from("none"));
        });
    }

    /// Puts the environment's values in for `${VAR}`; `$${` stands for `${` itself.
    pub(super) fn expand(&mut self, environment: &Environment, faults: &mut Faults) {
        let mut work = Expansion { environment, hidden: &mut self.hidden, faults };
        work.walk(&mut self.root, "");
    }

    /// Puts in what stands in files: secrets (`_file`) and tasks' JSON Schemas.
    pub(super) fn read_files(&mut self, faults: &mut Faults) {
        let folder = self.folder.clone();
        for secret in SECRETS {
            visit(&mut self.root, "", secret.within, &mut |key, table| {
                read_secret(secret, &folder, (key, table), faults);
            });
        }
        visit(&mut self.root, "", &["tasks", "*"], &mut |key, table| {
            for name in ["input_schema", "output_schema"] {
                let Some(Value::String(path)) = table.get(name) else { continue };
                match read_json(&folder.join(path)) {
                    Ok(schema) => _ = table.insert(name.to_owned(), schema),
                    Err(problem) => faults.add(joined(key, name), problem),
                }
            }
        });
    }
}

/// TOML as JSON: dates become text, and numbers JSON does not have become what they are called.
pub(super) fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map_or_else(|| Value::String(number.to_string()), Value::Number),
        toml::Value::Boolean(fact) => fact.into(),
        toml::Value::Datetime(moment) => Value::String(moment.to_string()),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            table.into_iter().map(|(key, value)| (key, json(value))).collect()
        }
    }
}

/// Calls `each` on every table found at `within`, with its key.
fn visit(
    value: &mut Value,
    key: &str,
    within: &[&str],
    each: &mut dyn FnMut(&str, &mut Map<String, Value>),
) {
    let Some((next, rest)) = within.split_first() else {
        if let Value::Object(table) = value {
            each(key, table);
        }
        return;
    };
    match value {
        Value::Object(table) => {
            for (name, value) in table.iter_mut().filter(|(name, _)| *next == "*" || name == next) {
                visit(value, &joined(key, name), rest, each);
            }
        }
        Value::Array(items) if *next == "*" => {
            for (index, value) in items.iter_mut().enumerate() {
                visit(value, &format!("{key}[{index}]"), rest, each);
            }
        }
        _ => {}
    }
}

/// A file that cannot be read stays named in the table, so that nothing seems to be missing.
fn read_secret(
    secret: &SecretPlace,
    folder: &Path,
    (key, table): (&str, &mut Map<String, Value>),
    faults: &mut Faults,
) {
    let twin = format!("{}_file", secret.name);
    let Some(Value::String(path)) = table.get(&twin) else { return };
    if table.contains_key(secret.name) {
        let problem = format!("stands beside `{}`: give one of the two", secret.name);
        return faults.add(joined(key, &twin), problem);
    }
    let text = match fs::read_to_string(folder.join(path)) {
        Ok(text) => text,
        Err(fault) => {
            let problem = format!("`{path}` cannot be read: {fault}");
            return faults.add(joined(key, &twin), problem);
        }
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return faults.add(joined(key, &twin), format!("`{path}` is empty"));
    }
    let value = if secret.is_list {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(Value::from).collect()
    } else {
        Value::from(text)
    };
    table.remove(&twin);
    table.insert(secret.name.to_owned(), value);
}

fn read_json(path: &Path) -> Result<Value, String> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|fault| format!("`{shown}` cannot be read: {fault}"))?;
    match serde_json::from_str(&text) {
        Ok(schema @ Value::Object(_)) => Ok(schema),
        Ok(_) => Err(format!("`{shown}` is not a JSON Schema: expected an object")),
        Err(fault) => Err(format!("`{shown}` is not JSON: {fault}")),
    }
}

/// Walks a document and replaces `${VAR}`.
struct Expansion<'a> {
    environment: &'a Environment,
    hidden: &'a mut BTreeSet<String>,
    faults: &'a mut Faults,
}

impl Expansion<'_> {
    fn walk(&mut self, value: &mut Value, key: &str) {
        match value {
            Value::String(text) if text.contains("${") => {
                if let Some(expanded) = self.expanded(text, key) {
                    *text = expanded;
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.walk(item, &format!("{key}[{index}]"));
                }
            }
            Value::Object(table) => {
                for (name, value) in table {
                    self.walk(value, &joined(key, name));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The text with its variables put in; `None`, and told, when one is missing.
    fn expanded(&mut self, text: &str, key: &str) -> Option<String> {
        let (mut done, mut rest, mut is_whole) = (String::new(), text, true);
        while let Some((before, after)) = rest.split_once("${") {
            done.push_str(before);
            if before.ends_with('$') {
                done.push('{');
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else {
                self.faults.add(key, "has `${` without `}`; write `$${` for the characters");
                return None;
            };
            if let Some(value) = self.environment.get(name).filter(|value| !value.is_empty()) {
                self.hidden.insert(key.to_owned());
                done.push_str(value);
            } else {
                let problem = format!("needs the environment variable `{name}`, which is not set");
                self.faults.add(key, problem);
                is_whole = false;
            }
            rest = after;
        }
        done.push_str(rest);
        is_whole.then_some(done)
    }
}
