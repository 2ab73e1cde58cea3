//! The built-in tasks: `tasks.toml` and the JSON Schemas in `schemas/tasks`.

use indexmap::IndexMap;
use serde_json::Value;

use super::settings::TaskSettings;

/// A built-in task's schemas, as text: of its input, and of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Schemas {
    /// What the input must look like.
    pub input: &'static str,
    /// What the answer looks like.
    pub output: &'static str,
}

macro_rules! schemas {
    ($name:literal) => {
        (
            $name,
            Schemas {
                input: include_str!(concat!("../../schemas/tasks/", $name, ".input.json")),
                output: include_str!(concat!("../../schemas/tasks/", $name, ".output.json")),
            },
        )
    };
}

/// Every built-in task's schemas.
pub const SCHEMAS: [(&str, Schemas); 8] = [
    schemas!("tag"),
    schemas!("classify"),
    schemas!("extract"),
    schemas!("summarize"),
    schemas!("plan"),
    schemas!("code"),
    schemas!("recover"),
    schemas!("chat"),
];

/// The built-in tasks' settings, by name. The text is ours, and a test reads it.
pub(super) fn tasks() -> IndexMap<String, TaskSettings> {
    toml::from_str(include_str!("tasks.toml")).unwrap_or_default()
}

/// What a built-in task's input must look like.
pub(super) fn input_schema(task: &str) -> Option<Value> {
    let (_, schemas) = SCHEMAS.iter().find(|(name, _)| *name == task)?;
    serde_json::from_str(schemas.input).ok()
}

/// What a built-in task's answer must look like; `None` for free text.
pub(super) fn output_schema(task: &str) -> Option<Value> {
    let (_, schemas) = SCHEMAS.iter().find(|(name, _)| *name == task)?;
    let mut schema: Value = serde_json::from_str(schemas.output).ok()?;
    // A schema of text describes the result's `text`; there is no data to hold against it.
    let table =
        schema.as_object_mut().filter(|table| table.get("type") != Some(&"string".into()))?;
    // Providers take the schema itself, and some refuse what only describes the file.
    for name in ["$schema", "title"] {
        table.shift_remove(name);
    }
    Some(schema)
}
