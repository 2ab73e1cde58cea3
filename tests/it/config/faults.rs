//! What is told when the settings are wrong.

use spillway::config::show;

use super::{SOUND, assert_told, read, read_with, told};

const MANY: &str = r#"
colour = "blue"

[server]
listen = "everywhere"
max_body = "big"
max_depth = 500
listne = "127.0.0.1:1"

[store]
url = "postgres://u:hunter2@db/x"
durability = "sometimes"

[engine]
lease = "5 minutes"
retention = 3
max_memory = 7.5

[callbacks]
secret = "whsec_hunter2"
allow_networks = ["10.0.0.0/99"]

[log]
format = "yaml"
level = "spillway=loudly"

[accounts.claude-main]
provider = "antropic"
api_key = "hunter2"
base_url = "https://u:hunter2@proxy.example"

[[accounts.claude-main.limits]]
requests = "fast"
input_token = "1/min"
concurrency = 0

[accounts.keyless]
provider = "groq"
base_url = "ftp://api.groq.com"

[accounts.local]
provider = "openai-compatible"

[accounts.wrong-key]
provider = "openai"
api_key = 17

[[accounts.local.limits]]
models = ["a"]

[routes.cheap]
steps = ["claude-mian/claude-haiku-4-5", "keyless"]
patience = { interactiv = "1s" }

[routes.empty]
steps = []

[tasks.tag]
route = "cheep"
temperature = 3
template = "{{ text"

[tasks.own]
output_schema = { type = "objekt" }

[tasks.elsewhere]
route = "cheap"
output_schema = "no/such/file.json"

[[prices]]
provider = "groq"
model = "*"
from = "soon"
input = 1

[auth]
keys = ["same-key-hunter2", { caller = "b", key = "same-key-hunter2" }, { caller = "c" }]
"#;

#[test]
fn many_mistakes_are_all_told_at_once_with_their_keys_and_what_is_expected() {
    let told = told(MANY);
    for (key, words) in [
        ("colour", &["is not a setting", "`server`"] as &[_]),
        ("server.listen", &["`everywhere` is not", "127.0.0.1:8080"]),
        ("server.max_body", &["`big` is not a size such as 64KiB or 1MiB"]),
        ("server.max_depth", &["`500` is not a whole number from 4 to 120"]),
        ("server.listne", &["is not a setting; did you mean `listen`?"]),
        ("store.url", &["leads to no store", "redis://host:port"]),
        ("store.durability", &["`sometimes` is not one of", "`fsynced`"]),
        ("engine.lease", &["`5 minutes` is not a duration such as 250ms"]),
        ("engine.retention", &["`3` is not a duration"]),
        ("engine.max_memory", &["`7.5` is not a number from 0.1 to 1"]),
        ("log.format", &["`yaml` is not one of `text` and `json`"]),
        ("accounts.claude-main.provider", &["`antropic` is not one of", "`anthropic`"]),
        (
            "accounts.claude-main.limits[0].requests",
            &["`fast` is not a rate such as 10/s, 50/min, 1000/h or 14400/day"],
        ),
        ("accounts.claude-main.limits[0].input_token", &["did you mean `input_tokens`?"]),
        (
            "accounts.claude-main.limits[0].concurrency",
            &["`0` is not a whole number of at least 1"],
        ),
        ("accounts.keyless.api_key", &["is missing", "\"${GROQ_API_KEY}\"", "`api_key_file`"]),
        ("accounts.keyless.base_url", &["http:// or https://"]),
        ("accounts.local.base_url", &["is missing", "http://127.0.0.1:11434"]),
        ("accounts.local.limits[0]", &["limits nothing", "`requests`"]),
        ("accounts.wrong-key.api_key", &["the given value is not text"]),
        ("routes.cheap.steps[0]", &["no account `claude-mian`; did you mean `claude-main`?"]),
        ("routes.cheap.steps[1]", &["`keyless` is not an account and a model such as"]),
        ("routes.cheap.patience.interactiv", &["did you mean `interactive`?"]),
        ("routes.empty.steps", &["is empty: expected a list"]),
        ("callbacks.secret", &["`whsec_` and 24 to 64 bytes in base64"]),
        ("callbacks.allow_networks[0]", &["10.0.0.0/99", "10.0.0.0/8"]),
        ("prices[0].from", &["`soon` is not a day such as 2026-11-20"]),
        ("prices[0].output", &["is missing"]),
        ("log.level", &["`spillway=loudly`"]),
        ("accounts.claude-main.base_url", &["has a user name or a password"]),
        ("tasks.tag.temperature", &["`3` is not a number from 0"]),
        ("tasks.own.route", &["is missing"]),
        ("tasks.own.output_schema", &["is not a JSON Schema"]),
        ("tasks.elsewhere.output_schema", &["file.json", "cannot be read"]),
        ("auth.keys[1]", &["is given twice"]),
        ("auth.keys[2].key", &["is missing", "`key_file`"]),
    ] {
        assert_told(&told, key, words);
    }
    assert!(!told.contains("hunter2"), "a secret is told in:\n{told}");
    let keys: Vec<_> = told.lines().filter_map(|line| line.split(": ").next()).collect();
    let once: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(once.len(), keys.len(), "a key is told of twice in:\n{told}");
}

#[test]
fn what_does_not_fit_together_is_told_with_the_nearest_name() {
    let text = format!(
        "{SOUND}
        [routes.other]
        steps = [\"mian/claude-haiku-4-5\", \"main/a\", \"main/a\"]
        [tasks.tag]
        route = \"cheep\"
        template = \"{{{{ text\"
        [tasks.own]
        route = {{ interactive = \"cheap\", standard = \"premum\", batch = \"cheap\" }}
        input_schema = {{ type = \"object\" }}
        timeout = \"10ms\"
        [accounts.second]
        provider = \"anthropic\"
        api_key = \"sk-second\"
        base_url = \"https://example.com/?a=b\"
        scripted = {{}}
        [callbacks]
        secret = \"whsec_dG9vIHNob3J0\"
        old_secrets = [\"plain\"]
        [log]
        level = \"spillway=loudly\"
        [engine]
        lease = \"100ms\"
        [server]
        public_url = \"spillway.example.com\"
        "
    );
    let told = told(&text);
    for (key, words) in [
        ("routes.other.steps[0]", &["no account `mian`; did you mean `main`?"] as &[_]),
        ("routes.other.steps[2]", &["`main/a` stands in this route already"]),
        ("tasks.tag.route", &["no route `cheep`; did you mean `cheap`?"]),
        ("tasks.tag.template", &["is not a template"]),
        ("tasks.own.route", &["no route `premum`; did you mean `premium`?"]),
        ("tasks.own.template", &["is missing", "{{ text }}"]),
        ("tasks.own.timeout", &["`10ms` is too short: expected at least 1s"]),
        ("accounts.second.base_url", &["query"]),
        ("accounts.second.scripted", &["only for"]),
        ("callbacks.secret", &["`whsec_` and 24 to 64 bytes in base64"]),
        ("callbacks.old_secrets[0]", &["`whsec_`"]),
        ("log.level", &["`spillway=loudly`", "warn,spillway=debug"]),
        ("engine.lease", &["at least 1s"]),
        ("server.public_url", &["an address"]),
    ] {
        assert_told(&told, key, words);
    }
    assert_eq!(told.lines().count(), 14, "{told}");
}

#[test]
fn a_cap_that_no_step_lets_out_is_refused_only_when_the_operator_chose_it() {
    let limited = |limit: &str, task: &str| {
        let limits = format!("[[accounts.main.limits]]\noutput_tokens = \"{limit}\"\n");
        read(&format!("{SOUND}\n{limits}\n[tasks.code]\n{task}"))
    };
    let told = limited("3000/min", "max_output_tokens = 4000").unwrap_err().to_string();
    assert_told(&told, "tasks.code.max_output_tokens", &["`4000` can never pass", "3000"]);
    limited("100/s", "max_output_tokens = 4000").unwrap();
    limited("3000/min", "temperature = 0.5").unwrap();
}

#[test]
fn accounts_of_one_org_share_the_limits_that_one_of_them_says() {
    let account = |name: &str, rest: &str| {
        format!("[accounts.{name}]\nprovider = \"groq\"\napi_key = \"k\"\norg = \"acme\"\n{rest}\n")
    };
    let limits = "limits = [{ requests = \"10/min\" }]";
    let plan = read(&(account("a", limits) + &account("b", ""))).unwrap().plan;
    assert_eq!(plan.accounts[0].limits, plan.accounts[1].limits);
    let others = "limits = [{ requests = \"20/min\" }]";
    let told = told(&(account("a", limits) + &account("b", others)));
    assert_told(&told, "accounts.b.limits", &["differ from those of `a`", "`acme`"]);
}

#[test]
fn every_syntax_error_is_told_with_its_line_and_without_it() {
    let told = told("[server]\nlisten = 127.0.0.1:8080\n\n[callbacks]\nsecret = hunter2\n");
    for line in ["spillway.toml:2:", "spillway.toml:5:"] {
        assert!(told.lines().any(|told| told.starts_with(line)), "{line} is missing in {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_value_beyond_all_measure_is_told_with_its_table() {
    let limits = "limits = [{ concurrency = 99999999999 }]";
    let told = told(&SOUND.replace("api_key", &format!("{limits}\napi_key")));
    assert_told(&told, "accounts.main", &["99999999999", "u32"]);
}

#[test]
fn names_are_checked() {
    let told = told(&SOUND.replace("[accounts.main]", "[accounts.\"my account\"]"));
    assert_told(&told, "accounts.\"my account\"", &["is not a name", "letters"]);
}

#[test]
fn a_store_of_several_hosts_is_checked() {
    for (url, words) in [
        ("redis+cluster://:hunter2@a:6379,b:port", &["a host that cannot be", "host:port"] as &[_]),
        ("redis+cluster://:hunter2@a:6379,b:6379/1", &["a cluster has one database"]),
        ("redis+sentinel://:hunter2@a:26379", &["names no master", "/NAME"]),
        (
            "redis+shards://:hunter2@a",
            &["leads to no Redis", "`redis+cluster://host:port,host:port`"],
        ),
        ("redis://:hunter2@a,b", &["names several hosts", "redis+cluster://"]),
    ] {
        let told = told(&format!("{SOUND}\n[store]\nurl = \"{url}\"\n"));
        assert_told(&told, "store.url", words);
    }
}

#[test]
fn the_settings_in_force_are_shown_without_secrets() {
    let text = r#"
        [store]
        url = "redis+sentinel://user:hunter2@one,two:7001/main?db=1&sentinel_password=hunter2"
        [callbacks]
        secret = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="
        [auth]
        keys = ["hunter2-a", { caller = "n8n", key = "hunter2-b" }]
        [accounts.claude-main]
        provider = "anthropic"
        api_key = "${KEY}"
        org = "acme"
        limits = [{ models = ["claude-*"], requests = "50/min", concurrency = 4 }]
        [routes.only]
        steps = ["claude-main/claude-haiku-4-5"]
        patience = "2s"
        [workflows.lead-intake]
        weight = 2.5
        [workflows."*"]
        max_queued = 100
        max_running = 3
    "#;
    let loaded = read_with(text, &[("KEY", "sk-hunter2")]).unwrap();
    let shown = show::resolved(&loaded);
    for secret in ["hunter2", "aHVudGVyMmh1"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!format!("{loaded:?}").contains(secret), "{loaded:?}");
    }
    for part in [
        "127.0.0.1:8080",
        "redis+sentinel://user:[hidden]@one,two:7001/main?db=1&sentinel_password=[hidden]",
        "claude-main  anthropic",
        "org acme",
        "claude-*: 50/min requests, 4 at the same time",
        "only  patience interactive 2s, standard 2s, batch 2s",
        "1. claude-main/claude-haiku-4-5",
        "tag  route only",
        "[hidden] for default, n8n",
        "lead-intake  weight 2.5\n",
        "*  weight 1, at most 100 open, at most 3 at the same time",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
}

#[test]
fn workflows_are_held_to_what_they_can_have() {
    let text = format!(
        "{SOUND}
        [workflows.\"lead intake\"]
        weight = 0
        max_queue = 10
        [workflows.\"*\"]
        max_queued = 0
        max_running = \"many\"
        "
    );
    let told = told(&text);
    for (key, words) in [
        ("workflows.\"lead intake\".weight", &["`0` is not a number from 0.01 to 100"] as &[_]),
        ("workflows.\"lead intake\".max_queue", &["did you mean `max_queued`?"]),
        ("workflows.\"*\".max_queued", &["`0` is not a whole number of at least 1"]),
        ("workflows.\"*\".max_running", &["`many` is not a whole number"]),
    ] {
        assert_told(&told, key, words);
    }
    assert_eq!(told.lines().count(), 4, "{told}");
}

#[test]
fn an_api_is_only_for_those_who_have_it() {
    let account = |provider: &str, api: &str| {
        format!(
            "{SOUND}\n[accounts.other]\nprovider = \"{provider}\"\napi_key = \"k\"\n\
             base_url = \"http://127.0.0.1:1\"\napi = \"{api}\"\n"
        )
    };
    for (provider, api) in [
        ("openai", "responses"),
        ("openai", "chat"),
        ("openai-compatible", "responses"),
        ("groq", "chat"),
        ("ollama", "chat"),
        ("ollama", "native"),
    ] {
        let shown = show::resolved(&read(&account(provider, api)).unwrap());
        assert!(shown.contains(&format!("http://127.0.0.1:1, API {api}, key")), "{shown}");
    }
    for (provider, api, words) in [
        ("groq", "responses", &["`responses` is only for", "openai, openai-compatible"] as &[_]),
        ("anthropic", "chat", &["`chat` is only for", "cerebras"]),
        ("openai", "native", &["`native` is only for `provider` ollama"]),
        ("openai", "completions", &["`completions` is not one of", "`responses`"]),
    ] {
        assert_told(&told(&account(provider, api)), "accounts.other.api", words);
    }
}
