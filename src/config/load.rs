//! Finds the settings, reads them with the environment over them, and tells every fault at once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::document::{self, Document};
use super::fault::{Faults, joined};
use super::{Config, Environment, Plan, auto, check, overrides, resolve, schema};

/// The file's name where nobody names another.
const FILE: &str = "spillway.toml";

/// Settings that can be worked with.
#[derive(Debug)]
pub struct Loaded {
    /// Each module's settings.
    pub config: Config,
    /// Accounts, routes, tasks and prices, ready for use.
    pub plan: Plan,
    /// The file they came from, if there is one.
    pub file: Option<PathBuf>,
}

/// What the process' environment holds.
pub fn environment() -> Environment {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The settings from `file`, the file `SPILLWAY_CONFIG` names, or `spillway.toml` in the working
/// folder, with the environment over it.
pub fn load(file: Option<PathBuf>, environment: &Environment) -> Result<Loaded, Faults> {
    load_in(Path::new("."), file, environment)
}

/// As [`load`], in another working folder.
pub fn load_in(
    folder: &Path,
    file: Option<PathBuf>,
    environment: &Environment,
) -> Result<Loaded, Faults> {
    let (document, file) = find(folder, file, environment)?;
    let (config, plan) = complete(document, environment, &Purpose::Serve)?;
    Ok(Loaded { config, plan, file })
}

/// As [`load`], for a rehearsal that asks no provider and opens no store: no secret is needed, and
/// none is read.
pub fn load_rehearsal(file: Option<PathBuf>, environment: &Environment) -> Result<Loaded, Faults> {
    let (document, file) = find(Path::new("."), file, environment)?;
    let (config, plan) = complete(document, environment, &Purpose::Rehearse)?;
    Ok(Loaded { config, plan, file })
}

/// Each module's settings alone, for work on the store: there need be no account yet.
pub fn load_config(file: Option<PathBuf>, environment: &Environment) -> Result<Config, Faults> {
    let (document, _) = find(Path::new("."), file, environment)?;
    let (config, _) = complete(document, environment, &Purpose::Maintain)?;
    Ok(config)
}

/// The document, and the file it was read from.
fn find(
    folder: &Path,
    file: Option<PathBuf>,
    environment: &Environment,
) -> Result<(Document, Option<PathBuf>), Faults> {
    let named = environment.get("SPILLWAY_CONFIG").filter(|name| !name.is_empty());
    let asked = file.or_else(|| named.map(PathBuf::from)).map(|path| folder.join(path));
    let found = asked.or_else(|| Some(folder.join(FILE)).filter(|path| path.exists()));
    let Some(path) = found else {
        return Ok((Document::empty(folder), None));
    };
    let shown = path.display().to_string();
    let text = fs::read_to_string(&path).map_err(|fault| {
        let mut faults = Faults::default();
        faults.add(&shown, format!("cannot be read: {fault}"));
        faults
    })?;
    let beside = path.parent().unwrap_or(folder);
    Ok((Document::parse(&text, &shown, beside)?, Some(path)))
}

/// Settings written as `text`; relative paths in them begin at `folder`.
pub fn parse(text: &str, folder: &Path, environment: &Environment) -> Result<Loaded, Faults> {
    let document = Document::parse(text, FILE, folder)?;
    let (config, plan) = complete(document, environment, &Purpose::Serve)?;
    Ok(Loaded { config, plan, file: None })
}

/// What the settings are for.
enum Purpose {
    /// To run jobs.
    Serve,
    /// To work on the store.
    Maintain,
    /// To run jobs against no real provider.
    Rehearse,
}

/// Completes a document, checks it in every way and makes use of it.
fn complete(
    mut document: Document,
    environment: &Environment,
    purpose: &Purpose,
) -> Result<(Config, Plan), Faults> {
    let schema = schema::json_schema();
    let mut faults = Faults::default();
    if matches!(purpose, Purpose::Rehearse) {
        document.without_secrets();
    }
    document.expand(environment, &mut faults);
    if document.entries("accounts").next().is_none() {
        auto::add_accounts(&mut document, environment);
    }
    overrides::apply(&mut document, &schema, environment, &mut faults);
    faults.0.retain(|fault| !document.is_overridden(&fault.key));
    if document.root.get("routes").is_none_or(is_empty_table) {
        auto::add_routes(&mut document);
    }
    document.read_files(&mut faults);
    schema::check(&mut document, &schema, &mut faults);
    let mut more = Faults::default();
    check::check(&mut document, &mut more);
    let plan = match purpose {
        Purpose::Maintain if document.entries("accounts").next().is_none() => Plan::default(),
        Purpose::Serve | Purpose::Maintain | Purpose::Rehearse => {
            resolve::resolve(&document, &mut more)
        }
    };
    faults.append(more);
    match Config::deserialize(&document.root) {
        Ok(config) if faults.is_empty() => Ok((config, plan)),
        Err(_) if faults.is_empty() => Err(unreadable(&document.root)),
        Ok(_) | Err(_) => Err(faults),
    }
}

/// What the schema accepts and the types still refuse, such as a number beyond all measure: told
/// with the table it stands in.
fn unreadable(root: &Value) -> Faults {
    let mut faults = Faults::default();
    let mut attempt = |key: String, part: Value| {
        if let Err(fault) = Config::deserialize(part) {
            faults.add(key, fault.to_string());
        }
    };
    for (section, value) in root.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| document::MAPS.contains(&section.as_str())) {
            Some(entries) => {
                for (name, entry) in entries {
                    attempt(joined(section, name), json!({ section: { name: entry } }));
                }
            }
            None => attempt(section.clone(), json!({ section: value })),
        }
    }
    faults
}

fn is_empty_table(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}
