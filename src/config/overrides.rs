//! Settings from the environment: `SPILLWAY_SERVER__LISTEN=…` is `server.listen`.

use serde_json::{Map, Value, json};

use super::Environment;
use super::document::{Document, SECRETS, json as from_toml};
use super::fault::{Faults, joined, nearest};
use super::form::{branches, names, resolved};

const PREFIX: &str = "SPILLWAY_";

/// Names of ours that are no settings: where the file is, callers' keys, the log's level.
const OTHERS: [&str; 4] = ["SPILLWAY_CONFIG", "SPILLWAY_API_KEY", "SPILLWAY_KEY", "SPILLWAY_LOG"];

/// Puts the environment's settings over the document's.
pub(super) fn apply(
    document: &mut Document,
    schema: &Value,
    environment: &Environment,
    faults: &mut Faults,
) {
    let given = environment.iter().filter(|(name, value)| {
        name.starts_with(PREFIX)
            && !value.is_empty()
            && !OTHERS.contains(&name.as_str())
            && !is_service_link(name, value)
    });
    for (name, value) in given {
        let segments = name.trim_start_matches(PREFIX).split("__");
        match find(document, schema, segments) {
            Ok((path, node)) => put(document, &path, (name, value), (schema, node)),
            Err(hint) => faults.add(name, format!("is not a setting{hint}")),
        }
    }
    if let Some(level) = environment.get("SPILLWAY_LOG").filter(|level| !level.is_empty()) {
        document.set(&["log".to_owned(), "level".to_owned()], Value::from(level.as_str()));
        document.set_source("log.level".to_owned(), "SPILLWAY_LOG");
    }
    let has_keys = ["keys", "keys_file"]
        .iter()
        .any(|name| document.root.get("auth").is_some_and(|auth| auth.get(name).is_some()));
    if let Some(key) = environment.get("SPILLWAY_API_KEY").filter(|key| !key.is_empty())
        && !has_keys
    {
        document.set(&["auth".to_owned(), "keys".to_owned()], json!([key]));
        document.set_source("auth.keys".to_owned(), "SPILLWAY_API_KEY");
    }
}

/// Kubernetes and old Docker links tell a container of services by variables; a service called
/// `spillway` or `spillway-redis` makes names like ours.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|start| value.starts_with(start));
    let has_port_number =
        name.split("_PORT_").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || has_port_number
            || (name.ends_with("_PORT") && is_url))
}

/// Where a variable's name leads. When nowhere: what it could have been.
fn find<'s, 'n>(
    document: &Document,
    schema: &'s Value,
    segments: impl Iterator<Item = &'n str>,
) -> Result<(Vec<String>, &'s Value), String> {
    let (mut path, mut node, mut place) = (Vec::new(), schema, Some(&document.root));
    for segment in segments {
        let existing = place.and_then(Value::as_object);
        let Some((name, below)) = step(schema, node, segment, existing) else {
            return Err(hint(segment, &names(schema, node), &path));
        };
        place = place.and_then(|place| place.get(&name));
        node = below;
        path.push(name);
    }
    Ok((path, node))
}

/// The name a segment stands for, and the schema below it.
fn step<'s>(
    schema: &'s Value,
    node: &'s Value,
    segment: &str,
    existing: Option<&Map<String, Value>>,
) -> Option<(String, &'s Value)> {
    let node = resolved(schema, node);
    let properties = node.get("properties").and_then(Value::as_object);
    let own = properties.into_iter().flatten().find(|(name, _)| folded(name) == folded(segment));
    if let Some((name, below)) = own {
        return Some((name.clone(), below));
    }
    if let Some(below) = node.get("additionalProperties").filter(|any| any.is_object()) {
        let found =
            existing.into_iter().flat_map(Map::keys).find(|name| folded(name) == folded(segment));
        let fresh = || segment.to_ascii_lowercase().replace('_', "-");
        return (!segment.is_empty()).then(|| (found.cloned().unwrap_or_else(fresh), below));
    }
    branches(node).iter().find_map(|branch| step(schema, branch, segment, existing))
}

/// Names as they are compared: a variable's name has neither case nor `-`.
fn folded(name: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().map(fold).collect()
}

/// What could stand in a segment's place, as a variable's name.
fn hint(segment: &str, known: &[&str], path: &[String]) -> String {
    let variable = |name: &str| {
        let path = path.iter().map(String::as_str).chain([name]);
        let parts: Vec<String> = path.map(|part| folded(part).to_uppercase()).collect();
        format!("{PREFIX}{}", parts.join("__"))
    };
    match (nearest(&folded(segment), known), known.first()) {
        (Some(name), _) => format!("; did you mean `{}`?", variable(name)),
        (None, Some(name)) => format!(": expected a name such as `{}`", variable(name)),
        (None, None) => String::new(),
    }
}

fn put(
    document: &mut Document,
    path: &[String],
    (variable, text): (&str, &str),
    (schema, node): (&Value, &Value),
) {
    let key = path.iter().fold(String::new(), |key, name| joined(&key, name));
    drop_twin(document, path);
    document.set(path, typed(schema, node, text));
    document.set_source(key, variable);
}

/// A secret given by the environment takes the place of its file, and a file that of the secret.
fn drop_twin(document: &mut Document, path: &[String]) {
    let Some((name, parents)) = path.split_last() else { return };
    let twin = match name.strip_suffix("_file") {
        Some(secret) => secret.to_owned(),
        None => format!("{name}_file"),
    };
    let is_secret = SECRETS.iter().any(|secret| secret.name == name || secret.name == twin);
    let table = parents.iter().try_fold(&mut document.root, |place, name| place.get_mut(name));
    if let Some(Value::Object(table)) = table.filter(|_| is_secret) {
        table.remove(&twin);
    }
}

/// The text itself, where the settings take such text; otherwise what it means in TOML.
fn typed(schema: &Value, node: &Value, text: &str) -> Value {
    let mut whole = node.clone();
    if let (Value::Object(whole), Some(defs)) = (&mut whole, schema.get("$defs")) {
        whole.insert("$defs".to_owned(), defs.clone());
    }
    let as_text = Value::from(text);
    if jsonschema::is_valid(&whole, &as_text) {
        return as_text;
    }
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.map_or(as_text, from_toml)
}
