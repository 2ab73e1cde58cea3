//! What is published is what the code says.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde_json::{Value, json};
use spillway::domain::result::JobResult;
use spillway::engine::groups::GroupResult;
use spillway::http::openapi;

use crate::support::renewed;

fn schema_of<T: JsonSchema>(title: &str) -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    schema["title"] = json!(title);
    schema
}

#[test]
fn the_schema_of_a_result_is_current() {
    renewed("schemas/result.json", &schema_of::<JobResult>("Result"));
}

#[test]
fn the_schema_of_a_groups_result_is_current() {
    renewed("schemas/group-result.json", &schema_of::<GroupResult>("Group result"));
}

#[test]
fn the_openapi_document_is_current() {
    renewed("schemas/openapi.json", &openapi::document());
}

#[test]
fn every_reference_in_the_openapi_document_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    found.insert(target.to_owned());
                }
                map.values().for_each(|inner| references(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }
    let document = openapi::document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 5);
    for target in found {
        let pointer = target.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
}

#[test]
fn the_readme_names_every_endpoint() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let document = openapi::document();
    for path in document["paths"].as_object().unwrap().keys() {
        let last = path.rsplit('/').next().unwrap().trim_matches(['{', '}']);
        assert!(readme.contains(last), "README.md does not mention {path}");
    }
}

#[test]
fn what_the_readmes_point_to_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["", "src", "n8n-nodes", "zapier-app", "make-app"] {
        let folder = root.join(folder);
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        for link in readme.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { "README.md" } else { file };
            assert!(folder.join(file).exists(), "{} points to {target}", folder.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(folder.join(file)).unwrap();
                let found = text.lines().filter(|line| line.starts_with('#')).any(|line| {
                    let name = line.trim_start_matches(['#', ' ']).to_lowercase();
                    name.replace(' ', "-").replace(['*', '`', ',', ':', '.'], "") == heading
                });
                assert!(found, "{} points to {target}", folder.display());
            }
        }
    }
}

#[test]
fn the_readmes_settings_can_be_used_as_they_stand() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let variables = [
        ("ANTHROPIC_API_KEY", "sk-ant-x"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_from_stripe"),
        ("GITHUB_WEBHOOK_SECRET", "It's a Secret to Everybody"),
        ("FORM_SECRET", "correct horse"),
    ];
    let environment =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let blocks: Vec<&str> =
        readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 9);
    for block in blocks {
        let loaded = spillway::config::load::parse(block, root, &environment);
        assert!(loaded.is_ok(), "{}\nin\n{block}", loaded.unwrap_err());
    }
}
