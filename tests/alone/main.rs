//! What needs the machine for itself: `cargo test` runs test binaries one after another, so nothing
//! else runs beside these.
#![expect(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a test that cannot go on says so and fails, prints figures, and shares helpers"
)]

#[path = "../bench/shape/arrivals.rs"]
mod arrivals;
mod shape;
#[path = "../it/support/mod.rs"]
mod support;
#[path = "../bench/shape/work.rs"]
mod work;

mod failover;

use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;

use support::burst::{burst, provider};
use support::receiver::Receiver;
use support::redis::RedisServer;
use support::scripted::ScriptedServer;
use support::spillway::{Spillway, settings};

/// Held by the one that has the machine.
static MACHINE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_one_rate_and_use_it_up() {
    let _machine = MACHINE.lock().await;
    let redis = RedisServer::start(&[]);
    let server = ScriptedServer::start(&json!({
        "requests": "600/min", "burst": "1s", "latency": "20ms",
    }));
    let limits = "[[accounts.main.limits]]\nrequests = \"600/min\"\nburst = \"1s\"";
    let settings = settings(&format!("url = \"{}\"", redis.url()), &provider(&server, limits));
    let (one, two) = (Spillway::start(&settings), Spillway::start(&settings));
    let receiver = Receiver::start();
    let ids = burst(&[&one, &two], 1_000, &receiver.url("/")).await;
    assert_eq!(ids.len(), 1_000);
    let deadline = std::time::Instant::now() + Duration::from_secs(180);
    while receiver.taken().len() < 1_000 {
        assert!(std::time::Instant::now() < deadline, "{} of 1000", receiver.taken().len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stats = server.stats().await;
    let arrivals: Vec<i64> = serde_json::from_value(stats["arrivals"].clone()).unwrap();
    assert_eq!(stats["rate_limited"], 0, "no 429");
    assert_eq!(arrivals.len(), 1_000, "no call was wasted");
    // In every window of length t at most burst + rate * t (10 and 10 a second).
    for (from, start) in arrivals.iter().enumerate() {
        for (to, end) in arrivals.iter().enumerate().skip(from) {
            let seconds = (end - start) as f64 / 1e6;
            let allowed = 10.0 + 10.0 * seconds;
            assert!((to - from + 1) as f64 <= allowed + 1e-6, "window {from}..{to}");
        }
    }
    let seconds = (arrivals[999] - arrivals[0]) as f64 / 1e6;
    // What the limit allows in that time, against what was used.
    let used = 1_000.0 / (10.0 + 10.0 * seconds);
    println!("1000 jobs in {seconds:.2} s: {:.2} % of the limit used, 0 x 429", used * 100.0);
    assert!(used >= 0.97, "{used}");
}

#[test]
fn the_demo_brings_every_job_back_and_says_so() {
    let _machine = MACHINE.blocking_lock();
    let demo = std::process::Command::new(env!("CARGO_BIN_EXE_spillway")).arg("demo").output();
    let demo = demo.unwrap();
    let said = String::from_utf8(demo.stdout).unwrap();
    let wrong = String::from_utf8(demo.stderr).unwrap();
    assert!(demo.status.success(), "{said}\n{wrong}");
    for line in ["300 of 300", "signatures checked                  300 right, 0 wrong"] {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
}
