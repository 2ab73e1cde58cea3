//! The parts of `spillway demo`: a burst of jobs, a receiver for their results, the same burst sent
//! straight at the provider for comparison, and a screen that shows it.

use std::time::Duration;

pub mod burst;
pub mod direct;
pub mod receiver;
pub mod screen;
pub mod summary;

/// The client the demo plays the automations with. The process' TLS provider must be installed.
pub fn client() -> reqwest::Result<reqwest::Client> {
    #[expect(clippy::disallowed_methods, reason = "here we are the caller, not the service")]
    let builder = reqwest::Client::builder();
    builder
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(120))
        .build()
}

/// A time for people: `420 ms`, `61.2 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
