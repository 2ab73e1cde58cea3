//! What tests share: real servers that they start themselves.

pub(crate) mod burst;
pub(crate) mod cluster;
pub(crate) mod job;
pub(crate) mod receiver;
pub(crate) mod redis;
pub(crate) mod schema;
pub(crate) mod scripted;
pub(crate) mod sentinel;
pub(crate) mod spillway;
pub(crate) mod vendor;

use std::time::{Duration, Instant};

/// Awaits a condition; fails the test with `what` when it does not hold in time.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Blocks until a condition holds; fails the test with `what` when it does not in time.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port nobody listens on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A client that asks no proxy and follows no redirect.
pub(crate) fn http_client() -> reqwest::Client {
    // Whoever installs it first has done it for all tests.
    drop(rustls::crypto::ring::default_provider().install_default());
    #[expect(clippy::disallowed_methods, reason = "a test's client talks to a test's server")]
    let builder = reqwest::Client::builder();
    builder
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(120))
        .build()
        .unwrap()
}

/// A published file says what the code says. `UPDATE=1` writes it anew.
pub(crate) fn renewed(file: &str, current: &serde_json::Value) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = format!("{}\n", serde_json::to_string_pretty(current).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == text, "{file} is stale: run the tests once with UPDATE=1");
}
