//! Flat names such as `metadata__row`, `metadata.row` and `metadata[row]`, put into each other: the
//! way no-code platforms and forms write objects and lists.

use indexmap::IndexMap;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// A body's fields as they came; a field given twice counts as given last.
pub(super) type Fields = IndexMap<String, Box<RawValue>>;

/// How deep names may lead, and how long they may be; what is beyond is left as it is.
const DEEPEST: usize = 16;
const LONGEST: usize = 1_024;

/// Puts every flat name into the object it leads to, when `known` has its first part and no field
/// has that name itself. Whatever cannot be placed stays as it came. Tells whether any was placed.
pub(super) fn nest(flat: Fields, known: impl Fn(&str) -> bool) -> (Fields, bool) {
    let leads = |name: &str| {
        path(name).is_some_and(|path| {
            path.first().is_some_and(|first| known(first) && !flat.contains_key(*first))
        })
    };
    let placed: Vec<bool> = flat.keys().map(|name| leads(name)).collect();
    if !placed.contains(&true) {
        return (flat, false);
    }
    let mut roots: IndexMap<String, Node> = IndexMap::new();
    let (mut kept, mut any) = (Fields::new(), false);
    for ((name, value), leads) in flat.into_iter().zip(placed) {
        let refused = if leads { place(&mut roots, &name, value) } else { Some(value) };
        match refused {
            Some(value) => _ = kept.insert(name, value),
            None => any = true,
        }
    }
    for (name, node) in roots {
        if let Ok(raw) = to_raw_value(&node) {
            kept.insert(name, raw);
        }
    }
    (kept, any)
}

/// A field's names, one by one: `a__b`, `a.b`, `a[b]`, `a[]`, and mixtures. `None` for a plain name,
/// as soon as that shows: names are written by whoever sends.
pub(super) fn path(name: &str) -> Option<Vec<&str>> {
    if name.len() > LONGEST {
        return None;
    }
    let (mut parts, mut rest) = (Vec::new(), name);
    while parts.len() < DEEPEST {
        let end = part_end(rest);
        let part = rest.get(..end)?;
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        rest = rest.get(end..)?;
        while let Some(inner) = rest.strip_prefix('[') {
            let (part, after) = inner.split_once(']')?;
            parts.push(part);
            if parts.len() > DEEPEST {
                return None;
            }
            rest = after;
        }
        if rest.is_empty() {
            return (parts.len() > 1).then_some(parts);
        }
        rest = rest.strip_prefix('.').or_else(|| rest.strip_prefix("__"))?;
    }
    None
}

/// Where the first part ends: before the first `[`, `.` or `__`.
fn part_end(rest: &str) -> usize {
    let ends = |at: &usize| {
        let tail = rest.as_bytes().get(*at..).unwrap_or_default();
        matches!(tail, [b'[' | b'.', ..] | [b'_', b'_', ..])
    };
    (0..rest.len()).find(ends).unwrap_or(rest.len())
}

/// An object, a list, or what stands in it as it came.
enum Node {
    Leaf(Box<RawValue>),
    Branch(IndexMap<String, Node>),
}

/// Puts a value where its name leads; gives it back when something else stands there.
fn place(
    roots: &mut IndexMap<String, Node>,
    name: &str,
    value: Box<RawValue>,
) -> Option<Box<RawValue>> {
    let Some((last, before)) = path(name).and_then(|mut path| Some((path.pop()?, path))) else {
        return Some(value);
    };
    let mut table = roots;
    for part in before {
        let next = table.entry(part.to_owned()).or_insert_with(|| Node::Branch(IndexMap::new()));
        match next {
            Node::Branch(inner) => table = inner,
            Node::Leaf(_) => return Some(value),
        }
    }
    if table.contains_key(last) {
        return Some(value);
    }
    table.insert(last.to_owned(), Node::Leaf(value));
    None
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let table = match self {
            Self::Leaf(raw) => return raw.serialize(to),
            Self::Branch(table) => table,
        };
        if let Some(list) = listed(table) {
            let mut items = to.serialize_seq(Some(list.len()))?;
            for item in list {
                items.serialize_element(item)?;
            }
            return items.end();
        }
        if let (1, Some(only)) = (table.len(), table.get("")) {
            // `tags[]` whose value is the whole list already, or its only item.
            return match only {
                Self::Leaf(raw) if raw.get().starts_with('[') => raw.serialize(to),
                only => [only].serialize(to),
            };
        }
        let mut object = to.serialize_map(Some(table.len()))?;
        for (name, node) in table {
            object.serialize_entry(name, node)?;
        }
        object.end()
    }
}

/// The items of what has the names 0, 1, 2, … and no other, in whatever order they came.
fn listed(table: &IndexMap<String, Node>) -> Option<Vec<&Node>> {
    (0..table.len()).map(|index| table.get(index.to_string().as_str())).collect()
}

/// A form's fields under names that tell `tags[]` given several times apart: `tags[0]`, `tags[1]`.
pub(super) fn numbered(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut seen: IndexMap<String, usize> = IndexMap::new();
    let number = |(name, value): (String, String)| {
        let Some((before, after)) = name.rsplit_once("[]") else { return (name, value) };
        let count = seen.entry(name.clone()).or_default();
        let told = format!("{before}[{count}]{after}");
        *count += 1;
        (told, value)
    };
    pairs.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn nested(flat: &Value) -> Value {
        let fields: Fields = serde_json::from_str(&flat.to_string()).unwrap();
        let (fields, _) = nest(fields, |_| true);
        serde_json::from_str(&serde_json::to_string(&fields).unwrap()).unwrap()
    }

    #[test]
    fn names_lead_into_objects_and_lists() {
        let flat = json!({
            "a__b": "1", "a.c": 2, "a[d][]": "x", "list[1]": "q", "list[0]": "p", "rows[0][id]": 1,
            "rows[1].id": 2, "tags[]": ["s", "t"], "plain": true, "in.put__text[0]": "z",
        });
        let whole = json!({
            "plain": true, "a": {"b": "1", "c": 2, "d": ["x"]}, "list": ["p", "q"],
            "rows": [{"id": 1}, {"id": 2}], "tags": ["s", "t"], "in": {"put": {"text": ["z"]}},
        });
        assert_eq!(nested(&flat), whole);
    }

    #[test]
    fn what_means_no_nesting_stays_as_it_came() {
        for name in ["__typename", "a__", ".a", "a..b", "a[b", "a]b[", "a[b]c", "a", "", "a.[b]"] {
            assert_eq!(path(name), None, "{name}");
        }
        let flat = json!({ "a": 1, "a__b": 2, "c.d": 3, "c.d.e": 4, "years.2024": 5 });
        let whole = json!({
            "a": 1, "a__b": 2, "c.d.e": 4, "c": {"d": 3}, "years": {"2024": 5},
        });
        assert_eq!(nested(&flat), whole);
        for part in ["[b]", ".b", "__b"] {
            let deep = |parts: usize| format!("a{}", part.repeat(parts));
            assert_eq!(path(&deep(DEEPEST - 1)).map(|path| path.len()), Some(DEEPEST));
            assert_eq!(path(&deep(DEEPEST)), None);
        }
        assert_eq!(path(&format!("a.{}", "b".repeat(LONGEST))), None);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let fields: Fields = serde_json::from_str(r#"{"metadata.amount":1.10}"#).unwrap();
        let (fields, any) = nest(fields, |first| first == "metadata");
        assert!(any);
        assert_eq!(fields["metadata"].get(), r#"{"amount":1.10}"#);
    }

    /// A megabyte of names that lead on and on: 40 seconds when each part looked at all the rest.
    #[test]
    fn hostile_names_take_no_longer_than_others() {
        let began = std::time::Instant::now();
        for part in [".a", "[a]", "__a", "[", ".", "_", "[a].a"] {
            let long = format!("zz{}", part.repeat((1 << 20) / part.len()));
            assert_eq!(path(&long), None);
            let within = format!("zz{}", part.repeat(900 / part.len()));
            let many = (0..1_000).map(|at| (format!("{within}{at}"), json!(1)));
            let many = Value::Object(many.chain([(long, json!(1))]).collect());
            assert_eq!(leaves(&nested(&many)), 1_001);
        }
        // About 0.2 s.
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }

    #[test]
    fn repeated_names_count_up() {
        let pairs = |names: &[&str]| {
            numbered(names.iter().map(|name| ((*name).to_owned(), String::new())).collect())
        };
        let names: Vec<String> = pairs(&["a[]", "b[][c]", "a[]", "b[][c]", "d"])
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a[0]", "b[0][c]", "a[1]", "b[1][c]", "d"]);
    }

    /// Objects and lists that forms can say: none is empty, and no name looks like a list's.
    fn trees() -> impl Strategy<Value = Value> {
        let leaf = "[a-z&=%+ é\"]{0,6}".prop_map(Value::from);
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}(_[a-z])?", inner, 1..4)
                    .prop_map(|table| Value::Object(table.into_iter().collect())),
            ]
        })
    }

    fn flatten(at: &str, style: usize, value: &Value, into: &mut Vec<(String, Value)>) {
        let name = |part: &str| match style {
            _ if at.is_empty() => part.to_owned(),
            0 => format!("{at}__{part}"),
            1 => format!("{at}.{part}"),
            _ => format!("{at}[{part}]"),
        };
        match value {
            Value::Object(table) => {
                table.iter().for_each(|(key, value)| flatten(&name(key), style, value, into));
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(at, value)| flatten(&name(&at.to_string()), style, value, into));
            }
            leaf => into.push((at.to_owned(), leaf.clone())),
        }
    }

    fn leaves(value: &Value) -> usize {
        match value {
            Value::Object(table) => table.values().map(leaves).sum(),
            Value::Array(items) => items.iter().map(leaves).sum(),
            _ => 1,
        }
    }

    proptest! {
        #[test]
        fn what_was_flattened_comes_back(tree in trees(), style in 0..3usize, turned in any::<bool>()) {
            let tree = json!({ "root": tree });
            let mut flat = Vec::new();
            flatten("", style, &tree, &mut flat);
            if turned {
                flat.reverse();
            }
            let flat = Value::Object(flat.into_iter().collect());
            prop_assert_eq!(nested(&flat), tree);
        }

        #[test]
        fn no_name_does_harm(names in prop::collection::vec("[a_.\\[\\]0-1]{0,12}", 0..12)) {
            let flat: serde_json::Map<String, Value> =
                names.into_iter().map(|name| (name, json!(1))).collect();
            let count = flat.len();
            let found = nested(&Value::Object(flat));
            // Nothing is lost: every leaf is somewhere.
            prop_assert_eq!(leaves(&found), count);
        }
    }
}
