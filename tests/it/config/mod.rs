//! The settings: every fault at once, no secret in any of them, and what the defaults come to.

mod auto;
mod contract;
mod faults;
mod sources;
mod tasks;

use std::path::Path;

use spillway::config::{Environment, Faults, Loaded, load};

/// An account and a route, so that a test can be about something else.
pub(crate) const SOUND: &str = r#"
[accounts.main]
provider = "anthropic"
api_key = "sk-main"

[routes.cheap]
steps = ["main/claude-haiku-4-5"]

[routes.premium]
steps = ["main/claude-sonnet-4-6"]
"#;

fn environment(entries: &[(&str, &str)]) -> Environment {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read_with(text: &str, entries: &[(&str, &str)]) -> Result<Loaded, Faults> {
    load::parse(text, Path::new("."), &environment(entries))
}

fn read(text: &str) -> Result<Loaded, Faults> {
    read_with(text, &[])
}

/// What is told of faulty settings.
fn told(text: &str) -> String {
    read(text).expect_err("the settings were accepted").to_string()
}

/// Asserts that one line tells of `key`, and every word.
fn assert_told(told: &str, key: &str, words: &[&str]) {
    let start = format!("{key}: ");
    let line = told.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("nothing is told of {key} in:\n{told}"));
    for word in words {
        assert!(line.contains(word), "`{word}` is missing in: {line}");
    }
}
