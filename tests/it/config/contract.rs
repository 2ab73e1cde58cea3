//! Where answers that do not fit lead, and what callers may use up.

use super::{SOUND, assert_told, read, told};

fn escalation(settings: &str, task: &str) -> Option<String> {
    read(settings).unwrap().plan.tasks[task].escalate_to.clone()
}

#[test]
fn built_in_tasks_of_the_cheap_route_escalate_to_the_premium_one_where_there_is_one() {
    let premium = Some("premium".to_owned());
    for task in ["tag", "classify", "extract", "summarize"] {
        assert_eq!(escalation(SOUND, task), premium, "{task}");
    }
    for task in ["plan", "code", "recover", "chat"] {
        assert_eq!(escalation(SOUND, task), None, "{task}");
    }
    let alone = SOUND.split("[routes.premium]").next().unwrap();
    assert_eq!(escalation(alone, "tag"), None);
    let of_task = |line: &str| escalation(&format!("{SOUND}[tasks.tag]\n{line}"), "tag");
    assert_eq!(of_task("escalate_to = false"), None);
    assert_eq!(of_task("route = \"premium\""), None);
    assert_eq!(of_task("max_output_tokens = 5"), premium);
    let own = "[tasks.own]\nroute = \"premium\"\nescalate_to = \"cheap\"";
    assert_eq!(escalation(&format!("{SOUND}{own}"), "own"), Some("cheap".to_owned()));
}

#[test]
fn an_escalation_that_leads_nowhere_is_told() {
    let own =
        |to: &str| told(&format!("{SOUND}[tasks.own]\nroute = \"cheap\"\nescalate_to = {to}"));
    assert_told(&own("\"premum\""), "tasks.own.escalate_to", &["no route `premum`", "premium"]);
    assert_told(&own("\"cheap\""), "tasks.own.escalate_to", &["own route", "another"]);
    assert_told(&own("true"), "tasks.own.escalate_to", &["`false`"]);
}

#[test]
fn faults_of_plans_are_told() {
    let told = told(&format!(
        "{SOUND}[plans.team]\nusd_per_day = -1\nsoft = 80\n[callers.n8n]\nplan = \"taem\"\n\
         usd_per_dya = 1\n[auth]\nanonymous = \"visitor\"\n[server]\ntrusted_proxies = [\"proxy\"]"
    ));
    assert_told(&told, "plans.team.usd_per_day", &["-1"]);
    assert_told(&told, "plans.team.soft", &["80"]);
    assert_told(&told, "callers.n8n.plan", &["no plan `taem`", "team"]);
    assert_told(&told, "callers.n8n.usd_per_dya", &["usd_per_day"]);
    assert_told(&told, "auth.anonymous", &["no plan `visitor`"]);
    assert_told(&told, "server.trusted_proxies[0]", &["no network"]);
}
