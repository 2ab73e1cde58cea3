//! Every metric's name, in one place. The rest of the code calls these functions.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of duration histograms, in seconds: from a loopback call to a long generation.
const SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// Makes this process' metrics available; `None` when another recorder is installed already.
pub fn install() -> Option<PrometheusHandle> {
    let matcher = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(matcher, &SECONDS).ok()?;
    let handle = builder.install_recorder().ok()?;
    describe();
    Some(handle)
}

fn describe() {
    use metrics::{
        describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram,
    };
    counter!("spillway_jobs_accepted_total", "Jobs accepted, by task and lane");
    counter!("spillway_jobs_refused_total", "Submits refused, by problem code");
    counter!("spillway_jobs_ended_total", "Jobs that ended, by task and status");
    histogram!("spillway_job_queued_seconds", "From accept to the first attempt, by lane");
    histogram!("spillway_job_total_seconds", "From accept to the end, by lane");
    counter!("spillway_attempts_total", "Calls to providers, by account, model and outcome");
    histogram!("gen_ai_client_operation_duration_seconds", "Time of a call to a provider");
    counter!("gen_ai_client_token_usage_total", "Tokens used, by account, model and type");
    gauge!("spillway_cost_usd_total", "Known cost of calls, by account and model");
    gauge!(
        "spillway_cache_hit_ratio",
        "Input tokens read from prompt caches, by all input tokens of an account since the start"
    );
    gauge!(
        "spillway_cache_saved_usd",
        "What prompt caches have saved against the uncached price, by account and model"
    );
    counter!(
        "spillway_accounts_disabled_total",
        "Keys taken out, by account and the reason's code"
    );
    counter!("spillway_fallbacks_total", "Jobs answered by another than the route's first step");
    gauge!("spillway_caller_spent_usd_total", "Known cost of calls, by caller");
    gauge!("spillway_budget_used_ratio", "Part of a budget that is used up, by caller and period");
    counter!("spillway_over_budget_total", "Refused for a budget, by caller and period");
    counter!("spillway_repairs_total", "Repair turns asked of models, by task");
    counter!("spillway_escalations_total", "Jobs that went on to their escalation route, by task");
    counter!("spillway_turns_total", "Turns asked for, by whether they were granted");
    counter!("spillway_holds_total", "Buckets held or steps cooled, by name");
    gauge!(
        "spillway_circuit_open_ratio",
        "1 for a step that is shut, 0.5 while it recovers, else 0"
    );
    counter!(
        "spillway_hedges_total",
        "Calls beside which a second step was asked, by who answered"
    );
    gauge!("spillway_limit_learned_ratio", "Limits told by providers, by those configured");
    counter!("spillway_deliveries_total", "Attempts to post callbacks and events, by outcome");
    gauge!("spillway_line_ready", "Items waiting in a line");
    gauge!("spillway_jobs_running", "Jobs a worker holds");
    gauge!("spillway_jobs_delayed", "Items waiting for their time to come");
    gauge!("spillway_deliveries_dead", "Callbacks given up and kept for replay");
    gauge!("spillway_oldest_due_seconds", "How long the oldest due item has been due");
    gauge!("spillway_store_memory_ratio", "Used part of the store's memory limit");
    counter!("spillway_leases_lost_total", "Jobs whose worker vanished");
    counter!("spillway_store_errors_total", "Failed calls to the store, by operation");
}

/// The models that the settings name.
static MODELS: RwLock<BTreeSet<String>> = RwLock::new(BTreeSet::new());

/// What models are counted as that only callers name: those make up as many as they like.
const OTHER: &str = "other";

/// These models are counted under their own names.
pub fn know_models<'a>(models: impl Iterator<Item = &'a String>) {
    MODELS.write().unwrap_or_else(PoisonError::into_inner).extend(models.cloned());
}

/// What a model is counted as: its name, a price's pattern such as `gpt-5*`, or `other`.
fn of_model(model: &str) -> String {
    let models = MODELS.read().unwrap_or_else(PoisonError::into_inner);
    if models.contains(model) {
        return model.to_owned();
    }
    let fits = |known: &&String| {
        known.strip_suffix('*').is_some_and(|start| !start.is_empty() && model.starts_with(start))
    };
    let nearest = models.iter().filter(fits).max_by_key(|known| known.len());
    nearest.map_or_else(|| OTHER.to_owned(), Clone::clone)
}

/// What a step or a gate is counted as, whose name ends in a model's behind so many slashes.
fn of_step(name: &str, slashes: usize) -> String {
    let mut pieces = name.splitn(slashes + 1, '/');
    let mut start: Vec<&str> = pieces.by_ref().take(slashes).collect();
    let Some(model) = pieces.next() else { return name.to_owned() };
    let model = of_model(model);
    start.push(&model);
    start.join("/")
}

/// A job was accepted.
pub fn accepted(task: &str, lane: &'static str) {
    counter!("spillway_jobs_accepted_total", "task" => task.to_owned(), "lane" => lane)
        .increment(1);
}

/// A submit was refused.
pub fn refused(code: &'static str) {
    counter!("spillway_jobs_refused_total", "code" => code).increment(1);
}

/// A job ended.
pub fn ended(task: &str, status: &'static str, lane: &'static str, total: Duration) {
    counter!("spillway_jobs_ended_total", "task" => task.to_owned(), "status" => status)
        .increment(1);
    histogram!("spillway_job_total_seconds", "lane" => lane).record(total);
}

/// A provider's own words corrected a limit to so many times what is configured.
pub fn learned(pool: &str, axis: &'static str, per: &'static str, factor: f64) {
    gauge!("spillway_limit_learned_ratio", "pool" => pool.to_owned(), "axis" => axis, "per" => per)
        .set(factor);
}

/// A job's first attempt began.
pub fn started(lane: &'static str, queued: Duration) {
    histogram!("spillway_job_queued_seconds", "lane" => lane).record(queued);
}

/// A job was answered by another than the route's first step.
pub fn fell_back(route: &str) {
    counter!("spillway_fallbacks_total", "route" => route.to_owned()).increment(1);
}

/// A caller's call cost this much.
pub fn spent(caller: &str, cost_usd: f64) {
    gauge!("spillway_caller_spent_usd_total", "caller" => caller.to_owned()).increment(cost_usd);
}

/// This part of a caller's budget is used up.
pub fn budget_used(caller: &str, period: &'static str, share: f64) {
    gauge!("spillway_budget_used_ratio", "caller" => caller.to_owned(), "period" => period)
        .set(share);
}

/// A caller was refused for its budget.
pub fn over_budget(caller: &str, period: &'static str) {
    counter!("spillway_over_budget_total", "caller" => caller.to_owned(), "period" => period)
        .increment(1);
}

/// An answer that does not fit gets its repair turn.
pub fn repaired(task: &str) {
    counter!("spillway_repairs_total", "task" => task.to_owned()).increment(1);
}

/// A job goes on to its task's escalation route.
pub fn escalated(task: &str) {
    counter!("spillway_escalations_total", "task" => task.to_owned()).increment(1);
}

/// A call to a provider ended.
pub fn attempted(account: &str, model: &str, outcome: &'static str, took: Duration) {
    let (account, model) = (account.to_owned(), of_model(model));
    counter!(
        "spillway_attempts_total",
        "account" => account.clone(), "model" => model.clone(), "outcome" => outcome
    )
    .increment(1);
    histogram!(
        "gen_ai_client_operation_duration_seconds",
        "account" => account, "gen_ai_request_model" => model
    )
    .record(took);
}

/// An account was taken out, or one of its models, because the provider refused the key.
pub fn disabled(account: &str, code: &'static str) {
    counter!("spillway_accounts_disabled_total", "account" => account.to_owned(), "code" => code)
        .increment(1);
}

/// A call used tokens and, where the price is known, money.
pub fn used(account: &str, model: &str, tokens: [(&'static str, u64); 4], cost_usd: Option<f64>) {
    for (kind, count) in tokens {
        counter!(
            "gen_ai_client_token_usage_total",
            "account" => account.to_owned(),
            "gen_ai_request_model" => of_model(model),
            "gen_ai_token_type" => kind
        )
        .increment(count);
    }
    if let Some(cost) = cost_usd {
        // Counters are whole numbers; a gauge that only grows keeps the fractions of a cent.
        gauge!("spillway_cost_usd_total", "account" => account.to_owned(), "model" => of_model(model))
            .increment(cost);
    }
}

/// A prompt cache saved so much, or cost so much more when it was only written to.
pub fn cache_saved(account: &str, model: &str, usd: f64) {
    let (account, model) = (account.to_owned(), of_model(model));
    gauge!("spillway_cache_saved_usd", "account" => account, "model" => model).increment(usd);
}

/// The share of an account's input tokens that was read from its prompt cache.
pub fn cache_hit_ratio(account: &str, ratio: f64) {
    gauge!("spillway_cache_hit_ratio", "account" => account.to_owned()).set(ratio);
}

/// A turn was asked for.
pub fn turn(granted: bool) {
    counter!("spillway_turns_total", "granted" => if granted { "yes" } else { "no" }).increment(1);
}

/// A bucket is held or a step cooled.
pub fn held(name: &str) {
    let is_models = name.starts_with("step/") || name.starts_with("org/");
    let name = if is_models { of_step(name, 2) } else { name.to_owned() };
    counter!("spillway_holds_total", "name" => name).increment(1);
}

/// A step's circuit was opened or closed.
pub fn circuit(step: &str, open: f64) {
    gauge!("spillway_circuit_open_ratio", "step" => of_step(step, 1)).set(open);
}

/// A second step was asked beside the first; which of them answered.
pub fn hedged(route: &str, answered: &'static str) {
    counter!("spillway_hedges_total", "route" => route.to_owned(), "answered" => answered)
        .increment(1);
}

/// A callback, or a subscription's event, was attempted.
pub fn delivered(kind: &'static str, outcome: &'static str) {
    counter!("spillway_deliveries_total", "kind" => kind, "outcome" => outcome).increment(1);
}

/// Leases whose worker vanished.
pub fn leases_lost(count: u64) {
    counter!("spillway_leases_lost_total").increment(count);
}

/// The store failed us.
pub fn store_error(operation: &'static str) {
    counter!("spillway_store_errors_total", "operation" => operation).increment(1);
}

/// How many items wait in a line.
pub fn line_ready(line: &str, count: u64) {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    gauge!("spillway_line_ready", "line" => line.to_owned()).set(count as f64);
}

/// The store's other counts.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub fn store(running: u64, delayed: u64, dead: u64, oldest_due: Duration, memory: Option<f64>) {
    gauge!("spillway_jobs_running").set(running as f64);
    gauge!("spillway_jobs_delayed").set(delayed as f64);
    gauge!("spillway_deliveries_dead").set(dead as f64);
    gauge!("spillway_oldest_due_seconds").set(oldest_due.as_secs_f64());
    if let Some(memory) = memory {
        gauge!("spillway_store_memory_ratio").set(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_callers_make_up_share_a_name() {
        know_models([&"known/model".to_owned(), &"priced-*".to_owned()].into_iter());
        assert_eq!(of_model("priced-7"), "priced-*");
        assert_eq!(of_model("known/model"), "known/model");
        assert_eq!(of_model("made-up"), OTHER);
        assert_eq!(of_step("a/known/model", 1), "a/known/model");
        assert_eq!(of_step("step/a/made-up", 2), "step/a/other");
        assert_eq!(of_step("alone", 1), "alone");
    }
}
