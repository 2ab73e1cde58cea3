//! What a place in the settings may hold, put into words from its JSON Schema.

use serde_json::Value;

use super::fault::listed;

/// Follows `$ref`s inside the schema.
pub(super) fn resolved<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    let mut node = node;
    while let Some(target) = node.get("$ref").and_then(Value::as_str) {
        match target.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// The names of a table's settings.
pub(super) fn names<'a>(root: &'a Value, node: &'a Value) -> Vec<&'a str> {
    let properties = resolved(root, node).get("properties").and_then(Value::as_object);
    properties.map(|found| found.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// The schema of what stands under `name` in a table.
pub(super) fn child<'a>(root: &'a Value, node: &'a Value, name: &str) -> Option<&'a Value> {
    let node = resolved(root, node);
    let own = node.get("properties").and_then(|properties| properties.get(name));
    own.or_else(|| node.get("additionalProperties").filter(|any| any.is_object()))
        .or_else(|| branches(node).iter().find_map(|branch| child(root, branch, name)))
}

/// The alternatives of an `anyOf` or `oneOf`.
pub(super) fn branches(node: &Value) -> &[Value] {
    let found = node.get("anyOf").or_else(|| node.get("oneOf")).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}

/// What is expected: `a rate such as 10/s`, `one of …`, `a whole number of at least 1`.
pub(super) fn form(root: &Value, node: &Value) -> String {
    let node = resolved(root, node);
    if let Some(options) = options(node) {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        return format!("one of {}", listed(&options));
    }
    let alternatives = branches(node);
    if !alternatives.is_empty() {
        let forms: Vec<String> = alternatives.iter().map(|branch| form(root, branch)).collect();
        return forms.join(" or ");
    }
    let described = node.get("description").and_then(Value::as_str).unwrap_or_default();
    if ["a ", "an ", "`"].iter().any(|start| described.starts_with(start)) {
        return described.to_owned();
    }
    match node.get("type").and_then(Value::as_str).unwrap_or_default() {
        "string" => text_form(node),
        "integer" => number_form("a whole number", node),
        "number" => number_form("a number", node),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => match node.get("items") {
            Some(items) => format!("a list, each entry {}", form(root, items)),
            None => "a list".to_owned(),
        },
        "object" => match names(root, node).as_slice() {
            [] => "a table".to_owned(),
            names => format!("a table with {}", listed(names)),
        },
        _ => "something else".to_owned(),
    }
}

/// The words to choose from, when there are such.
fn options(node: &Value) -> Option<Vec<String>> {
    if let Some(options) = node.get("enum").and_then(Value::as_array) {
        return Some(options.iter().map(plain).collect());
    }
    let branches = branches(node);
    let constants: Option<Vec<_>> = branches.iter().map(|b| Some(plain(b.get("const")?))).collect();
    constants.filter(|constants| !constants.is_empty())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text_form(node: &Value) -> String {
    if node.get("format").and_then(Value::as_str) == Some("date") {
        return "a day such as 2026-11-20".to_owned();
    }
    let pattern = node.get("pattern").and_then(Value::as_str);
    let example = node.get("default").and_then(Value::as_str);
    match (pattern, example) {
        (Some(pattern), Some(example)) => format!("text such as `{example}` (`{pattern}`)"),
        (Some(pattern), None) => format!("text of the form `{pattern}`"),
        (None, _) => "text".to_owned(),
    }
}

fn number_form(kind: &str, node: &Value) -> String {
    let bound = |name: &str| node.get(name).filter(|bound| bound.is_number());
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!("{kind} from {low} to {high}"),
        (Some(low), None) => format!("{kind} of at least {low}"),
        (None, Some(high)) => format!("{kind} of at most {high}"),
        (None, None) => kind.to_owned(),
    }
}
