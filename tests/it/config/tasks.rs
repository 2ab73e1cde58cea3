//! The built-in tasks, and tasks of one's own.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use spillway::config::builtin::SCHEMAS;
use spillway::config::load;
use spillway::domain::job::Lane;
use spillway::domain::prompt::Prompt;
use spillway::domain::task::Task;
use tempfile::TempDir;

use super::{SOUND, environment, read};

/// An input a built-in task takes, what its prompt says then, an answer, and its text.
#[derive(Deserialize)]
struct Example {
    input: Value,
    says: Vec<String>,
    answer: Value,
    text: String,
}

fn examples() -> BTreeMap<String, Example> {
    serde_json::from_str(include_str!("examples.json")).unwrap()
}

fn built_in() -> Vec<(String, std::sync::Arc<Task>)> {
    read(SOUND).unwrap().plan.tasks.into_iter().collect()
}

fn message(prompt: &Prompt) -> String {
    prompt.messages.iter().map(|message| message.content.text().into_owned()).collect()
}

#[test]
fn every_built_in_task_takes_text_and_an_object_and_makes_a_prompt_of_them() {
    let examples = examples();
    let tasks = built_in();
    assert_eq!(tasks.len(), examples.len());
    for (name, task) in tasks {
        let Example { input: object, says, .. } = &examples[&name];
        for input in [json!("Just «text» & <signs>"), object.clone()] {
            assert_eq!(task.unfit(&input), [], "{name}");
        }
        let alone = message(&task.prompt(&json!("Just «text» & <signs>")).unwrap());
        assert!(alone.contains("Just «text» & <signs>"), "{name}: {alone}");
        let prompt = task.prompt(object).unwrap();
        for word in says {
            assert!(message(&prompt).contains(word), "{name}: {word} is missing in {prompt:?}");
        }
        assert!(prompt.max_output_tokens > 0 && !task.description.is_empty());
        assert!((30..=180).contains(&task.timeout.as_secs()), "{name}");
        if task.output.is_some() {
            assert!(prompt.system.unwrap().text().contains("JSON"), "{name}");
        }
    }
}

#[test]
fn an_empty_text_or_an_object_without_what_is_needed_is_refused() {
    for (name, task) in built_in() {
        for input in [json!(""), json!({}), json!([]), json!(7), json!({ "text": "" })] {
            assert_ne!(task.unfit(&input), [], "{name} {input}");
        }
    }
}

#[test]
fn fields_a_task_does_not_know_are_let_through_and_known_ones_have_types() {
    let tasks = read(SOUND).unwrap().plan.tasks;
    let tag = &tasks["tag"];
    assert_eq!(tag.unfit(&json!({ "text": "a", "row": 7 })), []);
    assert_ne!(tag.unfit(&json!({ "text": "a", "max_tags": "many" })), []);
}

#[test]
fn every_answer_is_read_as_a_plain_text() {
    let tasks = read(SOUND).unwrap().plan.tasks;
    for (name, Example { answer, text, .. }) in examples() {
        let task = &tasks[&name];
        let Some(output) = &task.output else {
            assert_eq!(name, "chat");
            continue;
        };
        assert_eq!(output.violations(&answer), [], "{name}");
        assert_ne!(output.violations(&json!({})), [], "{name}");
        assert_eq!(task.text_of(&answer), text, "{name}");
    }
}

#[test]
fn the_schemas_are_of_draft_2020_12_and_answers_fit_strict_modes() {
    fn assert_strict(schema: &Value, place: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            assert_eq!(schema["additionalProperties"], json!(false), "{place}");
            let required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
            assert_eq!(required.len(), properties.len(), "{place}");
        }
        let unsupported = ["minLength", "maxLength", "minimum", "maximum", "pattern", "minItems"];
        match schema {
            Value::Object(fields) => {
                for (name, value) in fields {
                    assert!(!unsupported.contains(&name.as_str()), "{place}: {name}");
                    assert_strict(value, place);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| assert_strict(item, place)),
            _ => {}
        }
    }
    for (name, schemas) in SCHEMAS {
        for text in [schemas.input, schemas.output] {
            let schema: Value = serde_json::from_str(text).unwrap();
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
            jsonschema::draft202012::new(&schema).unwrap();
            jsonschema::meta::validate(&schema).unwrap();
        }
        assert_strict(&serde_json::from_str(schemas.output).unwrap(), name);
    }
}

#[test]
fn overriding_a_built_in_task_changes_only_what_is_given() {
    let text = format!("{SOUND}\n[tasks.tag]\nroute = \"premium\"\ntimeout = \"45s\"\n");
    let (changed, plain) = (read(&text).unwrap().plan.tasks, read(SOUND).unwrap().plan.tasks);
    let (changed, plain) = (&changed["tag"], &plain["tag"]);
    assert_eq!(changed.route(Lane::Batch), "premium");
    assert_eq!(changed.timeout, Duration::from_secs(45));
    assert_eq!(changed.system, plain.system);
    assert_eq!(changed.template, plain.template);
    assert_eq!(changed.text, plain.text);
    assert_eq!(changed.max_output_tokens, plain.max_output_tokens);
    assert_eq!(changed.input.as_ref().unwrap().source(), plain.input.as_ref().unwrap().source());
    assert_eq!(changed.output.as_ref().unwrap().source(), plain.output.as_ref().unwrap().source());
}

#[test]
fn another_output_schema_replaces_the_built_in_one_and_the_way_it_is_read() {
    let schema = "{ type = \"object\", properties = { topic = { type = \"string\" } } }";
    let tasks =
        read(&format!("{SOUND}\n[tasks.tag]\noutput_schema = {schema}")).unwrap().plan.tasks;
    assert_eq!(
        tasks["tag"].output.as_ref().unwrap().source()["properties"]["topic"]["type"],
        "string"
    );
    assert_eq!(tasks["tag"].text, None);
    let free = read(&format!("{SOUND}\n[tasks.tag]\noutput_schema = false")).unwrap().plan.tasks;
    assert!(free["tag"].output.is_none());
}

#[test]
fn a_task_of_ones_own_needs_no_more_than_a_route() {
    let tasks = read(&format!("{SOUND}\n[tasks.shout]\nroute = \"cheap\"")).unwrap().plan.tasks;
    let shout = &tasks["shout"];
    assert_eq!(message(&shout.prompt(&json!("hey")).unwrap()), "hey");
    assert_eq!(message(&shout.prompt(&json!({ "text": "you" })).unwrap()), "you");
    assert_eq!(shout.lane, Lane::Standard);
    assert!(shout.output.is_none());
    assert_ne!(shout.unfit(&json!({ "words": "x" })), []);
}

#[test]
fn a_tasks_schemas_may_stand_in_files_beside_the_settings() {
    let folder = TempDir::new().unwrap();
    let schema = r#"{ "type": "object", "properties": { "score": { "type": "integer" } } }"#;
    fs::write(folder.path().join("score.json"), schema).unwrap();
    let text = format!("{SOUND}\n[tasks.score]\nroute = \"cheap\"\noutput_schema = \"score.json\"");
    let file = folder.path().join("spillway.toml");
    fs::write(&file, text).unwrap();
    let loaded = load::load(Some(file), &environment(&[])).unwrap();
    let score = loaded.plan.tasks["score"].output.as_ref().unwrap();
    assert_ne!(score.violations(&json!({ "score": "high" })), []);
}

#[test]
fn chat_goes_by_lane_and_built_in_tasks_make_do_with_the_routes_there_are() {
    let chat = &read(SOUND).unwrap().plan.tasks["chat"];
    let routes = Lane::ALL.map(|lane| chat.route(lane).to_owned());
    assert_eq!(routes, ["premium", "cheap", "cheap"]);

    let account = "accounts.main = { provider = \"anthropic\", api_key = \"k\" }\n";
    let only = format!("{account}[routes.own]\nsteps = [\"main/m\"]");
    let plan = read(&only).unwrap().plan;
    assert!(plan.tasks.values().all(|task| task.route(Lane::Standard) == "own"));

    let plan = read(&format!("{only}\n[routes.other]\nsteps = [\"main/n\"]")).unwrap().plan;
    assert!(plan.tasks.is_empty());
    assert_eq!(plan.left_out.len(), 8);
}
