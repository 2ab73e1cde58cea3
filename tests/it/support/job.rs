//! A plain job, and the line it waits in.

use std::sync::LazyLock;

use serde_json::value::RawValue;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::id::IdSource;
use spillway::domain::job::{Job, Lane, Line};

pub(crate) static IDS: LazyLock<IdSource> = LazyLock::new(IdSource::default);

/// A plain job of the caller `alice`, newer than all made before.
pub(crate) fn job() -> Job {
    let now = SystemClock.now();
    Job {
        id: IDS.job(now),
        caller: "alice".to_owned(),
        task: "tag".to_owned(),
        input: raw(r#"{"text":"hello"}"#),
        route: "cheap".to_owned(),
        lane: Lane::Standard,
        created_at: now,
        workflow: None,
        session: None,
        callback: None,
        deliver_by: None,
        max_cost_usd: None,
        provider: None,
        metadata: None,
        group: None,
        traceparent: None,
        share: None,
        prefix: None,
    }
}

/// The line plain jobs wait in.
pub(crate) fn line() -> Line {
    Line::Run { lane: Lane::Standard, route: "cheap".to_owned() }
}

/// JSON as it came.
pub(crate) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}
