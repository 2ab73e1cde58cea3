//! Everything that is wrong with hooks is told when the settings are loaded, at once.

use crate::config::SOUND;

fn told(hooks: &str) -> String {
    let environment = [("SECRET".to_owned(), "from the environment".to_owned())].into();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "whsec_filed\n").unwrap();
    let text = format!("{SOUND}{hooks}");
    match spillway::config::load::parse(&text, folder.path(), &environment) {
        Ok(_) => String::new(),
        Err(faults) => faults.to_string(),
    }
}

const FAULTY: &str = r#"
[hooks.a]
task = "clasify"
callback = { headers = { "Host" = "sesame" }, success_statuses = [20] }
answer = 201
deliver_within = "0s"
lane = "fast"
[hooks.b]
task = "tag"
inputs = "x"
auth = { scheme = "standard-webhooks", secret = "whsec_sesame" }
callback = { min_delay = "1s" }
[hooks.c]
task = "tag"
auth = { scheme = "stripe", secret = "sk_live_sesame" }
[hooks.d]
task = "tag"
auth = { scheme = "hmac", secret = "sesame", tolerance = "1m" }
[hooks.e]
task = "tag"
auth = { scheme = "open", secret = "sesame open" }
callback_url = "https://{{ body.host }}/"
[hooks.f]
task = "tag"
auth = { scheme = "githup", secret = "sesame open" }
[hooks.g]
task = "tag"
auth = { scheme = "header", name = "X Y", secret_file = "none" }
wait = "5s"
answer = 204
[hooks.h]
auth = { scheme = "github" }
[hooks."i j"]
task = "tag"
auth = { scheme = "github", secret = "${MISSING}" }
"#;

#[test]
fn every_fault_is_told_with_its_place_and_without_secrets() {
    let told = told(FAULTY);
    for (key, word) in [
        ("hooks.a.task", "did you mean `classify`"),
        ("hooks.a.answer", "one of `200`, `202` and `204`"),
        ("hooks.a.lane", "one of `interactive`"),
        ("hooks.a.callback.success_statuses[0]", "from 100 to 599"),
        ("hooks.b.inputs", "did you mean `input`"),
        ("hooks.b.auth.secret", "24 to 64 bytes in base64"),
        ("hooks.b.callback", "needs `callback_url`"),
        ("hooks.c.auth.secret", "begins with `whsec_`"),
        ("hooks.d.auth.name", "\"X-Signature\""),
        ("hooks.d.auth.secret", "8 or more"),
        ("hooks.d.auth.tolerance", "means nothing to `hmac`"),
        ("hooks.e.auth.secret", "means nothing to `open`"),
        ("hooks.e.callback_url", "a fixed address"),
        ("hooks.f.auth.scheme", "`github`"),
        ("hooks.g.auth.name", "not a header's name"),
        ("hooks.g.auth.secret_file", "cannot be read"),
        ("hooks.g.wait", "204 has no body"),
        ("hooks.h.task", "is missing"),
        ("hooks.\"i j\"", "is not a name"),
        ("hooks.\"i j\".auth.secret", "`MISSING`"),
    ] {
        let start = format!("{key}: ");
        let lines: Vec<&str> = told.lines().filter(|line| line.starts_with(&start)).collect();
        assert!(lines.iter().any(|line| line.contains(word)), "{key}: {word}\n{told}");
    }
    assert!(!told.contains("sesame"), "{told}");
}

#[test]
fn faults_of_templates_are_told_each_where_it_stands() {
    let told = told(
        r#"
[hooks.a]
task = "tag"
caller = "x"
when = "body.type = 'x'"
input = { text = "{{ bdy.text }}", deep = { list = ["{{ body.x | shout }}"] } }
idempotency_key = "{{ body.id"
metadata = { a = "{% if %}" }
callback_url = "http://127.0.0.1/x"
callback = { headers = { "Host" = "sesame" } }
deliver_within = "0s"
"#,
    );
    for (key, word) in [
        ("hooks.a.caller", "the API key says"),
        ("hooks.a.when", "not an expression"),
        ("hooks.a.input.text", "`bdy` is not known"),
        ("hooks.a.input.deep.list[0]", "shout"),
        ("hooks.a.idempotency_key", "not a template"),
        ("hooks.a.metadata.a", "not a template"),
        ("hooks.a.callback_url", "loopback"),
        ("hooks.a.callback.headers", "host"),
        ("hooks.a.deliver_within", "too short"),
    ] {
        let start = format!("{key}: ");
        assert!(
            told.lines().any(|line| line.starts_with(&start) && line.contains(word)),
            "{key}\n{told}"
        );
    }
    assert!(!told.contains("sesame"), "{told}");
}

#[test]
fn secrets_come_from_files_and_the_environment_and_stay_hidden() {
    let sound = r#"
[hooks.a]
task = "tag"
auth = { scheme = "stripe", secret_file = "secret", old_secrets_file = "secret" }
[hooks.b]
task = "tag"
auth = { scheme = "header", name = "X-Secret", secret = "${SECRET}" }
callback_url = "https://hooks.example.com/x"
callback = { headers = { Authorization = "${SECRET}" } }
"#;
    assert_eq!(told(sound), "");
    let environment = [("SECRET".to_owned(), "from the environment".to_owned())].into();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "whsec_filed\n").unwrap();
    let text = format!("{SOUND}{sound}");
    let loaded = spillway::config::load::parse(&text, folder.path(), &environment).unwrap();
    let shown = format!("{:?} {}", loaded, spillway::config::show::resolved(&loaded));
    assert!(!shown.contains("whsec_filed") && !shown.contains("from the environment"), "{shown}");
    assert!(shown.contains("hooks\n  a  task tag; auth stripe; jobs of hook-a"), "{shown}");
}
