//! A receiver as a careful automation has one: it checks each callback's signature and age, takes
//! a delivery that comes twice only once, and remembers what the results said.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};

use actix_web::dev::Server;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde::Deserialize;
use tokio::sync::watch;

use crate::callback::sign::{self, Secret, SecretError, Signed};
use crate::clock::SharedClock;
use crate::domain::result::{JobResult, Outcome};

const MAX_BODY: usize = 16 << 20;

/// Takes callbacks.
pub struct Receiver {
    secrets: [Secret; 1],
    clock: SharedClock,
    state: Mutex<State>,
    results: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    seen: HashSet<String>,
    tally: Tally,
}

/// What has come in.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Callbacks whose signature was right.
    pub verified: usize,
    /// Callbacks whose signature or time was wrong.
    pub forged: usize,
    /// Callbacks that are no results.
    pub unreadable: usize,
    /// Deliveries that came again.
    pub repeats: usize,
    /// Each job's result, in the order they came.
    pub results: Vec<Received>,
}

/// What a result said.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The job.
    pub id: String,
    /// The automation it came from.
    pub workflow: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// Who answered.
    pub provider: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Whether another than the route's first step answered.
    pub fell_back: bool,
    /// Whether the answer came from the escalation route.
    pub escalated: bool,
    /// What it cost; `None` when a price is not known.
    pub cost_usd: Option<f64>,
    /// From accept to end, in milliseconds.
    pub total_ms: Option<u64>,
    /// Calls to providers.
    pub attempts: usize,
    /// Those among them that were answered 429.
    pub rate_limited: usize,
}

impl Tally {
    /// Results in, by workflow: succeeded and failed.
    pub fn by_workflow(&self) -> BTreeMap<&str, (usize, usize)> {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for result in &self.results {
            let (succeeded, failed) = counts.entry(&result.workflow).or_default();
            *(if result.ok { succeeded } else { failed }) += 1;
        }
        counts
    }
}

#[derive(Deserialize)]
struct Envelope {
    data: JobResult,
}

/// What a receiver makes of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A result, and new.
    New,
    /// A delivery that came before.
    Repeat,
    /// Not from Spillway, or too old.
    Forged,
    /// Signed, but no result.
    Unreadable,
}

impl Receiver {
    /// A receiver that shares this secret (`whsec_…`) with Spillway.
    pub fn new(secret: &str, clock: SharedClock) -> Result<Self, SecretError> {
        let secrets = [Secret::parse(secret)?];
        let (results, _) = watch::channel(0);
        Ok(Self { secrets, clock, state: Mutex::default(), results })
    }

    /// What has come in up to now.
    pub fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    /// Tells how many results are in, each time that grows.
    pub fn results(&self) -> watch::Receiver<usize> {
        self.results.subscribe()
    }

    /// Takes one callback.
    pub fn take(&self, signed: &Signed<'_>, body: &[u8]) -> Taken {
        if !sign::verify(&self.secrets, signed, body, self.clock.now()) {
            self.state().tally.forged += 1;
            return Taken::Forged;
        }
        let read = serde_json::from_slice::<Envelope>(body);
        let mut guard = self.state();
        let state = &mut *guard;
        state.tally.verified += 1;
        let Ok(envelope) = read else {
            state.tally.unreadable += 1;
            return Taken::Unreadable;
        };
        if !state.seen.insert(signed.id.to_owned()) {
            state.tally.repeats += 1;
            return Taken::Repeat;
        }
        state.tally.results.push(received(envelope.data));
        let count = state.tally.results.len();
        drop(guard);
        self.results.send_replace(count);
        Taken::New
    }

    fn state(&self) -> MutexGuard<'_, State> {
        match self.state.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

fn received(result: JobResult) -> Received {
    let limited = |outcome: Outcome| outcome == Outcome::RateLimited;
    Received {
        workflow: result.workflow.unwrap_or_default(),
        ok: result.ok,
        provider: result.provider,
        model: result.model,
        fell_back: result.fell_back,
        escalated: result.escalated,
        cost_usd: result.cost_usd,
        total_ms: result.timing.total_ms,
        attempts: result.attempts.len(),
        rate_limited: result.attempts.iter().filter(|one| limited(one.outcome)).count(),
        id: result.id,
    }
}

/// Serves the receiver at any path until `shutdown` completes.
pub async fn run(
    listener: TcpListener,
    receiver: Arc<Receiver>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve(listener, receiver, shutdown)?.await
}

fn serve(
    listener: TcpListener,
    receiver: Arc<Receiver>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Server> {
    let receiver = Data::from(receiver);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&receiver))
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .default_service(web::post().to(take))
    })
    .workers(1)
    .disable_signals()
    .shutdown_signal(shutdown)
    .shutdown_timeout(1)
    .listen(listener)?;
    Ok(server.run())
}

async fn take(receiver: Data<Receiver>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let signed = Signed {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    match receiver.take(&signed, &body) {
        Taken::New | Taken::Repeat => HttpResponse::NoContent().finish(),
        Taken::Forged => HttpResponse::Unauthorized().finish(),
        Taken::Unreadable => HttpResponse::UnprocessableEntity().finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use chrono::DateTime;
    use serde_json::json;
    use standardwebhooks::Webhook;
    use std::time::Duration;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW: i64 = 1_790_000_000;

    fn receiver() -> (Receiver, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(NOW, 0).unwrap()));
        (Receiver::new(SECRET, Arc::<ManualClock>::clone(&clock)).unwrap(), clock)
    }

    fn body() -> String {
        json!({ "type": "job.succeeded", "timestamp": "2026-11-20T18:00:00Z", "data": {
            "id": "job_0_X", "object": "job", "status": "succeeded", "ok": true, "task": "tag",
            "text": "a", "data": { "tags": ["a"] }, "finish": "stop", "tool_calls": [],
            "provider": "scripted", "model": "small", "route": "cheap", "fell_back": true,
            "escalated": false, "cost_usd": 0.5, "usage": null,
            "timing": { "queued_ms": 1, "running_ms": 2, "total_ms": 3 },
            "attempts": [{ "provider": "p", "account": "a", "model": "m", "status": 429,
                "outcome": "rate_limited", "retry_after_ms": 1, "ms": 1, "cost_usd": null,
                "message": null }],
            "error": null, "workflow": "lead-intake", "session": null, "metadata": { "row": 1 },
            "created_at": "2026-11-20T18:00:00Z", "finished_at": "2026-11-20T18:00:03Z",
        } })
        .to_string()
    }

    fn take(receiver: &Receiver, id: &str, body: &str, signature: &str) -> Taken {
        let timestamp = NOW.to_string();
        receiver.take(&Signed { id, timestamp: &timestamp, signature }, body.as_bytes())
    }

    fn signed(id: &str, body: &str) -> String {
        Webhook::new(SECRET).unwrap().sign(id, NOW, body.as_bytes()).unwrap()
    }

    #[test]
    fn a_result_is_taken_once_and_remembered() {
        let (receiver, _) = receiver();
        let signature = format!("v1,AAAA v9,x {}", signed("msg_1", &body()));
        assert_eq!(take(&receiver, "msg_1", &body(), &signature), Taken::New);
        assert_eq!(take(&receiver, "msg_1", &body(), &signature), Taken::Repeat);
        let tally = receiver.tally();
        assert_eq!((tally.verified, tally.repeats, tally.results.len()), (2, 1, 1));
        assert_eq!(*receiver.results().borrow(), 1);
        assert_eq!(tally.by_workflow(), BTreeMap::from([("lead-intake", (1, 0))]));
        let seen = tally.results.first().unwrap();
        assert_eq!((seen.cost_usd, seen.total_ms, seen.rate_limited), (Some(0.5), Some(3), 1));
        assert!(seen.fell_back && seen.provider.as_deref() == Some("scripted"));
    }

    #[test]
    fn what_is_not_signed_or_too_old_is_not_taken() {
        let (receiver, clock) = receiver();
        let signature = signed("msg_1", &body());
        assert_eq!(take(&receiver, "msg_2", &body(), &signature), Taken::Forged);
        assert_eq!(take(&receiver, "msg_1", "{}", &signature), Taken::Forged);
        assert_eq!(take(&receiver, "msg_1", &body(), ""), Taken::Forged);
        assert_eq!(take(&receiver, "m", "{}", &signed("m", "{}")), Taken::Unreadable);
        clock.advance(Duration::from_secs(301));
        assert_eq!(take(&receiver, "msg_1", &body(), &signature), Taken::Forged);
        assert_eq!(receiver.tally().forged, 4);
        assert!(Receiver::new("whsec_", Arc::new(crate::clock::SystemClock)).is_err());
    }
}
