//! Where settings come from: the file, the environment, files beside it, and the defaults.

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use spillway::config::{Loaded, TEMPLATE, load, schema};
use tempfile::TempDir;

use super::{SOUND, assert_told, environment, read, read_with};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn variables_are_put_in_and_a_missing_one_is_told() {
    let text = r#"
        [accounts.main]
        provider = "groq"
        api_key = "${KEY}"
        org = "$${KEY}-${KEY}-$"
    "#;
    let plan = read_with(text, &[("KEY", "k")]).unwrap().plan;
    assert_eq!(plan.accounts[0].api_key.as_ref().unwrap().expose_secret(), "k");
    assert_eq!(plan.accounts[0].org, "${KEY}-k-$");

    let told = read(&text.replace("-$\"", "-${\"")).unwrap_err().to_string();
    assert_told(&told, "accounts.main.api_key", &["`KEY`, which is not set"]);
    assert_told(&told, "accounts.main.org", &["`KEY`, which is not set"]);
    assert_eq!(told.matches("accounts.main.api_key").count(), 1, "{told}");
}

#[test]
fn a_value_from_a_variable_is_not_repeated() {
    let text = format!("{SOUND}\n[server]\nmax_wait = \"${{WAIT}}\"");
    let told = read_with(&text, &[("WAIT", "hunter2")]).unwrap_err().to_string();
    assert_told(&told, "server.max_wait", &["the given value is not a duration"]);
    assert!(!told.contains("hunter2"));
}

#[test]
fn any_secret_may_stand_in_a_file() {
    let signing = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let folder = folder(&[
        ("api", "sk-file\n"),
        ("url", "redis://u:p@cache/0\r\n"),
        ("signing", signing),
        ("old", &format!("{signing}\n\n{signing}\n")),
        ("caller", "caller-key\n"),
        (
            "spillway.toml",
            r#"
            [store]
            url_file = "url"
            [callbacks]
            secret_file = "signing"
            old_secrets_file = "old"
            [auth]
            keys = [{ caller = "n8n", key_file = "caller" }]
            [accounts.main]
            provider = "anthropic"
            api_key_file = "${NAME}"
            "#,
        ),
    ]);
    let loaded = load::load_in(folder.path(), None, &environment(&[("NAME", "api")])).unwrap();
    let key = |key: &secrecy::SecretString| key.expose_secret().to_owned();
    assert_eq!(loaded.plan.accounts[0].api_key.as_ref().map(key).unwrap(), "sk-file");
    assert_eq!(loaded.config.store.url, "redis://u:p@cache/0");
    assert_eq!(loaded.config.callbacks.secret.as_deref(), Some(signing));
    assert_eq!(loaded.config.callbacks.old_secrets, [signing, signing]);
    assert_eq!(loaded.config.auth.keys[0].key().expose_secret(), "caller-key");
    assert_eq!(loaded.config.auth.keys[0].caller(), "n8n");
    assert_eq!(loaded.file.unwrap(), folder.path().join("spillway.toml"));
}

#[test]
fn a_secrets_file_that_is_of_no_use_is_told_and_nothing_else() {
    let folder = folder(&[
        ("empty", "\n"),
        (
            "spillway.toml",
            r#"
            [callbacks]
            secret_file = "missing"
            [store]
            url = "redis://cache"
            url_file = "empty"
            [accounts.main]
            provider = "anthropic"
            api_key_file = "empty"
            "#,
        ),
    ]);
    let faults = load::load_in(folder.path(), None, &environment(&[])).unwrap_err();
    let told = faults.to_string();
    assert_told(&told, "callbacks.secret_file", &["`missing` cannot be read"]);
    assert_told(&told, "store.url_file", &["stands beside `url`"]);
    assert_told(&told, "accounts.main.api_key_file", &["`empty` is empty"]);
    assert_eq!(faults.0.len(), 3, "{told}");
}

/// Settings with an account whose name has a `-`, and these overrides.
fn overridden(entries: &[(&str, &str)]) -> Loaded {
    let text = SOUND.replace("accounts.main", "accounts.claude-main");
    read_with(&text.replace("main/", "claude-main/"), entries).unwrap()
}

#[test]
fn the_environment_overrides_text_numbers_truths_and_lists() {
    let config = overridden(&[
        ("SPILLWAY_SERVER__LISTEN", "0.0.0.0:9000"),
        ("SPILLWAY_SERVER__MAX_DEPTH", "32"),
        ("SPILLWAY_ENGINE__MAX_MEMORY", "0.5"),
        ("SPILLWAY_STORE__ALLOW_EVICTION", "true"),
        ("SPILLWAY_CALLBACKS__ALLOW_NETWORKS", "[\"10.0.0.0/8\", \"127.0.0.0/8\"]"),
        ("SPILLWAY_CALLBACKS__TIMEOUT", ""),
        ("SPILLWAY_LOG", "warn"),
        ("SPILLWAY_API_KEY", "caller-key"),
        ("SPILLWAY_CONFIG", "of no use here"),
    ])
    .config;
    assert_eq!(config.server.listen, "0.0.0.0:9000");
    assert_eq!(config.server.max_depth, 32);
    assert!((config.engine.max_memory - 0.5).abs() < 1e-9);
    assert!(config.store.allow_eviction);
    assert_eq!(config.callbacks.allow_networks.len(), 2);
    assert_eq!(config.log.level, "warn");
    assert_eq!(config.auth.keys[0].key().expose_secret(), "caller-key");
}

#[test]
fn the_environment_reaches_into_accounts_routes_and_tasks_by_name() {
    let plan = overridden(&[
        ("SPILLWAY_ACCOUNTS__CLAUDE_MAIN__API_KEY", "12345"),
        ("SPILLWAY_ACCOUNTS__CLAUDE_MAIN__LIMITS", "[{ requests = \"7/min\" }]"),
        ("SPILLWAY_ACCOUNTS__SPARE_ONE__PROVIDER", "ollama"),
        ("SPILLWAY_ACCOUNTS__SPARE_ONE__BASE_URL", "http://127.0.0.1:11434/"),
        ("SPILLWAY_ROUTES__CHEAP__PATIENCE__BATCH", "1h"),
        ("SPILLWAY_ROUTES__CHEAP__STEPS", "[\"claude-main/a\", \"spare-one/b/c\"]"),
        ("SPILLWAY_TASKS__TAG__OUTPUT_SCHEMA", "false"),
    ])
    .plan;
    assert_eq!(plan.accounts[0].api_key.as_ref().unwrap().expose_secret(), "12345");
    assert_eq!(plan.accounts[0].limits[0].requests.unwrap().to_string(), "7/min");
    assert_eq!(plan.accounts[1].name, "spare-one");
    assert_eq!(plan.accounts[1].base_url.as_deref(), Some("http://127.0.0.1:11434"));
    let cheap = &plan.routes["cheap"];
    assert_eq!(cheap.steps[1].model, "b/c");
    assert_eq!(cheap.steps[1].provider, "ollama");
    assert_eq!(cheap.patience.map(|p| p.as_millis()), [500, 30_000, 3_600_000]);
    assert!(plan.tasks["tag"].output.is_none());
}

#[test]
fn faulty_overrides_are_told_with_their_variable() {
    let told = read_with(
        SOUND,
        &[
            ("SPILLWAY_SERVER__LISTNE", "127.0.0.1:1"),
            ("SPILLWAY_SERVER__MAX_DEPTH", "deep"),
            ("SPILLWAY_SERVER__MAX_WAIT", "5"),
            ("SPILLWAY_PROT", "8080"),
            ("SPILLWAY_ACCOUNTS__OTHER__PROVIDER", "antropic"),
            ("SPILLWAY_ACCOUNTS__MAIN__API_KEY", "hunter 2"),
        ],
    )
    .unwrap_err()
    .to_string();
    assert_told(&told, "SPILLWAY_SERVER__LISTNE", &["did you mean `SPILLWAY_SERVER__LISTEN`?"]);
    assert_told(&told, "SPILLWAY_PROT", &["is not a setting"]);
    assert_told(&told, "server.max_depth", &["`deep`", "(set by SPILLWAY_SERVER__MAX_DEPTH)"]);
    assert_told(&told, "server.max_wait", &["`5` is not a duration"]);
    assert_told(&told, "accounts.other.provider", &["`antropic`"]);
    assert_told(&told, "accounts.main.api_key", &["is not a key"]);
    assert!(!told.contains("hunter"), "{told}");
}

#[test]
fn an_override_takes_the_place_of_what_is_missing_in_the_file() {
    let text = r#"
        [accounts.main]
        provider = "groq"
        api_key_file = "/no/such/file"
        base_url = "${NOT_SET}"
    "#;
    let loaded = read_with(
        text,
        &[
            ("SPILLWAY_ACCOUNTS__MAIN__API_KEY", "k"),
            ("SPILLWAY_ACCOUNTS__MAIN__BASE_URL", "https://example.com"),
        ],
    );
    assert_eq!(loaded.unwrap().plan.accounts[0].base_url.as_deref(), Some("https://example.com"));
}

#[test]
fn what_kubernetes_tells_of_a_service_called_spillway_is_no_setting() {
    read_with(
        SOUND,
        &[
            ("SPILLWAY_SERVICE_HOST", "10.0.0.1"),
            ("SPILLWAY_SERVICE_PORT", "8080"),
            ("SPILLWAY_SERVICE_PORT_HTTP", "8080"),
            ("SPILLWAY_PORT", "tcp://10.0.0.1:8080"),
            ("SPILLWAY_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("SPILLWAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("SPILLWAY_REDIS_PORT", "tcp://10.0.0.2:6379"),
        ],
    )
    .unwrap();
}

#[test]
fn the_file_is_the_one_asked_for_else_the_one_named_else_the_one_in_the_folder() {
    let listening = |port: u16| format!("{SOUND}\n[server]\nlisten = \"127.0.0.1:{port}\"");
    let folder = folder(&[
        ("asked.toml", &listening(1)),
        ("named.toml", &listening(2)),
        ("spillway.toml", &listening(3)),
    ]);
    let named = environment(&[("SPILLWAY_CONFIG", "named.toml")]);
    let listen = |file: Option<&str>, environment| {
        load::load_in(folder.path(), file.map(PathBuf::from), environment)
            .unwrap()
            .config
            .server
            .listen
    };
    assert_eq!(listen(Some("asked.toml"), &named), "127.0.0.1:1");
    assert_eq!(listen(None, &named), "127.0.0.1:2");
    assert_eq!(listen(None, &environment(&[])), "127.0.0.1:3");
    let missing = load::load_in(folder.path(), Some("none.toml".into()), &named).unwrap_err();
    assert!(missing.to_string().contains("none.toml: cannot be read"), "{missing}");
}

#[test]
fn the_template_reads_as_the_defaults_and_names_every_setting() {
    let key = [("ANTHROPIC_API_KEY", "k")];
    let (template, nothing) = (read_with(TEMPLATE, &key).unwrap(), read_with("", &key).unwrap());
    assert_eq!(format!("{template:?}"), format!("{nothing:?}"));

    let written: toml::Table = toml::from_str(TEMPLATE).unwrap();
    let written = serde_json::to_value(written).unwrap();
    let schema = schema::json_schema();
    let definitions = schema["$defs"].as_object().unwrap();
    for section in ["server", "store", "engine", "callbacks", "auth", "log"] {
        for (name, property) in definitions[section]["properties"].as_object().unwrap() {
            let place = format!("{section}.{name}");
            match property.get("default") {
                Some(default) => assert_eq!(&written[section][name], default, "{place}"),
                None => assert!(
                    name.ends_with("_file")
                        || written[section].get(name).is_some()
                        || TEMPLATE.contains(&format!("\n# {name} = ")),
                    "{place} is missing in the template"
                ),
            }
        }
    }
    for table in ["AccountSettings", "LimitSettings", "RouteSettings", "TaskSettings", "Price"] {
        for name in definitions[table]["properties"].as_object().unwrap().keys() {
            assert!(
                ["_file", "scripted"].iter().any(|end| name.ends_with(end))
                    || TEMPLATE.contains(&format!("\n# {name} = "))
                    || TEMPLATE.contains(&format!(".{name}]]\n")),
                "{table}.{name} is missing in the template"
            );
        }
    }
}

#[test]
fn the_schema_of_the_settings_is_the_one_in_schemas() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/config.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&schema::json_schema()).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &current).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == current,
        "schemas/config.json is stale: run `UPDATE=1 cargo test --test it config::` and commit it"
    );
}

#[test]
fn work_on_the_store_needs_no_account() {
    let folder = folder(&[("spillway.toml", "[store]\nurl = \"redis://cache\"\n")]);
    let file = Some(folder.path().join("spillway.toml"));
    let config = load::load_config(file.clone(), &environment(&[])).unwrap();
    assert_eq!(config.store.url, "redis://cache");
    assert!(load::load(file.clone(), &environment(&[])).is_err());
    let faulty = environment(&[("SPILLWAY_STORE__URL", "mysql://cache")]);
    let told = load::load_config(file, &faulty).unwrap_err().to_string();
    assert_told(&told, "store.url", &["leads to no store"]);
}
