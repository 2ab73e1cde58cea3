//! The product, tested with real parts: a real Redis, the real binary, real HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot go on says so and fails, starts what it likes and prints figures"
)]

mod architecture;
mod bad_input;
mod budgets;
mod callbacks;
mod callbacks_http;
mod callbacks_n8n;
mod cascade;
mod config;
mod connections;
mod contract;
mod cuts;
mod demo_parts;
mod dialects;
mod docs;
mod fault_matrix;
mod followers;
mod hanging;
mod hooks;
mod jobs;
mod keys_away;
mod keys_refused;
mod large_groups;
mod limits;
mod live;
mod live_contract;
mod lua;
mod outage;
mod prompt_caches;
mod queue_embedded;
mod queue_redis;
mod queue_replicated;
mod recordings;
mod replicas;
mod scripted;
mod sessions;
mod sessions_compared;
mod simulate;
mod subscriptions;
mod support;
mod task_contract;
mod together;
mod trouble;
mod walking;
mod walking_live;
mod windows;
mod wire;
mod workflows;
